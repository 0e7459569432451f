"""What the paper of ima claims on classification, as tests of this run's results.

Wherever the words leave open what is meant, ``tested`` says what was chosen: a method is "better"
than another if its accuracy is higher in the mean over the noise levels above 0 that the tables
print; "slightly" and "on par" got bounds. How each test gets its numbers from the run and from
print, and what dependence it assumes, stands in :mod:`medrobust.reporting.claim_tests`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from medrobust.evaluation import balanced
from medrobust.evaluation.intervals import share_draws
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
    judge_nothing,
    judge_sizes,
    mean_over_levels,
    points_of,
)
from medrobust.reporting.claims import (
    Claim,
    Finding,
    Statement,
    against_rivals,
    all_of,
    any_of,
    build_claims,
    exact,
    open_statement,
)
from medrobust.reporting.request import Entry, Request
from medrobust.reporting.rows import level_text
from medrobust.studies.ima.exact import distances_of, mapped_models
from medrobust.studies.ima.margins import excess_draws, recommended_radius, share_above
from medrobust.studies.ima.noise import NOISE_COVID, flipped, flipped_draws
from medrobust.studies.ima.results import (
    COVID,
    DATASETS,
    FASHION,
    L2,
    LINF,
    MOONS,
    NORM_NAMES,
    PGD_ATTACKS,
    SVHN,
    ImaResults,
    PrintedNumbers,
    PrintedTable,
    budget_text,
    main_table,
    read_printed,
    read_results,
    remark,
    shown_sources,
)

#: Bounds for words; accuracies, so 0.02 is two points of a hundred.
SIMILAR = 0.02  # "very similar", "on par"
SLIGHTLY = 0.05  # "slightly better", "little effect", "competitive"
SENSITIVE = 0.1  # "very sensitive": at some noise level the radii differ by this
ROBUST = 0.95  # "very good robustness" where almost all points are right without noise
NEAR_ZERO = 0.005  # "zero": no more than rounds to 0.00
#: "2.75 %" of the noisy samples: within one point of a hundred.
ABOUT_FLIPPED = 0.01
#: "A good 0.1": a median that is nearer to 0.1 than to 0.05 or 0.15, other printed levels.
RADIUS, RADIUS_RANGE = 0.1, (0.075, 0.125)
IMAGES = (FASHION, SVHN)
NORMS = {MOONS: (LINF,), FASHION: (LINF, L2), SVHN: (LINF, L2), COVID: (LINF,)}


@dataclass(frozen=True)
class Quantity(LevelQuantity):
    """An accuracy of a model under the attack of a table, the mean over noise levels.

    Attributes:
        table: whose attack; it prints the method.
        mean: whether these are all levels of the table above 0.
    """

    table: PrintedTable
    mean: bool = False

    @property
    def place(self) -> str:
        """Everything but the method, in words."""
        if self.levels == (0.0,):
            return f"{self.table.dataset}, clean"
        where = ", ".join(level_text(level) for level in self.levels)
        where = "mean over noise levels" if self.mean else f"ε {where}"
        return f"{self.table.dataset}, {NORM_NAMES[self.table.norm]}, {where}"


@dataclass(frozen=True)
class RunEvidence(DrawnEvidence):
    """The run's results."""

    results: ImaResults
    printed: PrintedNumbers

    def values(self, quantity: Quantity) -> Draws | str:
        """Returns estimate and draws of a quantity, or why there are none."""
        table, dataset = quantity.table, quantity.table.dataset
        model = table.model(quantity.method)
        found = []
        for level in quantity.levels:
            where = (dataset, model, table.attack, level)
            one = self.results.estimate(*where)
            if one is None:
                ran = self.results.of(dataset, model, table.attack)
                return (
                    f"{quantity.method} under PGD in {NORM_NAMES[table.norm]} on {dataset} is not "
                    f"part of this run{' at every level' if ran else ''}"
                )
            found.append((one.value, self.results.draws(*where)))
        random = self.results.random("claims", "mean", dataset, model, table.attack)
        return mean_over_levels(found, random)

    def points(self, quantity: Quantity) -> int:
        """Returns the number of test points behind a quantity that was run."""
        return _points(self.results, quantity.table)


