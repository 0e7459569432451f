"""What five images can say: the paper's models attacked on many random images, and fives of them.

Table II has five images per data set. The attack ``extended`` takes 50 random ones, whatever the
models say of them; samples of five out of these show how far a mean of five varies, and how often
it puts two models in the order that all have.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medrobust.core import seeds
from medrobust.evaluation import few_points, paired, statistics
from medrobust.reporting import artefacts
from medrobust.reporting.artefacts import Panel, RunContext, number, with_interval
from medrobust.reporting.plotting import model_label
from medrobust.reporting.request import Request
from medrobust.reporting.rows import attack_in_words, plain, typed
from medrobust.studies.signnet.paired import model_pairs
from medrobust.studies.signnet.results import (
    IMAGES,
    STUDY,
    AttackInput,
    attack_inputs,
    bounds_text,
    cells_of,
    grouped,
    heading,
    marked,
    smallest_distances,
    sources_of,
)

if TYPE_CHECKING:
    import pandas as pd

#: The attack of the study whose records are drawn, and what it is where it was not run.
ATTACK, PRINTED = "extended", {"extended": "HopSkipJump on random images: not run"}
#: Images per data set that the paper attacked.
FEW = 5
_FEW_SEED = "few points"
_NUMBERS = ("mean", "mean_low", "mean_high", "few_low", "few_high", "share_of_few")
COLUMNS = (
    *("dataset", "method", "other", "n", "misclassified", "censored", "replicates"),
    *(*_NUMBERS, "scale", "protocol", "source"),
)


def build_extended(
    inputs: Sequence[AttackInput],
    out_stem: str | os.PathLike[str],
    context: RunContext,
    attack: str,
) -> list[Path]:
    """Writes the mean distances on many images, and what means of five of them would be.

    Args:
        inputs: records of the attack on random images that exist, of any models.
        out_stem: path without suffix.
        context: the run.
        attack: the attack and its budget in words.

    Returns:
        The files written.

    Raises:
        InputError: records are missing or contradict themselves, or two inputs are the same
            model, data set and replicate.
    """
    groups, sources = grouped(inputs), sources_of(inputs)
    points = {
        key: [smallest_distances(item).set_index("point_id") for item in items]
        for key, items in groups.items()
    }
    frame = _rows(points, sources, context)
    return artefacts.write_table_artefact(
        out_stem,
        frame,
        title="What the mean of five images can say",
        caption=(
            "Test images drawn at random, whatever the models say of them; one that a model "
            "misclassifies without attack counts as distance 0. Distances as printed: last "
            "iterates, the smallest over the restarts. Mean over all images with its 95 % "
            f"bootstrap interval. Means of five: in which range 95 % of the means of {FEW} of "
            f"these images lie, drawn {few_points.DRAWS:,} times. Of two models: in which share of "
            "the draws the first one's mean of five is the larger. "
            f"{bounds_text(points.values())}"
        ).rstrip(),
        context=context,
        sources=sources,
        n=_sizes(frame),
        budget=attack,
        notes=[
            "Intervals and ranges are over images: another training is not in them.",
            *_too_few(frame),
        ],
        panels=_panels(frame),
        inputs=[path for item in inputs for path in item.chunks],
    )


def _rows(
    points: Mapping[tuple[str, str], Sequence[pd.DataFrame]],
    sources: Mapping[str, str],
    context: RunContext,
) -> pd.DataFrame:
    """Returns a row per model, and one per pair of models that the paper's sentences compare."""
    import pandas as pd

    rows: list[dict[str, Any]] = []
    cells = cells_of(points, IMAGES)
    for dataset in dict.fromkeys(dataset for dataset, _ in cells):
        ran = {m: points[d, m] for d, m in cells if d == dataset and (d, m) in points}
        if not ran:
            continue
        named = {
            "dataset": dataset,
            "source": sources[dataset],
            "scale": context.scale,
            "protocol": context.protocol,
        }
        values = {
            model: paired.mean_over_replicates([frame["l2_final_iterate"] for frame in frames])
            for model, frames in ran.items()
        }
        together, _ = paired.common_points(values)
        means = _means_of_fives(together, seeds.generator(context.seed, _FEW_SEED, STUDY, dataset))
        for model, frames in ran.items():
            row = _of_model(frames, values[model], means.get(model), (dataset, model), context)
            rows.append(named | {"method": model} | row)
        for first, second in model_pairs(list(together.columns)):
            difference = together[first] - together[second]
            share = None if means.empty else float((means[first] > means[second]).mean())
            row = _of_pair(difference, share, (dataset, first, second), context)
            rows.append(named | {"method": first, "other": second} | row)
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    return typed(frame, text=("other",), whole=("misclassified", "censored"))


