"""Tables I to IV of the sign-network paper (Yang et al. 2020), from records.

Tables I and II are Tables III and IV once more, on images instead of ECG: one pair of builders,
told which half of the paper they draw (:class:`medrobust.studies.signnet.results.Part`).

Each builder takes the files of a run and a context, and writes one artefact with all rows and
columns of the paper: what was not run says "not run". Models and data sets that the paper
does not have stand apart from it. Published distances are the attack's unprojected final
iterates, so these are what is compared; the distances after projection to the decision
boundary, which are the better estimates, are printed beside them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medrobust.core import seeds
from medrobust.evaluation import statistics
from medrobust.reporting import artefacts
from medrobust.reporting.artefacts import (
    NOT_RUN,
    Panel,
    RunContext,
    has_results,
    in_place_of,
    number,
    with_interval,
)
from medrobust.reporting.comparison import read_published
from medrobust.reporting.consistency import PrintedMean, build_consistency
from medrobust.reporting.plotting import model_label
from medrobust.reporting.request import Request
from medrobust.reporting.rows import (
    ROW_COLUMNS,
    check_one_cohort,
    common_size,
    number_row,
    plain,
    printed_values,
    read_clean_summary,
    typed,
)
from medrobust.studies.signnet.results import (
    COMBINED,
    IMAGES,
    PARTS,
    SIGNALS,
    STUDY,
    AttackInput,
    CleanInput,
    Part,
    attack_inputs,
    attack_text,
    bounds_text,
    cells_of,
    grouped,
    heading,
    marked,
    remark,
    smallest_distances,
    sources_of,
)

if TYPE_CHECKING:
    import pandas as pd

DISTANCE_METRIC = "min_L2_distortion_avg"
ACCURACY_METRIC = "accuracy_pct"


#: The numbers of single images that Table II prints beside their averages.
_IMAGES = tuple(f"min_L2_distortion_image{i}" for i in range(5))
#: Status of a single image's distance: it was found, but print is of another image.
OTHER_IMAGE = "another image than the paper's, which is not known"
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
        terms=tuple((dataset,) for dataset in IMAGES.datasets),
        target=(COMBINED,),
        where={"metric": DISTANCE_METRIC},
    ),
    PrintedMean(
        name="combined average, from the ten images",
        table="II",
        over=("dataset", "metric"),
        terms=tuple((dataset, image) for dataset in IMAGES.datasets for image in _IMAGES),
        target=(COMBINED, DISTANCE_METRIC),
    ),
    PrintedMean(
        name="combined average",
        table="IV",
        over=("dataset",),
        terms=tuple((dataset,) for dataset in SIGNALS.datasets),
        target=(COMBINED,),
    ),
)


# --- Tables I and III -------------------------------------------------------------------


def build_accuracy(
    part: Part,
    inputs: Sequence[CleanInput],
    published: str | os.PathLike[str],
    out_stem: str | os.PathLike[str],
    context: RunContext,
) -> list[Path]:
    """Writes Table I or III, accuracy on the test sets: published, ensemble, members.

    The paper's "average accuracy" may mean the ensemble's or the mean of its members; both
    are printed, the ensemble's is the one compared.

    Args:
        part: Table I (images) or III (signals).
        inputs: clean results that exist, of any models and of data sets of this part.
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
    frame = _accuracy_rows(part, groups, sources, read_published(published, STUDY), context)
    tests = frame.loc[frame["status"].map(has_results)].groupby("dataset", sort=False)["n"].first()
    n = "; ".join(f"{heading(name)}: {int(size):,} test points" for name, size in tests.items())
    return artefacts.write_table_artefact(
        out_stem,
        frame,
        title=f"Table {part.accuracy_table}. Accuracy on the {part.what} test sets",
        caption=(
            "Accuracy in percent. Published: as printed. Ensemble: the vote of all members, with "
            "its 95 % interval. Members: mean and standard deviation of the single members."
        ),
        context=context,
        sources=sources,
        n=n or "nothing was run",
        budget="none (clean test points)",
        notes=_notes(frame),
        panels=_accuracy_panels(part, frame),
        inputs=[published, *(item.summary for item in inputs)],
    )


