"""Tables III and IV and Figure 2 of the sign-network paper (Yang et al. 2020), from records.

Each builder takes the files of a run and a context, and writes one artefact with all rows and
columns of the paper: what was not run says "not run". Models and data sets that the paper
does not have stand apart from it. Published distances are the attack's unprojected final
iterates, so these are what is compared; the distances after projection to the decision
boundary, which are the better estimates, are printed beside them.

Tables I and II (images) need data and models that this module does not draw yet; their
printed averages are checked by :func:`build_printed_averages`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medrobust import artefacts, io, seeds
from medrobust.artefacts import NOT_RUN, Panel, RunContext, number, with_interval
from medrobust.errors import InputError
from medrobust.evaluation import statistics
from medrobust.evaluation.attack_runs import AttackFiles
from medrobust.evaluation.comparison import read_published
from medrobust.evaluation.consistency import PrintedMean, build_consistency
from medrobust.evaluation.convergence import build_convergence
from medrobust.evaluation.effort_table import build_effort
from medrobust.plotting import model_label
from medrobust.studies import Request, shared
from medrobust.studies.shared import MITBIH_SAMPLING_RATE, ROW_COLUMNS, plain

if TYPE_CHECKING:
    import pandas as pd

STUDY = "signnet"
MODELS = ("SCD01", "SCDCE", "BNN", "MLP", "CNN", "RandomForest")
DATASETS = ("PTBD", "MIT-BIH")
COMBINED = "combined"
#: Points that the paper attacked (section III.B).
PAPER_POINTS = {"PTBD": 37, "MIT-BIH": 21}
DISTANCE_METRIC = "min_L2_distortion_avg"
ACCURACY_METRIC = "accuracy_pct"

#: How data sets are printed; names that are not here are printed as they are.
DATASET_LABELS = {
    "ptbd": "PTBD",
    "mitbih": "MIT-BIH",
    "mitbih_ns": "MIT-BIH, N against S",
    "mitbih_patient": "MIT-BIH, split by patient",
}
#: Samples per second of the PTB heartbeats: every eighth of 1,000 per second (docs/data-ptbdb.md).
PTBD_SAMPLING_RATE = 125.0

_IMAGES = tuple(f"min_L2_distortion_image{i}" for i in range(5))
_IMAGE_DATASETS = ("chest_xray", "colorectal_histology")
#: The averages that Tables II and IV print beside their terms. Table II's combined average
#: has two readings, from the printed averages and from the ten images.
PRINTED_MEANS = (
    PrintedMean(
        name="average of the five images",
        table="II",
        over=("metric",),
        terms=tuple((image,) for image in _IMAGES),
        target=(DISTANCE_METRIC,),
    ),
    PrintedMean(
        name="combined average, from the printed averages",
        table="II",
        over=("dataset",),
        terms=tuple((dataset,) for dataset in _IMAGE_DATASETS),
        target=(COMBINED,),
        where={"metric": DISTANCE_METRIC},
    ),
    PrintedMean(
        name="combined average, from the ten images",
        table="II",
        over=("dataset", "metric"),
        terms=tuple((dataset, image) for dataset in _IMAGE_DATASETS for image in _IMAGES),
        target=(COMBINED, DISTANCE_METRIC),
    ),
    PrintedMean(
        name="combined average",
        table="IV",
        over=("dataset",),
        terms=tuple((dataset,) for dataset in DATASETS),
        target=(COMBINED,),
    ),
)


def sampling_rate(dataset: str) -> float:
    """Returns the samples per second of a printed data set's heartbeats."""
    return PTBD_SAMPLING_RATE if dataset == "PTBD" else MITBIH_SAMPLING_RATE


def remark(dataset: str, source: str) -> str:
    """Returns what a reader must know of the data behind a number, "" if nothing.

    Args:
        dataset: as printed, or "combined".
        source: of the data; those of several data sets joined by "+", PTBD's first.
    """
    if dataset in ("PTBD", COMBINED) and source.split("+")[0] == "physionet":
        return "PTBD's heartbeats were cut anew from the records: not the rows of the paper"
    return ""


@dataclass(frozen=True)
class CleanInput:
    """Clean results of one model on one data set.

    Attributes:
        dataset: key of the data set, or its printed name.
        model: the model's name in the paper, or a name of one's own.
        source: where the data came from (:data:`medrobust.artefacts.SOURCES`).
        summary: path of ``clean.json``.
        replicate: number of the replicate.
    """

    dataset: str
    model: str
    source: str
    summary: str
    replicate: int = 0


@dataclass(frozen=True)
class AttackInput:
    """Attack records of one model on one data set.

    Attributes:
        dataset, model, source, replicate: as in :class:`CleanInput`.
        chunks: paths of the records (``chunk<k>.parquet``).
        arrays: paths of the arrays beside them (``chunk<k>.safetensors``), for figures.
    """

    dataset: str
    model: str
    source: str
    chunks: Sequence[str]
    arrays: Sequence[str] = ()
    replicate: int = 0