@dataclass(frozen=True)
class PrintEvidence(RoundedEvidence):
    """The paper's printed numbers."""

    printed: PrintedNumbers

    def number(self, quantity: Quantity, level: float) -> float:
        """Returns a printed number."""
        return self.printed.value(quantity.table, quantity.method, level_text(level))

    def rounding(self, quantity: Quantity) -> float:
        """Returns half of the last printed digit."""
        return 0.5 * 10.0 ** -self.printed.decimals(quantity.table)


Test = Callable[[Evidence, str], Statement]


def _points(results: ImaResults, table: PrintedTable) -> int:
    return points_of(results, table.attack, table.dataset)


# --- single tests -----------------------------------------------------------------------


def _tables(dataset: str) -> list[PrintedTable]:
    return [main_table(dataset, norm) for norm in NORMS[dataset]]


def noise_levels(evidence: Evidence, table: PrintedTable) -> tuple[float, ...]:
    """Returns the levels of a table above 0."""
    return tuple(evidence.printed.levels(table)[1:])


def overall(evidence: Evidence, table: PrintedTable, method: str = "") -> Quantity:
    """Returns the mean over all noise levels of a table above 0."""
    return Quantity(method, noise_levels(evidence, table), table, mean=True)


def at(table: PrintedTable, *levels: float, method: str = "") -> Quantity:
    """Returns the mean over some noise levels."""
    return Quantity(method, levels, table)


def within(
    evidence: Evidence, place: Quantity, first: str, rivals: Sequence[str], low: float, high: float
) -> Statement:
    """Tests whether a method's number minus its best rival's lies in [low, high]."""
    bounds = f"at most {high:g}" if np.isneginf(low) else f"at least {low:g}"
    if np.isfinite(low) and np.isfinite(high):
        bounds = f"within {low:g} and {high:g}"
    label = f"{first} minus {' or '.join(rivals)} {bounds} ({place.place})"
    others = [replace(place, method=rival) for rival in rivals]
    return evidence.test(label, replace(place, method=first), others, low, high)


def _slightly_above(evidence: Evidence, place: Quantity, first: str, rival: str) -> Statement:
    """Tests whether a number is above a rival's, by at most :data:`SLIGHTLY`."""
    bounded = within(evidence, place, first, [rival], -np.inf, SLIGHTLY)
    return all_of([above(evidence, place, first, rival), bounded])


def _others(evidence: Evidence, table: PrintedTable, *without: str) -> list[str]:
    return [name for name in evidence.printed.methods(table) if name not in without]


def _adversarial(evidence: Evidence, table: PrintedTable) -> list[str]:
    return [name for name in evidence.printed.methods(table) if name.startswith("adv")]


def _in_every_norm(dataset: str, test: Callable[[PrintedTable], Statement]) -> Statement:
    return all_of(test(table) for table in _tables(dataset))


# --- tests of sentences -----------------------------------------------------------------


def _robust_and_clean(evidence: Evidence, dataset: str) -> Statement:
    def test(table: PrintedTable) -> Statement:
        clean = at(table, 0.0)
        lost = within(evidence, clean, "IMA", ["ce"], -SLIGHTLY, np.inf)
        return all_of([above(evidence, overall(evidence, table), "IMA", "ce"), lost])

    return _in_every_norm(dataset, test)


def _drops_to_zero(evidence: Evidence, dataset: str) -> Statement:
    table = main_table(dataset, LINF)
    return all_of(
        [
            at_least(evidence, at(table, 0.0, method="ce"), 0.95),
            at_most(evidence, at(table, 0.03, method="ce"), NEAR_ZERO),
        ]
    )


def _better_than_all(method: str, evidence: Evidence, dataset: str) -> Statement:
    table = main_table(dataset, LINF)
    rivals = _others(evidence, table, method)
    return above(evidence, overall(evidence, table), method, *rivals)


def _alike(first: str, second: str, evidence: Evidence, dataset: str) -> Statement:
    table = main_table(dataset, LINF)
    return all_of(
        within(evidence, at(table, level), first, [second], -SIMILAR, SIMILAR)
        for level in noise_levels(evidence, table)
    )


