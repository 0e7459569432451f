"""What Ma and Liang (2020) claim, as tests of this run's results.

Sources of the sentences: abstract, sections 2.1 and 3, conclusion, appendices B, C and E.
Wherever the words leave open what is meant, ``tested`` says what was chosen: "in general" is the
mean over the six noise levels above 0, "best" is against the best of the eight other methods,
"maintains" is at least.

How each test gets its numbers from the run and from print, and what dependence it assumes, stands
in :mod:`medrobust.reporting.claim_tests`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from medrobust.evaluation import balanced
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
    all_of,
    any_of,
    build_claims,
    exact,
    open_statement,
)
from medrobust.reporting.request import Request
from medrobust.reporting.rows import level_text
from medrobust.studies.nsr.results import (
    DATASET,
    METHODS,
    NETWORKS,
    NOISE_LEVELS,
    PRINTED_ATTACKS,
    NsrResults,
    Printed,
    budget_text,
    model_name,
    read_printed,
    read_results,
    remark,
)

PROPOSED = ("loss1", "loss2")
ADVERSARIAL = ("adv0.1", "adv0.2", "adv0.3")
#: Half of the last printed digit.
ROUNDING = 0.005
#: "Approximately" a printed share: within one point more than its rounding.
ABOUT = 0.015
#: A black-box attack that leaves less accuracy by more than this tells of hidden gradients.
OBFUSCATION_MARGIN = 0.05
#: Accuracy of guessing among five classes.
CHANCE = 0.2


@dataclass(frozen=True)
class Quantity(LevelQuantity):
    """A metric of a model under an attack, the mean over noise levels.

    Attributes:
        network: of the model.
        attack: name in the study.
        metric: "ACC" or "PREC".
        as_spsa: read on the points of SPSA (in print: as it is).
    """

    network: str
    attack: str
    metric: str
    as_spsa: bool = False

    @property
    def model(self) -> str:
        """The model's name in the published numbers."""
        return model_name(self.network, self.method)

    @property
    def place(self) -> str:
        """Everything but the method, in words."""
        if self.levels == NOISE_LEVELS:
            where = "mean over noise levels"
        else:
            where = f"ε {', '.join(level_text(level) for level in self.levels)}"
        return f"{self.network}, {PRINTED_ATTACKS[self.attack]}, {self.metric}, {where}"


@dataclass(frozen=True)
class RunEvidence(DrawnEvidence):
    """The run's results."""

    results: NsrResults

    def values(self, quantity: Quantity) -> Draws | str:
        """Returns estimate and draws of a quantity, or why there are none."""
        results, model, attack = self.results, quantity.model, quantity.attack
        where = results.on_points_of(model, attack, "spsa") if quantity.as_spsa else {}
        printed = PRINTED_ATTACKS[attack]
        if where is None:
            return f"{printed} and SPSA on {model} have no points in common that can be told apart"
        found = [
            (
                results.value(model, attack, level, quantity.metric, **where),
                results.draws(model, attack, level, quantity.metric, **where),
            )
            for level in quantity.levels
        ]
        if any(value is None for value, _ in found):
            return f"{printed} on {model} is not part of this run at every level"
        random = results.random("claims", "mean", model, attack, quantity.metric)
        return mean_over_levels(found, random)

    def points(self, quantity: Quantity) -> int:
        """Returns the number of test points behind a quantity."""
        return self.results.cells(quantity.model, quantity.attack, quantity.levels[0])[0].points


@dataclass(frozen=True)
class PrintEvidence(RoundedEvidence):
    """The paper's printed numbers."""

    printed: Printed

    def number(self, quantity: Quantity, level: float) -> float:
        """Returns a printed number."""
        return self.printed[(quantity.model, quantity.attack, quantity.metric, level)]

    def rounding(self, quantity: Quantity) -> float:
        """Returns half of the last printed digit."""
        return ROUNDING


Test = Callable[[Evidence], Statement]


# --- single tests -----------------------------------------------------------------------


def _quantity(
    network: str, attack: str, metric: str, levels: float | tuple[float, ...], method: str = ""
) -> Quantity:
    among = levels if isinstance(levels, tuple) else (levels,)
    return Quantity(method, among, network, attack, metric)


