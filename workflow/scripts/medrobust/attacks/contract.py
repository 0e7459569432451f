"""What an attack states: the class of the object that each module here ends with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from medrobust.core.contract import NO_RESULT, Contract, Function
from medrobust.core.registry import ARCHITECTURES, entry_of
from medrobust.core.schema import unknown_name


@dataclass(frozen=True, kw_only=True, eq=False)
class Attack(Contract):
    """An attack on a classifier.

    The settings class has ``clip_min`` and ``clip_max`` (the job fills in the range of the training
    points where they are null) and ``expected_queries()``, the queries of one point for the plan.
    It may have ``restarts``, the number of runs per point, and ``epsilon`` and ``loss``, which go
    into the records.

    Attributes:
        attack: ``(model, x, y, spec, seeds, *, x_start, journal, progress) -> AttackResult``: see
            :func:`medrobust.attacks.run_attack`, which checks what it is given.
        of_pixels: whether it attacks networks that give every pixel a class: then ``attack`` is as
            in :mod:`medrobust.attacks.pixel_pgd`.
        unit_seconds: for the plan and the division into jobs: architecture to the seconds of one
            query or gradient on one core, of the ensemble, or of one member where members are
            computed one by one.
        value_seconds: what each further value of a point adds to that, of points larger than those
            that ``unit_seconds`` was measured on.
    """

    attack: Function
    of_pixels: bool = False
    unit_seconds: Mapping[str, float] = field(default_factory=dict, metadata=NO_RESULT)
    value_seconds: Mapping[str, float] = field(default_factory=dict, metadata=NO_RESULT)

    def check(self) -> None:
        """Refuses settings without what every attack is asked for."""
        self.require_functions("attack")
        for name in ("clip_min", "clip_max"):
            self.require(name in self.spec.model_fields, f"its settings must have {name}")
        self.require(
            callable(getattr(self.spec, "expected_queries", None)),
            "its settings must have a method expected_queries",
        )
        for name in (*self.unit_seconds, *self.value_seconds):
            if name not in ARCHITECTURES:
                raise unknown_name("architecture", name, ARCHITECTURES, where="")
        self.require_seconds(self.unit_seconds)
        self.require_seconds(self.value_seconds)


def attack_of(name: str) -> Attack:
    """Returns what the registered attack ``name`` states.

    Raises:
        InputError: there is none, or its module does not state it.
    """
    return entry_of("attack", name, Attack)
