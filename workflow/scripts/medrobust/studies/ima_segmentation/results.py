"""What the tables, figures and claims of segmentation read: records of slices, printed numbers.

Intervals are over test cases: slices of one case look alike, so they are drawn together (bootstrap
of cases, percentiles). With few cases, as of heart and prostate in the paper, there is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from medrobust.core import io, seeds
from medrobust.core.errors import InputError
from medrobust.evaluation import segmentation
from medrobust.evaluation.intervals import RESAMPLES, quantiles
from medrobust.evaluation.statistics import Estimate
from medrobust.reporting.comparison import read_published
from medrobust.reporting.request import Request
from medrobust.reporting.rows import (
    dataset_sources,
    ordered_models,
    printed_values,
    replicates_by_model,
)
from medrobust.studies.ima_segmentation.catalogue import PUBLISHED_STUDY, SCORES, TASKS

if TYPE_CHECKING:
    import pandas as pd

STUDY = "ima_segmentation"
#: Fewer test cases have no interval.
LEAST_CASES = 10
BASIS = "95 % interval over test cases, all slices of a case together (bootstrap, percentiles)"
TOO_FEW = f"no interval: fewer than {LEAST_CASES} test cases"


@dataclass(frozen=True)
class CaseSums:
    """Counts of one model at one noise level, by case.

    Attributes:
        pixels: of each case and class ``tp``, ``fp``, ``fn``, float64 ``[cases, classes, 3]``.
        dice: sum of the slices' Dice of each case, float64 ``[cases]``.
        slices: their number, float64 ``[cases]``.
    """

    pixels: np.ndarray
    dice: np.ndarray
    slices: np.ndarray

    def score(self, name: str, weights: np.ndarray | None = None) -> np.ndarray:
        """Returns TVDI or ADI with each case taken ``weights [k, cases]`` times, ``[k]``."""
        if weights is None:
            weights = np.ones((1, len(self.slices)))
        if name == "ADI":
            return (weights @ self.dice) / (weights @ self.slices)
        tp, fp, fn = np.moveaxis(np.tensordot(weights, self.pixels, axes=1), -1, 0)
        return segmentation.dice_of(tp, fp, fn).mean(axis=1)


@dataclass(frozen=True)
class SegmentationResults:
    """Records of a run and what follows from them.

    Attributes:
        records: (data set, model) to the records of its replicates.
        sources: data set to source, the paper's first.
        models: of each data set, in the order of the tables.
        seed: root seed.
        files: every file that was read.
    """

    records: Mapping[tuple[str, str], Sequence[pd.DataFrame]]
    sources: Mapping[str, str]
    models: Mapping[str, Sequence[str]]
    seed: int
    files: Sequence[str]
    _weights: dict[tuple[str, int], np.ndarray] = field(default_factory=dict, repr=False)

    def of(self, dataset: str, model: str) -> Sequence[pd.DataFrame]:
        """Returns the records of a model's replicates, none if it was not run."""
        return self.records.get((dataset, model), ())

    def levels(self, dataset: str) -> list[float]:
        """Returns the noise levels that models of a data set were attacked at, ascending."""
        found = {
            level
            for (name, _), parts in self.records.items()
            if name == dataset
            for part in parts
            for level in part["epsilon"]
        }
        return sorted(found)

    def sums(self, dataset: str, model: str, level: float) -> list[CaseSums]:
        """Returns the counts of each replicate at a level, none where it was not run."""
        parts = [part[part["epsilon"] == level] for part in self.of(dataset, model)]
        return [] if any(part.empty for part in parts) else [_case_sums(part) for part in parts]

    def values(self, dataset: str, model: str, score: str, level: float) -> list[float]:
        """Returns a score of each replicate."""
        return [float(one.score(score)[0]) for one in self.sums(dataset, model, level)]

    def draws(self, dataset: str, model: str, score: str, level: float) -> np.ndarray | None:
        """Returns draws of a score's mean over replicates, ``[RESAMPLES]``; None: too few cases.

        All models of a data set have the same draws of cases, so differences are paired.
        """
        sums = self.sums(dataset, model, level)
        if not sums or len(sums[0].slices) < LEAST_CASES:
            return None
        weights = self._case_weights(dataset, len(sums[0].slices))
        return np.mean([one.score(score, weights) for one in sums], axis=0)

    def _case_weights(self, dataset: str, cases: int) -> np.ndarray:
        """Returns how often each case is drawn, ``[RESAMPLES, cases]``."""
        key = (dataset, cases)
        if key not in self._weights:
            random = seeds.generator(self.seed, STUDY, "cases", dataset)
            share = np.full(cases, 1 / cases)
            self._weights[key] = random.multinomial(cases, share, size=RESAMPLES).astype(float)
        return self._weights[key]

    def estimate(self, dataset: str, model: str, score: str, level: float) -> Estimate | None:
        """Returns a score with its interval, None if it was not run."""
        values = self.values(dataset, model, score, level)
        if not values:
            return None
        draws = self.draws(dataset, model, score, level)
        low, high = (None, None) if draws is None else quantiles(draws)
        n = int(self.sums(dataset, model, level)[0].slices.sum())
        trainings = "one training" if len(values) == 1 else f"mean of {len(values)} trainings"
        return Estimate(
            float(np.mean(values)),
            low,
            high,
            n,
            len(values),
            basis=f"{trainings}; {TOO_FEW if draws is None else BASIS}",
            sd=float(np.std(values, ddof=1)) if len(values) > 1 else None,
        )

    def trainings(self, dataset: str) -> int | None:
        """Returns the fewest trainings behind the models of a data set."""
        counts = [len(parts) for (name, _), parts in self.records.items() if name == dataset]
        return min(counts, default=None)

    def trainings_text(self, dataset: str) -> str:
        """Returns how many trainings are behind each number of a data set, in words; "" if none."""
        counts = {len(parts) for (name, _), parts in self.records.items() if name == dataset}
        if counts <= {1}:
            return "one training each" if counts else ""
        span = " to ".join(str(count) for count in sorted({min(counts), max(counts)}))
        return f"means of {span} trainings each"

    def size_text(self, dataset: str) -> str:
        """Returns how many slices and cases were attacked, in words; "" if none were."""
        for (name, _), parts in self.records.items():
            if name == dataset and len(parts[0]):
                slices, cases = (parts[0][key].nunique() for key in ("number", "case"))
                return f"{slices:,} slices of {cases} test cases"
        return ""