def _accuracy_rows(
    part: Part,
    groups: Mapping[tuple[str, str], Sequence[Any]],
    sources: Mapping[str, str],
    published: pd.DataFrame,
    context: RunContext,
) -> pd.DataFrame:
    import pandas as pd

    table = part.accuracy_table
    printed = _printed_values(published, table, ACCURACY_METRIC)
    rows = []
    for dataset, model in cells_of(groups, part):
        row = _row(part, table, dataset, model, ACCURACY_METRIC, printed, context)
        items = groups.get((dataset, model))
        if items:
            row.update(_accuracy(items), source=sources[dataset], status="reproduced")
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


def _accuracy(items: Sequence[CleanInput]) -> dict[str, Any]:
    summaries = [read_clean_summary(item.summary) for item in items]
    where = f"{items[0].model} on {items[0].dataset}"
    n = common_size((summary["n_test"] for summary in summaries), where)
    successes = [summary["right"] for summary in summaries]
    estimate = statistics.accuracy_estimate(successes, n)
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
        **{
            name: None if (value := getattr(estimate, name)) is None else 100 * value
            for name in ("sd", "further_low", "further_high")
        },
    }


def _accuracy_panels(part: Part, frame: pd.DataFrame) -> list[Panel]:
    def cells(row: Mapping[str, Any]) -> dict[str, str]:
        ran, absent = has_results(row["status"]), in_place_of(row["status"])
        members = with_spread(row["member_accuracy_mean"], row["member_accuracy_std"])
        return {
            "published": number(row["published"], 1),
            "ensemble [95 %]": with_interval(row["reproduced"], row["ci_low"], row["ci_high"], 2)
            if ran
            else absent,
            "members": (f"{members} ({int(row['members'])})" if row["members"] else members)
            if ran
            else absent,
            "n test": f"{int(row['n']):,}" if ran else "–",
        }

    return _panels(part, frame, cells)


def with_spread(mean: float | None, spread: float | None) -> str:
    """Returns "mean ± spread" in percent points; "–" where there is no mean."""
    text = number(mean, 2)
    return text if text == "–" or number(spread, 2) == "–" else f"{text} ± {number(spread, 2)}"


# --- Tables II and IV -------------------------------------------------------------------


def build_distances(
    part: Part,
    inputs: Sequence[AttackInput],
    published: str | os.PathLike[str],
    out_stem: str | os.PathLike[str],
    context: RunContext,
    attack: str,
) -> list[Path]:
    """Writes Table II or IV, the average minimum L2 distance over the attacked points.

    Args:
        part: Table II (images, each of them too) or IV (signals).
        inputs: attack records that exist, of any models and of data sets of this part.
        published: the file of published numbers.
        out_stem: path without suffix.
        context: the run.
        attack: the attack and its budget in words
            (:func:`medrobust.reporting.artefacts.describe_attack`).

    Returns:
        The files written.

    Raises:
        InputError: records are missing or contradict themselves, or two inputs are the same
            model, data set and replicate.
    """
    groups = grouped(inputs)
    sources = sources_of(inputs)
    points = {key: [smallest_distances(item) for item in items] for key, items in groups.items()}
    printed = read_published(published, STUDY)
    frame = _distance_rows(part, points, sources, printed, context)
    return artefacts.write_table_artefact(
        out_stem,
        frame,
        title=(
            f"Table {part.distance_table}. Average minimum L2 distance of adversarial {part.what}s"
        ),
        caption=(
            "Mean over points of the smallest L2 distance over the restarts, with its 95 % "
            "bootstrap interval. As printed: the attack's last iterate, as the paper reports it. "
            "At the boundary: after projection to the decision boundary. Combined average: the "
            "unweighted mean of the paper's two data sets. "
            f"{_IMAGES_TOLD if part is IMAGES else ''}{bounds_text(points.values())}"
        ).rstrip(),
        context=context,
        sources=sources,
        n=_attacked(frame),
        budget=attack,
        notes=[*_notes(frame), *_distance_notes(part, frame, points)],
        panels=_distance_panels(part, frame),
        inputs=[published, *(path for item in inputs for path in item.chunks)],
    )


