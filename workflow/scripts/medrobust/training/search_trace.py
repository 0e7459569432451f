"""One more sweep of increasing margins (ima, Algorithms 2 and 3), and what its search went through.

The training points of a member are searched once more from their margins after the last epoch, by
the functions that train. What Figures 2 to 5 of the paper show is chosen from it by rules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.core.registry import METHODS, parse_spec
from medrobust.evaluation.plane import EDGE, Box
from medrobust.models.contract import architecture_of
from medrobust.training.contract import method_of

if TYPE_CHECKING:
    from medrobust.attacks.engine.gradient_ascent import Network
    from medrobust.data.prepared.store import Dataset
    from medrobust.models.ensembles import Ensemble
    from medrobust.training import ima
    from medrobust.training.engine.boundary_search import BoundarySearch, SearchPath


#: Of the maps around a search, of the coarse ones that rule out most points, and around all points.
DETAIL_WIDTH, COARSE_WIDTH, BALLS_WIDTH = 160, 32, 240
#: Half the width of such a map, in radii of the ball, or in lengths of the segment.
BALL_VIEW, SEGMENT_VIEW = 1.35, 0.8
#: A search is drawn whose first wrong point comes after so many steps at least.
LEAST_STEPS = 3
#: Searches without a wrong point that are looked at before the first of them is taken.
CANDIDATES = 100
#: A margin counts as below the largest if it is by more than this share of it: margins are float32
#: sums of steps. A sum of 60 is off by a few millionths of it at most; a step is a sixtieth.
SLACK = 1e-5
#: Points of each class whose balls are drawn together, at most.
BALLS_PER_CLASS = 40


@dataclass(frozen=True)
class Sweep:
    """One sweep over the training points of a member, and what its search went through.

    Attributes:
        spec: settings of the training.
        point_id, y: int64 ``[n]``.
        x: float32 ``[n, 2]``.
        before, after: margins, float32 ``[n]``.
        start_radius: float32 ``[n]``; NaN of misclassified points.
        path: float32 ``[n, steps + 1, 2]``; NaN after a first wrong point.
        noisy: float32 ``[n, 2]``, NaN where none was found.
        right, wrong: ends of the segments, as ``noisy``.
        middles: float32 ``[n, bisections, 2]``, as ``noisy``.
        middle_right: bool ``[n, bisections]``.
    """

    spec: ima.Spec
    point_id: np.ndarray
    y: np.ndarray
    x: np.ndarray
    before: np.ndarray
    after: np.ndarray
    start_radius: np.ndarray
    path: np.ndarray
    noisy: np.ndarray
    right: np.ndarray
    wrong: np.ndarray
    middles: np.ndarray
    middle_right: np.ndarray

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        members: Sequence[str],
        margins: str,
        model: Mapping[str, Any],
        seed: int,
    ) -> Sweep:
        """Returns a sweep whose starts are drawn from ``seed``; arguments as the job's."""
        import torch

        from medrobust.training import ima
        from medrobust.training.engine.boundary_search import SearchPath

        if not method_of(model["method"]["name"]).search_can_be_traced:
            traced = [name for name in METHODS if method_of(name).search_can_be_traced]
            raise InputError(
                f"Only models trained by {' or '.join(traced)} have such a search, not "
                f"{model['method']['name']!r}.",
                where="parameters of the job, key model.method.name",
            )
        spec = parse_spec("method", model["method"], file="parameters of the job", prefix="method")
        ids, known = _margins(margins, dataset)
        x, y = dataset.points(ids), np.asarray(dataset.y[ids])
        network = _first_member(members, model)
        search = ima.search_of(spec, dataset.input_range)
        path = SearchPath()
        with torch.no_grad():
            swept = ima.swept(
                spec,
                search,
                network,
                *(torch.from_numpy(array) for array in (x, y, known)),
                dataset.n_classes,
                torch.Generator().manual_seed(seed),
                path,
            )
            parts = _seen(network, search, swept, path, torch.from_numpy(y))
        return cls(spec, ids, y, x, known, swept.margins.numpy(), **parts)

    def no_wrong_point(self, row: int) -> bool:
        """Whether a point was searched, has none, and its ball may still grow."""
        searched = self.start_radius[row] >= 0
        grows = self.before[row] < self.spec.largest_margin * (1 - SLACK)
        return bool(searched and grows and np.isnan(self.noisy[row, 0]))

    def wrong_point(self, row: int) -> bool:
        """Whether a point has one, after some steps."""
        late = np.isfinite(self.path[row, :, 0]).sum() > LEAST_STEPS
        return bool(late and np.isfinite(self.noisy[row, 0]))

    def shrinks(self, row: int) -> bool:
        """Whether a noisy point takes at least a step from the margin."""
        lost = self.before[row] - self.after[row] >= self.spec.margin_step
        return bool(lost and np.isfinite(self.noisy[row, 0]))

    def of_point(self, row: int) -> dict[str, np.ndarray]:
        """Returns what is told of any point."""
        return {
            "point_id": self.point_id[[row]],
            "label": self.y[[row]],
            "x": self.x[row],
            "margin": self.before[[row]],
            "start_radius": self.start_radius[[row]],
        }

    def of_part(self, name: str, row: int) -> dict[str, np.ndarray]:
        """Returns what is told of the point of a part beside that."""
        if name == "shrink":
            return {"noisy": self.noisy[row], "after": self.after[[row]]}
        path = {"path": self.path[row][np.isfinite(self.path[row, :, 0])]}
        if name == "case0":
            return path
        return path | {
            "right": self.right[row],
            "wrong": self.wrong[row],
            "middles": self.middles[row],
            "middle_right": self.middle_right[row].astype(np.uint8),
        }

    def map_around(
        self, row: int, model: Ensemble, width: int = DETAIL_WIDTH
    ) -> dict[str, np.ndarray]:
        """Returns a map around a point and its ball."""
        view = Box.around(self.x[[row]], BALL_VIEW * float(self.before[row]))
        return view.probabilities(model, width)

    def first_case0(self, order: np.ndarray, model: Ensemble) -> int | None:
        """Returns the point of case 0, None if no search came without a wrong point."""
        rows = [int(row) for row in order if self.no_wrong_point(row)][:CANDIDATES]
        for row in rows:
            widths = (COARSE_WIDTH, DETAIL_WIDTH)
            if all(self.clear(row, self.map_around(row, model, width)) for width in widths):
                return row
        return rows[0] if rows else None

    def clear(self, row: int, around: dict[str, np.ndarray]) -> bool:
        """Whether a map shows no wrong point in the ball, and some outside."""
        grid = np.stack(np.meshgrid(around["first"], around["second"]), axis=-1)
        distances = np.linalg.norm(grid - self.x[row], self._norm, axis=-1)
        wrong = (around["probability"] > 0.5) != self.y[row]
        return bool(wrong.any() and not wrong[distances <= self.before[row]].any())

    @property
    def _norm(self) -> float:
        return np.inf if self.spec.norm == "linf" else 2.0

    def balls(self, order: np.ndarray) -> dict[str, np.ndarray]:
        """Returns points of both classes of which none lies in a ball of its class."""
        taken: dict[int, list[int]] = {0: [], 1: []}
        for row in order[self.start_radius[order] >= 0]:
            own = taken[int(self.y[row])]
            if len(own) < BALLS_PER_CLASS:
                gaps = np.linalg.norm(self.x[own] - self.x[row], self._norm, axis=1)
                if (gaps >= np.maximum(self.before[own], self.before[row])).all():
                    own.append(int(row))
        rows = np.array(taken[0] + taken[1], dtype=np.int64)
        return {
            "point_id": self.point_id[rows],
            "label": self.y[rows],
            "x": self.x[rows],
            "margin": self.before[rows],
            "noisy": self.noisy[rows],
        }