def leads(evidence: Evidence, place: Quantity, first: str) -> Statement:
    """Tests whether a method is above each of the eight others."""
    rivals = [name for name in METHODS if name != first]
    return above(evidence, place, first, *rivals, named=_named(rivals))


def _named(rivals: Sequence[str]) -> str:
    """Returns rivals in words where these are all other methods."""
    return "all others" if len(rivals) == len(METHODS) - 1 else ""


def about(evidence: Evidence, quantity: Quantity, value: float) -> Statement:
    """Tests whether a number is within :data:`ABOUT` of a value."""
    label = f"{quantity.method} within {ABOUT:g} of {value:g} ({quantity.place})"
    return evidence.test(label, quantity, (), value - ABOUT, value + ABOUT)


def _everywhere(
    networks: Iterable[str],
    attacks: Iterable[str],
    metrics: Iterable[str],
    levels: Iterable[float | tuple[float, ...]],
    test: Callable[[Quantity], Statement],
) -> Statement:
    return all_of(
        test(_quantity(network, attack, metric, level))
        for network in networks
        for attack in attacks
        for metric in metrics
        for level in levels
    )


BOTH = ("ACC", "PREC")
SMALL = (0.01, 0.03, 0.05, 0.1)
IN_GENERAL = (NOISE_LEVELS,)


def _best_everywhere(
    networks: Sequence[str], attacks: Sequence[str], evidence: Evidence
) -> Statement:
    return _everywhere(
        networks, attacks, BOTH, NOISE_LEVELS, lambda place: leads(evidence, place, "loss2")
    )


def _best_in_general(network: str, attack: str, evidence: Evidence) -> Statement:
    return _everywhere(
        (network,), (attack,), BOTH, IN_GENERAL, lambda place: leads(evidence, place, "loss2")
    )


def _enhancement(evidence: Evidence) -> Statement:
    return all_of(
        _everywhere(
            NETWORKS,
            ("pgd20", "pgd100", "spsa"),
            ("ACC",),
            SMALL,
            lambda place, method=method: above(evidence, place, method, "ce"),
        )
        for method in PROPOSED
    )


def _minimal_change(least: float, evidence: Evidence) -> Statement:
    def test(method: str, network: str) -> Statement:
        place = _quantity(network, "pgd20", "ACC", 0.0)
        label = f"{method} minus ce at least {-least:.2f} ({place.place})"
        rival = replace(place, method="ce")
        return evidence.test(label, replace(place, method=method), (rival,), -least)

    return all_of(test(method, network) for method in PROPOSED for network in NETWORKS)


def _beats_adversarial_training(evidence: Evidence) -> Statement:
    return _everywhere(
        NETWORKS,
        ("pgd20", "pgd100", "spsa"),
        ("ACC",),
        NOISE_LEVELS,
        lambda place: above(evidence, place, "loss2", *ADVERSARIAL),
    )


def _vulnerable(evidence: Evidence) -> Statement:
    return _everywhere(
        NETWORKS,
        ("pgd100",),
        ("ACC",),
        (0.1,),
        lambda p: at_most(evidence, replace(p, method="ce"), CHANCE),
    )


def _best_but_at_001(evidence: Evidence) -> Statement:
    best = _everywhere(
        ("MLP",), ("pgd100",), BOTH, NOISE_LEVELS[1:], lambda p: leads(evidence, p, "loss2")
    )
    loss1 = _everywhere(
        ("MLP",), ("pgd100",), BOTH, (0.01,), lambda p: above(evidence, p, "loss1", "loss2")
    )
    return all_of([best, loss1])


def _highest_at(network: str, attack: str, level: float, evidence: Evidence) -> Statement:
    return _everywhere(
        (network,), (attack,), BOTH, (level,), lambda place: leads(evidence, place, "loss2")
    )


def _cnn_maintains(attack: str, accuracy: float, precision: float, evidence: Evidence) -> Statement:
    acc, prec = (_quantity("CNN", attack, metric, 0.1, "loss2") for metric in BOTH)
    return all_of(
        [
            at_least(evidence, acc, accuracy),
            about(evidence, prec, precision)
            if attack == "pgd100"
            else at_least(evidence, prec, precision),
        ]
    )


