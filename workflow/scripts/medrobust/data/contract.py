"""What an adapter states: the class of the object that each module of data/sets ends with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from medrobust.core.contract import NO_RESULT, Contract, Function
from medrobust.core.errors import InputError
from medrobust.core.registry import entry_of

#: Arrays of points of one shape, or volumes, each of a shape of its own.
Form = Literal["arrays", "volumes"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Adapter(Contract):
    """A reader of one format of raw files; ``spec`` is the class of its ``options``.

    Attributes:
        form: what it makes.
        adapt: ``(options, source, files, *, seed, allow_subset, processes)`` to
            :class:`medrobust.data.prepared.store.Prepared` (of volumes without ``processes``, to
            :class:`medrobust.data.prepared.volumes.VolumeSet`). ``options`` are plain values,
            ``source`` the name of a source or "standin", ``files`` the path of each raw file by its
            official name. Equal arguments give equal arrays.
        own_entry: of an adapter for data of the user's own: ``(options, classes, shape) ->
            {"options", "source"}``, plain values that an entry then need not say: its options with
            what follows from the rest of it, and the source of its files.
    """

    form: Form = "arrays"
    adapt: Function
    own_entry: Function | None = field(default=None, metadata=NO_RESULT)

    def check(self) -> None:
        """Refuses an unknown form."""
        self.require_functions("adapt")
        self.require_functions("own_entry", optional=True)
        self.require(self.form in get_args(Form), f"form must be one of {get_args(Form)}")


def adapter_of(name: str, form: Form) -> Adapter:
    """Returns what the registered adapter ``name`` states.

    Args:
        name: a registered name.
        form: what it must make.

    Raises:
        InputError: there is none, its module does not state it, or it makes another form.
    """
    where = "config/datasets.yaml, key adapter"
    adapter = entry_of("adapter", name, Adapter, where=where)
    if adapter.form != form:
        raise InputError(
            f"The adapter {name!r} makes {adapter.form}, but the data set is said to be {form}.",
            where=where,
            remedy=f"set `form: {adapter.form}`, or choose another adapter.",
        )
    return adapter