def dataset_label(name: str) -> str:
    """Returns how a data set is printed ("mitbih" as "MIT-BIH")."""
    return DATASET_LABELS.get(name, name)


# --- Table III --------------------------------------------------------------------------


def build_table3(
    inputs: Sequence[CleanInput],
    published: str | os.PathLike[str],
    out_stem: str | os.PathLike[str],
    context: RunContext,
) -> list[Path]:
    """Writes Table III, accuracy on the ECG test sets: published, ensemble, members.

    The paper's "average accuracy" may mean the ensemble's or the mean of its members; both
    are printed, the ensemble's is the one compared.

    Args:
        inputs: clean results that exist, of any models and data sets.
        published: the file of published numbers.
        out_stem: path without suffix.
        context: the run.

    Returns:
        The files written.

    Raises:
        InputError: a summary is missing, incomplete or out of range, or two inputs are the
            same model, data set and replicate.
    """
    groups = grouped(inputs)
    sources = sources_of(inputs)
    frame = _accuracy_rows(groups, sources, read_published(published, STUDY), context)
    tests = frame.loc[frame["status"] != NOT_RUN].groupby("dataset", sort=False)["n"].first()
    n = "; ".join(f"{name}: {int(size):,} test points" for name, size in tests.items())
    return artefacts.write_table_artefact(
        out_stem,
        frame,
        title="Table III. Accuracy on the ECG test sets",
        caption=(
            "Accuracy in percent. Published: as printed. Ensemble: the vote of all members, with "
            "its 95 % interval. Members: mean and standard deviation of the single members."
        ),
        context=context,
        sources=sources,
        n=n or "nothing was run",
        budget="none (clean test points)",
        notes=_notes(frame),
        panels=_accuracy_panels(frame),
        inputs=[published, *(item.summary for item in inputs)],
    )


def _accuracy_rows(
    groups: Mapping[tuple[str, str], Sequence[Any]],
    sources: Mapping[str, str],
    published: pd.DataFrame,
    context: RunContext,
) -> pd.DataFrame:
    import pandas as pd

    printed = _printed_values(published, "III")
    rows = []
    for dataset, model in cells_of(groups):
        row = _row("III", dataset, model, ACCURACY_METRIC, printed, context)
        items = groups.get((dataset, model))
        if items:
            random = seeds.generator(context.seed, "bootstrap", STUDY, "III", dataset, model)
            row.update(_accuracy(items, random), source=sources[dataset], status="reproduced")
            if row["published"] is not None:
                row["difference"] = row["reproduced"] - row["published"]
        rows.append(row)
    columns = [*ROW_COLUMNS, *_ACCURACY_COLUMNS]
    return _typed(pd.DataFrame(rows, columns=columns))


_ACCURACY_COLUMNS = (
    "member_accuracy_mean",
    "member_accuracy_std",
    "members",
    "vote",
    "interval",
)


def _accuracy(items: Sequence[CleanInput], random: np.random.Generator) -> dict[str, Any]:
    summaries = [_read_summary(item) for item in items]
    sizes = {summary["n_test"] for summary in summaries}
    if len(sizes) > 1:
        raise InputError(
            f"The replicates were tested on different numbers of points: {sorted(sizes)}.",
            where=f"{items[0].model} on {items[0].dataset}",
        )
    n = sizes.pop()
    successes = [summary["right"] for summary in summaries]
    estimate = statistics.accuracy_estimate(successes, n, generator=random)
    means = [summary.get("member_accuracy_mean") for summary in summaries]
    spreads = [summary.get("member_accuracy_std") for summary in summaries]
    return {
        "reproduced": 100 * estimate.value,
        "ci_low": None if estimate.ci_low is None else 100 * estimate.ci_low,
        "ci_high": None if estimate.ci_high is None else 100 * estimate.ci_high,
        "n": n,
        "replicates": estimate.replicates,
        "member_accuracy_mean": None if None in means else 100 * float(np.mean(means)),
        "member_accuracy_std": None if None in spreads else 100 * float(np.mean(spreads)),
        "members": summaries[0].get("members"),
        "vote": summaries[0].get("vote"),
        "interval": estimate.basis,
    }


def _read_summary(item: CleanInput) -> dict[str, Any]:
    if not Path(item.summary).is_file():
        raise InputError("This summary of clean results does not exist.", where=str(item.summary))
    summary = io.read_json(item.summary)
    for name in ("n_test", "ensemble_accuracy"):
        if not isinstance(summary.get(name), int | float):
            raise InputError(f"The clean results lack {name!r}.", where=str(item.summary))
    mean = summary.get("member_accuracy_mean")
    if mean is not None and not 0 <= mean <= 1:
        raise InputError(
            f"An accuracy of {mean} is not a fraction in [0, 1].", where=str(item.summary)
        )
    right = shared.counted_right(
        summary["ensemble_accuracy"], summary["n_test"], "test points", str(item.summary)
    )
    return summary | {"right": right}