def _above_everywhere(
    network: str,
    attack: str,
    first: str,
    rivals: Sequence[str],
    metrics: Sequence[str],
    levels: Sequence[float | tuple[float, ...]],
    evidence: Evidence,
) -> Statement:
    return _everywhere(
        (network,),
        (attack,),
        metrics,
        levels,
        lambda place: above(evidence, place, first, *rivals, named=_named(rivals)),
    )


def _crossing(
    evidence: Evidence, first: str, second: str, before: float, after: float
) -> Statement:
    def place(level: float) -> Quantity:
        return _quantity("MLP", "pgd20", "ACC", level)

    return all_of(
        [
            above(evidence, place(before), first, second),
            above(evidence, place(after), second, first),
        ]
    )


def _intersections(evidence: Evidence) -> Statement:
    return all_of(
        [
            _crossing(evidence, "adv0.1", "adv0.2", 0.05, 0.2),
            _crossing(evidence, "adv0.2", "adv0.3", 0.1, 0.3),
        ]
    )


def _each_at_its_level(networks: Sequence[str], attack: str, evidence: Evidence) -> Statement:
    def test(network: str, level: float, method: str) -> Statement:
        rivals = [name for name in ADVERSARIAL if name != method]
        return above(evidence, _quantity(network, attack, "ACC", level), method, *rivals)

    levels = zip((0.1, 0.2, 0.3), ADVERSARIAL, strict=True)
    return all_of(test(n, level, method) for level, method in levels for n in networks)


def _robust_and_clean(evidence: Evidence) -> Statement:
    robust = all_of(
        _everywhere(
            ("MLP",), ("pgd20",), ("ACC",), SMALL, lambda p, m=m: above(evidence, p, m, "ce")
        )
        for m in PROPOSED
    )
    clean = all_of(
        at_least(evidence, _quantity("MLP", "pgd20", metric, 0.0, method), 0.9 - ROUNDING)
        for method in PROPOSED
        for metric in BOTH
    )
    return all_of([robust, clean])


def _drops_quickly(evidence: Evidence) -> Statement:
    clean = (_quantity("MLP", "pgd20", "ACC", 0.0, "ce"),)
    label = "ce at ε 0.05 at least 0.46 below clean (MLP, 20-PGD, ACC)"
    return evidence.test(label, _quantity("MLP", "pgd20", "ACC", 0.05, "ce"), clean, -np.inf, -0.46)


def _only_at(
    network: str, attack: str, method: str, levels: Sequence[float], evidence: Evidence
) -> Statement:
    """Tests whether a method is above loss2 at these noise levels and below it at the others."""

    def test(level: float) -> Statement:
        place = _quantity(network, attack, "ACC", level)
        pair = (method, "loss2") if level in levels else ("loss2", method)
        return above(evidence, place, *pair)

    return all_of(test(level) for level in NOISE_LEVELS)


def _around_its_level(evidence: Evidence) -> Statement:
    return all_of(
        _only_at("CNN", "pgd20", method, (level,), evidence)
        for method, level in (("adv0.2", 0.2), ("adv0.3", 0.3))
    )


def _jacob_below_10(evidence: Evidence) -> Statement:
    def accuracy(method: str, level: float) -> Quantity:
        return _quantity("MLP", "spsa", "ACC", level, method)

    jacob = [at_most(evidence, accuracy("jacob", level), 0.1) for level in (0.2, 0.3)]
    loss2 = [at_least(evidence, accuracy("loss2", level), 0.2) for level in NOISE_LEVELS]
    return all_of([*jacob, *loss2])


def _almost_all_levels(evidence: Evidence) -> Statement:
    """Tests whether loss2's precision is above jacob's at all noise levels but at most one."""

    def all_but(left_out: float) -> Statement:
        levels = [level for level in NOISE_LEVELS if level != left_out]
        return _above_everywhere("CNN", "spsa", "loss2", ("jacob",), ("PREC",), levels, evidence)

    return any_of(all_but(level) for level in NOISE_LEVELS)


def _no_obfuscation(evidence: Evidence) -> Statement:
    def test(network: str, level: float) -> Statement:
        spsa = _quantity(network, "spsa", "ACC", level, "loss2")
        pgd = replace(spsa, attack="pgd100", as_spsa=True)
        label = (
            f"accuracy left by SPSA at most {OBFUSCATION_MARGIN:g} below that left by 100-PGD "
            f"({network}, loss2, ε {level_text(level)})"
        )
        return evidence.test(label, spsa, (pgd,), -OBFUSCATION_MARGIN)

    return all_of(test(network, level) for network in NETWORKS for level in NOISE_LEVELS)