def _first(order: np.ndarray, wanted: Callable[[int], bool]) -> int | None:
    return next((int(row) for row in order if wanted(row)), None)


def _margins(path: str, dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Returns the ids of the training points int64 ``[n]`` and the first member's margins."""
    arrays = io.read_tensors(path)
    missing = {"margin", "point_id", "label"} - set(arrays)
    fits = not missing and arrays["margin"].shape[1:] == arrays["point_id"].shape
    ids = arrays["point_id"].astype(np.int64) if fits else np.empty(0, dtype=np.int64)
    if fits and len(ids) and 0 <= ids.min() <= ids.max() < len(dataset.y):
        fits = (np.asarray(dataset.y[ids]) == arrays["label"]).all()
    else:
        fits = False
    if not fits:
        raise InputError(
            "These are not the margins of training points of this data set.",
            where=path,
            remedy="delete the file and run the same command again.",
        )
    return ids, arrays["margin"][0].astype(np.float32)


def _first_member(members: Sequence[str], model: Mapping[str, Any]) -> Network:
    import torch

    from medrobust.attacks.engine.gradient_ascent import Network

    architecture = model["architecture"]
    spec = parse_spec(
        "architecture", architecture, file="parameters of the job", prefix="architecture"
    )
    first = {name: torch.from_numpy(v[0]) for name, v in io.read_tensors(members[0]).items()}
    return Network(architecture_of(architecture["name"]), spec, first)


def _seen(
    network: Network, search: BoundarySearch, swept: ima.Swept, path: SearchPath, y: Any
) -> dict[str, np.ndarray]:
    """Returns what a search went through by point, as :class:`Sweep` names it."""
    import torch

    n, hit = len(y), swept.rows[swept.hit]

    def by_point(rows: Any, values: Any) -> np.ndarray:
        full = values.new_full((n, *values.shape[1:]), torch.nan)
        return full.index_copy_(0, rows, values).numpy()

    none = path.right.new_empty((0, search.bisections, path.right.shape[1]))
    middles = torch.stack(path.middles, dim=1) if path.middles else none
    calls = network.logits(middles.flatten(0, 1)).argmax(dim=1).view(middles.shape[:2])
    correct = torch.zeros((n, middles.shape[1]), dtype=torch.bool)
    correct[hit] = calls == y[hit, None]
    # The search ends early where every point has been found to have a wrong one.
    points = torch.stack(path.points, dim=1)
    missing = search.steps + 1 - points.shape[1]
    points = torch.nn.functional.pad(points, (0, 0, 0, missing), value=torch.nan)
    return {
        "start_radius": by_point(swept.rows, swept.start_radius),
        "path": by_point(swept.rows, points),
        "noisy": by_point(hit, swept.noisy),
        "right": by_point(hit, path.right),
        "wrong": by_point(hit, path.wrong),
        "middles": by_point(hit, middles),
        "middle_right": correct.numpy(),
    }


def parts_of_sweep(sweep: Sweep, order: np.ndarray, ensemble: Ensemble) -> dict[str, np.ndarray]:
    """Returns the arrays of :func:`medrobust.jobs.plane.trace_search`.

    Args:
        sweep: of the first member.
        order: int ``[n]``, in which points are looked at.
        ensemble: draws the maps.
    """
    spec = sweep.spec
    found: dict[str, np.ndarray] = {
        "order": np.float32([np.inf if spec.norm == "linf" else 2.0]),
        "margin_step": np.float32([spec.margin_step]),
        "largest_margin": np.float32([spec.largest_margin]),
        "steps": np.array([spec.steps]),
        "reach": np.float32([spec.reach]),
        "points": np.array([len(sweep.x)]),
        "shrunk": np.array([(sweep.after < sweep.before).sum()]),
    }
    for name, row in (
        ("case0", sweep.first_case0(order, ensemble)),
        ("case1", _first(order, sweep.wrong_point)),
        ("shrink", _first(order, sweep.shrinks)),
    ):
        if row is not None:
            parts = sweep.of_point(row) | sweep.of_part(name, row) | sweep.map_around(row, ensemble)
            if name == "case0":
                parts["clear"] = np.array([sweep.clear(row, parts)], dtype=np.uint8)
            if name == "case1":
                view = Box.around_segment(sweep.right[row], sweep.wrong[row], SEGMENT_VIEW)
                local = view.probabilities(ensemble, DETAIL_WIDTH)
                parts |= {f"segment_{key}": value for key, value in local.items()}
            found |= {f"{name}_{key}": value for key, value in parts.items()}
    balls = sweep.balls(order) | Box.around(sweep.x, EDGE).probabilities(ensemble, BALLS_WIDTH)
    found |= {f"balls_{key}": value for key, value in balls.items()}
    return found
