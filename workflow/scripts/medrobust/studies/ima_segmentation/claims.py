"""What Ma and Liang (2021) say of segmentation, as tests of this run's results.

Models of a data set are compared on the same draws of test cases. Where there are too few cases for
an interval nothing is told of a difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from medrobust.reporting.claim_tests import (
    DrawnEvidence,
    Draws,
    Evidence,
    LevelClaims,
    LevelQuantity,
    RoundedEvidence,
    above,
    at_least,
    at_most,
)
from medrobust.reporting.claims import Claim, Statement, all_of, build_claims
from medrobust.reporting.generic_tables import attacks_in_words
from medrobust.reporting.request import Request
from medrobust.studies.ima_segmentation.catalogue import TASKS, task_of
from medrobust.studies.ima_segmentation.results import (
    TOO_FEW,
    PrintedNumbers,
    SegmentationResults,
    read_printed,
    read_results,
)

HEART, HIPPOCAMPUS, PROSTATE = (task.dataset for task in TASKS)
#: "Almost 0" and "almost the same".
ALMOST_ZERO, ALMOST_SAME = 0.05, 0.03
ROUNDING = 0.005


@dataclass(frozen=True)
class Quantity(LevelQuantity):
    """A score of a model at one noise level."""

    dataset: str = ""
    score: str = ""

    @property
    def place(self) -> str:
        """Everything but the method, in words."""
        return f"{self.score} at noise level {self.levels[0]:g}"


def _of(dataset: str, score: str, level: float, method: str = "") -> Quantity:
    return Quantity(method, (float(level),), dataset, score)


@dataclass(frozen=True)
class RunEvidence(DrawnEvidence):
    """The results of a run."""

    results: SegmentationResults

    def values(self, quantity: Quantity) -> Draws | str:
        """See :class:`DrawnEvidence`."""
        where = (quantity.dataset, quantity.method, quantity.score, quantity.levels[0])
        found = self.results.values(*where)
        if not found:
            return f"{quantity.method} is not part of this run"
        draws = self.results.draws(*where)
        return TOO_FEW if draws is None else (float(np.mean(found)), draws)

    def points(self, quantity: Quantity) -> int:
        """See :class:`DrawnEvidence`."""
        return cases(self.results, quantity.dataset)


@dataclass(frozen=True)
class PrintEvidence(RoundedEvidence):
    """The printed numbers."""

    numbers: Mapping[tuple[str, ...], float]

    def number(self, quantity: Quantity, level: float) -> float:
        """See :class:`RoundedEvidence`."""
        return self.numbers[quantity.dataset, quantity.score, quantity.method, f"{level:g}"]

    def rounding(self, quantity: Quantity) -> float:
        """See :class:`RoundedEvidence`."""
        return ROUNDING


def cases(results: SegmentationResults, dataset: str) -> int:
    """Returns the number of test cases that were attacked, 0 if none were."""
    for (name, _), parts in results.records.items():
        if name == dataset and len(parts[0]):
            return int(parts[0]["case"].nunique())
    return 0


# --- tests ------------------------------------------------------------------------------


def _almost_zero(evidence: Evidence, dataset: str, *, level: float) -> Statement:
    return at_most(evidence, _of(dataset, "TVDI", level, "nnUnet"), ALMOST_ZERO)


def _order(
    evidence: Evidence, dataset: str, *, pairs: Sequence[tuple[str, float, str, tuple[str, ...]]]
) -> Statement:
    """Tests that at each (score, level) the first method is above all others."""
    return all_of(
        above(evidence, _of(dataset, score, level), first, *others)
        for score, level, first, others in pairs
    )


def _alike(
    evidence: Evidence, dataset: str, *, score: str, level: float, first: str, second: str
) -> Statement:
    place = _of(dataset, score, level)
    one, other = (replace(place, method=method) for method in (first, second))
    label = f"{first} within {ALMOST_SAME:g} of {second} ({place.place})"
    return evidence.test(label, one, [other], -ALMOST_SAME, ALMOST_SAME)


def _attacked(dataset: str) -> tuple[float, ...]:
    """Returns the noise levels of print above 0."""
    return {HEART: (5, 15, 25), HIPPOCAMPUS: (1, 5, 10, 15), PROSTATE: (10, 20, 40)}[dataset]


def _rivals(dataset: str) -> tuple[str, ...]:
    advs = {HEART: (5, 15, 25), HIPPOCAMPUS: (1, 5, 15), PROSTATE: (10, 20, 40)}[dataset]
    return ("nnUnet", *(f"adv{epsilon}" for epsilon in advs))


def _ima_best(evidence: Evidence, dataset: str, *, score: str) -> Statement:
    # One by one: a rival that was not run leaves open what it alone would tell.
    ima = task_of(dataset).ima
    return all_of(
        above(evidence, _of(dataset, score, level), ima, rival)
        for level in _attacked(dataset)
        for rival in _rivals(dataset)
    )


def _adv15_low_clean(evidence: Evidence, dataset: str) -> Statement:
    clean = _of(dataset, "TVDI", 0)
    others = ("nnUnet", "adv1", "adv5", "IMA15")
    lower = [above(evidence, clean, other, "adv15") for other in others]
    return all_of([*lower, at_most(evidence, replace(clean, method="adv15"), 0.8)])


def _clean_alike(evidence: Evidence, dataset: str) -> Statement:
    return all_of(
        _alike(evidence, dataset, score="TVDI", level=0, first="IMA40", second=second)
        for second in ("adv20", "adv10")
    )


_WHERE = "Experiments on Segmentation"

#: Name, words, figure, what is tested, the test, data sets.
_SENTENCES = (
    (
        "nnunet_falls_on_heart",
        "whose Dice score drops to almost 0 at the noise level of 15",
        f"{_WHERE}, Figure 10",
        f"the TVDI of nnUnet at level 15 is at most {ALMOST_ZERO:g}.",
        partial(_almost_zero, level=15),
        (HEART,),
    ),
    (
        "nnunet_falls_on_hippocampus",
        "“nnUnet”’s Dice score drops to almost 0 at the noise level of 10",
        f"{_WHERE}, Figure 11",
        f"the TVDI of nnUnet at level 10 is at most {ALMOST_ZERO:g}.",
        partial(_almost_zero, level=10),
        (HIPPOCAMPUS,),
    ),
    (
        "adv5_not_robust_on_heart",
        "“adv5” has a high clean Dice index (0.87), but is not robust enough",
        f"{_WHERE}, Figure 10",
        "the TVDI of adv5 is above those of adv15, adv25 and IMA25 at level 0, and theirs above it "
        "at level 25.",
        partial(
            _order,
            pairs=(
                ("TVDI", 0, "adv5", ("adv15", "adv25", "IMA25")),
                *(("TVDI", 25, other, ("adv5",)) for other in ("adv15", "adv25", "IMA25")),
            ),
        ),
        (HEART,),
    ),
    (
        "adv25_robust_but_costly_on_heart",
        "“adv25” is robust enough (its drops slowliest as the noise grows up), but its clean Dice "
        "is more than 10% lower than the original “nnUnet”",
        f"{_WHERE}, Figure 10",
        "the TVDI of adv25 is above all others at level 25, and that of nnUnet more than 0.1 above "
        "it at level 0.",
        lambda evidence, dataset: all_of(
            [
                above(
                    evidence, _of(dataset, "TVDI", 25), "adv25", "nnUnet", "adv5", "adv15", "IMA25"
                ),
                evidence.test(
                    "nnUnet more than 0.1 above adv25 (TVDI at noise level 0)",
                    _of(dataset, "TVDI", 0, "nnUnet"),
                    [_of(dataset, "TVDI", 0, "adv25")],
                    0.1,
                ),
            ]
        ),
        (HEART,),
    ),
    (
        "ima_best_average_dice_on_heart",
        "When we see the Average Dice Index evaluation, the IMA has a significantly better "
        "performance than any other method",
        f"{_WHERE}, Figure 10",
        "the ADI of IMA25 is above all others at each noise level but 0.",
        partial(_ima_best, score="ADI"),
        (HEART,),
    ),
    (
        "adv1_not_robust_on_hippocampus",
        "“adv1” has a good clean Dice index (85%), but is not robust enough",
        f"{_WHERE}, Figure 11",
        "the TVDI of adv1 is at least .84 at level 0; those of adv5, adv15 and IMA15 are above it "
        "at levels 10 and 15.",
        lambda evidence, dataset: all_of(
            [
                at_least(evidence, _of(dataset, "TVDI", 0, "adv1"), 0.84),
                *(
                    above(evidence, _of(dataset, "TVDI", level), other, "adv1")
                    for level in (10, 15)
                    for other in ("adv5", "adv15", "IMA15")
                ),
            ]
        ),
        (HIPPOCAMPUS,),
    ),
    (
        "adv15_costly_on_hippocampus",
        "“adv15” is indeed robust enough (almost as robust as IMA), but has the lowest clean Dice "
        "index(less than 80%)",
        f"{_WHERE}, Figure 11",
        "the TVDI of adv15 at level 0 is below all others and at most .8. How robust almost is, is "
        "not said, and not tested.",
        _adv15_low_clean,
        (HIPPOCAMPUS,),
    ),
    (
        "adv5_less_robust_on_hippocampus",
        "“adv5” has a little advantage in clean Dice but is not as robust as “IMA15”",
        f"{_WHERE}, Figure 11",
        "the TVDI of adv5 is above that of IMA15 at level 0, and below it at levels 10 and 15.",
        partial(
            _order,
            pairs=(
                ("TVDI", 0, "adv5", ("IMA15",)),
                ("TVDI", 10, "IMA15", ("adv5",)),
                ("TVDI", 15, "IMA15", ("adv5",)),
            ),
        ),
        (HIPPOCAMPUS,),
    ),
    (
        "ima_best_average_dice_on_hippocampus",
        "the IMA significantly has the best performance, with the best robustness and almost the "
        "same clean Dice as “nnUnet”",
        f"{_WHERE}, Figure 11",
        "the ADI of IMA15 is above all others at each noise level but 0, and at level 0 within "
        f"{ALMOST_SAME:g} of nnUnet's.",
        lambda evidence, dataset: all_of(
            [
                _ima_best(evidence, dataset, score="ADI"),
                _alike(evidence, dataset, score="ADI", level=0, first="IMA15", second="nnUnet"),
            ]
        ),
        (HIPPOCAMPUS,),
    ),
    (
        "clean_alike_on_prostate",
        "the clean Dice indices of “IMA40”, “adv20” and “adv10” are almost the same (around 0.73)",
        f"{_WHERE}, Figure 12",
        f"the TVDI of IMA40 at level 0 is within {ALMOST_SAME:g} of those of adv20 and adv10.",
        _clean_alike,
        (PROSTATE,),
    ),
    (
        "ima_more_robust_on_prostate",
        "“adv20” and “adv10” are obviously not as robust as “IMA40”",
        f"{_WHERE}, Figure 12",
        "the TVDI of IMA40 is above those of adv10 and adv20 at each noise level but 0.",
        lambda evidence, dataset: all_of(
            above(evidence, _of(dataset, "TVDI", level), "IMA40", "adv10", "adv20")
            for level in _attacked(dataset)
        ),
        (PROSTATE,),
    ),
    (
        "adv40_worse_on_prostate",
        "“adv40” is not as good as “IMA40” in both robustness and clean Dice index",
        f"{_WHERE}, Figure 12",
        "the TVDI of IMA40 is above that of adv40 at every level.",
        lambda evidence, dataset: all_of(
            above(evidence, _of(dataset, "TVDI", level), "IMA40", "adv40")
            for level in (0, *_attacked(dataset))
        ),
        (PROSTATE,),
    ),
    (
        "ima_best_average_dice_on_prostate",
        "the IMA has the best performance, with the best robustness and the best clean Dice index "
        "among all the defense methods",
        f"{_WHERE}, Figure 12",
        "the ADI of IMA40 is above all others at each noise level but 0, and above those of adv10, "
        "adv20 and adv40 at level 0.",
        lambda evidence, dataset: all_of(
            [
                _ima_best(evidence, dataset, score="ADI"),
                above(evidence, _of(dataset, "ADI", 0), "IMA40", "adv10", "adv20", "adv40"),
            ]
        ),
        (PROSTATE,),
    ),
)


def claims(printed: PrintedNumbers) -> list[Claim]:
    """Returns the paper's sentences."""
    known = LevelClaims(of_run=RunEvidence, of_print=PrintEvidence(printed.values()))
    return [known.claim(*sentence, cases) for sentence in _SENTENCES]


_METHOD = (
    "Models are compared on 9,999 draws of test cases, all slices of a case together, the same for "
    "all models. One training each: what another training would change is not in the intervals."
)


def build_segmentation_claims(request: Request) -> list[Path]:
    """Writes the claims with their verdicts (:func:`medrobust.reporting.claims.build_claims`)."""
    results = read_results(request)
    found: list[Any] = claims(read_printed(request.published))
    return build_claims(
        found,
        results,
        request.out_stem,
        request.context,
        dict(results.sources),
        budget=attacks_in_words(request, list(request.attacks)),
        inputs=[request.published, *results.files],
        method=_METHOD,
    )
