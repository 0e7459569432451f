"""What a training method states: the class of the object that each module here ends with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from medrobust.core.contract import NO_RESULT, Contract, Function
from medrobust.core.registry import ARCHITECTURES, entry_of
from medrobust.core.schema import unknown_name


@dataclass(frozen=True, kw_only=True, eq=False)
class Method(Contract):
    """A way to train members of an architecture.

    Attributes:
        architectures: registered names of the architectures that it can train.
        train: ``(spec, architecture, architecture_spec, work) -> Trained``; both are described in
            :mod:`medrobust.training.engine.work`. A member depends on its own seed alone, however
            members are grouped into jobs.
        uses_gpu: whether it computes on a GPU where there is one.
        most: ``(shape) -> {setting: largest value}``: numbers that hang on how many values a
            point has. A larger one is lowered on a data set of the user's own and refused on one
            of a paper (:mod:`medrobust.experiment.fitting`); training gets what was made of it, so
            this shapes no result.
        passes: for the plan: ``(spec, n_classes, n_rows) -> number`` of plain passes over the data
            that a member takes at most; where it is not given, the settings' ``max_epochs``.
        unit_seconds: for the plan: architecture to the seconds that a pass takes for a point and
            a member, on one core; of others the architecture's ``step_seconds`` count.
        value_seconds: what each further value of a point adds to that, of points larger than those
            that ``unit_seconds`` was measured on.
        keeps_margins: whether ``Trained.extras`` has the ``margin`` of each training point.
        search_can_be_traced: whether one more sweep over the training points, from their margins,
            can show what the search for noisy points goes through
            (:mod:`medrobust.training.search_trace`); the settings then are those of
            :class:`medrobust.training.ima.Spec`.
    """

    architectures: frozenset[str] = field(metadata=NO_RESULT)
    train: Function
    uses_gpu: bool = True
    most: Function | None = field(default=None, metadata=NO_RESULT)
    passes: Function | None = field(default=None, metadata=NO_RESULT)
    unit_seconds: Mapping[str, float] = field(default_factory=dict, metadata=NO_RESULT)
    value_seconds: Mapping[str, float] = field(default_factory=dict, metadata=NO_RESULT)
    keeps_margins: bool = field(default=False, metadata=NO_RESULT)
    search_can_be_traced: bool = field(default=False, metadata=NO_RESULT)

    def check(self) -> None:
        """Refuses unknown architectures, and costs and searches of what is not trained or kept."""
        self.require_functions("train")
        self.require_functions("passes", "most", optional=True)
        self.require(bool(self.architectures), "architectures must name what it can train")
        for name in sorted(self.architectures):
            if name not in ARCHITECTURES:
                raise unknown_name("architecture", name, ARCHITECTURES, where="")
        for name in ("unit_seconds", "value_seconds"):
            seconds = getattr(self, name)
            self.require(set(seconds) <= self.architectures, f"{name} must be of its architectures")
            self.require_seconds(seconds)
        self.require(
            self.keeps_margins or not self.search_can_be_traced,
            "search_can_be_traced needs keeps_margins: a search starts from the margins",
        )


def method_of(name: str) -> Method:
    """Returns what the registered training method ``name`` states.

    Raises:
        InputError: there is none, or its module does not state it.
    """
    return entry_of("method", name, Method)