def _case_sums(records: pd.DataFrame) -> CaseSums:
    pixels = records.groupby(["case", "class"])[["tp", "fp", "fn"]].sum()
    cases, classes = (pixels.index.levels[k] for k in (0, 1))
    dice = records.assign(dice=segmentation.dice(records))
    by_slice = dice.groupby(["case", "number"])["dice"].mean()
    return CaseSums(
        pixels.to_numpy(float).reshape(len(cases), len(classes), 3),
        by_slice.groupby("case").sum().to_numpy(),
        by_slice.groupby("case").size().to_numpy(float),
    )


@dataclass(frozen=True)
class PrintedNumbers:
    """The paper's numbers on segmentation.

    Attributes:
        frame: as :func:`medrobust.reporting.comparison.read_published` reads them.
    """

    frame: pd.DataFrame

    def methods(self, dataset: str) -> list[str]:
        """Returns the models of a data set, plain training first, IMA last."""
        found = list(dict.fromkeys(self.frame.loc[self.frame["dataset"] == dataset, "method"]))
        return found[::-1]

    def levels(self, dataset: str) -> list[float]:
        """Returns the noise levels of a data set, ascending."""
        texts = self.frame.loc[self.frame["dataset"] == dataset, "epsilon"]
        return sorted({float(text) for text in texts})

    def values(self) -> dict[tuple[str, ...], float]:
        """Returns (data set, score, method, level as text) to the number."""
        return printed_values(self.frame, "dataset", "metric", "method", "epsilon")


def read_printed(path: str) -> PrintedNumbers:
    """Returns the printed numbers.

    Raises:
        InputError: the file is wrong.
    """
    frame = read_published(path, PUBLISHED_STUDY)
    return PrintedNumbers(frame[frame["metric"].isin(SCORES)].reset_index(drop=True))


def read_results(request: Request) -> SegmentationResults:
    """Reads the records of a request.

    Raises:
        InputError: a file is missing or wrong, two entries are the same, or models of a data set
            were attacked on other slices.
    """
    printed = read_printed(request.published)
    groups = replicates_by_model(request.entries)
    records: dict[tuple[str, str], list[pd.DataFrame]] = {}
    files: list[str] = []
    for key, replicates in groups.items():
        for entry in replicates:
            for path in entry.pixel_records.values():
                records.setdefault(key, []).append(io.read_table(path))
                files.append(path)
    _check_same_slices(records)
    known = [task.dataset for task in TASKS]
    sources = dataset_sources(request.entries, known)
    return SegmentationResults(
        records=records,
        sources=sources,
        models={
            d: ordered_models(groups, d, printed.methods(d) if d in known else [])
            for d in dict.fromkeys((*known, *sources))
        },
        seed=request.context.seed,
        files=files,
    )


def _check_same_slices(records: Mapping[tuple[str, str], Sequence[pd.DataFrame]]) -> None:
    first: dict[str, tuple[str, frozenset[int]]] = {}
    for (dataset, model), parts in records.items():
        for part in parts:
            slices = frozenset(part["number"])
            known = first.setdefault(dataset, (model, slices))
            if known[1] != slices:
                raise InputError(
                    f"{model} was attacked on other slices than {known[0]}.",
                    where=dataset,
                    remedy="attack the same slices of every model.",
                )