_IMAGES_TOLD = (
    "Image 0 to 4: the first five attacked images of a data set by their number in it, last "
    "iterates; those of the paper are other images, so single numbers cannot be compared. "
)

_DISTANCE_COLUMNS = (
    "point_id",
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
    part: Part,
    points: Mapping[tuple[str, str], Sequence[pd.DataFrame]],
    sources: Mapping[str, str],
    published: pd.DataFrame,
    context: RunContext,
) -> pd.DataFrame:
    import pandas as pd

    table = part.distance_table
    printed = _printed_values(published, table, DISTANCE_METRIC)
    cells = cells_of(points, part)
    rows = _image_rows(part, points, sources, published, context)
    for dataset, model in cells:
        row = _row(part, table, dataset, model, DISTANCE_METRIC, printed, context)
        frames = points.get((dataset, model))
        if frames:
            found = _distances(frames, (STUDY, table, dataset, model), context)
            row.update(found, source=sources[dataset])
        rows.append(row)
    for model in dict.fromkeys(model for _, model in cells):
        row = _row(part, table, COMBINED, model, DISTANCE_METRIC, printed, context)
        parts = [points.get((dataset, model)) for dataset in part.datasets]
        if all(parts):
            named = "+".join(dict.fromkeys(sources[dataset] for dataset in part.datasets))
            row.update(_combined(parts, (STUDY, table, COMBINED, model), context), source=named)
        else:
            found = [context.status_without_results(dataset, model) for dataset in part.datasets]
            row["status"] = next((text for text in found if text != NOT_RUN), NOT_RUN)
        rows.append(row)
    for row in rows:
        compared = row["metric"] == DISTANCE_METRIC
        if compared and row["reproduced"] is not None and row["published"] is not None:
            row["difference"] = row["reproduced"] - row["published"]
    return _typed(pd.DataFrame(rows, columns=[*ROW_COLUMNS, *_DISTANCE_COLUMNS]))


def _image_rows(
    part: Part,
    points: Mapping[tuple[str, str], Sequence[pd.DataFrame]],
    sources: Mapping[str, str],
    published: pd.DataFrame,
    context: RunContext,
) -> list[dict[str, Any]]:
    """Returns a row for each image of Table II and model, beside that of another image in print."""
    rows = []
    for dataset, model in cells_of(points, part) if part is IMAGES else ():
        frames = points.get((dataset, model), ())
        for place, metric in enumerate(_IMAGES):
            printed = _printed_values(published, part.distance_table, metric)
            row = _row(part, part.distance_table, dataset, model, metric, printed, context)
            if frames and place < len(frames[0]):
                images = [frame.iloc[place] for frame in frames]
                row.update(_of_an_image(images), source=sources[dataset])
            rows.append(row)
    return rows


def _of_an_image(found: Sequence[pd.Series]) -> dict[str, Any]:
    """Returns the columns of one image's distance, the mean over the trainings that met it."""
    final, projected = (
        float(np.mean([one[name] for one in found])) for name in ("l2_final_iterate", "l2")
    )
    return {
        "reproduced": final if np.isfinite(final) else None,
        "projected": projected if np.isfinite(projected) else None,
        "n": 1,
        "replicates": len(found),
        "point_id": int(found[0]["point_id"]),
        "status": OTHER_IMAGE,
    }