def _better_then_worse(evidence: Evidence, dataset: str) -> Statement:
    table = main_table(dataset, LINF)
    before = [above(evidence, at(table, e), "MMA", "TRADES", "adv") for e in (0.05, 0.1)]
    after = [
        above(evidence, at(table, e), rival, "MMA")
        for e in (0.2, 0.25, 0.3)
        for rival in ("TRADES", "adv")
    ]
    return all_of([*before, *after])


def _ce_robust(evidence: Evidence, dataset: str) -> Statement:
    table = main_table(dataset, LINF)
    return all_of(at_least(evidence, at(table, e, method="ce"), ROBUST) for e in (0.05, 0.1))


def _ce_worst(evidence: Evidence, dataset: str) -> Statement:
    return _in_every_norm(
        dataset,
        lambda table: all_of(
            above(evidence, overall(evidence, table), method, "ce")
            for method in _others(evidence, table, "ce")
        ),
    )


def _sensitive(evidence: Evidence, dataset: str) -> Statement:
    def test(table: PrintedTable) -> Statement:
        radii = _adversarial(evidence, table)
        return any_of(
            within(evidence, at(table, level), first, [second], SENSITIVE, np.inf)
            for level in noise_levels(evidence, table)
            for first in radii
            for second in radii
            if first != second
        )

    return any_of(test(table) for table in _tables(dataset))


def _trades_poor(evidence: Evidence, dataset: str) -> Statement:
    place = overall(evidence, main_table(dataset, LINF))
    return all_of(above(evidence, place, method, "TRADES") for method in ("IMA", "MMA"))


def _clean_lower(evidence: Evidence, dataset: str) -> Statement:
    def test(table: PrintedTable) -> Statement:
        clean = at(table, 0.0)
        rivals = [name for name in _others(evidence, table, "ce") if not name.startswith("rand")]
        return all_of(_slightly_above(evidence, clean, "ce", method) for method in rivals)

    return _in_every_norm(dataset, test)


def _beats_trades_and_adv(evidence: Evidence, dataset: str) -> Statement:
    def test(table: PrintedTable) -> Statement:
        rivals = ["TRADES", *_adversarial(evidence, table)]
        return above(evidence, overall(evidence, table), "IMA", *rivals)

    return _in_every_norm(dataset, test)


def _slightly_better_than_mma(evidence: Evidence, dataset: str) -> Statement:
    return _in_every_norm(
        dataset, lambda table: _slightly_above(evidence, overall(evidence, table), "IMA", "MMA")
    )


def _on_par_with_mma(evidence: Evidence, dataset: str) -> Statement:
    return _in_every_norm(
        dataset,
        lambda table: within(evidence, overall(evidence, table), "IMA", ["MMA"], -SIMILAR, SIMILAR),
    )


def _at_least_on_par(evidence: Evidence, dataset: str) -> Statement:
    return _in_every_norm(
        dataset,
        lambda table: within(evidence, overall(evidence, table), "IMA", ["MMA"], -SIMILAR, np.inf),
    )


def _mma_above_02(evidence: Evidence, dataset: str) -> Statement:
    table = main_table(dataset, LINF)
    return all_of(_slightly_above(evidence, at(table, e), "MMA", "IMA") for e in (0.25, 0.3))


def _competitive(evidence: Evidence, dataset: str) -> Statement:
    place = at(main_table(dataset, LINF), 0.01, 0.03, 0.05, 0.1)
    rivals = ["IMA", "MMA", "TRADES"]
    return within(evidence, place, "adv0.1", rivals, -SLIGHTLY, np.inf)


def _noise_improves_clean(evidence: Evidence, dataset: str) -> Statement:
    return above(evidence, at(main_table(dataset, LINF), 0.0), "rand0.1", "ce")


def _little_effect(evidence: Evidence, dataset: str) -> Statement:
    place = overall(evidence, main_table(dataset, LINF))
    return all_of(
        within(evidence, place, method, ["ce"], -np.inf, SLIGHTLY)
        for method in ("rand0.1", "rand0.2", "rand0.3")
    )


def _mma_unlike_adv(evidence: Evidence, dataset: str) -> Statement:
    table = main_table(dataset, LINF)
    return above(evidence, at(table, 0.3), "adv0.3", "MMA")


# --- tests of other kinds ---------------------------------------------------------------