def _accuracy_panels(frame: pd.DataFrame) -> list[Panel]:
    def cells(row: Mapping[str, Any]) -> dict[str, str]:
        ran = row["status"] != NOT_RUN
        members = with_spread(row["member_accuracy_mean"], row["member_accuracy_std"])
        return {
            "published": number(row["published"], 1),
            "ensemble [95 %]": with_interval(row["reproduced"], row["ci_low"], row["ci_high"], 2)
            if ran
            else NOT_RUN,
            "members": (f"{members} ({int(row['members'])})" if row["members"] else members)
            if ran
            else NOT_RUN,
            "n test": f"{int(row['n']):,}" if ran else "–",
        }

    return _panels(frame, cells)


def with_spread(mean: float | None, spread: float | None) -> str:
    """Returns "mean ± spread" in percent points; "–" where there is no mean."""
    text = number(mean, 2)
    return text if text == "–" or number(spread, 2) == "–" else f"{text} ± {number(spread, 2)}"


# --- Table IV ---------------------------------------------------------------------------


def build_table4(
    inputs: Sequence[AttackInput],
    published: str | os.PathLike[str],
    out_stem: str | os.PathLike[str],
    context: RunContext,
    attack: str,
) -> list[Path]:
    """Writes Table IV, the average minimum L2 distance over the attacked points.

    Args:
        inputs: attack records that exist, of any models and data sets.
        published: the file of published numbers.
        out_stem: path without suffix.
        context: the run.
        attack: the attack and its budget in words
            (:func:`medrobust.artefacts.describe_attack`).

    Returns:
        The files written.

    Raises:
        InputError: records are missing or contradict themselves, or two inputs are the same
            model, data set and replicate.
    """
    groups = grouped(inputs)
    sources = sources_of(inputs)
    points = {key: [_points_of(item) for item in items] for key, items in groups.items()}
    frame = _distance_rows(points, sources, read_published(published, STUDY), context)
    return artefacts.write_table_artefact(
        out_stem,
        frame,
        title="Table IV. Average minimum L2 distance of adversarial ECGs",
        caption=(
            "Mean over points of the smallest L2 distance over the restarts, with its 95 % "
            "bootstrap interval. As printed: the attack's last iterate, as the paper reports it. "
            "At the boundary: after projection to the decision boundary. Combined average: the "
            "unweighted mean of the paper's two data sets."
        ),
        context=context,
        sources=sources,
        n=_attacked(frame),
        budget=attack,
        notes=[*_notes(frame), *_distance_notes(frame, points)],
        panels=_distance_panels(frame),
        inputs=[published, *(path for item in inputs for path in item.chunks)],
    )


def _points_of(item: AttackInput) -> pd.DataFrame:
    """Returns the points of one model with their smallest distances, sorted by point."""
    return statistics.point_distances(item.chunks)


_DISTANCE_COLUMNS = (
    "projected",
    "projected_ci_low",
    "projected_ci_high",
    "median",
    "projected_median",
    "lower_bound",
    "censored",
    "misclassified",
    "restarts",
    "iterations",
    "queries_per_point",
    "interval",
)


def _distance_rows(
    points: Mapping[tuple[str, str], Sequence[pd.DataFrame]],
    sources: Mapping[str, str],
    published: pd.DataFrame,
    context: RunContext,
) -> pd.DataFrame:
    import pandas as pd

    printed = _printed_values(published, "IV")
    cells = cells_of(points)
    rows = []
    for dataset, model in cells:
        row = _row("IV", dataset, model, DISTANCE_METRIC, printed, context)
        frames = points.get((dataset, model))
        if frames:
            row.update(_distances(frames, dataset, model, context), source=sources[dataset])
        rows.append(row)
    for model in dict.fromkeys(model for _, model in cells):
        row = _row("IV", COMBINED, model, DISTANCE_METRIC, printed, context)
        parts = [points.get((dataset, model)) for dataset in DATASETS]
        if all(parts):
            named = "+".join(dict.fromkeys(sources[dataset] for dataset in DATASETS))
            row.update(_combined(parts, model, context), source=named)
        rows.append(row)
    for row in rows:
        if row["reproduced"] is not None and row["published"] is not None:
            row["difference"] = row["reproduced"] - row["published"]
    return _typed(pd.DataFrame(rows, columns=[*ROW_COLUMNS, *_DISTANCE_COLUMNS]))


def _distances(
    frames: Sequence[pd.DataFrame], dataset: str, model: str, context: RunContext
) -> dict[str, Any]:
    if len(frames) < statistics.MIN_REPLICATES and any(
        list(frame["point_id"]) != list(frames[0]["point_id"]) for frame in frames
    ):
        raise InputError(
            "The replicates attacked different points.",
            where=f"{model} on {dataset}",
            remedy="attack one cohort in all replicates, or run at least "
            f"{statistics.MIN_REPLICATES} of them.",
        )

    def summaries(column: str) -> tuple[statistics.Estimate, statistics.Estimate]:
        values = [frame[column].to_numpy(float) for frame in frames]
        names = ("bootstrap", STUDY, "IV", dataset, model, column)
        mean = statistics.mean_estimate(values, generator=seeds.generator(context.seed, *names))
        random = seeds.generator(context.seed, *names, "median")
        return mean, statistics.median_estimate(values, generator=random)

    final, final_median = summaries("l2_final_iterate")
    projected, projected_median = summaries("l2")
    queries = np.concatenate([frame["queries"].to_numpy(float) for frame in frames])
    wrong = sum(int((frame["clean_prediction"] != frame["label"]).sum()) for frame in frames)
    return {
        **_estimate_columns(final),
        "projected": projected.value,
        "projected_ci_low": projected.ci_low,
        "projected_ci_high": projected.ci_high,
        "median": final_median.value,
        "projected_median": projected_median.value,
        "misclassified": wrong,
        "restarts": _span([frame["restarts"] for frame in frames]),
        "iterations": _span([frame["iterations"] for frame in frames]),
        "queries_per_point": float(queries.mean()),
    }