def _distances(
    frames: Sequence[pd.DataFrame], names: tuple[str, ...], context: RunContext
) -> dict[str, Any]:
    study, table, dataset, model = names
    check_one_cohort(frames, f"{model} on {dataset}")

    def summaries(column: str) -> tuple[statistics.Estimate, statistics.Estimate]:
        values = [frame[column].to_numpy(float) for frame in frames]
        names = ("bootstrap", study, table, dataset, model, column)
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
    parts: Sequence[Sequence[pd.DataFrame]], names: tuple[str, ...], context: RunContext
) -> dict[str, Any]:
    def estimate(column: str) -> statistics.Estimate:
        groups = [[frame[column].to_numpy(float) for frame in part] for part in parts]
        random = seeds.generator(context.seed, "bootstrap", *names, column)
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
        "sd": estimate.sd,
        "further_low": estimate.further_low,
        "further_high": estimate.further_high,
        "status": status,
    }


def _span(columns: Sequence[pd.Series]) -> str:
    values = np.concatenate([column.to_numpy() for column in columns])
    low, high = int(values.min()), int(values.max())
    return str(low) if low == high else f"{low} to {high}"


def _attacked(frame: pd.DataFrame) -> str:
    ran = _averages(frame)
    parts = []
    for dataset, part in ran.groupby("dataset", sort=False):
        sizes = sorted(set(part["n"].astype(int)))
        words = " or ".join(str(size) for size in sizes)
        parts.append(f"{heading(dataset)}: {words} {'point' if sizes == [1] else 'points'}")
    return "; ".join(parts) or "nothing was run"


