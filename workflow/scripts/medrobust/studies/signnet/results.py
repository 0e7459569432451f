"""What the modules of the sign-network study share: its models, data sets and inputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medrobust.evaluation import statistics
from medrobust.reporting import artefacts
from medrobust.reporting.catalogue import PointKind
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
COMBINED = "combined"


@dataclass(frozen=True)
class Part:
    """A half of the paper: the same tables on one kind of data.

    Attributes:
        points: the kind of its points (:func:`medrobust.reporting.catalogue.point_kind`).
        what: what one of its points is called, for example "image".
        datasets: its data sets, as the published numbers name them, in the paper's order.
        models: its models, as the published numbers name them, in the paper's order.
        attacked: data set to how many points the paper attacked.
        accuracy_table, distance_table: numbers of its tables in the paper.
        decimals: of the distances that it prints.
    """

    points: PointKind
    what: str
    datasets: tuple[str, ...]
    models: tuple[str, ...]
    attacked: Mapping[str, int]
    accuracy_table: str
    distance_table: str
    decimals: int


#: Section III.A: Tables I and II.
IMAGES = Part(
    points="images",
    what="image",
    datasets=("chest_xray", "colorectal_histology"),
    models=("SCD01", "SCDCE", "MLP", "LeNet", "ResNet18", "RandomForest"),
    attacked={"chest_xray": 5, "colorectal_histology": 5},
    accuracy_table="I",
    distance_table="II",
    decimals=1,
)
#: Section III.B: Tables III and IV.
SIGNALS = Part(
    points="signals",
    what="ECG",
    datasets=("PTBD", "MIT-BIH"),
    models=("SCD01", "SCDCE", "BNN", "MLP", "CNN", "RandomForest"),
    attacked={"PTBD": 37, "MIT-BIH": 21},
    accuracy_table="III",
    distance_table="IV",
    decimals=2,
)
PARTS = (IMAGES, SIGNALS)
#: Data set of the study to its name in results; names that are not here stay as they are.
DATASET_LABELS = {
    "ptbd": "PTBD",
    "mitbih": "MIT-BIH",
    "mitbih_ns": "MIT-BIH, N against S",
    "mitbih_patient": "MIT-BIH, split by patient",
    "kather": "colorectal_histology",
}
#: Data set in results to how people read it; names that are not here are read as they are.
HEADINGS = {
    "chest_xray": "Chest X-ray",
    "colorectal_histology": "Colorectal histology",
    "chest_xray_patient": "Chest X-ray, split by patient",
    "chest_xray_unique": "Chest X-ray, no two alike, split by patient",
    "kather_slide": "Colorectal histology, split by slide",
    COMBINED: "Combined average",
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
        points: the kind of the data set's points.
    """

    dataset: str
    model: str
    source: str
    summary: str
    replicate: int = 0
    points: str = SIGNALS.points


@dataclass(frozen=True)
class AttackInput:
    """Attack records of one model on one data set.

    Attributes:
        dataset, model, source, replicate, points: as in :class:`CleanInput`.
        chunks: paths of the records (``chunk<k>.parquet``).
        arrays: paths of the arrays beside them (``chunk<k>.safetensors``), for figures.
    """

    dataset: str
    model: str
    source: str
    chunks: Sequence[str]
    arrays: Sequence[str] = ()
    replicate: int = 0
    points: str = SIGNALS.points


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
    order = [dataset for part in PARTS for dataset in part.datasets]
    return dataset_sources(inputs, order, dataset_label)


def heading(dataset: str) -> str:
    """Returns how people read a data set ("chest_xray" as "Chest X-ray")."""
    return HEADINGS.get(dataset, dataset)


def cells_of(cells: Iterable[tuple[str, str]], part: Part) -> list[tuple[str, str]]:
    """Returns (data set, model) of every cell of a part: the paper's, then what was added to it.

    Args:
        cells: those that have results, all of this part.
        part: which.
    """
    known = list(cells)
    datasets = dict.fromkeys([*part.datasets, *(dataset for dataset, _ in known)])
    models = dict.fromkeys([*part.models, *(model for _, model in known)])
    return [(dataset, model) for dataset in datasets for model in models]


def cells_by_part(groups: Mapping[tuple[str, str], Sequence[Any]]) -> dict[tuple[str, str], Part]:
    """Returns every cell of the paper and every added one, with the part that it belongs to.

    Args:
        groups: results by (data set, model), as :func:`grouped` returns them.
    """
    found: dict[tuple[str, str], Part] = {}
    for part in PARTS:
        own = [cell for cell, items in groups.items() if items[0].points == part.points]
        found |= dict.fromkeys(cells_of(own, part), part)
    return found


def marked(text: str, frame: pd.DataFrame, dataset: str) -> str:
    """Returns a heading with a mark if anything below it comes from stand-in data.

    Args:
        text: the heading.
        frame: with columns ``dataset`` and ``source``.
        dataset: the one below it.
    """
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
        AttackInput(e.dataset, e.model, e.source, e.records, e.arrays, e.replicate, e.points)
        for e in request.entries
    ]


def attack_text(request: Request) -> str:
    """Returns the attack, its budget and which points it took, in words."""
    settings = {key: value for key, value in request.attack.items() if key != "name"}
    text = artefacts.describe_attack(request.attack["name"], settings)
    return f"{text}, {request.cohort_rule}" if request.cohort_rule else text
