"""What Yang et al. (2020) claim of ECG data, as tests of this run's results.

Sources of the sentences: abstract, introduction, sections II.B and III.B, Figure 2 and the
conclusion. Sentences about images are not here: that part of the study is not run. Wherever the
words leave open what is meant, ``tested`` says what was chosen.

Distances are those that the paper prints, the attack's last iterates, as a mean over points of
the smallest of the restarts; where the distances at the decision boundary give another
verdict, a note says so. Two models are compared on the same points.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medrobust.core import io, seeds
from medrobust.core.errors import InputError
from medrobust.evaluation import paired, spikes
from medrobust.reporting.claim_tests import judge_nothing
from medrobust.reporting.claims import (
    COMBINED,
    Claim,
    Finding,
    Statement,
    all_of,
    any_of,
    between,
    build_claims,
    exact,
    mean_above_zero,
    open_statement,
    printed_between,
    verdict_of,
)
from medrobust.reporting.comparison import read_published
from medrobust.reporting.plotting import model_label
from medrobust.reporting.request import Entry, Request
from medrobust.studies.signnet.paired import SIGN_NETWORKS, randomness
from medrobust.studies.signnet.results import DATASETS, STUDY, attack_text, remark

if TYPE_CHECKING:
    import pandas as pd

RIVALS = ("BNN", "MLP", "CNN", "RandomForest")
#: Distances as the paper prints them, and after projection to the decision boundary.
PRINTED_DISTANCE, BOUNDARY_DISTANCE = "l2_final_iterate", "l2"
#: "Almost twice": nearer to twice than to once, and not more than twice.
ALMOST_TWICE = (1.5, 2.0)
#: "In the beginning" of a heartbeat: its first quarter.
BEGINNING = 187 // 4
#: "Mainly": more than half.
MAINLY = 0.5

Above = Callable[[str, str], Statement]
"""(first, second) -> the statement that the first model's number is above the second's."""


# --- results ----------------------------------------------------------------------------


@dataclass(frozen=True)
class SignnetResults:
    """What the claims are tested on: one value per point, the mean over replicates.

    Attributes:
        values: (quantity, data set, model) to float64 by point. Quantities: ``correct`` (share
            of the replicates that classify the test point correctly), the two distances (+inf
            where censored), ``spikes`` (of the adversarial heartbeat minus those of the
            original), ``first_spike`` (share of the change in its largest spike of the first
            quarter); the last two NaN where there is no adversarial heartbeat.
        sizes: data set to its numbers of training and test points.
        sources: data set to where it came from.
        replicates: data set to the fewest trainings of any model.
        published: (table, data set, model) to the printed number.
        seed: root seed.
    """

    values: Mapping[tuple[str, str, str], pd.Series]
    sizes: Mapping[str, tuple[int, int]]
    sources: Mapping[str, str]
    replicates: Mapping[str, int]
    published: Mapping[tuple[str, str, str], float]
    seed: int

    def of(self, quantity: str, dataset: str, model: str) -> pd.Series | None:
        """Returns a model's values by point, None if it was not run."""
        return self.values.get((quantity, dataset, model))

    def random(self, *names: object) -> np.random.Generator:
        """Returns the generator of a named piece of work."""
        return seeds.generator(self.seed, "claims", STUDY, *names)

    def points(self, quantity: str, dataset: str) -> int | None:
        """Returns the number of points of a data set (of both for :data:`COMBINED`)."""
        names = DATASETS if dataset == COMBINED else (dataset,)
        found = {key[1]: len(one) for key, one in self.values.items() if key[0] == quantity}
        return sum(found[name] for name in names) if set(names) <= set(found) else None

    def trainings(self, dataset: str) -> int | None:
        """Returns the fewest trainings behind a data set's results."""
        names = DATASETS if dataset == COMBINED else (dataset,)
        found = [self.replicates[name] for name in names if name in self.replicates]
        return min(found, default=None)


