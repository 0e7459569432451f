"""The job that trains members of a model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from medrobust.core import io
from medrobust.core.contract import timing_kind
from medrobust.core.errors import InputError, NotFiniteError
from medrobust.core.logs import logger
from medrobust.core.machine import hardware, versions
from medrobust.core.registry import parse_spec
from medrobust.core.seeds import derive_seed
from medrobust.models import failures
from medrobust.runtime.devices import choose_device, fix_threads, gpu_slot
from medrobust.runtime.journal import Checkpoint, Journal, mark_done, progress_key


def train_members(
    *,
    data: str,
    out: str,
    card: str,
    timing: str,
    model: Mapping[str, Any],
    members: Sequence[int],
    names: Sequence[object],
    seed: int,
    device: str,
    compute_threads: int,
    code: str,
    progress_dir: str,
    extras: str,
    training_points: int | None = None,
    fold: int = 0,
    weights: str | None = None,
) -> None:
    """Trains members ``members[0] .. members[1]`` and writes them as safetensors.

    A training that ends with a loss, weights or scores that are not finite has failed. Its files
    are written, and say so (:mod:`medrobust.models.failures`).

    Args:
        data: folder of the data set.
        fold: number of its split.
        out: safetensors file to write.
        card: JSON file to write: settings, seeds, history and clean accuracy of each member (null
            for all of them where one failed).
        timing: JSON file to write: seconds.
        model: ``architecture`` and ``method``, each with its name and settings.
        members: first and last member, inclusive.
        names: names of the piece of work, from which, with ``seed``, every member's seed derives.
        seed: root seed.
        device: "auto", "cpu" or "cuda".
        compute_threads: threads of the numerical libraries.
        code: hash of the code, part of the progress key.
        progress_dir: folder of journals and checkpoints.
        extras: safetensors file to write: what the method knows of each training point, arrays
            ``[members, n]`` such as ``margin``, beside them ``point_id`` (row of ``x.npy``) and
            ``label`` of the points, int32 ``[n]``; without arrays where it knows nothing.
        training_points: train on so many points only, drawn at random; every model and replicate
            of a data set gets the same. None: on all.
        weights: JSON file that says which pretrained weights all members begin with
            (:func:`medrobust.jobs.data.fetch_weights`). None: values drawn at random.
    """
    fix_threads(compute_threads)
    from medrobust.data.prepared.store import load_dataset
    from medrobust.jobs.shared import Stopwatch, journal_file, training_rows
    from medrobust.training import planned_passes, trains_on_gpu
    from medrobust.training.contract import method_of
    from medrobust.training.engine.work import Work

    watch = Stopwatch()
    architecture, method = (
        parse_spec(kind, model[kind], file="parameters of the job", prefix=kind)
        for kind in ("architecture", "method")
    )
    dataset = load_dataset(data, fold)
    rows = training_rows(dataset.train_index, training_points, seed, names)
    numbers = list(range(members[0], members[1] + 1))
    seeds = [derive_seed(seed, "train", *names, number) for number in numbers]
    architecture_name, method_name = model["architecture"]["name"], model["method"]["name"]
    pretrained = _pretrained(weights, architecture_name, architecture) if weights else None
    kind = choose_device(device, trains_on_gpu(architecture_name, method_name))
    key = progress_key(
        {"model": dict(model), "seeds": seeds, "threads": compute_threads}
        | {"device": kind, "versions": versions()}
        | ({} if training_points is None else {"training_points": training_points})
        | ({} if pretrained is None else {"weights": pretrained.sha256}),
        dataset.hashes(),
        code,
    )
    stem = journal_file(progress_dir, "train", key)
    places = [stem.with_suffix(suffix) for suffix in (".journal", ".checkpoint")]
    with ExitStack() as stack:
        chosen = stack.enter_context(gpu_slot(kind))
        journal = stack.enter_context(Journal(places[0], key))
        checkpoint = stack.enter_context(Checkpoint(places[1], key))
        work = Work(
            x=dataset.points(rows),
            y=dataset.y[rows],
            n_classes=dataset.n_classes,
            members=numbers,
            seeds=seeds,
            device=chosen,
            input_range=dataset.input_range,
            threads=compute_threads,
            first_values={} if pretrained is None else pretrained.arrays,
            journal=journal,
            checkpoint=checkpoint,
        )
        trained = method_of(method_name).train(method, architecture_name, architecture, work)
        failed = failures.failures_of(numbers, trained.parameters, trained.history)
        accuracies: Sequence[float | None] = [None] * len(numbers)
        if not failed:
            try:
                accuracies = _member_accuracies(model, architecture, trained.parameters, dataset)
            except NotFiniteError as error:
                failed = {numbers[place]: failures.SCORES for place in error.members}
        for member, happened in failed.items():
            logger.warning("training failed: member %d: %s", member, happened)
        io.write_tensors(out, trained.parameters, failures.metadata_of(failed))
        known = {"point_id": rows, "label": work.y} if trained.extras else {}
        of_points = {name: value.astype(np.int32) for name, value in known.items()}
        io.write_tensors(extras, trained.extras | of_points)
    io.write_json(
        card,
        {
            **{kind: model[kind] for kind in ("architecture", "method")},
            "data": dataset.card["name"],
            "n_train": len(work.y),
            "members": [
                {"seed": s, "test_accuracy": a, **h}
                | ({"failed": failed[number]} if number in failed else {})
                for number, s, a, h in zip(numbers, seeds, accuracies, trained.history, strict=True)
            ],
            "device": kind,
            "versions": versions(),
            "hardware": hardware(),
            "code": code,
            "parameters_sha256": io.sha256_of_file(out),
        }
        | ({} if pretrained is None else {"weights": _about(pretrained)}),
    )
    for place in places:
        mark_done(place)
    epochs = [entry.get("epochs") for entry in trained.history]
    most = planned_passes(model["method"], dataset.n_classes, len(work.y))
    # Members that stopped early took their share of the epochs.
    longest = getattr(method, "max_epochs", None)
    share = 1.0 if None in epochs or not longest else float(np.mean(epochs)) / longest
    values = math.prod(dataset.x.shape[1:])
    work_kind = timing_kind("train", method_name, architecture_name, values)
    watch.write(timing, work_kind, len(numbers) * len(work.y) * most * share)


def _pretrained(manifest: str, architecture: str, spec: Any) -> Any:
    """Returns the weights that a manifest names, read for an architecture.

    Raises:
        InputError: the file was replaced since, or does not fit.
    """
    from medrobust.models.contract import architecture_of

    file = io.read_json(manifest)
    found = architecture_of(architecture).read_weights(file["path"], spec)
    if found.sha256 != file["sha256"]:
        raise InputError(
            f"The weights {file['name']!r} were replaced since they were found: sha256 "
            f"{found.sha256}, then {file['sha256']}.",
            where=file["path"],
            remedy="put the file back, or, if it is the one that is meant, ask for `--forcerun "
            "fetch_weights`.",
        )
    return found


def _about(pretrained: Any) -> dict[str, str]:
    return {"sha256": pretrained.sha256, "layout": pretrained.layout}


def _member_accuracies(
    model: Mapping[str, Any], spec: Any, parameters: dict[str, np.ndarray], dataset: Any
) -> list[float]:
    from medrobust.models.ensembles import build_ensemble

    ensemble = build_ensemble(
        model["architecture"]["name"],
        spec,
        [parameters],
        vote="majority",
        input_shape=dataset.x.shape[1:],
        n_classes=dataset.n_classes,
        input_range=dataset.input_range,
    )
    labels = ensemble.member_predictions(dataset.x_test)
    return (labels == dataset.y_test).mean(axis=1).tolist()
