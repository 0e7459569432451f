"""Values that a training method keeps of each training point, such as its margin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class PerPoint:
    """What is kept of the points of a batch.

    Attributes:
        values: of all training points, by name, each ``[n]``.
        rows: of these, those of the batch, int64 ``[b]``.
    """

    values: dict[str, Tensor]
    rows: Tensor

    def of(self, name: str) -> Tensor:
        """Returns the values of the batch's points ``[b]``, a copy."""
        return self.values[name].index_select(0, self.rows)

    def set(self, name: str, values: Tensor) -> None:
        """Replaces the values of the batch's points by ``values [b]``."""
        self.values[name].index_copy_(0, self.rows, values)


@dataclass(frozen=True)
class Sweep:
    """A pass over all training points in their order, after each epoch.

    Attributes:
        update: ``(member, x [b, d], y [b], generator, PerPoint)``, to change what is kept of these
            points; x is not to be changed.
        batch_size: points at a time.
    """

    update: Callable[[Any, Tensor, Tensor, Any, PerPoint], None]
    batch_size: int
