"""What Sun et al. (MIRST-DM, MICCAI 2022) claim, as tests of this run's results.

Two models are compared fold by fold with the corrected resampled t
(:func:`medrobust.evaluation.folds.resampled_t_p`). Print has means over folds alone: what can be
said of it is whether the printed numbers, with their rounding, are as the sentence says.

The paper's models began with weights of ImageNet. Of models that began at random nothing can be
told: their numbers are given, and the verdict is "cannot tell".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from medrobust.reporting.artefacts import with_interval
from medrobust.reporting.binary_results import NO_ATTACK, BinaryResults, read_binary_results
from medrobust.reporting.claim_tests import above_over_folds
from medrobust.reporting.claims import (
    Claim,
    Finding,
    Statement,
    all_of,
    build_claims,
    exact,
    open_statement,
    printed_against_rivals,
)
from medrobust.reporting.comparison import read_published
from medrobust.reporting.generic_tables import attacks_in_words
from medrobust.reporting.request import Request
from medrobust.reporting.rows import dataset_sources, printed_values
from medrobust.studies.mirst.catalogue import PRINTED, PRINTED_ATTACKS

DATASET = "BUSI+BUSIS"
#: Images of each class in print, section 4.1.
PRINTED_SIZES = (726, 464)
ATTACKS = tuple(PRINTED_ATTACKS)
#: Half of the last printed digit.
ROUNDING = 0.0005
#: Below this a printed F1 of 0 is met.
ZERO = 0.0005
RANDOM_INIT = "began at random values, not with the paper's weights"


@dataclass(frozen=True)
class Quantity:
    """A metric of a model under an attack, the mean over folds.

    Attributes:
        model: label in the study.
        table: number of the printed table that has it.
        attack: name in the study, or ``NO_ATTACK``.
        metric: "F1" or "sensitivity".
    """

    model: str
    table: str
    attack: str
    metric: str = "F1"

    @property
    def place(self) -> str:
        """Everything but the model, in words."""
        under = "no attack" if self.attack == NO_ATTACK else PRINTED_ATTACKS[self.attack]
        return f"{self.metric}, {under}"


Above = Callable[[Quantity, Quantity], Statement]
"""Tests whether the first is above the second."""
Zero = Callable[[Quantity], Statement]
"""Tests whether a quantity is 0 as printed."""


@dataclass(frozen=True)
class Tests:
    """How statements are tested: on a run, or on print."""

    above: Above
    zero: Zero


@dataclass(frozen=True)
class MirstResults:
    """What the claims are judged by.

    Attributes:
        binary: metrics of the run.
        at_random: labels of models that began at random values.
    """

    binary: BinaryResults
    at_random: frozenset[str]


# --- on a run ---------------------------------------------------------------------------


def tests_of_run(results: MirstResults, dataset: str) -> Tests:
    """Returns the tests of this run's results on a data set."""
    return Tests(partial(_run_above, results, dataset), partial(_run_zero, results, dataset))


def _level(results: BinaryResults, dataset: str, attack: str) -> float:
    """Returns the radius of an attack of the run, 0 without; NaN where it was not run."""
    return dict(results.attacked_levels(dataset)).get(attack, float("nan"))


def _run_above(results: MirstResults, dataset: str, first: Quantity, second: Quantity) -> Statement:
    label = f"{first.model} above {second.model} ({first.place})"
    binary, level = results.binary, _level(results.binary, dataset, first.attack)
    keys = [(dataset, one.model, one.attack) for one in (first, second)]
    if lacking := [one.model for one in (first, second) if not _there(binary, dataset, one)]:
        return open_statement(label, f"{' and '.join(lacking)} not part of this run")
    pairs = binary.pairs(*keys, level, first.metric)
    if pairs is None:
        return open_statement(label, "the two have no fold in common where it is defined")
    differences = [one - other for one, other in pairs.values()]
    statement = above_over_folds(label, differences, binary.shared(*keys))
    if statement.undecided:
        return statement
    return _unless_random(statement, results, (first.model, second.model))


def _run_zero(results: MirstResults, dataset: str, quantity: Quantity) -> Statement:
    label = f"{quantity.model} at 0 ({quantity.place})"
    binary = results.binary
    if not _there(binary, dataset, quantity):
        return open_statement(label, f"{quantity.model} is not part of this run")
    key = (dataset, quantity.model, quantity.attack)
    level = _level(binary, dataset, quantity.attack)
    found = binary.estimate(key, level, quantity.metric)
    if found is None or found.value is None:
        return open_statement(label, found.basis if found else "not run")
    shown = with_interval(found.value, found.ci_low, found.ci_high, 3)
    statement = exact(label, found.value < ZERO, f"{label}: {shown}")
    return _unless_random(statement, results, (quantity.model,))


