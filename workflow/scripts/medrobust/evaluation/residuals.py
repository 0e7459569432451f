"""Residual maps: what an attack changes in the maps that a network's first pooling hands on.

Mirst (Sun et al. 2022, MIRST-DM), Figure 2: the maps of the clean point are subtracted from those
of its adversarial version, with max-pooling and with drop-max in the same network, "all channels
are added". Whether differences are added with their signs or without is not said; both are here.

The second largest values are smaller than the largest, and so are their differences. What compares
is the change: the L1 norm of the difference over the L1 norm of the clean maps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from medrobust.core.errors import InputError
from medrobust.models import blocks
from medrobust.models.contract import first_pooling_of
from medrobust.models.engine import apart, stacked
from medrobust.models.engine.residual import Pooling

if TYPE_CHECKING:
    from medrobust.core.schema import Settings
    from medrobust.models.contract import Architecture

#: Name of the file, beside the arrays that an attack kept.
FILE = "residuals.safetensors"
#: Each of them stands in the place of the network's own.
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)

#: From points float32 ``[n, *shape]`` to maps float32 ``[M, n, k, h, w]`` of all members.
Maps = Callable[[np.ndarray], np.ndarray]


def own_pooling(architecture: Mapping[str, Any]) -> str:
    """Returns the name of the first pooling of a model's networks.

    Args:
        architecture: ``name`` and settings.

    Raises:
        InputError: they have none, or their architecture does not say.
    """
    own = first_pooling_of(architecture)
    if own is None:
        raise InputError(
            f"Networks of the architecture {architecture['name']!r} with these settings have no "
            "first pooling that another can take the place of, so there are no residual maps.",
            where="key architecture",
            remedy="ask for residual maps of a network such as resnet50.",
        )
    return own


@dataclass(frozen=True)
class Pairs:
    """Kept points and their adversarial versions: a row for each point and variant of the attack.

    Attributes:
        point_id: int64 ``[n]``, ascending.
        variant: int64 ``[n]``, which value of the attack's grid, from 0 on.
        epsilon: float64 ``[n]``, that of the grid; NaN where the grid has none.
        x, x_adv: float32 ``[n, *shape]``.
    """

    point_id: np.ndarray
    variant: np.ndarray
    epsilon: np.ndarray
    x: np.ndarray
    x_adv: np.ndarray

    @classmethod
    def of(
        cls,
        points: Callable[[np.ndarray], np.ndarray],
        arrays: Mapping[str, np.ndarray],
        *,
        where: str,
    ) -> Pairs:
        """Returns the pairs of which the attack left an adversarial version.

        Args:
            points: from numbers of points to the points of the data set, float32.
            arrays: what :func:`medrobust.evaluation.grids.save_grid_chunk` writes, joined.
            where: their file, for messages.

        Raises:
            InputError: these are no arrays of an attack on a split, or not of this data set.
        """
        if absent := {"point_id", "x", "x_adv", "epsilon"} - set(arrays):
            raise InputError(
                "These are no arrays of an attack that keeps those of points of a split (missing: "
                f"{', '.join(sorted(absent))}).",
                where=where,
                remedy="give the attack keep_arrays in the study's file, and run it again.",
            )
        ids, x_adv = arrays["point_id"], arrays["x_adv"]
        x = points(ids)
        if x_adv.shape[2:] != x.shape[1:] or not np.array_equal(x, arrays["x"]):
            raise InputError(
                "These are not the arrays of this data set: its points of the same numbers are "
                "others.",
                where=where,
                remedy="run the attack again on the data set as it is prepared now.",
            )
        n, variants = x_adv.shape[:2]
        pairs = cls(
            point_id=np.repeat(ids, variants),
            variant=np.tile(np.arange(variants), n),
            epsilon=np.tile(arrays["epsilon"], n),
            x=np.repeat(x, variants, axis=0),
            x_adv=x_adv.reshape(-1, *x.shape[1:]),
        )
        return pairs._only(np.isfinite(pairs.x_adv).reshape(n * variants, -1).all(axis=1))

    def _only(self, rows: np.ndarray) -> Pairs:
        """Returns the pairs of these rows."""
        return Pairs(**{name: values[rows] for name, values in vars(self).items()})

    def linf(self) -> np.ndarray:
        """Returns the Linf norm of each perturbation, float32 ``[n]``."""
        step = np.abs(self.x_adv.astype(np.float64) - self.x)
        return step.reshape(len(step), -1).max(axis=1).astype(np.float32)


def pooled_maps(
    architecture: Architecture,
    spec: Settings,
    parameters: Mapping[str, np.ndarray],
    pooling: Pooling,
    device: str,
) -> Maps:
    """Returns the function from points to the maps of all members after their first pooling.

    Args:
        architecture: states ``pooled_features``.
        spec: its settings.
        parameters: of all members.
        pooling: in the place of the networks' own.
        device: "cpu" or "cuda[:k]".
    """
    tensors = stacked.tensors(dict(parameters), device)
    return stacked.on_arrays(
        lambda x: apart.each_member(
            lambda member, own: architecture.pooled_features(spec, member, own, pooling),
            tensors,
            x,
        ),
        device,
    )


def residuals(
    maps: Maps, x: np.ndarray, x_adv: np.ndarray, block: int = blocks.LABELS
) -> dict[str, np.ndarray]:
    """Returns how far adversarial points move the maps of their clean points.

    Args:
        maps: of all members, by one pooling.
        x, x_adv: float32 ``[n, *shape]``, n at least 1.
        block: points at a time.

    Returns:
        float32, means over members: ``absolute [n, h, w]`` (sum over channels of the absolute
        difference), ``signed [n, h, w]`` (sum of adversarial minus clean) and ``change [n]`` (L1
        norm of the difference over that of the clean maps; NaN where these are 0).
    """
    parts = [
        _residuals(maps(x[start : start + block]), maps(x_adv[start : start + block]))
        for start in range(0, len(x), block)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _residuals(clean: np.ndarray, adversarial: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the residuals of one block from its maps ``[M, n, k, h, w]``."""
    clean = clean.astype(np.float64)
    difference = adversarial - clean
    size, whole = np.abs(difference), np.abs(clean).sum(axis=(2, 3, 4))
    change = np.full(whole.shape, np.nan)
    np.divide(size.sum(axis=(2, 3, 4)), whole, out=change, where=whole > 0)
    found = {"absolute": size.sum(axis=2), "signed": difference.sum(axis=2), "change": change}
    return {name: values.mean(axis=0).astype(np.float32) for name, values in found.items()}