def read_results(entries: Sequence[Entry], published: pd.DataFrame, seed: int) -> SignnetResults:
    """Reads what the claims are tested on.

    Args:
        entries: with ``summary``, ``predictions``, ``records`` and ``arrays``; data sets and
            models as they are printed.
        published: as :func:`medrobust.reporting.comparison.read_published` reads it.
        seed: root seed.

    Raises:
        InputError: a file is missing or contradicts itself, or replicates hold different points.
    """
    parts: dict[tuple[str, str, str], list[pd.Series]] = {}
    sizes: dict[str, tuple[int, int]] = {}
    trained: dict[str, dict[str, int]] = {}
    for entry in sorted(entries, key=lambda one: one.replicate):
        summary = io.read_json(entry.summary)
        sizes[entry.dataset] = (summary["n_train"], summary["n_test"])
        counts = trained.setdefault(entry.dataset, {})
        counts[entry.model] = counts.get(entry.model, 0) + 1
        for quantity, one in _read(entry).items():
            parts.setdefault((quantity, entry.dataset, entry.model), []).append(one)
    keys = zip(published["table"], published["dataset"], published["method"], strict=True)
    return SignnetResults(
        values={key: paired.mean_over_replicates(each) for key, each in parts.items()},
        sizes=sizes,
        sources={entry.dataset: entry.source for entry in entries},
        replicates={dataset: min(counts.values()) for dataset, counts in trained.items()},
        published=dict(zip(keys, published["value"], strict=True)),
        seed=seed,
    )


def _read(entry: Entry) -> dict[str, pd.Series]:
    """Returns each quantity of one trained model by point."""
    from medrobust.evaluation.statistics import point_distances

    if not Path(entry.predictions).is_file():
        raise InputError("These clean predictions do not exist.", where=entry.predictions)
    clean = io.read_table(entry.predictions).set_index("point_id")
    points = point_distances(entry.records).set_index("point_id")
    return {
        "correct": (clean["prediction"] == clean["label"]).astype("float64"),
        PRINTED_DISTANCE: points[PRINTED_DISTANCE],
        BOUNDARY_DISTANCE: points[BOUNDARY_DISTANCE],
        **_shapes(entry),
    }


def _shapes(entry: Entry) -> dict[str, pd.Series]:
    """Returns what the adversarial heartbeats look like, NaN where there is none."""
    import pandas as pd

    frames = []
    for path in entry.arrays:
        if not Path(path).is_file():
            raise InputError("This file of adversarial arrays does not exist.", where=str(path))
        tensors = io.read_tensors(path)
        x, found = (
            tensors[name].reshape(len(tensors["x"]), -1).astype(np.float64)
            for name in ("x", "x_final_iterate")
        )
        there = np.isfinite(found).all(axis=1)
        columns = {name: np.full(len(x), np.nan) for name in ("spikes", "first_spike")}
        more = spikes.count_spikes(found[there]) - spikes.count_spikes(x[there])
        columns["spikes"][there] = more
        changes = found[there] - x[there]
        columns["first_spike"][there] = spikes.largest_spike_share(changes, BEGINNING)
        frames.append(pd.DataFrame(columns, index=tensors["point_id"]))
    joined = pd.concat(frames) if frames else pd.DataFrame(columns=["spikes", "first_spike"])
    return {name: joined[name] for name in joined if len(joined)}


# --- single comparisons -----------------------------------------------------------------


def _pair(
    results: SignnetResults, quantity: str, dataset: str, first: str, second: str
) -> tuple[np.ndarray, np.ndarray] | str:
    """Returns both models' values at their common points, or why they cannot be compared."""
    a, b = (results.of(quantity, dataset, model) for model in (first, second))
    for model, one in ((first, a), (second, b)):
        if one is None:
            return f"{model_label(model)} on {dataset} is not part of this run"
    if not a.index.equals(b.index):
        return "they were attacked on different points"
    return a.to_numpy(float), b.to_numpy(float)