def _there(binary: BinaryResults, dataset: str, quantity: Quantity) -> bool:
    models = {key[1:] for key in binary.robust.tallies if key[0] == dataset}
    if quantity.attack == NO_ATTACK:
        return quantity.model in {model for model, _ in models}
    return (quantity.model, quantity.attack) in models


def _unless_random(statement: Statement, results: MirstResults, models: Sequence[str]) -> Statement:
    """Returns a statement, open where a model of it began at random values."""
    random = [model for model in dict.fromkeys(models) if model in results.at_random]
    if not random:
        return statement
    why = f"RANDOM INIT: {' and '.join(random)} {RANDOM_INIT}"
    return Statement(statement.label, figures=statement.figures, undecided=why)


# --- in print ---------------------------------------------------------------------------

Printed = Mapping[tuple[str, str, str, str], float]
"""(table, method, metric, attack) as published -> the printed number."""


def read_printed(path: str) -> Printed:
    """Returns the printed numbers.

    Raises:
        InputError: the file is wrong.
    """
    return printed_values(read_published(path, "mirst"), "table", "method", "metric", "attack")


def tests_of_print(printed: Printed) -> Tests:
    """Returns the tests of the printed numbers."""

    def number(one: Quantity) -> float:
        attack = PRINTED_ATTACKS.get(one.attack, one.attack)
        return printed[one.table, PRINTED[one.table][one.model], one.metric, attack]

    def above(first: Quantity, second: Quantity) -> Statement:
        label = f"{first.model} above {second.model} ({first.place})"
        return printed_against_rivals(label, number(first), [number(second)], ROUNDING)

    def zero(quantity: Quantity) -> Statement:
        return exact(f"{quantity.model} at 0 ({quantity.place})", number(quantity) < ZERO, "")

    return Tests(above, zero)


# --- claims -----------------------------------------------------------------------------

Test = Callable[[Tests], Statement]


def _above(tests: Tests, pairs: Iterable[tuple[Quantity, Quantity]]) -> Statement:
    return all_of([tests.above(first, second) for first, second in pairs])


def _everywhere(first: Quantity, second: Quantity, attacks: Iterable[str]) -> Test:
    """Returns the test that the first is above the second under each attack."""
    pairs = [(replace(first, attack=a), replace(second, attack=a)) for a in attacks]
    return partial(_above, pairs=pairs)


def _not_above(first: Quantity, second: Quantity) -> Test:
    """Returns the test that the first is not above the second."""

    def test(tests: Tests) -> Statement:
        found = tests.above(first, second)
        return replace(
            found,
            label=f"{first.model} not above {second.model} ({first.place})",
            p_for=found.p_against,
            p_against=found.p_for,
        )

    return test


def _of(model: str, table: str, attack: str = NO_ATTACK, metric: str = "F1") -> Quantity:
    return Quantity(model, table, attack, metric)


def _zeros(tests: Tests) -> Statement:
    baseline = _of("baseline (ImageNet)", "1")
    return all_of(tests.zero(replace(baseline, attack=a)) for a in ("pgd20", "cw10"))


def _better_start(models: Sequence[str], attacks: Sequence[str]) -> Test:
    """Returns the test that models are better from SimCLR's weights than from those with labels."""
    pairs = [
        (_of(model, "2", attack), _of(f"{model} (ImageNet)", "1", attack))
        for model in models
        for attack in attacks
    ]
    return partial(_above, pairs=pairs)


def _best_of_all(tests: Tests) -> Statement:
    """Tests whether MIRST with drop-max is above every model of Table 2 under every attack."""
    others = [model for model in PRINTED["2"] if model != "LLR"]
    pairs = [
        (_of("MIRST with drop-max", "3", attack), _of(model, "2", attack))
        for attack in ATTACKS
        for model in others
    ]
    return _above(tests, pairs)