# --- tests of other kinds ---------------------------------------------------------------


def _judge_sizes(results: NsrResults, dataset: str) -> Finding:
    label = "70,043 points in the pure training set, 21,892 in the test set"
    found = results.sizes.get(dataset)
    return judge_sizes(label, (70043, 21892), found, results.sources.get(dataset, ""))


def _judge_recall(results: NsrResults, dataset: str) -> Finding:
    label = "mean recall equals accuracy in every evaluation"
    gaps = []
    for (name, _, _), tallies in results.tallies.items():
        for tally in tallies if name == dataset else ():
            for level in (0.0, *tally.levels):
                matrix = balanced.confusion(tally.cells(level), results.n_classes)
                recall = float(balanced.recall(matrix))
                gaps.append(abs(recall - float(balanced.accuracy(matrix))))
    if not gaps:
        return Finding(open_statement(label, "nothing was run"))
    figures = f"largest difference of {len(gaps):,} evaluations: {max(gaps):.1g}"
    return Finding(exact(label, max(gaps) < 1e-9, figures))


# --- the sentences ----------------------------------------------------------------------


def claims(printed: Printed) -> list[Claim]:
    """Returns the paper's claims.

    Args:
        printed: the printed numbers (:func:`medrobust.studies.nsr.results.read_printed`).
    """
    maker = LevelClaims(RunEvidence, PrintEvidence(printed))

    def claim(
        name: str, quote: str, where: str, tested: str, test: Test, attack: str = "pgd100"
    ) -> Claim:
        return maker.claim(
            name,
            quote,
            where,
            tested,
            lambda evidence, dataset: test(evidence),
            (DATASET,),
            lambda results, dataset: points_of(results, attack, dataset),
        )

    return [
        *_abstract_claims(claim, printed),
        *_section3_claims(claim),
        *_appendix_b_claims(claim),
        *_appendix_c_claims(claim),
        *_other_claims(),
    ]


MakeClaim = Callable[..., Claim]


def _largest_printed_loss(printed: Printed) -> float:
    """Returns the largest printed fall of clean accuracy from ce to a proposed loss."""
    return max(
        printed[model_name(network, "ce"), "pgd20", "ACC", 0.0]
        - printed[model_name(network, method), "pgd20", "ACC", 0.0]
        for network in NETWORKS
        for method in PROPOSED
    )


def _abstract_claims(claim: MakeClaim, printed: Printed) -> list[Claim]:
    most = _largest_printed_loss(printed) + 2 * ROUNDING
    return [
        claim(
            "enhanced_robustness",
            "our proposed methods lead to an enhancement in robustness against PGD adversarial "
            "attack and SPSA attack",
            "Abstract",
            "the accuracies of loss1 and of loss2 are above ce's at each noise level from 0.01 to "
            "0.1 (beyond it ce has almost none left), for both networks, under 20-PGD, 100-PGD "
            "and SPSA.",
            _enhancement,
        ),
        claim(
            "minimal_change_clean",
            "with a minimal change in accuracy on clean data",
            "Abstract",
            "clean accuracies of loss1 and loss2 are below ce's by no more than the largest such "
            f"gap that the paper prints, rounding allowed for ({most:.2f}).",
            partial(_minimal_change, most),
            "pgd20",
        ),
        claim(
            "outperforms_adversarial_training",
            "outperforms the standard adversarial training",
            "Section 2",
            "loss2's accuracy is above those of adv0.1, adv0.2 and adv0.3 at each noise level, for "
            "both networks and all three attacks.",
            _beats_adversarial_training,
        ),
        claim(
            "conclusion_outperforms_all",
            "our proposed loss2, outperforms all other methods under white-box and black-box "
            "attacks (PDG and SPSA)",
            "Conclusion",
            "loss2's accuracy and precision are above those of each of the eight other methods at "
            "each noise level, for both networks, under 100-PGD and SPSA.",
            partial(_best_everywhere, NETWORKS, ("pgd100", "spsa")),
        ),
    ]


