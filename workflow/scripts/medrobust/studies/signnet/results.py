"""What the modules of the sign-network study share: its models, data sets and inputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medrobust.evaluation import statistics
from medrobust.reporting import artefacts
from medrobust.reporting.request import Request
from medrobust.reporting.rows import (
    MITBIH_SAMPLING_RATE,
    dataset_sources,
    replicates_by_model,
    with_synthetic_mark,
)

if TYPE_CHECKING:
    import pandas as pd


STUDY = "signnet"
MODELS = ("SCD01", "SCDCE", "BNN", "MLP", "CNN", "RandomForest")
DATASETS = ("PTBD", "MIT-BIH")
COMBINED = "combined"
#: Points that the paper attacked (section III.B).
PAPER_POINTS = {"PTBD": 37, "MIT-BIH": 21}
#: How data sets are printed; names that are not here are printed as they are.
DATASET_LABELS = {
    "ptbd": "PTBD",
    "mitbih": "MIT-BIH",
    "mitbih_ns": "MIT-BIH, N against S",
    "mitbih_patient": "MIT-BIH, split by patient",
}


#: Samples per second of the PTB heartbeats: every eighth of 1,000 per second (docs/data-ptbdb.md).
PTBD_SAMPLING_RATE = 125.0


def sampling_rate(dataset: str) -> float:
    """Returns the samples per second of a printed data set's heartbeats."""
    return PTBD_SAMPLING_RATE if dataset == "PTBD" else MITBIH_SAMPLING_RATE


def remark(dataset: str, source: str) -> str:
    """Returns what a reader must know of the data behind a number, "" if nothing.

    Args:
        dataset: as printed, or "combined".
        source: of the data; those of several data sets joined by "+", PTBD's first.
    """
    if dataset in ("PTBD", COMBINED) and source.split("+")[0] == "physionet":
        return "PTBD's heartbeats were cut anew from the records: not the rows of the paper"
    return ""


@dataclass(frozen=True)
class CleanInput:
    """Clean results of one model on one data set.

    Attributes:
        dataset: key of the data set, or its printed name.
        model: the model's name in the paper, or a name of one's own.
        source: where the data came from (:data:`medrobust.reporting.artefacts.SOURCES`).
        summary: path of ``clean.json``.
        replicate: number of the replicate.
    """

    dataset: str
    model: str
    source: str
    summary: str
    replicate: int = 0


@dataclass(frozen=True)
class AttackInput:
    """Attack records of one model on one data set.

    Attributes:
        dataset, model, source, replicate: as in :class:`CleanInput`.
        chunks: paths of the records (``chunk<k>.parquet``).
        arrays: paths of the arrays beside them (``chunk<k>.safetensors``), for figures.
    """

    dataset: str
    model: str
    source: str
    chunks: Sequence[str]
    arrays: Sequence[str] = ()
    replicate: int = 0


def dataset_label(name: str) -> str:
    """Returns how a data set is printed ("mitbih" as "MIT-BIH")."""
    return DATASET_LABELS.get(name, name)


def grouped(inputs: Sequence[Any]) -> dict[tuple[str, str], list[Any]]:
    """Groups inputs by (printed data set, model): see ``rows.replicates_by_model``."""
    return replicates_by_model(inputs, dataset_label)


def sources_of(inputs: Sequence[Any]) -> dict[str, str]:
    """Returns the source of each printed data set, the paper's first.

    Raises:
        InputError: a source is unknown, or a data set has two.
    """
    return dataset_sources(inputs, DATASETS, dataset_label)


def cells_of(groups: Mapping[tuple[str, str], Any]) -> list[tuple[str, str]]:
    """Returns (data set, model) of every cell: the paper's, then what was added to it."""
    datasets = [*DATASETS, *dict.fromkeys(d for d, _ in groups if d not in DATASETS)]
    models = [*MODELS, *dict.fromkeys(m for _, m in groups if m not in MODELS)]
    return [(dataset, model) for dataset in datasets for model in models]


def marked(text: str, frame: pd.DataFrame, dataset: str) -> str:
    """Returns a heading with a mark if anything below it comes from stand-in data."""
    return with_synthetic_mark(text, set(frame.loc[frame["dataset"] == dataset, "source"]))


def smallest_distances(item: AttackInput) -> pd.DataFrame:
    """Returns the points of one model with their smallest distances, sorted by point."""
    return statistics.point_distances(item.chunks)


def bounds_text(points: Iterable[Iterable[pd.DataFrame]]) -> str:
    """Returns how the distances of points relate to the smallest there are, in words.

    Args:
        points: of each model its replicates, as :func:`smallest_distances` returns them.
    """
    frames = [frame for replicates in points for frame in replicates]
    return statistics.upper_bound_text(
        count for frame in frames for count in frame["restarts"].unique()
    )


def attack_inputs(request: Request) -> list[AttackInput]:
    """Returns the attack records of a request."""
    return [
        AttackInput(e.dataset, e.model, e.source, e.records, e.arrays, e.replicate)
        for e in request.entries
    ]


def attack_text(request: Request) -> str:
    """Returns the attack, its budget and which points it took, in words."""
    settings = {key: value for key, value in request.attack.items() if key != "name"}
    text = artefacts.describe_attack(request.attack["name"], settings)
    return f"{text}, {request.cohort_rule}" if request.cohort_rule else text