def _label(first: str, second: str) -> str:
    return f"{model_label(first)} above {model_label(second)}"


def _above(
    results: SignnetResults, quantity: str, dataset: str, first: str, second: str
) -> Statement:
    """Tests whether a model's mean over the attacked points is above another's."""
    if dataset == COMBINED:
        return _above_combined(results, quantity, first, second)
    label = _label(first, second)
    found = _pair(results, quantity, dataset, first, second)
    if isinstance(found, str):
        return open_statement(label, found)
    with np.errstate(invalid="ignore"):
        differences = found[0] - found[1]
    random = randomness(results.seed, dataset, quantity)(first, second, "mean difference")
    decimals = 1 if quantity == "spikes" else 3
    return mean_above_zero(label, differences, random, decimals=decimals)


def _above_combined(results: SignnetResults, quantity: str, first: str, second: str) -> Statement:
    """Tests the unweighted mean of the data sets' mean differences; each is drawn on its own."""
    label = _label(first, second)
    means, draws, sizes = [], [], []
    for dataset in DATASETS:
        found = _pair(results, quantity, dataset, first, second)
        if isinstance(found, str):
            return open_statement(label, found)
        if not np.isfinite(found).all():
            return open_statement(label, f"points of {dataset} have no adversarial example")
        difference = found[0] - found[1]
        means.append(difference.mean())
        random = results.random(quantity, COMBINED, dataset, first, second)
        draws.append(paired.resampled_means(difference[:, None], random)[:, 0])
        sizes.append(difference.size)
    return between(
        label, float(np.mean(means)), np.mean(draws, axis=0), 0, np.inf, n=min(sizes), decimals=3
    )


def _more_accurate(results: SignnetResults, dataset: str, first: str, second: str) -> Statement:
    return _accuracy_gap(results, dataset, first, second, 0.0, np.inf, _label(first, second))


def _accuracy_gap(
    results: SignnetResults,
    dataset: str,
    first: str,
    second: str,
    low: float,
    high: float,
    label: str,
) -> Statement:
    """Tests whether the first model's accuracy minus the second's lies between two bounds."""
    found = _pair(results, "correct", dataset, first, second)
    if isinstance(found, str):
        return open_statement(label, found)
    gaps = 100 * (found[0] - found[1])
    random = results.random("correct", dataset, first, second)
    draws = paired.resampled_means(gaps[:, None], random)[:, 0]
    return between(
        label, float(gaps.mean()), draws, low, high, n=gaps.size, decimals=2, unit=" points"
    )


# --- the claims' tests ------------------------------------------------------------------


def _each_above_each(above: Above, firsts: Iterable[str], seconds: Iterable[str]) -> Statement:
    return all_of(above(first, second) for first in firsts for second in tuple(seconds))


def _sign_networks_above_all(above: Above) -> Statement:
    return _each_above_each(above, SIGN_NETWORKS, RIVALS)


def _a_sign_network_above_all(above: Above) -> Statement:
    return any_of(_each_above_each(above, (model,), RIVALS) for model in SIGN_NETWORKS)


def _scdce_above_all(above: Above) -> Statement:
    return _each_above_each(above, ("SCDCE",), ("SCD01", *RIVALS))


def _bnn_is_second(above: Above) -> Statement:
    others = ("SCD01", *(model for model in RIVALS if model != "BNN"))
    return all_of([above("SCDCE", "BNN"), *(above("BNN", model) for model in others)])


def _cnn_leads(above: Above) -> Statement:
    return _each_above_each(above, ("CNN",), (*SIGN_NETWORKS, *(m for m in RIVALS if m != "CNN")))


def _judge_distances(
    test: Callable[[Above], Statement], results: SignnetResults, dataset: str
) -> Finding:
    printed, boundary = (
        test(partial(_above, results, quantity, dataset))
        for quantity in (PRINTED_DISTANCE, BOUNDARY_DISTANCE)
    )
    return _on_distances(printed, boundary, results, dataset)