def _judge_flips(lowest: float, highest: float, results: ImaResults, dataset: str) -> Finding:
    label = f"share flipped by the worst draw of noise 0.05 within {lowest:g} and {highest:g} (ce)"
    found = flipped_draws(results, dataset, "ce", NOISE_COVID, 0.05)
    if found is None:
        return Finding(open_statement(label, "uniform noise on ce is not part of this run"))
    counts = flipped(results, dataset, "ce", NOISE_COVID, 0.05)
    n = counts[0][1]
    statement = against_rivals(label, found, (), lowest, highest, n=n, decimals=4)
    return Finding(statement, n, len(counts))


def _judge_exists(results: ImaResults, dataset: str) -> Finding:
    label = "some test point is flipped by uniform noise 0.05 (ce)"
    counts = flipped(results, dataset, "ce", NOISE_COVID, 0.05)
    if not counts:
        return Finding(open_statement(label, "uniform noise on ce is not part of this run"))
    figures = f"flipped: {', '.join(f'{right:g} of {n:,}' for right, n in counts)}"
    if any(right > 0 for right, _ in counts):
        statement = exact(label, True, figures)
    else:
        # That none was found does not say that there is none.
        statement = open_statement(label, f"no draw flips a point ({figures})")
    return Finding(statement, counts[0][1], len(counts))


def _judge_most_margins(results: ImaResults, dataset: str) -> Finding:
    label = "share of MMA's margins above 0.3 at least 0.5"
    found = share_above(results, dataset, "MMA", 0.3)
    if found is None:
        return Finding(open_statement(label, "MMA's margins are not part of this run"))
    margins = results.margins[dataset, "MMA"]
    n = margins[0].margin.size
    statement = against_rivals(label, found, (), 0.5, np.inf, n=n, decimals=3)
    return Finding(statement, n, len(margins))


def _judge_overestimate(results: ImaResults, dataset: str) -> Finding:
    label = "share of MMA's margins above 0.3 minus its accuracy at 0.3 at least 0.1"
    table = main_table(dataset, LINF)
    found = excess_draws(results, table, "MMA", 0.3)
    if found is None:
        missing = "margins or accuracy of MMA at 0.3 are not part of this run"
        return Finding(open_statement(label, missing))
    n = _points(results, table)
    statement = against_rivals(label, found, (), SENSITIVE, np.inf, n=n, decimals=3)
    return Finding(statement, n, len(results.margins[dataset, "MMA"]))


def _judge_radius(results: ImaResults, dataset: str) -> Finding:
    low, high = RADIUS_RANGE
    label = f"median of IMA's margins within {low:g} and {high:g}"
    found = results.margins.get((dataset, "IMA"), ())
    if not found:
        return Finding(open_statement(label, "IMA's margins are not part of this run"))
    radius = recommended_radius(np.concatenate([one.margin for one in found]))
    figures = f"median of {found[0].margin.size:,} margins: {radius:.3f}"
    statement = exact(label, low <= radius <= high, figures)
    return Finding(statement, found[0].margin.size, len(found))


def _judge_best_exact(
    printed: PrintedNumbers, entries: Sequence[Entry], results: ImaResults, dataset: str
) -> Finding:
    table = main_table(MOONS, LINF)
    rivals = [name for name in printed.methods(table) if name != "IMA"]
    label = f"IMA above {' and '.join(rivals)} (every perturbation tried, mean over noise levels)"
    mapped = mapped_models(entries)
    missing = [name for name in ("IMA", *rivals) if name not in mapped]
    if missing:
        return Finding(open_statement(label, f"no map of {missing[0]} is part of this run"))
    found = {}
    for name in ("IMA", *rivals):
        distance = distances_of(mapped[name])
        random = results.random("claims", "exact", name)
        counts = [(float((distance > e).sum()), distance.size) for e in printed.levels(table)[1:]]
        draws = balanced.merged_mean([share_draws([one], random) for one in counts], random)
        found[name] = (float(np.mean([right / n for right, n in counts])), draws)
    n = distance.size
    statement = against_rivals(
        label, found["IMA"], [found[name] for name in rivals], 0.0, np.inf, n=n, decimals=3
    )
    return Finding(statement, n, 1)


