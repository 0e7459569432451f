"""What the segmentation of ima (Ma and Liang 2021, Figures 10 to 12) draws, and from what."""

from __future__ import annotations

from typing import NamedTuple

from medrobust.reporting.catalogue import Artefact, StudyParts

_HERE = "medrobust.studies.ima_segmentation"

#: Under which study the numbers stand in the published file.
PUBLISHED_STUDY = "ima"
#: Scores of the paper -> their names in words.
SCORES = {"TVDI": "total voxel Dice index", "ADI": "average Dice index"}


class Task(NamedTuple):
    """A data set of the paper.

    Attributes:
        dataset: as printed.
        organ: in a word.
        figure: number of its figure.
        tables: score -> number of its table.
        attack: name in the study.
        ima: the model trained by IMA, as printed.
    """

    dataset: str
    organ: str
    figure: int
    tables: dict[str, str]
    attack: str
    ima: str


TASKS = (
    Task("MSD-D2-Heart", "heart", 10, {"TVDI": "14", "ADI": "15"}, "pgd_heart", "IMA25"),
    Task(
        "MSD-D4-Hippocampus",
        "hippocampus",
        11,
        {"TVDI": "16", "ADI": "17"},
        "pgd_hippocampus",
        "IMA15",
    ),
    Task("MSD-D5-Prostate", "prostate", 12, {"TVDI": "18", "ADI": "19"}, "pgd_prostate", "IMA40"),
)
ATTACKS = tuple(task.attack for task in TASKS)


def task_of(dataset: str) -> Task:
    """Returns the task of a data set as printed."""
    return next(task for task in TASKS if task.dataset == dataset)


def _artefacts() -> dict[str, Artefact]:
    found: dict[str, Artefact] = {}
    for task in TASKS:
        found[f"figure{task.figure}"] = Artefact(
            f"Figure {task.figure}",
            f"Dice by noise level, {task.organ}",
            f"{_HERE}.figures:draw_scores",
            "figure",
            ("pixel_records",),
            caption="dice_curves",
            attacks=(task.attack,),
            alias=f"ima_segmentation_fig{task.figure}",
            settings={"dataset": task.dataset},
        )
        found[f"contours_{task.organ}"] = Artefact(
            f"Outlines, {task.organ}",
            f"slices with true and predicted outlines, {task.organ}",
            f"{_HERE}.figures:draw_outlines",
            "figure",
            ("pixel_arrays",),
            caption="outlines",
            attacks=(task.attack,),
            settings={"dataset": task.dataset},
        )
        for score, number in task.tables.items():
            found[f"table{number}"] = Artefact(
                f"Table {number}",
                f"{score}, {task.organ}",
                f"{_HERE}.tables:draw_table",
                "table",
                ("pixel_records",),
                attacks=(task.attack,),
                alias=f"ima_segmentation_tab{number}",
                settings={"dataset": task.dataset, "score": score},
            )
    return found | {
        "classes": Artefact(
            "Classes",
            "Dice and Hausdorff distance of each class",
            f"{_HERE}.tables:draw_classes",
            "table",
            ("pixel_records",),
            attacks=ATTACKS,
        ),
        "claims": Artefact(
            "Claims",
            "what the paper says of segmentation, and what this run says",
            f"{_HERE}.claims:build_segmentation_claims",
            "claims",
            ("pixel_records",),
            attacks=ATTACKS,
            alias="ima_segmentation_claims",
        ),
    }


PARTS = StudyParts(artefacts=_artefacts(), published_study=PUBLISHED_STUDY, front="figure11")