def _combined(
    parts: Sequence[Sequence[pd.DataFrame]], model: str, context: RunContext
) -> dict[str, Any]:
    def estimate(column: str) -> statistics.Estimate:
        groups = [[frame[column].to_numpy(float) for frame in part] for part in parts]
        random = seeds.generator(context.seed, "bootstrap", STUDY, "IV", COMBINED, model, column)
        return statistics.mean_of_means_estimate(groups, generator=random)

    projected = estimate("l2")
    return {
        **_estimate_columns(estimate("l2_final_iterate")),
        "projected": projected.value,
        "projected_ci_low": projected.ci_low,
        "projected_ci_high": projected.ci_high,
    }


def _estimate_columns(estimate: statistics.Estimate) -> dict[str, Any]:
    status = "reproduced"
    if estimate.value is None:
        attacked = estimate.n * estimate.replicates
        status = f"censored: {estimate.censored} of {attacked} points have no adversarial example"
    return {
        "reproduced": estimate.value,
        "ci_low": estimate.ci_low,
        "ci_high": estimate.ci_high,
        "n": estimate.n,
        "replicates": estimate.replicates,
        "censored": estimate.censored,
        "lower_bound": estimate.lower_bound,
        "interval": estimate.basis,
        "status": status,
    }


def _span(columns: Sequence[pd.Series]) -> str:
    values = np.concatenate([column.to_numpy() for column in columns])
    low, high = int(values.min()), int(values.max())
    return str(low) if low == high else f"{low} to {high}"


def _attacked(frame: pd.DataFrame) -> str:
    ran = frame[(frame["status"] != NOT_RUN) & (frame["dataset"] != COMBINED)]
    parts = []
    for dataset, part in ran.groupby("dataset", sort=False):
        sizes = sorted(set(part["n"].astype(int)))
        words = " or ".join(str(size) for size in sizes)
        parts.append(f"{dataset}: {words} {'point' if sizes == [1] else 'points'}")
    return "; ".join(parts) or "nothing was run"


def _distance_notes(
    frame: pd.DataFrame, points: Mapping[tuple[str, str], Sequence[pd.DataFrame]]
) -> list[str]:
    notes = []
    for dataset in dict.fromkeys(dataset for dataset, _ in points):
        sets = {
            tuple(one["point_id"])
            for (name, _), frames in points.items()
            if name == dataset
            for one in frames
        }
        if len(sets) > 1:
            notes.append(f"{dataset}: not all models were attacked on the same points.")
        sizes = {len(ids) for ids in sets}
        if dataset in PAPER_POINTS and sizes != {PAPER_POINTS[dataset]}:
            words = " and ".join(str(size) for size in sorted(sizes))
            notes.append(f"{dataset}: {words} points here, {PAPER_POINTS[dataset]} in the paper.")
    outside = sum(int(one["box_violation"].sum()) for part in points.values() for one in part)
    if outside:
        notes.append(f"{outside} adversarial points leave the range of the data.")
    if (frame["censored"] > 0).any():
        notes.append(
            "Where every restart failed at some point, the mean is not defined: the least that "
            "it can be is printed, with the number of such points (censored)."
        )
    if (frame["misclassified"] > 0).any():
        notes.append("Points that a model misclassifies without attack count as distance 0.")
    return notes


def _distance_panels(frame: pd.DataFrame) -> list[Panel]:
    def cells(row: Mapping[str, Any]) -> dict[str, str]:
        ran = row["status"] != NOT_RUN
        shown = {
            "published": number(row["published"], 2),
            "as printed [95 %]": _distance_text(row, "") if ran else NOT_RUN,
            "at the boundary [95 %]": _distance_text(row, "projected") if ran else NOT_RUN,
        }
        return shown

    return [*_panels(frame, cells, COMBINED), *_effort_panel(frame)]


def _distance_text(row: Mapping[str, Any], which: str) -> str:
    value, low, high = (
        (row["projected"], row["projected_ci_low"], row["projected_ci_high"])
        if which
        else (row["reproduced"], row["ci_low"], row["ci_high"])
    )
    if number(value, 3) != "–":
        return with_interval(value, low, high, 3)
    # The bound is the unprojected mean's, so it says nothing about the projected one.
    return "undefined" if which else f"≥ {number(row['lower_bound'], 3)}"


