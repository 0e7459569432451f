"""The job that maps what an attack changes behind a network's first pooling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medrobust.core import io
from medrobust.core.logs import logger
from medrobust.core.registry import parse_spec
from medrobust.models.blocks import label_block
from medrobust.models.contract import architecture_of
from medrobust.models.failures import failure_in
from medrobust.runtime.devices import choose_device, fix_threads, gpu_slot


def map_residuals(
    *,
    data: str,
    members: Sequence[str],
    arrays: str,
    model: Mapping[str, Any],
    out: str,
    device: str,
    compute_threads: int,
    fold: int = 0,
) -> None:
    """Writes residual maps (:mod:`medrobust.evaluation.residuals`) of an attack's kept points.

    There are no arrays where the training failed, or the attack left no adversarial version of any
    point; such a version alone is left out.

    Args:
        data: folder of the data set.
        fold: number of its split.
        members: safetensors files of the model's training jobs.
        arrays: safetensors file of the points and adversarial versions that the attack kept.
        model: ``architecture`` and ``vote``; the architecture says what its first pooling is.
        out: safetensors file to write: a row for each point and value of the attack's grid, points
            ascending. ``point_id`` and ``variant`` (place in the grid) int64 ``[n]``, ``epsilon``
            float64 ``[n]`` (NaN where the grid has none), ``label``, ``clean_prediction`` and
            ``adversarial_prediction`` int64 ``[n]`` (by the whole model with its own pooling),
            ``linf`` float32 ``[n]`` (of the perturbation), and with each pooling p, max and
            drop_max, in the same trained networks, ``absolute_<p>`` and ``signed_<p>`` float32
            ``[n, h, w]`` and ``change_<p>`` float32 ``[n]``, means over members. The metadata has
            ``own_pooling``, with which the model was trained.
        device: "auto", "cpu" or "cuda".
        compute_threads: threads of the numerical libraries.

    Raises:
        InputError: the networks have no first pooling, or the arrays are of another data set or of
            an attack that keeps none of points of a split.
    """
    fix_threads(compute_threads)
    from medrobust.data.prepared.store import load_dataset
    from medrobust.evaluation.residuals import POOLINGS, Pairs, own_pooling, pooled_maps, residuals
    from medrobust.jobs.shared import load_ensemble

    own = own_pooling(model["architecture"])
    if failed := failure_in(members):
        logger.warning("training failed: %s; nothing is mapped", failed)
        io.write_tensors(out, {})
        return
    dataset = load_dataset(data, fold)
    pairs = Pairs.of(dataset.points, io.read_tensors(arrays), where=arrays)
    if not len(pairs.x):
        logger.warning("the attack left no adversarial version of a point; nothing is mapped")
        io.write_tensors(out, {})
        return
    architecture = architecture_of(model["architecture"]["name"])
    what = {"file": "parameters of the job", "prefix": "architecture"}
    spec = parse_spec("architecture", model["architecture"], **what)
    parameters = architecture.concatenate([io.read_tensors(file) for file in members])
    found: dict[str, Any] = {}
    with gpu_slot(choose_device(device, architecture.uses_gpu)) as chosen:
        ensemble = load_ensemble(members, model, dataset, chosen)
        found["clean_prediction"] = ensemble.predict(pairs.x)
        found["adversarial_prediction"] = ensemble.predict(pairs.x_adv)
        for pooling in POOLINGS:
            maps = pooled_maps(architecture, spec, parameters, pooling, chosen)
            parts = residuals(maps, pairs.x, pairs.x_adv, label_block(architecture, chosen))
            found |= {f"{name}_{pooling}": values for name, values in parts.items()}
    known = {name: getattr(pairs, name) for name in ("point_id", "variant", "epsilon")}
    known |= {"label": dataset.y[pairs.point_id], "linf": pairs.linf()}
    io.write_tensors(out, known | found, metadata={"own_pooling": own})
