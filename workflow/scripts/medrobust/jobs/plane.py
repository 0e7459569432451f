"""Jobs on data sets of the plane: what a model says everywhere, and how ima searches for noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.core.logs import logger
from medrobust.core.seeds import derive_seed, generator
from medrobust.evaluation.plane import EDGE, WIDTH, Box, is_plane
from medrobust.models.contract import architecture_of
from medrobust.models.failures import failure_in
from medrobust.runtime.devices import choose_device, fix_threads, gpu_slot
from medrobust.training.search_trace import Sweep, parts_of_sweep

if TYPE_CHECKING:
    from medrobust.data.prepared.store import Dataset


def map_plane(
    *,
    data: str,
    members: Sequence[str],
    model: Mapping[str, Any],
    out: str,
    device: str,
    compute_threads: int,
    fold: int = 0,
) -> None:
    """Evaluates a model on a grid of the plane; writes no arrays where its training failed.

    The grid is :data:`WIDTH` points wide, its cells are squares, and it reaches from the least to
    the largest coordinates of the test points and :data:`EDGE` beyond.

    Args:
        data: folder of the data set, with points of two coordinates and two classes.
        fold: number of its split.
        members: safetensors files of the model's training jobs.
        model: ``architecture`` and ``vote``.
        out: safetensors file to write: ``first`` float32 ``[w]`` and ``second`` float32 ``[h]``
            (coordinates), ``probability`` float32 ``[h, w]`` (mean over members of the probability
            of class 1), ``points`` float32 ``[k, 2]`` and ``labels`` int64 ``[k]`` (test points),
            ``distance`` float32 ``[k]`` (of each in Linf to where the model gives another label,
            from a grid of its own, right to ``spacing [1]``; what is further than :data:`EDGE` may
            be nearer outside the map).
        device: "auto", "cpu" or "cuda".
        compute_threads: threads of the numerical libraries.

    Raises:
        InputError: the data set is of another form.
    """
    fix_threads(compute_threads)
    from medrobust.data.prepared.store import load_dataset
    from medrobust.jobs.shared import load_ensemble

    dataset = load_dataset(data, fold)
    _check_plane(dataset)
    if _failed(members, out):
        return
    points = dataset.x_test
    box = Box.around(points, EDGE)
    uses_gpu = architecture_of(model["architecture"]["name"]).uses_gpu
    with gpu_slot(choose_device(device, uses_gpu)) as chosen:
        ensemble = load_ensemble(members, model, dataset, chosen)
        found = box.probabilities(ensemble, WIDTH)
        distance, spacing = box.distances(ensemble, points, dataset.y_test)
    known = {"points": points, "labels": dataset.y_test, "distance": distance}
    io.write_tensors(out, {**found, **known, "spacing": np.array([spacing], dtype=np.float32)})


def trace_search(
    *,
    data: str,
    members: Sequence[str],
    margins: str,
    model: Mapping[str, Any],
    out: str,
    names: Sequence[object],
    seed: int,
    compute_threads: int,
    fold: int = 0,
) -> None:
    """Writes what one more sweep of ima (Algorithms 2 and 3) goes through, for Figures 2 to 5.

    The training points of the first member are searched once more from their margins after the
    last epoch, by the functions that train. In a seeded order of these points (names in capitals
    are constants of :mod:`medrobust.training.search_trace`)

    * ``case0`` is the first in whose ball no wrong point was found, whose margin is below the
      largest (by more than ``SLACK`` of it), and whose map shows none in the ball but some
      outside (if that is so of none of the first ``CANDIDATES``: the first whatever its map
      shows);
    * ``case1`` is the first whose first wrong point came after ``LEAST_STEPS`` steps or more;
    * ``shrink`` is the first whose margin becomes smaller by at least the margin step;
    * ``balls`` are, of each class, the first ``BALLS_PER_CLASS`` that are classified correctly,
      lie in the ball of none taken before, and whose ball, of the margin before this sweep, holds
      none.

    It is always computed on the CPU. There are no arrays where the training failed.

    Args:
        data: folder of the data set, with points of two coordinates and two classes.
        fold: number of its split.
        members: safetensors files of the model's training jobs.
        margins: safetensors file of the margins of its training points: ``margin``
            ``[members, n]``, ``point_id`` and ``label`` ``[n]``.
        model: ``architecture``, ``vote`` and ``method``, which is ima.
        out: safetensors file to write. ``order`` (of the norm: infinity or 2), ``margin_step``,
            ``largest_margin``, ``steps``, ``reach``, ``points`` (training points) and ``shrunk``
            (margins that became smaller), each ``[1]``; and for each of the four, as far as there
            is one, arrays whose names begin with its name and ``_``, float32 where not said:

            * ``case0``, ``case1``, ``shrink``: ``point_id`` int64 ``[1]``, ``label`` int64 ``[1]``,
              ``x [2]``, ``margin [1]`` (radius of the ball), ``start_radius [1]``; a map around the
              point as in :func:`map_plane`, ``first``, ``second``, ``probability``;
            * ``case0``, ``case1``: ``path [steps + 1, 2]`` from the start on, of ``case1`` up to
              the first wrong point;
            * ``case0``: ``clear`` uint8 ``[1]``, whether its map is as said above;
            * ``case1``: ``right [2]`` and ``wrong [2]``, the ends of the segment; ``middles
              [bisections, 2]`` and ``middle_right`` uint8, whether each is classified correctly;
              and a map around the segment, ``segment_first``, ``segment_second``,
              ``segment_probability``;
            * ``shrink``: ``noisy [2]``, the noisy point, and ``after [1]``, the margin then;
            * ``balls``: ``point_id``, ``label`` int64 ``[k]``, ``margin [k]``, ``x [k, 2]``,
              ``noisy [k, 2]`` (NaN where none was found) and a map around all training points.
        names: names of the piece of work, from which, with ``seed``, starts and the order derive.
        seed: root seed.
        compute_threads: threads of the numerical libraries.

    Raises:
        InputError: the data set is of another form, the model was not trained by ima, or the
            margins are not of this data set.
    """
    fix_threads(compute_threads)
    from medrobust.data.prepared.store import load_dataset
    from medrobust.jobs.shared import load_ensemble

    dataset = load_dataset(data, fold)
    _check_plane(dataset)
    if _failed(members, out):
        return
    sweep = Sweep.of(dataset, members, margins, model, derive_seed(seed, "search", *names))
    ensemble = load_ensemble(members, model, dataset, "cpu")
    order = generator(seed, "search order", *names).permutation(len(sweep.x))
    io.write_tensors(out, parts_of_sweep(sweep, order, ensemble))


def _failed(members: Sequence[str], out: str) -> bool:
    """Tells whether the training failed; then writes a file without arrays."""
    if failed := failure_in(members):
        logger.warning("training failed: %s; nothing is drawn", failed)
        io.write_tensors(out, {})
    return bool(failed)


def _check_plane(dataset: Dataset) -> None:
    if not is_plane(dataset.x.shape[1:], dataset.n_classes):
        raise InputError(
            f"Only points of two coordinates and two classes can be drawn in the plane; these have "
            f"shape {tuple(dataset.x.shape[1:])} and {dataset.n_classes} classes.",
            where=str(dataset.folder),
            remedy="ask for this of a data set such as moons.",
        )
