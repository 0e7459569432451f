"""What Yang et al. (2020) claim of images: sections II.B and III.A, Tables I and II, Figure 1.

Adversarial images are described in words ("dottiest", "visually distinguishable"). What is
measured in place of these words are the numbers of
:mod:`medrobust.studies.signnet.image_differences`; no number says what people see.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from medrobust.evaluation import intervals
from medrobust.reporting.artefacts import with_interval
from medrobust.reporting.claim_tests import judge_nothing
from medrobust.reporting.claims import (
    ALPHA,
    COMBINED,
    Claim,
    Finding,
    Statement,
    all_of,
    exact,
    open_statement,
)
from medrobust.reporting.plotting import model_label
from medrobust.studies.signnet.claim_evidence import (
    BOUNDARY_DISTANCE,
    PRINTED_DISTANCE,
    Above,
    SignnetResults,
    above,
    each_above_each,
    finding,
    more_accurate,
    not_far_behind,
    on_distances,
    printed_above,
    printed_ratio,
    ratio_of_combined,
    rivals,
    scdce_above_all,
    sentence_on_distances,
    sign_networks_above_all,
)
from medrobust.studies.signnet.paired import SIGN_NETWORKS
from medrobust.studies.signnet.results import IMAGES, Part

if TYPE_CHECKING:
    import pandas as pd

X_RAY, HISTOLOGY = IMAGES.datasets
CONVOLUTIONAL = ("LeNet", "ResNet18")
#: "Twice": nearer to twice than to once and to three times.
TWICE = (1.5, 2.5)
#: Images that the release of the X-rays and the two classes of tiles have, as the paper says.
PRINTED_SIZES = {X_RAY: 2 * 1584, HISTOLOGY: 2 * 625}


# --- the claims' tests ------------------------------------------------------------------


def _convolutional_lead(above: Above) -> Statement:
    others = [model for model in IMAGES.models if model not in CONVOLUTIONAL]
    return each_above_each(above, CONVOLUTIONAL, others)


def _judge_convolutional_lead(results: SignnetResults, dataset: str) -> Finding:
    statement = _convolutional_lead(partial(more_accurate, results, dataset))
    return finding(statement, results, "correct", IMAGES, dataset)


def _judge_not_too_far_behind(results: SignnetResults, dataset: str) -> Finding:
    others = [model for model in IMAGES.models if model not in CONVOLUTIONAL]
    statement = not_far_behind(results, IMAGES, dataset, "ResNet18", others)
    return finding(statement, results, "correct", IMAGES, dataset)


def _mlp_is_second(part: Part, above: Above) -> Statement:
    others = ("SCD01", *(model for model in rivals(part) if model != "MLP"))
    return all_of([above("SCDCE", "MLP"), *(above("MLP", model) for model in others)])


def _resnet_follows_sign_networks(part: Part, above: Above) -> Statement:
    others = [model for model in rivals(part) if model != "ResNet18"]
    ahead = each_above_each(above, SIGN_NETWORKS, ("ResNet18",))
    return all_of([ahead, each_above_each(above, ("ResNet18",), others)])


def _sign_networks_lead_by_scdce(part: Part, above: Above) -> Statement:
    return all_of([sign_networks_above_all(part, above), above("SCDCE", "SCD01")])


def _judge_twice(results: SignnetResults, dataset: str) -> Finding:
    printed, boundary = (
        all_of(
            ratio_of_combined(results, quantity, IMAGES, "SCDCE", model, TWICE)
            for model in ("MLP", *CONVOLUTIONAL)
        )
        for quantity in (PRINTED_DISTANCE, BOUNDARY_DISTANCE)
    )
    return on_distances(printed, boundary, results, IMAGES, dataset)


def _judge_dottiest(results: SignnetResults, dataset: str) -> Finding:
    statement = scdce_above_all(IMAGES, partial(above, results, "added_variation", IMAGES, dataset))
    return finding(statement, results, "added_variation", IMAGES, dataset)


def _judge_visible(results: SignnetResults, dataset: str) -> Finding:
    """Shows how similar the adversarial images of the sign networks are, and judges nothing."""
    statement = all_of(_similarity_shown(results, dataset, model) for model in SIGN_NETWORKS)
    return finding(statement, results, "similarity", IMAGES, dataset)


def _similarity_shown(results: SignnetResults, dataset: str, model: str) -> Statement:
    label = f"structural similarity of {model_label(model)}'s adversarial images with the originals"
    why = "what people see takes observers, which no number here is"
    found = results.of("similarity", dataset, model)
    if found is None or not np.isfinite(found).all():
        return open_statement(label, why)
    random = results.random("similarity", dataset, model)
    # The interval of the table of image differences; of one image there is none.
    ends = intervals.mean_interval(found.to_numpy(float), generator=random, level=1 - ALPHA)
    low, high = (None if end is None else min(max(end, -1.0), 1.0) for end in ends)
    shown = with_interval(float(found.mean()), low, high, 2)
    return Statement(label, figures=f"{label}: {shown}", undecided=why)


def _judge_sizes(results: SignnetResults, dataset: str) -> Finding:
    printed, found = PRINTED_SIZES[dataset], sum(results.sizes[dataset])
    label = f"{printed:,} images of both classes"
    if results.sources[dataset] == "subset":
        return Finding(open_statement(label, "a subset was run"), found)
    return Finding(exact(label, found == printed, f"found: {found:,} images"), found)


# --- the sentences ----------------------------------------------------------------------


def image_claims(published: pd.DataFrame) -> list[Claim]:
    """Returns the paper's claims about images alone.

    Args:
        published: the study's numbers, as
            :func:`medrobust.reporting.comparison.read_published` reads them.
    """
    return [
        *_accuracy_claims(published),
        *_distance_claims(published),
        *_figure_claims(published),
        *_data_claims(),
    ]


def _accuracy_claims(published: pd.DataFrame) -> list[Claim]:
    def in_print(dataset: str) -> Statement:
        return _convolutional_lead(partial(printed_above, published, "I", dataset))

    return [
        Claim(
            name="convolutional_lead_on_xray",
            quote="the convolutional networks ResNet18 and LeNet lead in the chest X-ray dataset",
            where="Section III.A, on Table I",
            tested=(
                "each of both has an accuracy above that of each of the four other models, on the "
                "same test images (accuracy of the ensembles)."
            ),
            judge=_judge_convolutional_lead,
            datasets=(X_RAY,),
            printed=in_print,
        ),
        Claim(
            name="others_not_too_far_behind_on_xray",
            quote="but the other methods are not too far behind",
            where="Section III.A, on Table I",
            tested=(
                "each of the four others is behind ResNet18 by no more than the largest such gap "
                "that Table I prints: what the authors call not too far."
            ),
            judge=_judge_not_too_far_behind,
            datasets=(X_RAY,),
        ),
    ]


def _distance_claims(published: pd.DataFrame) -> list[Claim]:
    claim = partial(sentence_on_distances, published)

    def twice_in_print(dataset: str) -> Statement:
        return all_of(
            printed_ratio(published, "II", COMBINED, "SCDCE", model, TWICE)
            for model in ("MLP", *CONVOLUTIONAL)
        )

    on_table2 = "Section III.A, on Table II"
    return [
        claim(
            "scdce_highest_on_images",
            "The gradient free trained sign network SCDCE has the highest distortion on each of "
            "the two datasets",
            on_table2,
            "SCDCE's mean distance is above that of each of the five other models.",
            scdce_above_all,
            IMAGES.datasets,
        ),
        claim(
            "mlp_second_on_xray",
            "In the chest X-ray dataset we see that MLP is the second best after SCDCE",
            on_table2,
            "the MLP's mean distance is below SCDCE's and above that of each of the four others.",
            _mlp_is_second,
            (X_RAY,),
        ),
        claim(
            "resnet_follows_on_histology",
            "in the colorectal dataset ResNet18 follows the SCD models",
            on_table2,
            "ResNet18's mean distance is below that of both sign networks and above that of each "
            "of the three others.",
            _resnet_follows_sign_networks,
            (HISTOLOGY,),
        ),
        claim(
            "scdce_leads_combined",
            "the distortions of the SCD models are even higher with SCDCE taking the lead",
            on_table2,
            "in the combined average (the unweighted mean of the two data sets') both sign "
            "networks are above each of the four others, and SCDCE is above SCD01.",
            _sign_networks_lead_by_scdce,
            (COMBINED,),
            combines=IMAGES.datasets,
        ),
        Claim(
            name="scdce_twice_better",
            quote="twice better than MLP, LeNet, and ResNet18",
            where=on_table2,
            tested=(
                "the ratio of SCDCE's combined average to that of each of the three is from 1.5 to "
                "2.5: nearer to twice than to once or to three times."
            ),
            judge=_judge_twice,
            datasets=(COMBINED,),
            combines=IMAGES.datasets,
            printed=twice_in_print,
        ),
    ]


def _figure_claims(published: pd.DataFrame) -> list[Claim]:
    shown = "The paper shows one image; tested on all attacked images of the data set."
    return [
        sentence_on_distances(
            published,
            "figure1_scdce_highest",
            "all adversarial images have a high distortion with SCDCE having the highest",
            "Section III.A, on Figure 1",
            "SCDCE's mean distance is above that of each of the five other models; from which "
            f"distance on one is high is not said. {shown}",
            scdce_above_all,
            (HISTOLOGY,),
        ),
        Claim(
            name="figure1_scdce_dottiest",
            quote="the SCDCE adversary also looks the dottiest compared to others",
            where="Section III.A, on Figure 1",
            tested=(
                "dots raise an image's total variation (mean difference of neighbouring pixels): "
                "SCDCE's adversarial images exceed their originals' by more than those of each of "
                f"the five other models. {shown}"
            ),
            judge=_judge_dottiest,
            datasets=(HISTOLOGY,),
        ),
        Claim(
            name="figure1_easily_spotted",
            quote="can easily be spotted as abnormal and potentially adversarial",
            where="Section III.A, on Figure 1",
            tested="nothing; how similar the images are to the originals is told.",
            judge=_judge_visible,
            datasets=(HISTOLOGY,),
        ),
        Claim(
            name="adversaries_visible",
            quote=(
                "adversaries targeting the gradient free sign networks are visually "
                "distinguishable from the original data"
            ),
            where="Introduction; alike in the abstract",
            tested="nothing; of images it is told how similar they are to the originals.",
            judge=_judge_visible,
            datasets=IMAGES.datasets,
        ),
    ]


def _data_claims() -> list[Claim]:
    return [
        Claim(
            name="image_numbers",
            quote="downsampled to have 1,584 images per class",
            where="Section II.B; of the tiles: 625 images per class",
            tested="the numbers of images of the data sets that were run.",
            judge=_judge_sizes,
            datasets=IMAGES.datasets,
        ),
        Claim(
            name="classes_of_highest_accuracy",
            quote="two classes which give the highest test accuracy",
            where="Section II.B, on the choice of mucosa and adipose tissue",
            tested="nothing: see the reason.",
            judge=partial(judge_nothing, "by which model is not said, and one pair was run alone"),
        ),
    ]