_SIZES = {MOONS: (20000, 2000), COVID: (2022, 400)}


def _judge_sizes(results: ImaResults, dataset: str) -> Finding:
    train, test = _SIZES[dataset]
    label = f"{train:,} points in the training set, {test:,} in the test set"
    found = results.sizes.get(dataset)
    source = results.sources.get(dataset, "")
    if found is not None and source != "subset" and found.trained < found.training:
        return Finding(open_statement(label, "models were trained on a part of the training set"))
    sizes = None if found is None else (found.training, found.test)
    return judge_sizes(label, (train, test), sizes, source)


# --- the sentences ----------------------------------------------------------------------


MakeClaim = Callable[..., Claim]


def claims(printed: PrintedNumbers, entries: Sequence[Entry] = ()) -> list[Claim]:
    """Returns the paper's claims on classification.

    Args:
        printed: the printed numbers.
        entries: results with maps of the plane, for the claim on Moons that is judged by them.
    """
    maker = LevelClaims(lambda results: RunEvidence(results, printed), PrintEvidence(printed))
    claim = partial(maker.claim, points=_most_points)
    return [
        *_general_claims(claim),
        *_moons_claims(claim, printed, entries),
        *_image_claims(claim),
        *_covid_claims(claim),
        *_margin_claims(),
    ]


def _most_points(results: ImaResults, dataset: str) -> int:
    return max(_points(results, table) for table in _tables(dataset))


def _general_claims(claim: MakeClaim) -> list[Claim]:
    return [
        claim(
            "improves_and_keeps_clean",
            "significantly improved CNN classification and segmentation accuracy on noisy data "
            "while keeping a high accuracy on clean data",
            "Abstract; segmentation is not part of this study",
            "classification only: IMA's mean accuracy over the noise levels is above ce's, and its "
            f"clean accuracy is below ce's by at most {SLIGHTLY:g}, in each norm.",
            _robust_and_clean,
            (*IMAGES, COVID),
        ),
        claim(
            "drops_to_zero",
            "achieved > 95% accuracy on original clean images, its accuracy dropped to zero on the "
            "noise level of 0.03",
            "Introduction, of the model without adversarial training (ce)",
            f"ce's clean accuracy is at least 0.95; its accuracy at 0.03 is at most {NEAR_ZERO:g}.",
            _drops_to_zero,
            (COVID,),
        ),
        Claim(
            name="white_noise_fools",
            quote="white-noise-induced adversarial samples can exist",
            where="Introduction",
            tested="of the test points that ce classifies correctly, at least one is misclassified "
            "after some draw of uniform noise of level 0.05.",
            judge=_judge_exists,
            datasets=(COVID,),
        ),
        Claim(
            name="white_noise_share",
            quote="2.75% of the noisy samples with uniform white noises on the noise level of 0.05",
            where="Introduction",
            tested="read as the share of the test points that some of 100 draws flips (11 of 400 "
            "are 2.75 %): it lies within one point of a hundred of 2.75 %.",
            judge=partial(_judge_flips, 0.0275 - ABOUT_FLIPPED, 0.0275 + ABOUT_FLIPPED),
            datasets=(COVID,),
        ),
        claim(
            "at_least_on_par",
            "its performance is at least on-par with the state-of-the-art MMA method on "
            "classification tasks",
            "Conclusion",
            f"IMA's mean accuracy over the noise levels is at most {SIMILAR:g} below MMA's, in "
            "each norm.",
            _at_least_on_par,
            DATASETS,
        ),
    ]


