"""What Yang et al. (2020) claim, as tests of this run's results.

Sources of the sentences: abstract, introduction, sections II.B, III.A and III.B, Figures 1 and 2
and the conclusion; those on images alone stand in
:mod:`medrobust.studies.signnet.image_claims`. Wherever the words leave open what is meant,
``tested`` says what was chosen.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medrobust.evaluation import paired, spikes
from medrobust.reporting.claim_tests import judge_nothing
from medrobust.reporting.claims import (
    COMBINED,
    Claim,
    Finding,
    Statement,
    all_of,
    between,
    build_claims,
    exact,
    mean_above_zero,
    open_statement,
)
from medrobust.reporting.comparison import read_published
from medrobust.reporting.plotting import model_label
from medrobust.reporting.request import Request
from medrobust.studies.signnet.claim_evidence import (
    BOUNDARY_DISTANCE,
    PRINTED_DISTANCE,
    Above,
    SignnetResults,
    a_sign_network_above_all,
    above,
    each_above_each,
    finding,
    more_accurate,
    not_far_behind,
    not_run,
    on_distances,
    pair,
    printed_above,
    printed_ratio,
    read_results,
    rivals,
    scdce_above_all,
    sentence_on_distances,
    sign_networks_above_all,
)
from medrobust.studies.signnet.image_claims import image_claims
from medrobust.studies.signnet.paired import SIGN_NETWORKS, randomness
from medrobust.studies.signnet.results import IMAGES, SIGNALS, STUDY, Part, attack_text, remark

if TYPE_CHECKING:
    import pandas as pd

#: "Almost twice": nearer to twice than to once, and not more than twice.
ALMOST_TWICE = (1.5, 2.0)
#: "Mainly": more than half.
MAINLY = 0.5
#: "Not far behind" are these, by section III.B.
NOT_FAR_BEHIND = (*SIGN_NETWORKS, "MLP", "RandomForest")
#: Data sets of both halves of the paper.
ALL_DATASETS = (*IMAGES.datasets, *SIGNALS.datasets)


# --- the claims' tests ------------------------------------------------------------------


def _bnn_is_second(part: Part, above: Above) -> Statement:
    others = ("SCD01", *(model for model in rivals(part) if model != "BNN"))
    return all_of([above("SCDCE", "BNN"), *(above("BNN", model) for model in others)])


def _cnn_leads(above: Above) -> Statement:
    others = (*SIGN_NETWORKS, *(model for model in rivals(SIGNALS) if model != "CNN"))
    return each_above_each(above, ("CNN",), others)


def _judge_cnn_leads(results: SignnetResults, dataset: str) -> Finding:
    statement = _cnn_leads(partial(more_accurate, results, dataset))
    return finding(statement, results, "correct", SIGNALS, dataset)


def _judge_not_far_behind(results: SignnetResults, dataset: str) -> Finding:
    statement = not_far_behind(results, SIGNALS, dataset, "CNN", NOT_FAR_BEHIND)
    return finding(statement, results, "correct", SIGNALS, dataset)


def _judge_almost_twice(results: SignnetResults, dataset: str) -> Finding:
    printed = _ratio(results, PRINTED_DISTANCE, dataset)
    boundary = _ratio(results, BOUNDARY_DISTANCE, dataset)
    return on_distances(printed, boundary, results, SIGNALS, dataset)


def _ratio(results: SignnetResults, column: str, dataset: str) -> Statement:
    label = "SCDCE over BNN, ratio of the means"
    found = pair(results, column, dataset, "SCDCE", "BNN")
    if isinstance(found, str):
        return open_statement(label, found)
    if not np.isfinite(found).all() or not found[1].any():
        return open_statement(label, "a mean is not defined")
    random = randomness(results.seed, dataset, column)("SCDCE", "BNN", "ratio")
    draws = paired.ratio_draws(*found, random)
    estimate = float(found[0].mean() / found[1].mean())
    return between(label, estimate, draws, *ALMOST_TWICE, n=found[0].size, decimals=2)


def _judge_spikes(results: SignnetResults, dataset: str) -> Finding:
    statement = all_of(_more_spikes(results, dataset, model) for model in SIGN_NETWORKS)
    return finding(statement, results, "spikes", SIGNALS, dataset)


def _more_spikes(results: SignnetResults, dataset: str, model: str) -> Statement:
    label = f"{model_label(model)}'s adversarial heartbeats have more spikes than the originals"
    found = results.of("spikes", dataset, model)
    if found is None:
        return open_statement(label, not_run(model, dataset))
    random = results.random("spikes", dataset, model)
    return mean_above_zero(label, found.to_numpy(float), random, decimals=1)


def _judge_others_look_similar(results: SignnetResults, dataset: str) -> Finding:
    statement = sign_networks_above_all(
        SIGNALS, partial(above, results, "spikes", SIGNALS, dataset)
    )
    return finding(statement, results, "spikes", SIGNALS, dataset)


def _judge_one_spike(results: SignnetResults, dataset: str) -> Finding:
    label = "share of the random forest's change in one spike of the first quarter"
    found = results.of("first_spike", dataset, "RandomForest")
    n, trainings = (
        results.points("first_spike", dataset, SIGNALS),
        results.trainings(dataset, SIGNALS),
    )
    if found is None:
        return Finding(open_statement(label, not_run("RandomForest", dataset)), n, trainings)
    if not np.isfinite(found).all():
        why = f"{int(found.isna().sum())} of {len(found)} points have no adversarial example"
        return Finding(open_statement(label, why), n, trainings)
    random = results.random("first_spike", dataset)
    draws = paired.resampled_means(found.to_numpy(float)[:, None], random)[:, 0]
    estimate = float(found.mean())
    statement = between(label, estimate, draws, MAINLY, np.inf, n=len(found), decimals=2)
    return Finding(statement, n, trainings)


def _judge_sizes(results: SignnetResults, dataset: str) -> Finding:
    train, test = results.sizes[dataset]
    label = "87,554 training and 21,892 test points"
    if results.sources[dataset] == "subset":
        return Finding(open_statement(label, "a subset was run"), train + test)
    figures = f"found: {train:,} training and {test:,} test points"
    return Finding(exact(label, (train, test) == (87554, 21892), figures), train + test)


def _judge_printed_split(results: SignnetResults, dataset: str) -> Finding:
    share = 100 * 13096 / (13096 + 1456)
    figures = f"13,096 of 14,552 points are {share:.1f} %"
    return Finding(exact("four fifths of the points are for training", round(share) == 80, figures))


# --- the sentences ----------------------------------------------------------------------


def claims(published: pd.DataFrame) -> list[Claim]:
    """Returns the paper's claims: on images, on ECG, on both.

    Args:
        published: the study's numbers, as
            :func:`medrobust.reporting.comparison.read_published` reads them.
    """
    return [
        *image_claims(published),
        *_accuracy_claims(published),
        *_distance_claims(published),
        *_figure_claims(),
        *_other_claims(),
    ]


def _accuracy_claims(published: pd.DataFrame) -> list[Claim]:
    def in_print(dataset: str) -> Statement:
        return _cnn_leads(partial(printed_above, published, "III", dataset))

    return [
        Claim(
            name="cnn_leads_in_accuracy",
            quote="the CNN leads in accuracy",
            where="Section III.B, on Table III",
            tested=(
                "the CNN's accuracy is above that of each of the five other models, on the same "
                "test points (accuracy of the ensembles)."
            ),
            judge=_judge_cnn_leads,
            datasets=SIGNALS.datasets,
            printed=in_print,
        ),
        Claim(
            name="others_not_far_behind",
            quote="the gradient-free sign networks, MLP, and random forest are not far behind",
            where="Section III.B, on Table III",
            tested=(
                "each of these is behind the CNN by no more than the largest such gap that Table "
                "III prints for the data set: what the authors call not far."
            ),
            judge=_judge_not_far_behind,
            datasets=SIGNALS.datasets,
        ),
    ]


def _distance_claims(published: pd.DataFrame) -> list[Claim]:
    claim = partial(sentence_on_distances, published)
    both = "each sign network's mean distance is above that of each of the other models."
    either = (
        "one sign network (singular in the sentence) has a mean distance above that of each of "
        "the other models."
    )
    mitbih = ("MIT-BIH",)
    return [
        claim(
            "sign_network_highest",
            "the gradient free sign network model has the highest distortion on both datasets "
            "individually and in the combined average",
            "Section III.B, on Table IV",
            f"{either} The combined average is the unweighted mean of the data sets'.",
            a_sign_network_above_all,
            (*SIGNALS.datasets, COMBINED),
        ),
        claim(
            "scdce_leads_on_mitbih",
            "In the MIT-BIH dataset SCDCE leads in distortion",
            "Section III.B, on Table IV",
            "SCDCE's mean distance is above that of each of the five other models.",
            scdce_above_all,
            mitbih,
        ),
        claim(
            "bnn_next_best_on_mitbih",
            "the next best BNN",
            "Section III.B, on Table IV",
            "the BNN's mean distance is below SCDCE's and above that of each of the four others.",
            _bnn_is_second,
            mitbih,
        ),
        Claim(
            name="scdce_almost_twice_bnn",
            quote="by almost twice the value of the next best BNN",
            where="Section III.B, on Table IV",
            tested=(
                "the ratio of SCDCE's to the BNN's mean distance is from 1.5 (nearer to twice "
                "than to once) to 2."
            ),
            judge=_judge_almost_twice,
            datasets=mitbih,
            printed=lambda dataset: printed_ratio(
                published, "IV", dataset, "SCDCE", "BNN", ALMOST_TWICE
            ),
        ),
        claim(
            "abstract_sign_network_greater",
            "on chest X-ray and histopathology images, and on two ECG datasets that this model "
            "requires a greater distortion to be fooled",
            "Abstract",
            f"{either} On images without the binary network, as in Table II.",
            a_sign_network_above_all,
            ALL_DATASETS,
        ),
        claim(
            "introduction_sign_networks_higher",
            "the gradient free trained sign networks have a higher estimated distortion than all "
            "other models on both image and ECG time-series data",
            "Introduction",
            both,
            sign_networks_above_all,
            ALL_DATASETS,
        ),
        claim(
            "conclusion_sign_networks_greater",
            "the gradient free trained sign networks require a greater distortion in order to "
            "fool the model",
            "Conclusion",
            both,
            sign_networks_above_all,
            ALL_DATASETS,
        ),
    ]


def _figure_claims() -> list[Claim]:
    shown = "The paper shows one heartbeat, of a data set it does not name; tested on all attacked"
    spike = f"local extremes with a prominence of at least {spikes.PROMINENCE:g}"
    return [
        Claim(
            name="figure2_more_spikes",
            quote=(
                "The larger distortion of SCD01 and SCDCE clearly shows more spikes than the "
                "original"
            ),
            where="Section III.B, on Figure 2",
            tested=(
                f"the adversarial heartbeats of both have more spikes ({spike}) than the "
                f"originals, on average. {shown} points."
            ),
            judge=_judge_spikes,
            datasets=SIGNALS.datasets,
        ),
        Claim(
            name="figure2_others_similar",
            quote="In comparison the other models look similar to the original",
            where="Section III.B, on Figure 2",
            tested=(
                f"each sign network adds more spikes ({spike}) than each of the four other models "
                f"(a number for the comparison, none for the similarity). {shown} points."
            ),
            judge=_judge_others_look_similar,
            datasets=SIGNALS.datasets,
        ),
        Claim(
            name="figure2_forest_one_spike",
            quote="RF's distortion comes mainly from one unusual spike in the beginning",
            where="Section III.B, on Figure 2",
            tested=(
                "one run of samples moved the same way, which begins in the first quarter of the "
                "heartbeat, holds more than half of the squared L2 distance, on average. "
                f"{shown} points."
            ),
            judge=_judge_one_spike,
            datasets=SIGNALS.datasets,
        ),
    ]


def _other_claims() -> list[Claim]:
    return [
        Claim(
            name="first_robust_model",
            quote="We present for the first time a model that is robust to adversarial attacks",
            where="Conclusion",
            tested="nothing: see the reason.",
            judge=partial(
                judge_nothing, "no distance is named from which on a model would be robust"
            ),
        ),
        Claim(
            name="mitbih_sizes",
            quote="a total of 87554 points in the train and 21892 in the test",
            where="Section II.B",
            tested="the numbers of points of the data set that was run.",
            judge=_judge_sizes,
            datasets=("MIT-BIH",),
        ),
        Claim(
            name="ptbd_split_80_20",
            quote="80:20 train test split (yielding 13096 train and 1456 test points)",
            where="Section II.B",
            tested="arithmetic: whether the printed numbers of points are 80:20. They are 90:10.",
            judge=_judge_printed_split,
        ),
    ]


# --- what the workflow calls --------------------------------------------------------------


def build_signnet_claims(request: Request, budget: str) -> list[Path]:
    """Writes the claims with their verdicts (:func:`medrobust.reporting.claims.build_claims`).

    Args:
        request: with the results of the study; those on data sets that the paper does not have
            are left out.
        budget: the attack in words.
    """
    published = read_published(request.published, STUDY)
    entries = [entry for entry in request.entries if entry.dataset in ALL_DATASETS]
    files = [
        path
        for entry in entries
        for path in (entry.summary, entry.predictions, *entry.records, *entry.arrays)
    ]
    return build_claims(
        claims(published),
        read_results(entries, published, request.context.seed),
        request.out_stem,
        request.context,
        {entry.dataset: entry.source for entry in entries},
        budget=budget,
        inputs=[request.published, *files],
        remark=remark,
    )


def draw_claims(request: Request) -> list[Path]:
    """Writes the claims of the paper and what this run says of them."""
    return build_signnet_claims(request, attack_text(request))