def _effort_panel(frame: pd.DataFrame) -> list[Panel]:
    import pandas as pd

    ran = frame[(frame["status"] != NOT_RUN) & (frame["dataset"] != COMBINED)]
    if ran.empty:
        return []
    rows = [
        {
            "model": model_label(row["method"]),
            "data set": marked(row["dataset"], frame, row["dataset"]),
            "n": str(int(row["n"])),
            "replicates": str(int(row["replicates"])),
            "misclassified": str(int(row["misclassified"])),
            "censored": str(int(row["censored"])),
            "restarts": row["restarts"],
            "iterations": row["iterations"],
            "queries per point": f"{row['queries_per_point']:,.0f}",
        }
        for row in ran.to_dict("records")
    ]
    return [Panel(pd.DataFrame(rows), title="What the attack spent")]


# --- Figure 2 ---------------------------------------------------------------------------


@dataclass(frozen=True)
class _Trace:
    """What one panel of Figure 2 shows; ``adversarial`` is None where there is none."""

    model: str
    adversarial: np.ndarray | None
    distance: float
    distance_at_boundary: float
    prediction: int
    remark: str = ""


def build_figure2(
    inputs: Sequence[AttackInput],
    out_stem: str | os.PathLike[str],
    context: RunContext,
    attack: str,
    cohort: Sequence[int],
    *,
    point_id: int | None = None,
    class_names: Sequence[str] = (),
    not_run: Sequence[str] | None = None,
) -> list[Path]:
    """Writes Figure 2: one heartbeat and its adversarial version for each model.

    Args:
        inputs: attack records with arrays of the models to show, all on one data set, one
            replicate.
        out_stem: path without suffix.
        context: the run.
        attack: the attack and its budget in words.
        cohort: the attacked points in their seeded order.
        point_id: the point to show; by default the first of the cohort.
        class_names: names of the classes, for the predictions in the panel titles.
        not_run: models that the caption lists as not run; by default the paper's others.

    Returns:
        The files written.

    Raises:
        InputError: no input, several data sets or replicates, an unknown point, or arrays
            that disagree with the records.
    """
    from medrobust import plotting

    groups = grouped(inputs)
    if not groups:
        raise InputError("Figure 2 needs the attack on at least one model.")
    datasets = list(dict.fromkeys(dataset for dataset, _ in groups))
    if len(datasets) > 1 or any(len(items) > 1 for items in groups.values()):
        raise InputError("Figure 2 shows one data set and one replicate.", where=str(datasets))
    point = _chosen(point_id, cohort)
    ordered = [groups[key][0] for key in cells_of(groups) if key in groups]
    label, x, traces = _read_traces(ordered, point)
    with plotting.style():
        rate = sampling_rate(datasets[0])
        figure = _draw_heartbeats(x, label, traces, class_names, rate)
        rest = [model for model in MODELS if (datasets[0], model) not in groups]
        return artefacts.write_figure_artefact(
            out_stem,
            figure,
            _drawn(x, traces, rate),
            title=f"Figure 2. One heartbeat of {datasets[0]} and its adversarial versions",
            caption=_figure2_caption(
                point,
                point_id is None,
                label,
                class_names,
                rest if not_run is None else not_run,
                rate,
            ),
            context=context,
            sources=sources_of(inputs),
            n=f"1 of {len(cohort)} attacked points",
            budget=attack,
            notes=[trace.remark for trace in traces if trace.remark],
            inputs=[path for item in ordered for path in (*item.chunks, *item.arrays)],
        )


def _chosen(point_id: int | None, cohort: Sequence[int]) -> int:
    if not len(cohort):
        raise InputError("The cohort has no points.")
    if point_id is None:
        return int(cohort[0])
    if point_id not in set(cohort):
        raise InputError(
            f"Point {point_id} is not among the {len(cohort)} attacked points.",
            remedy="leave the point out to show the first of the cohort.",
        )
    return int(point_id)


def _figure2_caption(
    point: int,
    first: bool,
    label: int,
    class_names: Sequence[str],
    not_run: Sequence[str],
    rate: float,
) -> str:
    choice = (
        "the first of the cohort in its seeded random order" if first else "chosen by its number"
    )
    others = f" Not run: {', '.join(model_label(name) for name in not_run)}." if not_run else ""
    return (
        f"Test point {point} (class {_class(label, class_names)}), {choice}. Grey: the original; "
        "coloured: the attack's last iterate of its best restart, as the paper shows it, with its "
        "L2 distance to the original and, in brackets, the distance after projection to the "
        "decision boundary, and the class that the model then sees; below, adversarial minus "
        "original, on one scale for all models. Amplitudes are scaled to [0, 1] per heartbeat; "
        f"time at {rate:g} samples per second."
        f"{others}"
    )


def _class(label: int, class_names: Sequence[str]) -> str:
    return str(class_names[label]) if 0 <= label < len(class_names) else str(label)


