"""What several jobs need: loading a trained ensemble, timing sidecars."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.core.registry import parse_spec
from medrobust.core.seeds import generator
from medrobust.data.prepared.store import Dataset
from medrobust.models.ensembles import Ensemble, build_ensemble


def training_rows(
    train: np.ndarray, points: int | None, seed: int, names: Sequence[object]
) -> np.ndarray:
    """Returns the rows to train on: those of the split, or a draw of them in the same order.

    Args:
        train: rows of the training split: points, or cases of volumes.
        points: how many to draw; None: all.
        seed: root seed.
        names: of the piece of work: study, data set, fold, replicate, model. The first three count,
            so all models and replicates of a data set train on the same.
    """
    if points is None or points >= len(train):
        return train
    chosen = generator(seed, "training points", *names[:3]).choice(len(train), points, False)
    return train[np.sort(chosen)]


def load_ensemble(
    member_files: Sequence[str], model: Mapping[str, Any], dataset: Dataset, device: str
) -> Ensemble:
    """Returns the ensemble of all trained members of a model.

    Args:
        member_files: safetensors files of its training jobs, in the order of members.
        model: ``architecture`` (name and settings) and ``vote``.
        dataset: the data set it was trained on.
        device: "cpu" or "cuda[:k]".
    """
    architecture = model["architecture"]
    spec = parse_spec(
        "architecture", architecture, file="parameters of the job", prefix="architecture"
    )
    return build_ensemble(
        architecture["name"],
        spec,
        [io.read_tensors(file) for file in member_files],
        vote=model["vote"],
        input_shape=dataset.x.shape[1:],
        n_classes=dataset.n_classes,
        input_range=dataset.input_range,
        device=device,
    )


def evaluated_members(member_files: Sequence[str], evaluated: str) -> dict[str, str]:
    """Returns the SHA-256 of each file of members, by file name, checked against an evaluation.

    Args:
        member_files: safetensors files of a model's training jobs.
        evaluated: JSON file of the model's clean evaluation; its ``made_from`` has their hashes.

    Raises:
        InputError: a file is lost, or is not the one that was evaluated.
    """
    known = io.read_json(evaluated).get("made_from", {})  # of an older version: none
    for file in map(Path, member_files):
        if not file.is_file():
            raise InputError(
                "This file of trained members is lost.",
                where=str(file),
                remedy=f"train them again: `snakemake --cores 1 {file}`, with the same --config; "
                "then run the same command again.",
            )
        if known.get(file.name) != io.sha256_of_file(file):
            raise InputError(
                f"These trained members are not those that were evaluated in {evaluated}.",
                where=str(file),
                remedy=f"delete {evaluated} and run the same command again.",
            )
    return {Path(file).name: known[Path(file).name] for file in member_files}


def journal_file(folder: str, kind: str, key: str) -> Path:
    """Returns where a job with this key keeps its journal or checkpoint."""
    return Path(folder) / kind / f"{key[:32]}.progress"


def require_beside(files: Sequence[str]) -> None:
    """Refuses the loss of files that attacks wrote together with their records.

    Raises:
        InputError: one of them is not there.
    """
    for file in map(Path, files):
        if not file.is_file():
            records = file.with_name(f"{file.name.partition('.')[0]}.parquet")
            raise InputError(
                "This file of an attack is lost.",
                where=str(file),
                remedy=f"delete {records} too and run the same command again: the attack on these "
                "points then runs anew.",
            )


def machines(timings: Sequence[str]) -> list[dict[str, Any]]:
    """Returns on what the jobs with these timing files ran, each combination once.

    ``block`` stands only beside a GPU: :func:`medrobust.models.blocks.stated_block`.
    """
    require_beside(timings)
    found: list[dict[str, Any]] = []
    for facts in map(io.read_json, timings):
        machine = {key: facts[key] for key in ("device", "hardware", "versions")}
        machine |= {key: facts[key] for key in ("block",) if key in facts}
        if machine not in found:
            found.append(machine)
    return found


class Stopwatch:
    """Measures a job for its timing sidecar, which refines the plan's unit costs."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.monotonic(), time.process_time()

    def write(self, path: str, kind: str, units: float, **more: Any) -> None:
        """Writes ``kind``, the units of work done (as the plan counts them) and the seconds."""
        io.write_json(
            path,
            {
                "kind": kind,
                "units": units,
                "wall_s": round(time.monotonic() - self._wall, 3),
                "cpu_s": round(time.process_time() - self._cpu, 3),
                **more,
            },
        )