def _section3_claims(claim: MakeClaim) -> list[Claim]:
    where = "Section 3.1, on Figure 1"
    on_cnn = "Section 3.1, on Figure 2"
    return [
        claim(
            "ce_vulnerable",
            "are vulnerable to adversarial attacks",
            "Section 3, of the networks trained with cross-entropy",
            "ce's accuracy under 100-PGD at noise level 0.1 is at most that of guessing (0.2), for "
            "both networks.",
            _vulnerable,
        ),
        claim(
            "mlp_pgd100_best",
            "MLP with our proposed loss2 can achieve the best accuracy and precision under all "
            "noise levels except for 0.01 (loss1 is better)",
            where,
            "at each noise level from 0.03 to 0.3 loss2's accuracy and precision are above those "
            "of each other method; at 0.01 loss1's are above loss2's.",
            _best_but_at_001,
        ),
        claim(
            "mlp_pgd100_highest_at_01",
            "MLP with loss2 has accuracy of 61% and precision of 64%, which is the highest among "
            "all methods",
            where,
            "loss2's accuracy and precision at noise level 0.1 are above those of each other "
            "method; the two numbers themselves are held against this run in the comparison.",
            partial(_highest_at, "MLP", "pgd100", 0.1),
        ),
        claim(
            "cnn_pgd100_best",
            "CNN with loss2 has the best performance",
            on_cnn,
            "loss2's accuracy and precision are above those of each other method at each noise "
            "level.",
            partial(_best_everywhere, ("CNN",), ("pgd100",)),
        ),
        claim(
            "cnn_pgd100_maintains",
            "CNN with loss2 can maintain an accuracy of more than 71% and a precision of "
            "approximately 78%",
            on_cnn,
            "at noise level 0.1, accuracy is at least 0.71, precision within 0.015 of 0.78.",
            partial(_cnn_maintains, "pgd100", 0.71, 0.78),
        ),
        claim(
            "cnn_pgd100_above_adversarial",
            '"adv0.2" and "adv0.3" are not as good as loss2 on all of the noise levels',
            on_cnn,
            "loss2's accuracy and precision are above those of adv0.2 and adv0.3 at each noise "
            "level.",
            partial(
                _above_everywhere,
                "CNN",
                "pgd100",
                "loss2",
                ("adv0.2", "adv0.3"),
                BOTH,
                NOISE_LEVELS,
            ),
        ),
    ]