def _on_distances(
    printed: Statement, boundary: Statement, results: SignnetResults, dataset: str
) -> Finding:
    """Returns the finding on the printed kind of distance, with a note if the other differs."""
    other = verdict_of(boundary)
    note = f"by the distances at the boundary: {other}"
    return Finding(
        printed,
        results.points(PRINTED_DISTANCE, dataset),
        results.trainings(dataset),
        notes=() if other == verdict_of(printed) else (note,),
    )


def _judge_cnn_leads(results: SignnetResults, dataset: str) -> Finding:
    statement = _cnn_leads(partial(_more_accurate, results, dataset))
    return Finding(statement, results.points("correct", dataset), results.trainings(dataset))


_NOT_FAR_BEHIND = (*SIGN_NETWORKS, "MLP", "RandomForest")


def printed_gap(published: Mapping[tuple[str, str, str], float], dataset: str) -> float:
    """Returns the largest printed gap (percent points) of a model "not far behind" the CNN."""
    cnn = published["III", dataset, "CNN"]
    return max(cnn - published["III", dataset, model] for model in _NOT_FAR_BEHIND)


def _judge_not_far_behind(results: SignnetResults, dataset: str) -> Finding:
    margin = printed_gap(results.published, dataset)
    statement = all_of(
        _accuracy_gap(
            results,
            dataset,
            "CNN",
            model,
            -np.inf,
            margin,
            f"{model_label(model)} at most {margin:.1f} points behind the CNN",
        )
        for model in _NOT_FAR_BEHIND
    )
    return Finding(statement, results.points("correct", dataset), results.trainings(dataset))


def _judge_almost_twice(results: SignnetResults, dataset: str) -> Finding:
    printed = _ratio(results, PRINTED_DISTANCE, dataset)
    return _on_distances(printed, _ratio(results, BOUNDARY_DISTANCE, dataset), results, dataset)


def _ratio(results: SignnetResults, column: str, dataset: str) -> Statement:
    label = "SCDCE over BNN, ratio of the means"
    found = _pair(results, column, dataset, "SCDCE", "BNN")
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
    return Finding(statement, results.points("spikes", dataset), results.trainings(dataset))


def _more_spikes(results: SignnetResults, dataset: str, model: str) -> Statement:
    label = f"{model_label(model)}'s adversarial heartbeats have more spikes than the originals"
    found = results.of("spikes", dataset, model)
    if found is None:
        return open_statement(label, f"{model_label(model)} on {dataset} is not part of this run")
    random = results.random("spikes", dataset, model)
    return mean_above_zero(label, found.to_numpy(float), random, decimals=1)


def _judge_others_look_similar(results: SignnetResults, dataset: str) -> Finding:
    statement = _sign_networks_above_all(partial(_above, results, "spikes", dataset))
    return Finding(statement, results.points("spikes", dataset), results.trainings(dataset))


def _judge_one_spike(results: SignnetResults, dataset: str) -> Finding:
    label = "share of the random forest's change in one spike of the first quarter"
    found = results.of("first_spike", dataset, "RandomForest")
    n, trainings = results.points("first_spike", dataset), results.trainings(dataset)
    if found is None:
        why = f"{model_label('RandomForest')} on {dataset} is not part of this run"
        return Finding(open_statement(label, why), n, trainings)
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


# --- the printed numbers ----------------------------------------------------------------


def _printed_above(
    published: pd.DataFrame, table: str, dataset: str, first: str, second: str
) -> Statement:
    part = published[(published["table"] == table) & (published["dataset"] == dataset)]
    values = part.set_index("method")["value"]
    unit = 10.0 ** -int(part["decimals"].iloc[0])
    difference = values[first] - values[second]
    # Each stands for all that rounds to it: the difference is known to one unit either way.
    return printed_between(_label(first, second), difference - unit, difference + unit, 0.0, np.inf)


