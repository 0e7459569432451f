"""What the registry's modules have in common: each ends with one object that states what it offers.

The object is an instance of a frozen class of the module's layer (``Architecture``, ``Method``,
``Attack``, ``Adapter``). A misspelt field is refused when the module is imported, and so are fields
that do not fit together; nothing is looked up by a name that may not be there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from medrobust.core.errors import InputError
from medrobust.core.schema import Settings

#: Metadata of a field that shapes no result, such as a cost for the plan: an edit of it reruns
#: nothing, because code hashes leave it out.
NO_RESULT = {"shapes_results": False}


@dataclass(frozen=True, kw_only=True, eq=False)
class Contract:
    """What every registered module states.

    Attributes:
        spec: class of the settings; a setting that is not in it is refused.

    Raises:
        InputError: fields do not fit together.
    """

    spec: type[Settings]

    def __post_init__(self) -> None:
        self.require(
            isinstance(self.spec, type) and issubclass(self.spec, Settings),
            "spec must be a class of settings, derived from medrobust.core.schema.Settings",
        )
        self.check()

    def check(self) -> None:
        """Refuses fields that do not fit together; each kind of module has its own rules."""

    def require(self, holds: bool, rule: str) -> None:
        """Raises an InputError that states the rule, unless it holds."""
        if not holds:
            raise InputError(
                f"The {type(self).__name__} that a module states is not as it must be: {rule}.",
                remedy="see docs/extending.md.",
            )

    def require_functions(self, *names: str, optional: bool = False) -> None:
        """Refuses fields that are no functions; None is one that is not there."""
        for name in names:
            value = getattr(self, name)
            there = optional and value is None
            self.require(there or callable(value), f"{name} must be a function")

    def require_seconds(self, costs: Mapping[str, float]) -> None:
        """Refuses costs that are not above 0."""
        self.require(
            all(isinstance(value, float | int) and value > 0 for value in costs.values()),
            "seconds must be above 0",
        )

    @classmethod
    def without_effect(cls) -> frozenset[str]:
        """Returns the names of the fields that shape no result."""
        return frozenset(f.name for f in fields(cls) if not f.metadata.get("shapes_results", True))


#: From any arguments to anything: what a function's own documentation states.
Function = Callable[..., Any]


def timing_kind(work: str, name: str, architecture: str, values: int) -> str:
    """Returns what a job is called in its timing file, by which its cost is compared.

    Args:
        work: "train" or "attack".
        name: of the method, or of the attack.
        architecture: of the model.
        values: of a point.
    """
    return f"{work}:{name}:{architecture}:{values}"