def _means_of_fives(together: pd.DataFrame, random: np.random.Generator) -> pd.DataFrame:
    """Returns the means of fives drawn from images, a column per model; none of five or fewer.

    Args:
        together: distances, a row per image and a column per model.
        random: of the draws.
    """
    import pandas as pd

    if len(together) <= FEW:  # there is one five at most, which shows nothing of others
        return pd.DataFrame()
    drawn = few_points.means_of_few(together.to_numpy(float), FEW, random)
    return pd.DataFrame(drawn, columns=together.columns)


def _of_model(
    frames: Sequence[pd.DataFrame],
    values: pd.Series,
    few: pd.Series | None,
    names: tuple[str, ...],
    context: RunContext,
) -> dict[str, Any]:
    random = seeds.generator(context.seed, "bootstrap", STUDY, "extended", *names)
    distances = [frame["l2_final_iterate"].to_numpy(float) for frame in frames]
    estimate = statistics.mean_estimate(distances, generator=random)
    wrong = sum(int((frame["clean_prediction"] != frame["label"]).sum()) for frame in frames)
    low, high = (None, None) if few is None else few_points.middle_range(few.to_numpy())
    return {
        "n": len(values),
        "misclassified": wrong,
        "censored": estimate.censored,
        "replicates": estimate.replicates,
        "mean": estimate.value,
        "mean_low": estimate.ci_low,
        "mean_high": estimate.ci_high,
        "few_low": low,
        "few_high": high,
    }


def _of_pair(
    difference: pd.Series, share: float | None, names: tuple[str, ...], context: RunContext
) -> dict[str, Any]:
    row: dict[str, Any] = {"n": len(difference), "share_of_few": share}
    if np.isfinite(difference).all():
        random = seeds.generator(context.seed, "bootstrap", STUDY, "extended", *names)
        values = [difference.to_numpy(float)]
        estimate = statistics.mean_estimate(values, generator=random, limits=(-np.inf, np.inf))
        row |= {"mean": estimate.value, "mean_low": estimate.ci_low, "mean_high": estimate.ci_high}
    return row


def _too_few(frame: pd.DataFrame) -> list[str]:
    """Returns a note on each data set of which no two fives can be drawn."""
    sizes = frame[frame["other"] == ""].groupby("dataset", sort=False)["n"].first()
    return [
        f"{heading(name)}: of {int(n)} images no two fives can be drawn."
        for name, n in sizes.items()
        if n <= FEW
    ]


def _sizes(frame: pd.DataFrame) -> str:
    sizes = frame[frame["other"] == ""].groupby("dataset", sort=False)["n"].first()
    told = (f"{heading(name)}: {int(n)} images" for name, n in sizes.items())
    return "; ".join(told) or "nothing was run"


def _panels(frame: pd.DataFrame) -> list[Panel]:
    import pandas as pd

    panels = []
    for dataset, part in frame.groupby("dataset", sort=False):
        title = marked(heading(dataset), frame, dataset)
        single = [_model_shown(row) for row in plain(part[part["other"] == ""])]
        panels.append(Panel(pd.DataFrame(single), title=title))
        pairs = [_pair_shown(row) for row in plain(part[part["other"] != ""])]
        if pairs:
            panels.append(Panel(pd.DataFrame(pairs), title=f"{title}, two models"))
    return panels or [Panel(pd.DataFrame({"result": ["nothing was run"]}))]


def _model_shown(row: Mapping[str, Any]) -> dict[str, str]:
    low, high = row["few_low"], row["few_high"]
    there = None not in (low, high) and np.isfinite([low, high]).all()
    return {
        "model": model_label(row["method"]),
        "mean of all [95 %]": with_interval(row["mean"], row["mean_low"], row["mean_high"], 2),
        "means of five": f"{number(low, 2)} to {number(high, 2)}" if there else "–",
        "n": str(row["n"]),
        "misclassified": str(row["misclassified"]),
        "censored": str(row["censored"]),
    }


def _pair_shown(row: Mapping[str, Any]) -> dict[str, str]:
    share = row["share_of_few"]
    return {
        "models": f"{model_label(row['method'])} − {model_label(row['other'])}",
        "difference of all [95 %]": with_interval(
            row["mean"], row["mean_low"], row["mean_high"], 2
        ),
        "larger in fives": "–" if share is None else f"{100 * share:.0f} %",
    }


def draw_extended(request: Request) -> list[Path]:
    """Writes what five images can say, from the attack on random ones where that was run."""
    attack = attack_in_words(request, ATTACK, PRINTED)
    return build_extended(attack_inputs(request), request.out_stem, request.context, attack)