#: Name, words, place, what is tested, the test.
_SENTENCES: tuple[tuple[str, str, str, str, Test], ...] = (
    (
        "attacks_reduce_baseline_to_zero",
        "the PGD and CW attacks reduce the baseline model’s F1 score to 0",
        "Section 4.2, Table 1",
        f"the mean F1 over folds is below {ZERO:g} under both.",
        _zeros,
    ),
    (
        "rst_and_mirst_improve_baseline",
        "Both RST and MIRST achieve comparable generalization and greatly improve the adversarial "
        "robustness of the baseline model",
        "Section 4.2, Table 1",
        "RST's and MIRST's F1 are above the baseline's under each of the three attacks. What is "
        "comparable or great is not said, and not tested.",
        lambda tests: all_of(
            _everywhere(_of(model, "1"), _of("baseline (ImageNet)", "1"), ATTACKS)(tests)
            for model in ("RST (ImageNet)", "MIRST (ImageNet)")
        ),
    ),
    (
        "mirst_above_rst",
        "MIRST achieves higher F1 scores than those of RST against all three attacks",
        "Section 4.2, Table 1",
        "MIRST's F1 is above RST's under each attack, weights of ImageNet with labels.",
        _everywhere(_of("MIRST (ImageNet)", "1"), _of("RST (ImageNet)", "1"), ATTACKS),
    ),
    (
        "mirst_sensitivity_above_rst",
        "MIRST improves RST’s sensitivity values against the FGSM, PGD, and CW attacks by 6.74%, "
        "7.17%, and 6.22%",
        "Section 4.2, Table 1",
        "MIRST's sensitivity is above RST's under each attack. By how much is in Table 1.",
        _everywhere(
            _of("MIRST (ImageNet)", "1", metric="sensitivity"),
            _of("RST (ImageNet)", "1", metric="sensitivity"),
            ATTACKS,
        ),
    ),
    (
        "simclr_improves_generalization",
        "SimCLR improves the generalizability (F1 scores) of the baseline, RST, and MI-RST",
        "Section 4.3, Tables 1 and 2",
        "the F1 without attack of each from SimCLR's weights is above that from weights of "
        "ImageNet with labels.",
        _better_start(("baseline", "RST", "MIRST"), (NO_ATTACK,)),
    ),
    (
        "simclr_improves_robustness_of_mirst",
        "SimCLR can significantly improve the adversarial robustness of the proposed MIRST",
        "Section 4.3, Tables 1 and 2",
        "MIRST's F1 from SimCLR's weights is above that from weights of ImageNet with labels under "
        "each attack.",
        _better_start(("MIRST",), ATTACKS),
    ),
    (
        "at_costs_generalization",
        "it costs a significant decrease of a model’s generalization ability",
        "Section 2.1, of AT; Table 2",
        "the baseline's F1 without attack is above AT's.",
        _everywhere(_of("baseline", "2"), _of("AT", "2"), (NO_ATTACK,)),
    ),
    (
        "mirst_drop_max_above_all",
        "the proposed approach achieves state-of-the-art adversarial robustness against three "
        "prevalent attacks",
        "Abstract; Tables 2 and 3",
        "the F1 of MIRST with drop-max is above that of every training of Table 2 under each "
        "attack.",
        _best_of_all,
    ),
    (
        "drop_max_improves_rst",
        "the F1 scores of RST with the DM layer against the FGSM, PGD, and CW are improved",
        "Section 4.4, Table 3",
        "the F1 of RST with drop-max is above that without under each attack.",
        _everywhere(_of("RST with drop-max", "3"), _of("RST", "3"), ATTACKS),
    ),
    (
        "drop_max_improves_clean_rst",
        "The DM layer also increases the F1 score of RST on clean images",
        "Section 4.4, Table 3",
        "the F1 of RST with drop-max is above that without, without attack.",
        _everywhere(_of("RST with drop-max", "3"), _of("RST", "3"), (NO_ATTACK,)),
    ),
    (
        "drop_max_not_for_clean_mirst",
        "The DM layer does not improve MIRST’s generalization on clean images",
        "Section 4.4, Table 3",
        "the F1 of MIRST with drop-max is below that without, without attack.",
        _not_above(_of("MIRST with drop-max", "3"), _of("MIRST", "3")),
    ),
    (
        "drop_max_improves_mirst",
        "it improves the adversarial robustness of MIRST against all three attacks",
        "Section 4.4, Table 3",
        "the F1 of MIRST with drop-max is above that without under each attack.",
        _everywhere(_of("MIRST with drop-max", "3"), _of("MIRST", "3"), ATTACKS),
    ),
)