def _read_traces(items: Sequence[AttackInput], point: int) -> tuple[int, np.ndarray, list[_Trace]]:
    """Returns the point's label, its signal, and the trace of each model."""
    label, x, traces = None, None, []
    for item in items:
        points = _points_of(item).set_index("point_id")
        if point not in points.index:
            raise InputError(f"{item.model} was not attacked at point {point}.")
        row = points.loc[point]
        arrays = _read_arrays(item, point)
        if x is None:
            label, x = int(row["label"]), arrays["x"]
        elif not np.array_equal(x, arrays["x"]) or label != int(row["label"]):
            raise InputError(
                f"The models disagree about the original of point {point}.", where=item.model
            )
        traces.append(_trace(item.model, row, arrays, point))
    return label, x, traces


def _read_arrays(item: AttackInput, point: int) -> dict[str, np.ndarray]:
    for path in item.arrays:
        if not Path(path).is_file():
            raise InputError("This file of adversarial arrays does not exist.", where=str(path))
        tensors = io.read_tensors(path)
        missing = {"point_id", "x", "x_adv", "x_final_iterate"} - set(tensors)
        if missing:
            raise InputError(f"Arrays are missing: {', '.join(sorted(missing))}.", where=str(path))
        found = np.flatnonzero(tensors["point_id"] == point)
        if found.size:
            return {
                name: tensors[name][found[0]].reshape(-1).astype(np.float64)
                for name in ("x", "x_adv", "x_final_iterate")
            }
    raise InputError(
        f"The adversarial arrays of point {point} are missing.",
        where=item.model,
        remedy="run the attack again with its arrays kept.",
    )


def _trace(model: str, row: pd.Series, arrays: Mapping[str, np.ndarray], point: int) -> _Trace:
    name = model_label(model)
    if row["clean_prediction"] != row["label"]:
        remark = f"{name}: misclassified without attack."
        return _Trace(model, None, 0.0, 0.0, int(row["clean_prediction"]), remark)
    if not np.isfinite(row["l2"]):
        remark = f"{name}: no adversarial example in {int(row['restarts'])} restarts."
        return _Trace(model, None, np.inf, np.inf, -1, remark)
    if not np.isfinite(arrays["x_adv"]).all():
        raise InputError(f"The adversarial array of point {point} is not finite.", where=model)
    final = float(np.linalg.norm(arrays["x_final_iterate"] - arrays["x"]))
    projected = float(np.linalg.norm(arrays["x_adv"] - arrays["x"]))
    # Equal where the arrays are those of the best restart; the last iterate of another
    # restart may be nearer, never the one drawn.
    agrees = np.isclose(projected, row["l2"], rtol=1e-3, atol=1e-6)
    lost = not np.isfinite(row["l2_final_iterate"])
    nearer = final < row["l2_final_iterate"] * (1 - 1e-3) - 1e-6
    if not agrees or (nearer and not lost):
        raise InputError(
            f"Arrays and records disagree at point {point}: distances {projected:.6g} and "
            f"{row['l2']:.6g}.",
            where=model,
            remedy="run the attack again.",
        )
    prediction = int(row["adversarial_prediction"])
    if lost or not np.isfinite(final):
        remark = f"{name}: no last iterate is adversarial; drawn is the projected point."
        return _Trace(model, arrays["x_adv"], projected, projected, prediction, remark)
    return _Trace(model, arrays["x_final_iterate"], final, projected, prediction)