def _printed_ratio(published: pd.DataFrame, dataset: str) -> Statement:
    part = published[(published["table"] == "IV") & (published["dataset"] == dataset)]
    values = part.set_index("method")["value"]
    half = 0.5 * 10.0 ** -int(part["decimals"].iloc[0])
    lowest, highest = (
        (values["SCDCE"] + sign * half) / (values["BNN"] - sign * half) for sign in (-1, 1)
    )
    return printed_between("SCDCE over BNN", lowest, highest, *ALMOST_TWICE)


# --- the sentences ----------------------------------------------------------------------


def claims(published: pd.DataFrame) -> list[Claim]:
    """Returns the paper's claims about ECG data.

    Args:
        published: the study's numbers, as
            :func:`medrobust.reporting.comparison.read_published` reads them.
    """
    return [
        *_accuracy_claims(published),
        *_distance_claims(published),
        *_figure_claims(),
        *_other_claims(),
    ]


def _accuracy_claims(published: pd.DataFrame) -> list[Claim]:
    def in_print(dataset: str) -> Statement:
        return _cnn_leads(partial(_printed_above, published, "III", dataset))

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
            datasets=DATASETS,
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
            datasets=DATASETS,
        ),
    ]


def _distance_claims(published: pd.DataFrame) -> list[Claim]:
    def claim(
        name: str,
        quote: str,
        where: str,
        tested: str,
        test: Callable[[Above], Statement],
        datasets: tuple[str, ...],
    ) -> Claim:
        return Claim(
            name=name,
            quote=quote,
            where=where,
            tested=tested,
            judge=partial(_judge_distances, test),
            datasets=datasets,
            printed=lambda dataset: test(partial(_printed_above, published, "IV", dataset)),
        )

    both = "each sign network's mean distance is above that of each of the four other models."
    either = (
        "one sign network (singular in the sentence) has a mean distance above that of each of "
        "the four other models."
    )
    mitbih = ("MIT-BIH",)
    return [
        claim(
            "sign_network_highest",
            "the gradient free sign network model has the highest distortion on both datasets "
            "individually and in the combined average",
            "Section III.B, on Table IV",
            f"{either} The combined average is the unweighted mean of the data sets'.",
            _a_sign_network_above_all,
            (*DATASETS, COMBINED),
        ),
        claim(
            "scdce_leads_on_mitbih",
            "In the MIT-BIH dataset SCDCE leads in distortion",
            "Section III.B, on Table IV",
            "SCDCE's mean distance is above that of each of the five other models.",
            _scdce_above_all,
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
            printed=partial(_printed_ratio, published),
        ),
        claim(
            "abstract_sign_network_greater",
            "on two ECG datasets that this model requires a greater distortion to be fooled than "
            "full-precision, binary, and convolutional neural networks, and random forests",
            "Abstract",
            either,
            _a_sign_network_above_all,
            DATASETS,
        ),
        claim(
            "introduction_sign_networks_higher",
            "the gradient free trained sign networks have a higher estimated distortion than all "
            "other models on both image and ECG time-series data",
            "Introduction",
            f"of the ECG data only: {both}",
            _sign_networks_above_all,
            DATASETS,
        ),
        claim(
            "conclusion_sign_networks_greater",
            "the gradient free trained sign networks require a greater distortion in order to "
            "fool the model",
            "Conclusion",
            f"of the ECG data only: {both}",
            _sign_networks_above_all,
            DATASETS,
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
            datasets=DATASETS,
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
            datasets=DATASETS,
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
            datasets=DATASETS,
        ),
    ]


def _other_claims() -> list[Claim]:
    return [
        Claim(
            name="adversaries_visible",
            quote=(
                "adversaries targeting the gradient free sign networks are visually "
                "distinguishable from the original data"
            ),
            where="Introduction; alike in the abstract",
            tested="nothing: see the reason.",
            judge=partial(
                judge_nothing, "what people see takes observers, which no number here is"
            ),
        ),
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
    entries = [entry for entry in request.entries if entry.dataset in DATASETS]
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
