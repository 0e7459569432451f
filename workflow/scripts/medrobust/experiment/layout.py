"""Where files lie: patterns of paths, and the cell (data set, fold, replicate) that fills them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

DATA = "results/data/{dataset}@{source}"
#: Says which file of pretrained weights was found or downloaded.
WEIGHTS = "results/data/weights/{weights}.json"
MODEL = "results/{run}/{study}/models/{dataset}@{source}/fold{fold}/rep{replicate}/{model}"
EVALUATIONS = "results/{run}/{study}/evaluations"
FOLD = "{dataset}@{source}/fold{fold}"
CELL = f"{FOLD}/rep{{replicate}}"
JOURNALS = "results/.progress"
RAW = Path("resources/raw")
SUBSET = "subset"
RUN_FACTS = "run.json"  # beside committed records
#: The files of each kind of artefact beside the main one.
SUFFIXES = {
    "table": [".md", ".csv", ".tex", ".provenance.json"],
    "figure": [".pdf", ".svg", ".csv", ".provenance.json"],
    "claims": [".csv", ".md", ".provenance.json"],
}
#: Folder and suffix of the main file of each kind of artefact.
PLACES = {"table": ("tables", "html"), "figure": ("figures", "png"), "claims": ("claims", "html")}


def project_file(file: str, root: Path, here: Path) -> Path:
    """Returns a file (or folder) that the configuration names: the user's, else the workflow's own.

    Args:
        file: its path in either folder, such as ``config/scales/smoke.yaml``, or an absolute one.
        root: the folder of the workflow.
        here: the folder that the user works in; it can be the same.
    """
    return here / file if (here / file).exists() else root / file


@dataclass(frozen=True)
class Cell:
    """One data set, fold and replicate of a study."""

    run: str
    study: str
    dataset: str
    source: str
    fold: int = 0
    replicate: int = 0

    @classmethod
    def of(cls, work: Mapping[str, Any]) -> Cell:
        """Returns the cell of a piece of work, whose wildcards may be text."""
        texts = {field.name: work[field.name] for field in fields(cls)}
        return cls(**texts | {name: int(texts[name]) for name in ("fold", "replicate")})

    @property
    def path(self) -> str:
        """The cell's part of a path, e.g. ``mitbih@kaggle/fold0/rep0``."""
        return CELL.format(**vars(self))

    @property
    def names(self) -> list[Any]:
        """What seeds derive from: not the run, so a member starts alike at every scale."""
        return [self.study, f"{self.dataset}@{self.source}", self.fold, self.replicate]

    @property
    def data(self) -> str:
        """The folder of the cell's data set."""
        return DATA.format(**vars(self))