def _drawn(x: np.ndarray, traces: Sequence[_Trace], rate: float) -> pd.DataFrame:
    import pandas as pd

    samples = np.arange(x.size)
    frames = []
    for trace in traces:
        adversarial = np.full(x.size, np.nan) if trace.adversarial is None else trace.adversarial
        frames.append(
            pd.DataFrame(
                {
                    "model": trace.model,
                    "sample": samples,
                    "time_s": samples / rate,
                    "original": x,
                    "adversarial": adversarial,
                    "difference": adversarial - x,
                    "distance": trace.distance,
                    "distance_at_boundary": trace.distance_at_boundary,
                    "prediction": trace.prediction,
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def _draw_heartbeats(
    x: np.ndarray, label: int, traces: Sequence[_Trace], class_names: Sequence[str], rate: float
) -> Any:
    """Draws the original and one panel per model, each over its difference trace."""
    from medrobust import plotting

    panels = len(traces) + 1
    columns = min(panels, 3 if panels != 4 else 2)
    rows = -(-panels // columns)
    figure = plotting.new_figure(plotting.DOUBLE_COLUMN, 0.4 + 2.1 * rows)
    heights = [3.0, 1.3] * rows
    grid = figure.add_gridspec(2 * rows, columns, height_ratios=heights)
    time = np.arange(x.size) / rate
    everything = np.concatenate([x, *(t.adversarial for t in traces if t.adversarial is not None)])
    margin = 0.06 * max(float(np.ptp(everything)), 1e-6)
    signal_limits = (float(everything.min()) - margin, float(everything.max()) + margin)
    largest = max(
        (float(np.abs(t.adversarial - x).max()) for t in traces if t.adversarial is not None),
        default=0.0,
    )
    difference_limit = 1.15 * largest or 1.0
    for position in range(panels):
        row, column = divmod(position, columns)
        upper = figure.add_subplot(grid[2 * row, column])
        lower = figure.add_subplot(grid[2 * row + 1, column], sharex=upper)
        trace = traces[position - 1] if position else None
        if trace is None:
            upper.plot(time, x, color=plotting.ORIGINAL, linewidth=1.1)
            upper.set_title(f"Original\nclass {_class(label, class_names)}")
        else:
            _draw_trace(upper, lower, time, x, trace, class_names)
        upper.set_ylim(signal_limits)
        upper.tick_params(labelbottom=False)
        lower.axhline(0.0, color=plotting.MUTED, linewidth=0.5, zorder=1)
        lower.set_ylim(-difference_limit, difference_limit)
        lower.set_xlim(0, time[-1])
        upper.tick_params(labelleft=column == 0)
        lower.tick_params(labelleft=column == 0)
        lower.set_xticks(np.arange(0.0, time[-1], 0.5))
        if column == 0:
            upper.set_ylabel("Amplitude")
            lower.set_ylabel("Change")
        last_of_column = position + columns >= panels
        lower.tick_params(labelbottom=last_of_column)
        if last_of_column:
            lower.set_xlabel("Time (s)")
    figure.align_ylabels()
    return figure


def _draw_trace(
    upper: Any,
    lower: Any,
    time: np.ndarray,
    x: np.ndarray,
    trace: _Trace,
    class_names: Sequence[str],
) -> None:
    from medrobust import plotting

    colour = plotting.model_colour(trace.model)
    name = model_label(trace.model)
    upper.plot(time, x, color="#B5B5B5", linewidth=1.6, zorder=1)
    if trace.adversarial is None:
        text = "misclassified without attack" if trace.distance == 0 else "attack failed"
        upper.set_title(f"{name}\n{text}")
        return
    upper.plot(time, trace.adversarial, color=colour, linewidth=0.9, zorder=2)
    upper.set_title(
        f"{name}\nL₂ {trace.distance:.3f} ({trace.distance_at_boundary:.3f}), "
        f"read as {_class(trace.prediction, class_names)}"
    )
    difference = trace.adversarial - x
    lower.fill_between(time, difference, 0, color=colour, alpha=0.35, linewidth=0)
    lower.plot(time, difference, color=colour, linewidth=0.5, alpha=0.8)


# --- printed averages -------------------------------------------------------------------


def build_printed_averages(
    published: str | os.PathLike[str],
    out_stem: str | os.PathLike[str],
    context: RunContext,
) -> list[Path]:
    """Writes which averages of Tables II and IV do not follow from their printed terms."""
    return build_consistency(STUDY, published, PRINTED_MEANS, out_stem, context)


# --- shared -----------------------------------------------------------------------------

_TEXT_COLUMNS = frozenset({"vote", "interval", "restarts", "iterations"})
_WHOLE_COLUMNS = frozenset({"members", "censored", "misclassified"})


def grouped(inputs: Sequence[Any]) -> dict[tuple[str, str], list[Any]]:
    """Groups inputs by (printed data set, model): :func:`medrobust.studies.shared.grouped`."""
    return shared.grouped(inputs, dataset_label)


def sources_of(inputs: Sequence[Any]) -> dict[str, str]:
    """Returns the source of each printed data set, the paper's first.

    Raises:
        InputError: a source is unknown, or a data set has two.
    """
    return shared.sources_of(inputs, DATASETS, dataset_label)


def cells_of(groups: Mapping[tuple[str, str], Any]) -> list[tuple[str, str]]:
    """Returns (data set, model) of every cell: the paper's, then what was added to it."""
    datasets = [*DATASETS, *dict.fromkeys(d for d, _ in groups if d not in DATASETS)]
    models = [*MODELS, *dict.fromkeys(m for _, m in groups if m not in MODELS)]
    return [(dataset, model) for dataset in datasets for model in models]


def _printed_values(published: pd.DataFrame, table: str) -> dict[tuple[str, str], float]:
    return shared.printed_values(published[published["table"] == table], "dataset", "method")


def _row(
    table: str,
    dataset: str,
    model: str,
    metric: str,
    printed: Mapping[tuple[str, str], float],
    context: RunContext,
) -> dict[str, Any]:
    attacked = metric == DISTANCE_METRIC
    of_paper = dataset in (*DATASETS, COMBINED) and model in MODELS
    row: dict[str, Any] = dict.fromkeys(
        dict.fromkeys((*ROW_COLUMNS, *_ACCURACY_COLUMNS, *_DISTANCE_COLUMNS))
    )
    return row | {
        "table": table,
        "dataset": dataset,
        "method": model,
        "metric": metric,
        "attack": "HopSkipJump" if attacked else "none",
        "norm": "L2" if attacked else "",
        "epsilon": "",
        "origin": "paper" if of_paper else "added",
        "status": NOT_RUN,
        "published": printed.get((dataset, model)),
        "scale": context.scale,
        "protocol": context.protocol,
        "source": "",
    }


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    return shared.typed(frame, _TEXT_COLUMNS, _WHOLE_COLUMNS)


def _notes(frame: pd.DataFrame) -> list[str]:
    notes = []
    bases = dict.fromkeys(text for text in frame["interval"] if text)
    if bases:
        notes.append(f"Intervals: {'; '.join(bases)}.")
    if (frame["status"] == NOT_RUN).any():
        notes.append('"not run": this run has no results of that model on that data set.')
    ran = frame[frame["status"] != NOT_RUN]
    remarks = map(remark, ran["dataset"], ran["source"])
    notes += [f"{text}." for text in dict.fromkeys(remarks) if text]
    return notes


def _panels(frame: pd.DataFrame, cells: Any, *last: str) -> list[Panel]:
    """Returns the paper's data sets as one panel, each added data set as one of its own."""
    datasets = list(dict.fromkeys(frame["dataset"]))
    added = [name for name in datasets if name not in (*DATASETS, *last)]
    panels = [_panel(frame, [*DATASETS, *last], cells, "")]
    panels += [_panel(frame, [name], cells, f"Added, not in the paper: {name}") for name in added]
    return panels


def _panel(frame: pd.DataFrame, datasets: Sequence[str], cells: Any, title: str) -> Panel:
    import pandas as pd

    models = list(dict.fromkeys(frame["method"]))
    by_key = {(row["dataset"], row["method"]): row for row in plain(frame)}
    rows = []
    for model in models:
        row: dict[tuple[str, str], str] = {("", "model"): model_label(model)}
        for dataset in datasets:
            heading = marked("Combined average" if dataset == COMBINED else dataset, frame, dataset)
            if (dataset, model) in by_key:
                shown = cells(by_key[dataset, model])
                row |= {(heading, name): text for name, text in shown.items()}
        rows.append(row)
    added = [position for position, model in enumerate(models) if model not in MODELS]
    table = pd.DataFrame(rows, columns=pd.MultiIndex.from_tuples(list(rows[0])))
    sections = {added[0]: "Added models, not in the paper"} if added else {}
    return Panel(table, title=title, sections=sections)


def marked(text: str, frame: pd.DataFrame, dataset: str) -> str:
    """Returns a heading with a mark if anything below it comes from stand-in data."""
    return shared.marked(text, set(frame.loc[frame["dataset"] == dataset, "source"]))


# --- what the workflow calls --------------------------------------------------------------


def _table3(request: Request) -> list[Path]:
    inputs = [
        CleanInput(e.dataset, e.model, e.source, e.summary, e.replicate) for e in request.entries
    ]
    return build_table3(inputs, request.published, request.out_stem, request.context)


def _attack_inputs(request: Request) -> list[AttackInput]:
    return [
        AttackInput(e.dataset, e.model, e.source, e.records, e.arrays, e.replicate)
        for e in request.entries
    ]


def _attack_text(request: Request) -> str:
    settings = {key: value for key, value in request.attack.items() if key != "name"}
    text = artefacts.describe_attack(request.attack["name"], settings)
    return f"{text}, {request.cohort_rule}" if request.cohort_rule else text


def _table4(request: Request) -> list[Path]:
    return build_table4(
        _attack_inputs(request),
        request.published,
        request.out_stem,
        request.context,
        _attack_text(request),
    )


def _figure2(request: Request) -> list[Path]:
    return build_figure2(
        _attack_inputs(request),
        request.out_stem,
        request.context,
        _attack_text(request),
        io.read_table(request.cohort)["point_id"].tolist(),
        class_names=request.class_names,
    )


def _attack_files(request: Request) -> list[AttackFiles]:
    """Returns the files of every attacked model, the paper's data sets and models first."""
    inputs = _attack_inputs(request)
    groups, sources = grouped(inputs), sources_of(inputs)
    return [
        AttackFiles(
            *key, sources[key[0]], [i.chunks for i in groups[key]], [i.arrays for i in groups[key]]
        )
        for key in cells_of(groups)
        if key in groups
    ]


def _on_effort(request: Request, build: Callable[..., list[Path]]) -> list[Path]:
    files = _attack_files(request)
    remarks = dict.fromkeys(remark(one.dataset, one.source) for one in files)
    return build(
        files,
        request.out_stem,
        request.context,
        _attack_text(request),
        norm=request.attack.get("norm", 2),
        notes=[f"{text}." for text in remarks if text],
    )


def _convergence(request: Request) -> list[Path]:
    return _on_effort(request, build_convergence)


def _effort(request: Request) -> list[Path]:
    return _on_effort(request, build_effort)


# The modules of these two build on this one, so they are imported when asked for.


def _paired(request: Request) -> list[Path]:
    from medrobust.studies.signnet_paired import build_paired

    return build_paired(
        _attack_inputs(request), request.out_stem, request.context, _attack_text(request)
    )


def _claims(request: Request) -> list[Path]:
    from medrobust.studies.signnet_claims import build_signnet_claims

    return build_signnet_claims(request, _attack_text(request))


BUILDERS = {
    "table3": _table3,
    "table4": _table4,
    "figure2": _figure2,
    "convergence": _convergence,
    "effort": _effort,
    "paired": _paired,
    "claims": _claims,
}