def _appendix_b_claims(claim: MakeClaim) -> list[Claim]:
    on_mlp, on_cnn = "Appendix B, on Figure 4", "Appendix B, on Figure 5"
    claim = partial(claim, attack="pgd20")
    return [
        claim(
            "mlp_pgd20_best_in_general",
            "MLP with our proposed loss2 achieved the best accuracy and precision in general",
            on_mlp,
            "in general: the means over the six noise levels. loss2's are above those of each "
            "other method.",
            partial(_best_in_general, "MLP", "pgd20"),
        ),
        claim(
            "mlp_pgd20_highest_at_01",
            "MLP with loss2 can still have an accuracy 69% and precision 75%, which is the highest",
            on_mlp,
            "loss2's accuracy and precision at noise level 0.1 are above those of each other "
            "method.",
            partial(_highest_at, "MLP", "pgd20", 0.1),
        ),
        claim(
            "mlp_pgd20_adversarial_not_as_good",
            "performance of this adversarial training is not as good as loss2",
            on_mlp,
            "loss2's mean accuracy and precision over the six noise levels are above those of "
            "adv0.1, adv0.2 and adv0.3.",
            partial(_above_everywhere, "MLP", "pgd20", "loss2", ADVERSARIAL, BOTH, IN_GENERAL),
        ),
        claim(
            "mlp_pgd20_intersections",
            "there is an intersection of “adv0.1” and “adv0.2” around noise level 0.1 and an "
            "intersection of “adv0.2” and “adv0.3” around noise level 0.2",
            on_mlp,
            "accuracy: adv0.1 is above adv0.2 at 0.05 and below it at 0.2; adv0.2 is above adv0.3 "
            "at 0.1 and below it at 0.3.",
            _intersections,
        ),
        claim(
            "adversarial_only_at_its_level",
            "model trained from adversarial samples under noise ϵ only behaves well around noise "
            "level ϵ",
            on_mlp,
            "under 20-PGD, of adv0.1, adv0.2 and adv0.3 the one trained at a noise level is the "
            "most accurate at this level, for both networks.",
            partial(_each_at_its_level, NETWORKS, "pgd20"),
        ),
        claim(
            "mlp_pgd20_robust_and_clean",
            "both our proposed losses can improve the robustness of MLP against PGD attack while "
            "keeping a high accuracy and precision in classification of clean data",
            on_mlp,
            "the accuracies of loss1 and loss2 are above ce's from 0.01 to 0.1; their clean "
            "accuracy and precision are at least 0.90 after rounding, the least that the next "
            "sentence names.",
            _robust_and_clean,
        ),
        claim(
            "mlp_ce_drops_quickly",
            "the performance dropped quickly as noise level increased",
            f"{on_mlp}, of ce",
            "at noise level 0.05 ce has lost at least 0.46 of its clean accuracy: half of the "
            "printed one.",
            _drops_quickly,
        ),
        claim(
            "cnn_pgd20_best",
            "CNN with loss2 has the best performance as well",
            on_cnn,
            "as the next sentences name exceptions: its mean accuracy and precision over the six "
            "noise levels are above those of each other method.",
            partial(_best_in_general, "CNN", "pgd20"),
        ),
        claim(
            "cnn_pgd20_maintains",
            "CNN with loss2 can still maintain an accuracy of 75% and a precision of 81%",
            on_cnn,
            "at noise level 0.1, accuracy is at least 0.745 and precision at least 0.805, which "
            "round to these.",
            partial(_cnn_maintains, "pgd20", 0.745, 0.805),
        ),
        claim(
            "cnn_pgd20_adversarial_around_its_level",
            "“adv0.2” outperforms “loss2” around only noise level 0.2 and “adv0.3”, and "
            "outperforms “loss2” around only noise level 0.3",
            on_cnn,
            "accuracy: adv0.2 is above loss2 at 0.2 and below it at every other noise level, "
            "adv0.3 alike at 0.3.",
            _around_its_level,
        ),
    ]


