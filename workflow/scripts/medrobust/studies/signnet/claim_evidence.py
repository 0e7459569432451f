"""What the claims of the sign-network paper are tested on, and single comparisons of two models.

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
from medrobust.reporting.claims import (
    COMBINED,
    Claim,
    Finding,
    Statement,
    all_of,
    any_of,
    between,
    mean_above_zero,
    open_statement,
    printed_between,
    verdict_of,
)
from medrobust.reporting.plotting import model_label
from medrobust.reporting.request import Entry
from medrobust.reporting.rows import printed_values
from medrobust.studies.signnet.image_differences import read_changes
from medrobust.studies.signnet.paired import SIGN_NETWORKS, randomness
from medrobust.studies.signnet.results import IMAGES, PARTS, STUDY, Part, heading

if TYPE_CHECKING:
    import pandas as pd

#: Distances as the paper prints them, and after projection to the decision boundary.
PRINTED_DISTANCE, BOUNDARY_DISTANCE = "l2_final_iterate", "l2"
#: "In the beginning" of a heartbeat: its first quarter.
BEGINNING = 187 // 4
#: Decimals of the differences that are printed, of quantities that are no distances.
_DECIMALS = {"spikes": 1, "added_variation": 4}

#: Metrics of the tables' averages; Table II prints single images too.
AVERAGES = ("accuracy_pct", "min_L2_distortion_avg")

Span = tuple[float, float]
Above = Callable[[str, str], Statement]
"""(first, second) -> the statement that the first model's number is above the second's."""


def part_of(dataset: str) -> Part:
    """Returns the half of the paper that a data set of it belongs to."""
    return next(part for part in PARTS if dataset in part.datasets)


def rivals(part: Part) -> tuple[str, ...]:
    """Returns the models of a half of the paper that are no sign networks."""
    return tuple(model for model in part.models if model not in SIGN_NETWORKS)


# --- results ----------------------------------------------------------------------------


@dataclass(frozen=True)
class SignnetResults:
    """What the claims are tested on: one value per point, the mean over replicates.

    Attributes:
        values: (quantity, data set, model) to float64 by point. Quantities: ``correct`` (share
            of the replicates that classify the test point correctly), the two distances (+inf
            where censored), ``spikes`` (of the adversarial heartbeat minus those of the
            original), ``first_spike`` (share of the change in its largest spike of the first
            quarter); these two NaN where there is no adversarial heartbeat. Of images the measures
            of :func:`medrobust.studies.signnet.image_differences.read_changes` instead.
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

    def points(self, quantity: str, dataset: str, part: Part) -> int | None:
        """Returns the number of points of a data set (:data:`COMBINED`: of all of its part)."""
        names = part.datasets if dataset == COMBINED else (dataset,)
        found = {key[1]: len(one) for key, one in self.values.items() if key[0] == quantity}
        return sum(found[name] for name in names) if set(names) <= set(found) else None

    def trainings(self, dataset: str, part: Part) -> int | None:
        """Returns the fewest trainings behind the results of a data set, or of a whole part."""
        names = part.datasets if dataset == COMBINED else (dataset,)
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
    return SignnetResults(
        values={key: paired.mean_over_replicates(each) for key, each in parts.items()},
        sizes=sizes,
        sources={entry.dataset: entry.source for entry in entries},
        replicates={dataset: min(counts.values()) for dataset, counts in trained.items()},
        published=printed_values(averages(published), "table", "dataset", "method"),
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
    """Returns what the adversarial points look like, NaN where there is none."""
    if entry.points == IMAGES.points:
        changes = read_changes(entry.arrays)
        return {name: changes[name] for name in ("similarity", "added_variation")}
    return _heartbeat_shapes(entry.arrays)


def _heartbeat_shapes(arrays: Iterable[str]) -> dict[str, pd.Series]:
    import pandas as pd

    frames = []
    for path in arrays:
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


def averages(published: pd.DataFrame) -> pd.DataFrame:
    """Returns the published numbers without those of single images."""
    return published[published["metric"].isin(AVERAGES)]


def not_run(model: str, dataset: str) -> str:
    """Returns that a model was not run on a data set, as a reason."""
    return f"{model_label(model)} on {heading(dataset)} is not part of this run"


def pair(
    results: SignnetResults, quantity: str, dataset: str, first: str, second: str
) -> tuple[np.ndarray, np.ndarray] | str:
    """Returns both models' values at their common points, or why they cannot be compared."""
    a, b = (results.of(quantity, dataset, model) for model in (first, second))
    for model, one in ((first, a), (second, b)):
        if one is None:
            return not_run(model, dataset)
    if not a.index.equals(b.index):
        return "they were attacked on different points"
    return a.to_numpy(float), b.to_numpy(float)


def label_of(first: str, second: str) -> str:
    """Returns the statement that a model's number is above another's, in words."""
    return f"{model_label(first)} above {model_label(second)}"


def above(
    results: SignnetResults, quantity: str, part: Part, dataset: str, first: str, second: str
) -> Statement:
    """Tests whether a model's mean over the attacked points is above another's."""
    if dataset == COMBINED:
        return _above_combined(results, quantity, part, first, second)
    label = label_of(first, second)
    found = pair(results, quantity, dataset, first, second)
    if isinstance(found, str):
        return open_statement(label, found)
    with np.errstate(invalid="ignore"):
        differences = found[0] - found[1]
    random = randomness(results.seed, dataset, quantity)(first, second, "mean difference")
    decimals = _DECIMALS.get(quantity, 3)
    return mean_above_zero(label, differences, random, decimals=decimals)


def _above_combined(
    results: SignnetResults, quantity: str, part: Part, first: str, second: str
) -> Statement:
    """Tests the unweighted mean of the data sets' mean differences; each is drawn on its own."""
    label = label_of(first, second)
    found = _finite_pairs(results, quantity, part, first, second)
    if isinstance(found, str):
        return open_statement(label, found)
    differences = {dataset: one - other for dataset, (one, other) in found.items()}
    draws = [
        paired.resampled_means(
            one[:, None], results.random(quantity, COMBINED, dataset, first, second)
        )[:, 0]
        for dataset, one in differences.items()
    ]
    mean = float(np.mean([one.mean() for one in differences.values()]))
    n = min(one.size for one in differences.values())
    return between(label, mean, np.mean(draws, axis=0), 0, np.inf, n=n, decimals=3)


def _finite_pairs(
    results: SignnetResults, quantity: str, part: Part, first: str, second: str
) -> dict[str, tuple[np.ndarray, np.ndarray]] | str:
    """Returns both models' values on each data set of a part, or why there are not all."""
    pairs = {}
    for dataset in part.datasets:
        found = pair(results, quantity, dataset, first, second)
        if isinstance(found, str):
            return found
        if not np.isfinite(found).all():
            return f"points of {heading(dataset)} have no adversarial example"
        pairs[dataset] = found
    return pairs


def ratio_of_combined(
    results: SignnetResults, quantity: str, part: Part, first: str, second: str, span: Span
) -> Statement:
    """Tests whether the ratio of two models' combined averages lies within ``span``."""
    label = f"{model_label(first)} over {model_label(second)}, ratio of the combined averages"
    found = _finite_pairs(results, quantity, part, first, second)
    if isinstance(found, str):
        return open_statement(label, found)
    means, draws = np.zeros(2), np.zeros(2)
    for dataset, both in found.items():
        random = results.random(quantity, COMBINED, dataset, first, second, "ratio")
        means = means + np.mean(both, axis=1) / len(found)
        draws = draws + paired.resampled_means(np.column_stack(both), random) / len(found)
    if not draws[:, 1].all():
        return open_statement(label, "the second average can be 0")
    n = min(len(both[0]) for both in found.values())
    ratios = draws[:, 0] / draws[:, 1]
    return between(label, means[0] / means[1], ratios, *span, n=n, decimals=2)


def more_accurate(results: SignnetResults, dataset: str, first: str, second: str) -> Statement:
    """Tests whether a model's accuracy is above another's, on the same test points."""
    return accuracy_gap(results, dataset, first, second, (0.0, np.inf), label_of(first, second))


def accuracy_gap(
    results: SignnetResults, dataset: str, first: str, second: str, span: Span, label: str
) -> Statement:
    """Tests whether the first model's accuracy minus the second's (percent points) is in a span."""
    found = pair(results, "correct", dataset, first, second)
    if isinstance(found, str):
        return open_statement(label, found)
    gaps = 100 * (found[0] - found[1])
    random = results.random("correct", dataset, first, second)
    draws = paired.resampled_means(gaps[:, None], random)[:, 0]
    return between(label, float(gaps.mean()), draws, *span, n=gaps.size, decimals=2, unit=" points")


def not_far_behind(
    results: SignnetResults, part: Part, dataset: str, leader: str, others: Sequence[str]
) -> Statement:
    """Tests that models are behind the leader by no more than the largest such printed gap."""
    margin = printed_gap(results.published, part, dataset, leader, others)
    return all_of(
        accuracy_gap(
            results,
            dataset,
            leader,
            model,
            (-np.inf, margin),
            f"{model_label(model)} at most {margin:.1f} points behind {article_of(leader)}",
        )
        for model in others
    )


def printed_gap(
    published: Mapping[tuple[str, str, str], float],
    part: Part,
    dataset: str,
    leader: str,
    others: Sequence[str],
) -> float:
    """Returns the largest printed gap, in percent points, of these models behind the leader."""
    numbers = {model: published[part.accuracy_table, dataset, model] for model in (leader, *others)}
    return max(numbers[leader] - numbers[model] for model in others)


def article_of(model: str) -> str:
    """Returns a model's name within a sentence ("the CNN", "ResNet18")."""
    return f"the {model}" if model.isupper() else model


# --- joined comparisons -----------------------------------------------------------------


def each_above_each(above: Above, firsts: Iterable[str], seconds: Iterable[str]) -> Statement:
    """Returns the statement that each of ``firsts`` is above each of ``seconds``."""
    return all_of(above(first, second) for first in firsts for second in tuple(seconds))


def sign_networks_above_all(part: Part, above: Above) -> Statement:
    """Returns the statement that both sign networks are above every other model of a part."""
    return each_above_each(above, SIGN_NETWORKS, rivals(part))


def a_sign_network_above_all(part: Part, above: Above) -> Statement:
    """Returns the statement that one sign network is above every other model of a part."""
    return any_of(each_above_each(above, (model,), rivals(part)) for model in SIGN_NETWORKS)


def scdce_above_all(part: Part, above: Above) -> Statement:
    """Returns the statement that SCDCE is above every other model of a part."""
    return each_above_each(above, ("SCDCE",), ("SCD01", *rivals(part)))


def judge_distances(
    test: Callable[[Part, Above], Statement], part: Part, results: SignnetResults, dataset: str
) -> Finding:
    """Tests the printed kind of distance, with a note where that at the boundary says otherwise."""
    printed, boundary = (
        test(part, partial(above, results, quantity, part, dataset))
        for quantity in (PRINTED_DISTANCE, BOUNDARY_DISTANCE)
    )
    return on_distances(printed, boundary, results, part, dataset)


def on_distances(
    printed: Statement, boundary: Statement, results: SignnetResults, part: Part, dataset: str
) -> Finding:
    """Returns the finding on the printed kind of distance, with a note if the other differs."""
    other = verdict_of(boundary)
    note = f"by the distances at the boundary: {other}"
    return Finding(
        printed,
        results.points(PRINTED_DISTANCE, dataset, part),
        results.trainings(dataset, part),
        notes=() if other == verdict_of(printed) else (note,),
    )


def finding(
    statement: Statement, results: SignnetResults, quantity: str, part: Part, dataset: str
) -> Finding:
    """Returns a statement with the points and trainings behind it."""
    points, trainings = results.points(quantity, dataset, part), results.trainings(dataset, part)
    return Finding(statement, points, trainings)


def sentence_on_distances(
    published: pd.DataFrame,
    name: str,
    quote: str,
    where: str,
    tested: str,
    test: Callable[[Part, Above], Statement],
    datasets: tuple[str, ...],
    combines: tuple[str, ...] = (),
) -> Claim:
    """Returns the claim of a sentence about mean distances.

    Args:
        published: the study's numbers.
        name, quote, where, tested, datasets, combines: as in
            :class:`medrobust.reporting.claims.Claim`; beside :data:`COMBINED` there may only be
            data sets of one part.
        test: (part, above) -> the statement.
    """

    def part(dataset: str) -> Part:
        return part_of((*combines, *datasets)[0] if dataset == COMBINED else dataset)

    def in_print(dataset: str) -> Statement:
        own = part(dataset)
        return test(own, partial(printed_above, published, own.distance_table, dataset))

    return Claim(
        name=name,
        quote=quote,
        where=where,
        tested=tested,
        judge=lambda results, dataset: judge_distances(test, part(dataset), results, dataset),
        datasets=datasets,
        combines=combines,
        printed=in_print,
    )


# --- the printed numbers ----------------------------------------------------------------


def printed_numbers(published: pd.DataFrame, table: str, dataset: str) -> tuple[pd.Series, float]:
    """Returns the printed averages of a data set by model, and the unit of their last digit."""
    part = averages(published)
    part = part[(part["table"] == table) & (part["dataset"] == dataset)]
    return part.set_index("method")["value"], 10.0 ** -int(part["decimals"].iloc[0])


def printed_above(
    published: pd.DataFrame, table: str, dataset: str, first: str, second: str
) -> Statement:
    """Returns whether a printed average is above another, rounding allowed for."""
    values, unit = printed_numbers(published, table, dataset)
    difference = values[first] - values[second]
    # Each stands for all that rounds to it: the difference is known to one unit either way.
    return printed_between(
        label_of(first, second), difference - unit, difference + unit, 0.0, np.inf
    )


def printed_ratio(
    published: pd.DataFrame, table: str, dataset: str, first: str, second: str, span: Span
) -> Statement:
    """Returns whether the ratio of two printed averages lies within ``span``."""
    values, unit = printed_numbers(published, table, dataset)
    lowest, highest = (
        (values[first] + sign * unit / 2) / (values[second] - sign * unit / 2) for sign in (-1, 1)
    )
    label = f"{model_label(first)} over {model_label(second)}"
    return printed_between(label, lowest, highest, *span)