def _moons_claims(
    claim: MakeClaim, printed: PrintedNumbers, entries: Sequence[Entry]
) -> list[Claim]:
    where = "Evaluation on Moons dataset, on Figure 6"
    return [
        claim(
            "moons_ima_best",
            "Our method IMA is better than the other methods",
            where,
            "IMA's mean accuracy over the noise levels is above those of MMA, TRADES, adv0.3 and "
            "ce.",
            partial(_better_than_all, "IMA"),
            (MOONS,),
        ),
        Claim(
            name="moons_ima_best_exact",
            quote="Our method IMA is better than the other methods",
            where=where,
            tested="as before, but of the accuracy if every perturbation is tried (table Exact; "
            "first trainings), which is what the accuracy under attack stands for.",
            judge=partial(_judge_best_exact, printed, entries),
            datasets=(MOONS,),
        ),
        claim(
            "moons_trades_like_adv",
            "The results of TRADES and adv0.3 are very similar",
            where,
            f"their accuracies differ by at most {SIMILAR:g} at each noise level.",
            partial(_alike, "TRADES", "adv"),
            (MOONS,),
        ),
        claim(
            "moons_mma_crosses",
            "MMA is better than TRADES and adv0.3 when the noise level is less than 0.15, and then "
            "it becomes worse with larger noises",
            where,
            "MMA's accuracy is above both at 0.05 and 0.1, and below each at 0.2, 0.25 and 0.3.",
            _better_then_worse,
            (MOONS,),
        ),
        claim(
            "moons_ce_robust",
            "“ce” (model trained with cross-entropy loss and clean data) has very good robustness "
            "when the noise level is less than 0.15",
            where,
            f"ce's accuracy is at least {ROBUST:g} at 0.05 and 0.1.",
            _ce_robust,
            (MOONS,),
        ),
        Claim(
            name="moons_middle_line",
            quote="its decision boundary is close to the “middle line” of the two classes",
            where=where,
            tested="nothing: see the reason. Figure 6 shows the boundary.",
            judge=partial(judge_nothing, "the paper does not say how close is close"),
            datasets=(MOONS,),
        ),
    ]


def _image_claims(claim: MakeClaim) -> list[Claim]:
    where = "Evaluation on Fashion-MNIST and SVHN datasets, on Figures 7 and 8"
    return [
        claim(
            "ce_worst",
            "“ce” had the worst performance on noisy samples",
            where,
            "ce's mean accuracy over the noise levels is below that of each other method, in each "
            "norm.",
            _ce_worst,
            IMAGES,
        ),
        claim(
            "adv_sensitive",
            "“adv ε” is very sensitive to the maximum noise level ε for training",
            where,
            "in Linf or in L2 there is a noise level at which two of the three radii of adv differ "
            f"in accuracy by at least {SENSITIVE:g}.",
            _sensitive,
            IMAGES,
        ),
        claim(
            "trades_poor_linf",
            "TRADES did not perform well on L-inf norm-based tests",
            where,
            "TRADES's mean accuracy over the noise levels is below IMA's and below MMA's, in Linf.",
            _trades_poor,
            IMAGES,
        ),
        claim(
            "clean_slightly_lower",
            "accuracy of every adversarial training method on clean data is slightly lower",
            f"{where}, compared to ce",
            f"ce's clean accuracy is above that of each other method, by at most {SLIGHTLY:g}, in "
            "each norm.",
            _clean_lower,
            IMAGES,
        ),
        claim(
            "beats_trades_and_adv",
            "IMA also significantly outperformed TRADES and “adv ε”",
            where,
            "IMA's mean accuracy over the noise levels is above those of TRADES and of each radius "
            "of adv, in each norm.",
            _beats_trades_and_adv,
            IMAGES,
        ),
        claim(
            "slightly_better_than_mma",
            "IMA is only slightly better than MMA on Fashion-MNIST",
            where,
            "IMA's mean accuracy over the noise levels is above MMA's, by at most "
            f"{SLIGHTLY:g}, in each norm.",
            _slightly_better_than_mma,
            (FASHION,),
        ),
        claim(
            "on_par_with_mma",
            "on-par with MMA on SVHN",
            where,
            f"their mean accuracies over the noise levels differ by at most {SIMILAR:g}, in each "
            "norm.",
            _on_par_with_mma,
            (SVHN,),
        ),
    ]