def _appendix_c_claims(claim: MakeClaim) -> list[Claim]:
    on_mlp, on_cnn = "Appendix C, on Figure 6", "Appendix C, on Figure 7"
    claim = partial(claim, attack="spsa")
    small = (0.03, 0.05)
    others = tuple(method for method in METHODS if method != "jacob")
    return [
        claim(
            "mlp_spsa_best_in_general",
            "loss2 has the best performance in general for the test of MLP",
            on_mlp,
            "its mean accuracy and precision over the six noise levels are above those of each "
            "other method.",
            partial(_best_in_general, "MLP", "spsa"),
        ),
        claim(
            "mlp_spsa_jacob_best_003_to_005",
            "“jacob” is the best from noise level 0.03 to noise level 0.05",
            on_mlp,
            "jacob's accuracy is above that of each other method at 0.03 and at 0.05.",
            partial(_above_everywhere, "MLP", "spsa", "jacob", others, ("ACC",), small),
        ),
        claim(
            "mlp_spsa_loss2_above_jacob_at_01",
            "loss2 can still have an accuracy of about 51% while “jacob” method can only achieve "
            "42%",
            on_mlp,
            "loss2's accuracy is above jacob's at noise level 0.1.",
            partial(_above_everywhere, "MLP", "spsa", "loss2", ("jacob",), ("ACC",), (0.1,)),
        ),
        claim(
            "mlp_spsa_jacob_below_10",
            "“jacob” drops below 10%, while loss2 is always above 20%",
            on_mlp,
            "jacob's accuracy is at most 0.1 at 0.2 and 0.3; loss2's is at least 0.2 at each noise "
            "level.",
            _jacob_below_10,
        ),
        claim(
            "mlp_spsa_precision_above_jacob",
            "loss2 outperforms “jacob” method under all noise levels",
            f"{on_mlp} (b)",
            "loss2's precision is above jacob's at each noise level.",
            partial(_above_everywhere, "MLP", "spsa", "loss2", ("jacob",), ("PREC",), NOISE_LEVELS),
        ),
        claim(
            "mlp_spsa_adv01_only_005_to_01",
            "“adv0.1” only outperforms loss2 on noise levels from 0.05 to 0.1",
            on_mlp,
            "adv0.1's accuracy is above loss2's at 0.05 and 0.1 and below it at every other level.",
            partial(_only_at, "MLP", "spsa", "adv0.1", (0.05, 0.1)),
        ),
        claim(
            "cnn_spsa_best_in_general",
            "under SPSA black-box attack, loss2 has the best performance in general",
            on_cnn,
            "its mean accuracy and precision over the six noise levels are above those of each "
            "other method.",
            partial(_best_in_general, "CNN", "spsa"),
        ),
        claim(
            "cnn_spsa_accuracy_above_jacob",
            "“jacob” method is outperformed by loss2",
            f"{on_cnn} (a)",
            "loss2's accuracy is above jacob's at each noise level.",
            partial(_above_everywhere, "CNN", "spsa", "loss2", ("jacob",), ("ACC",), NOISE_LEVELS),
        ),
        claim(
            "cnn_spsa_precision_above_jacob",
            "loss2 outperforms “jacob” methods almost on all noise levels",
            f"{on_cnn} (b)",
            "almost all: five of the six. loss2's precision is above jacob's at these.",
            _almost_all_levels,
        ),
        claim(
            "cnn_spsa_adv01_only_001_to_01",
            "“adv0.1” outperforms loss2 at noise level only from 0.01 to 0.1",
            on_cnn,
            "adv0.1's accuracy is above loss2's from 0.01 to 0.1 and below it at 0.2 and 0.3.",
            partial(_only_at, "CNN", "spsa", "adv0.1", SMALL),
        ),
        claim(
            "cnn_spsa_adv02_only_01_to_02",
            "“adv0.2” outperforms loss2 only on noise levels from 0.1 to 0.2",
            on_cnn,
            "adv0.2's accuracy is above loss2's at 0.1 and 0.2 and below it at every other level.",
            partial(_only_at, "CNN", "spsa", "adv0.2", (0.1, 0.2)),
        ),
        claim(
            "no_gradient_obfuscation",
            "suggests that loss2 is not doing gradient obfuscation to improve the robustness",
            "Appendix C",
            "hidden gradients would show by a black-box attack that does better than one by "
            f"gradients. SPSA leaves loss2 at most {OBFUSCATION_MARGIN:g} (our margin) less "
            "accuracy than 100-PGD does on the same points, at each noise level, for both "
            "networks. In print the two attacks are on different points.",
            _no_obfuscation,
        ),
    ]


def _other_claims() -> list[Claim]:
    return [
        Claim(
            name="split_sizes",
            quote="a 'pure' training set (70043 samples, 80%)",
            where="Section 2.1; the test set of 21892 samples alike",
            tested="the numbers of points of the data set that was run.",
            judge=_judge_sizes,
            datasets=(DATASET,),
        ),
        Claim(
            name="recall_is_accuracy",
            quote="average recall is the same as overall accuracy",
            where="Section 3",
            tested="whether the mean recall equals the accuracy in every evaluation of this run.",
            judge=_judge_recall,
            datasets=(DATASET,),
        ),
        Claim(
            name="hardly_recognizable",
            quote="the ECG signal is even hardly recognizable by human eye",
            where="Appendix E, on Figure 8 (f)",
            tested="nothing: see the reason.",
            judge=partial(
                judge_nothing, "what people see takes observers, which no number here is"
            ),
        ),
    ]


# --- what the workflow calls --------------------------------------------------------------

_METHOD = (
    "Differences of two methods are tested with independent bootstraps of each, although both "
    "were tested on the same points: where points that are hard for one are hard for the other, "
    "the verdicts are more cautious than they would have to be. A mean over noise levels takes "
    "the levels to move together."
)


def build_nsr_claims(request: Request) -> list[Path]:
    """Writes the claims with their verdicts (:func:`medrobust.reporting.claims.build_claims`)."""
    results = read_results(request, PRINTED_ATTACKS)
    summaries = [entry.summary for entry in request.entries if entry.summary]
    return build_claims(
        claims(read_printed(request.published)),
        results,
        request.out_stem,
        request.context,
        {name: source for name, source in results.sources.items() if name == DATASET},
        budget=budget_text(request, PRINTED_ATTACKS),
        inputs=[request.published, *results.files, *summaries],
        remark=remark,
        method=_METHOD,
    )