def claims(printed: Printed, datasets: Sequence[str]) -> list[Claim]:
    """Returns the paper's sentences.

    Args:
        printed: the published numbers.
        datasets: on which they are tested, as printed.
    """
    of_print = tests_of_print(printed)
    sentences = [
        Claim(
            name=name,
            quote=quote,
            where=where,
            tested=tested,
            judge=partial(_judge, test),
            datasets=tuple(datasets),
            printed=partial(_in_print, test, of_print),
        )
        for name, quote, where, tested, test in _SENTENCES
    ]
    return [
        *sentences,
        Claim(
            name="llr_does_not_converge",
            quote="the training did not converge",
            where="Table 2, footnote on LLR",
            tested="the training of LLR failed (loss, weights or scores not finite) in each fold. "
            "One that stays finite and learns nothing is in Table 2.",
            judge=_judge_llr,
            datasets=tuple(datasets),
        ),
        Claim(
            name="data_set_sizes",
            quote="The combined dataset has 1,190 images, of which 726 are benign and 464 are "
            "malignant",
            where="Section 4.1",
            tested="the numbers of images of each class that were run.",
            judge=_judge_sizes,
            datasets=(DATASET,),
        ),
    ]


def _in_print(test: Test, tests: Tests, dataset: str) -> Statement:
    return test(tests)


def _judge(test: Test, results: MirstResults, dataset: str) -> Finding:
    binary = results.binary
    points = sum(sum(_classes(binary, dataset, fold)) for fold in _folds(binary, dataset))
    notes = () if dataset == DATASET else ("not the paper's data: one of its two releases",)
    trainings = min((len(each) for each in _tallies(binary, dataset).values()), default=0)
    return Finding(test(tests_of_run(results, dataset)), points or None, trainings or None, notes)


def _judge_llr(results: MirstResults, dataset: str) -> Finding:
    label = "LLR failed in each fold"
    binary, folds = results.binary, _folds(results.binary, dataset)
    failed = {one.fold for one in binary.failed if (one.dataset, one.model) == (dataset, "LLR")}
    if not failed and "LLR" not in binary.models(dataset):
        return Finding(open_statement(label, "LLR is not part of this run"))
    done = folds | failed
    figures = f"{label}: in {len(failed)} of {len(done)}"
    statement = exact(label, failed == done, figures)
    return Finding(_unless_random(statement, results, ("LLR",)))


def _judge_sizes(results: MirstResults, dataset: str) -> Finding:
    binary = results.binary
    label = f"{PRINTED_SIZES[0]} benign and {PRINTED_SIZES[1]} malignant"
    if "subset" in binary.robust.sources[dataset]:
        return Finding(open_statement(label, "a subset was run"))
    found = np.sum([_classes(binary, dataset, fold) for fold in _folds(binary, dataset)], axis=0)
    figures = f"found: {found[0]:,} benign and {found[1]:,} malignant"
    return Finding(exact(label, tuple(found) == PRINTED_SIZES, figures), int(found.sum()))


def _tallies(binary: BinaryResults, dataset: str) -> Mapping[int, Sequence[Any]]:
    """Returns the tallies of the model and attack on most folds."""
    mine = [folds for key, folds in binary.robust.tallies.items() if key[0] == dataset]
    return max(mine, key=len, default={})


def _folds(binary: BinaryResults, dataset: str) -> set[int]:
    return set(_tallies(binary, dataset))


def _classes(binary: BinaryResults, dataset: str, fold: int) -> tuple[int, int]:
    """Returns the benign and the malignant test images of a fold."""
    rows = _tallies(binary, dataset)[fold][0].rows(0.0)
    points = rows.groupby("label")["points"].sum()
    return int(points.get(0, 0)), int(points.get(1, 0))


def remark(dataset: str, source: str) -> str:
    """Returns what a reader must know of the data behind a number, "" if nothing."""
    if dataset == DATASET and source != "standin":
        return "the paper left out 19 of these images and does not say which"
    return ""


# --- what the workflow calls --------------------------------------------------------------

_METHOD = (
    "Models are compared fold by fold, by the corrected resampled t (Nadeau and Bengio 2003): it "
    "covers other points of the same data to train and test on. Of models that began at random "
    "values nothing is told of the paper's, whose weights are part of what it claims."
)


def build_mirst_claims(request: Request) -> list[Path]:
    """Writes the claims with their verdicts (:func:`medrobust.reporting.claims.build_claims`)."""
    binary = read_binary_results(request)
    at_random = frozenset(one.model for one in request.entries if one.random_init)
    others = [name for name in binary.datasets() if name != DATASET]
    sources = dataset_sources(request.entries, (DATASET,))
    ran = list(dict.fromkeys(attack for _, attack in binary.robust.attacks()))
    # The paper's data, or where these are not part of the run what is.
    datasets = [DATASET] if DATASET in sources or not others else others
    return build_claims(
        claims(read_printed(request.published), datasets),
        MirstResults(binary, at_random),
        request.out_stem,
        request.context,
        sources,
        budget=attacks_in_words(request, ran),
        inputs=[request.published, *binary.files],
        remark=remark,
        method=_METHOD,
    )