def _covid_claims(claim: MakeClaim) -> list[Claim]:
    where = "Application of COVID-19 detection, on Figure 9"
    return [
        claim(
            "covid_ima_strongest",
            "IMA has the strongest overall performance",
            where,
            "overall: the mean over the noise levels. IMA's accuracy is above that of each other "
            "method.",
            partial(_better_than_all, "IMA"),
            (COVID,),
        ),
        claim(
            "covid_mma_above_02",
            "MMA is slightly better than IMA when noise level is larger than 0.2",
            where,
            f"MMA's accuracy is above IMA's at 0.25 and 0.3, by at most {SLIGHTLY:g}.",
            _mma_above_02,
            (COVID,),
        ),
        claim(
            "covid_adv_competitive",
            "“adv0.1” is as competitive as other advanced methods",
            where,
            "its mean accuracy over the levels 0.01 to 0.1 (beyond which the paper says that "
            "images are no longer real) is at most "
            f"{SLIGHTLY:g} below the best of IMA, MMA and TRADES.",
            _competitive,
            (COVID,),
        ),
        claim(
            "covid_noise_improves_clean",
            "adding random noises to the input can improve classification accuracy on clean "
            "samples (from 0.9575 of “ce” to 0.9775 of “rand0.1”)",
            where,
            "rand0.1's clean accuracy is above ce's.",
            _noise_improves_clean,
            (COVID,),
        ),
        claim(
            "covid_noise_little_effect",
            "has little effect on adversarial robustness for this application",
            f"{where}, of rand0.1, rand0.2 and rand0.3",
            f"the mean accuracy of each over the noise levels is at most {SLIGHTLY:g} above ce's.",
            _little_effect,
            (COVID,),
        ),
        claim(
            "covid_mma_unlike_adv",
            "should not have been significantly different from that of “adv0.3”",
            f"{where}, of MMA's accuracy at 0.3, if most margins were above 0.3: the paper finds "
            "that it is",
            "adv0.3's accuracy at 0.3 is above MMA's.",
            _mma_unlike_adv,
            (COVID,),
        ),
    ]


def _margin_claims() -> list[Claim]:
    where = "Application of COVID-19 detection, on Figure 9"
    return [
        Claim(
            name="covid_mma_margins",
            quote="most of the estimated margins from MMA were larger than 0.3",
            where=where,
            tested="at least half of MMA's margins of training points are above 0.3.",
            judge=_judge_most_margins,
            datasets=(COVID,),
        ),
        Claim(
            name="covid_mma_overestimates",
            quote="MMA significantly overestimated the margins of samples",
            where=where,
            tested="the share of MMA's margins above 0.3 exceeds its accuracy on test points at "
            f"0.3 by at least {SENSITIVE:g}.",
            judge=_judge_overestimate,
            datasets=(COVID,),
        ),
        Claim(
            name="covid_margins_indicate",
            quote="estimated by our method IMA indicates a good ε = 0.1",
            where=where,
            tested="by what rule the paper does not say: here the median of IMA's margins lies "
            f"within {RADIUS_RANGE[0]:g} and {RADIUS_RANGE[1]:g}, nearer to {RADIUS:g} than to the "
            "printed levels beside it. Whether 0.1 is good is tested by another claim (adv0.1).",
            judge=_judge_radius,
            datasets=(COVID,),
        ),
        Claim(
            name="split_sizes",
            quote="The training set has 20000 samples",
            where="Evaluation on Moons; on COVID-19 CT, 1022 + 1000 for training, 400 for testing",
            tested="the numbers of points of the data sets that were run.",
            judge=_judge_sizes,
            datasets=(MOONS, COVID),
        ),
    ]


# --- what the workflow calls --------------------------------------------------------------

_METHOD = (
    "Differences of two methods are tested with independent draws of each, although both were "
    "tested on the same points: where points that are hard for one are hard for the other, the "
    "verdicts are more cautious than they would have to be. A mean over noise levels takes the "
    "levels to move together. From three trainings on, trainings are drawn, else shares of test "
    "points from Jeffreys' posterior."
)


def build_ima_claims(request: Request) -> list[Path]:
    """Writes the claims with their verdicts (:func:`medrobust.reporting.claims.build_claims`)."""
    attacks = [*PGD_ATTACKS, NOISE_COVID]
    results = read_results(request, attacks)
    planes = [entry.plane for entry in request.entries if entry.plane]
    return build_claims(
        claims(read_printed(request.published), request.entries),
        results,
        request.out_stem,
        request.context,
        shown_sources(results, DATASETS),
        budget="; ".join([budget_text(request, PGD_ATTACKS), budget_text(request, [NOISE_COVID])]),
        inputs=[request.published, *results.files, *planes],
        remark=remark,
        method=_METHOD,
    )