def _averages(frame: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows of single data sets that have results: neither images nor combinations."""
    average = (frame["metric"] == DISTANCE_METRIC) & (frame["dataset"] != COMBINED)
    return frame[average & frame["status"].map(has_results)]


def _distance_notes(
    part: Part, frame: pd.DataFrame, points: Mapping[tuple[str, str], Sequence[pd.DataFrame]]
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
            notes.append(f"{heading(dataset)}: not all models were attacked on the same points.")
        sizes, printed = {len(ids) for ids in sets}, part.attacked.get(dataset)
        if printed is not None and sizes != {printed}:
            words = " and ".join(str(size) for size in sorted(sizes))
            notes.append(f"{heading(dataset)}: {words} attacked here, {printed} in the paper.")
    outside = sum(int(one["box_violation"].sum()) for many in points.values() for one in many)
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


def _distance_panels(part: Part, frame: pd.DataFrame) -> list[Panel]:
    def cells(row: Mapping[str, Any]) -> dict[str, str]:
        ran, absent = has_results(row["status"]), in_place_of(row["status"])
        shown = {
            "published": number(row["published"], part.decimals),
            "as printed [95 %]": _distance_text(row, "") if ran else absent,
            "at the boundary [95 %]": _distance_text(row, "projected") if ran else absent,
        }
        return shown

    averages = frame[frame["metric"] == DISTANCE_METRIC]
    return [
        *_panels(part, averages, cells, COMBINED),
        *_image_panels(part, frame),
        *_effort_panel(frame),
    ]


def _image_panels(part: Part, frame: pd.DataFrame) -> list[Panel]:
    """Returns one block per data set of the paper: its images, as printed and as found."""
    import pandas as pd

    panels = []
    for dataset in part.datasets if part is IMAGES else ():
        chosen = frame[(frame["dataset"] == dataset) & (frame["metric"] != DISTANCE_METRIC)]
        if not chosen["status"].map(has_results).any():
            continue
        rows: dict[str, dict[tuple[str, str], str]] = {}
        for row in plain(chosen):
            name = f"Image {row['metric'].removeprefix('min_L2_distortion_image')}"
            label = model_label(row["method"])
            rows.setdefault(name, {("", "image"): name}).update(
                {
                    (label, "published"): number(row["published"], part.decimals),
                    (label, "here"): number(row["reproduced"], part.decimals)
                    if has_results(row["status"])
                    else in_place_of(row["status"]),
                }
            )
        shown = list(rows.values())
        table = pd.DataFrame(shown, columns=pd.MultiIndex.from_tuples(list(shown[0])))
        panels.append(Panel(table, title=f"{marked(heading(dataset), frame, dataset)}, each image"))
    return panels


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

    ran = _averages(frame)
    if ran.empty:
        return []
    rows = [
        {
            "model": model_label(row["method"]),
            "data set": marked(heading(row["dataset"]), frame, row["dataset"]),
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
_WHOLE_COLUMNS = frozenset({"members", "censored", "misclassified", "point_id"})


def _printed_values(
    published: pd.DataFrame, table: str, metric: str
) -> dict[tuple[str, ...], float]:
    chosen = published[(published["table"] == table) & (published["metric"] == metric)]
    return printed_values(chosen, "dataset", "method")


def _row(
    part: Part,
    table: str,
    dataset: str,
    model: str,
    metric: str,
    printed: Mapping[tuple[str, ...], float],
    context: RunContext,
) -> dict[str, Any]:
    attacked = metric != ACCURACY_METRIC
    of_paper = dataset in (*part.datasets, COMBINED) and model in part.models
    return number_row(
        (*ROW_COLUMNS, *_ACCURACY_COLUMNS, *_DISTANCE_COLUMNS),
        printed.get((dataset, model)),
        context,
        table=table,
        dataset=dataset,
        method=model,
        metric=metric,
        attack="HopSkipJump" if attacked else "none",
        norm="L2" if attacked else "",
        epsilon="",
        origin="paper" if of_paper else "added",
    )


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    return typed(frame, _TEXT_COLUMNS, _WHOLE_COLUMNS)


def _notes(frame: pd.DataFrame) -> list[str]:
    notes = []
    bases = dict.fromkeys(text for text in frame["interval"] if text)
    if bases:
        notes.append(f"Intervals: {'; '.join(bases)}.")
    if (frame["status"] == NOT_RUN).any():
        notes.append('"not run": this run has no results of that model on that data set.')
    ran = frame[frame["status"].map(has_results)]
    remarks = map(remark, ran["dataset"], ran["source"])
    notes += [f"{text}." for text in dict.fromkeys(remarks) if text]
    return notes


def _panels(part: Part, frame: pd.DataFrame, cells: Any, *last: str) -> list[Panel]:
    """Returns the paper's data sets as one panel, each added data set as one of its own."""
    datasets = list(dict.fromkeys(frame["dataset"]))
    added = [name for name in datasets if name not in (*part.datasets, *last)]
    panels = [_panel(part, frame, [*part.datasets, *last], cells, "")]
    panels += [
        _panel(part, frame, [name], cells, f"Added, not in the paper: {heading(name)}")
        for name in added
    ]
    return panels


def _panel(
    part: Part, frame: pd.DataFrame, datasets: Sequence[str], cells: Any, title: str
) -> Panel:
    import pandas as pd

    models = list(dict.fromkeys(frame["method"]))
    by_key = {(row["dataset"], row["method"]): row for row in plain(frame)}
    rows = []
    for model in models:
        row: dict[tuple[str, str], str] = {("", "model"): model_label(model)}
        for dataset in datasets:
            over = marked(heading(dataset), frame, dataset)
            if (dataset, model) in by_key:
                shown = cells(by_key[dataset, model])
                row |= {(over, name): text for name, text in shown.items()}
        rows.append(row)
    added = [position for position, model in enumerate(models) if model not in part.models]
    table = pd.DataFrame(rows, columns=pd.MultiIndex.from_tuples(list(rows[0])))
    sections = {added[0]: "Added models, not in the paper"} if added else {}
    return Panel(table, title=title, sections=sections)


# --- what the workflow calls --------------------------------------------------------------


def draw_accuracy(request: Request, table: str) -> list[Path]:
    """Writes Table I or III of the request's results."""
    inputs = [
        CleanInput(e.dataset, e.model, e.source, e.summary, e.replicate, e.points)
        for e in request.entries
    ]
    part = next(part for part in PARTS if part.accuracy_table == table)
    return build_accuracy(part, inputs, request.published, request.out_stem, request.context)


def draw_distances(request: Request, table: str) -> list[Path]:
    """Writes Table II or IV of the request's results."""
    return build_distances(
        next(part for part in PARTS if part.distance_table == table),
        attack_inputs(request),
        request.published,
        request.out_stem,
        request.context,
        attack_text(request),
    )
