"""What the adversarial images of each model look like beside their originals, as numbers.

The paper tells its Figure 1 in words, of one image. Here the measures of
:mod:`medrobust.evaluation.image_changes` are taken of every attacked image.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medrobust.core import io, seeds
from medrobust.core.errors import InputError
from medrobust.evaluation import image_changes, statistics
from medrobust.reporting import artefacts
from medrobust.reporting.artefacts import Panel, RunContext, number, with_interval
from medrobust.reporting.plotting import model_label
from medrobust.reporting.request import Request
from medrobust.reporting.rows import interval_notes, plain, typed
from medrobust.studies.signnet.results import (
    IMAGES,
    STUDY,
    AttackInput,
    attack_inputs,
    attack_text,
    cells_of,
    grouped,
    heading,
    marked,
    sources_of,
)

if TYPE_CHECKING:
    import pandas as pd

#: Column to how the table heads it, and with how many decimals it is printed.
MEASURES = {
    "distance": ("L2 distance", 2),
    "similarity": ("structural similarity", 3),
    "added_variation": ("total variation added", 4),
    "high_frequency": ("high-frequency share", 3),
}
#: The smallest and the largest value that each can have.
LIMITS = {
    "distance": (0.0, np.inf),
    "similarity": (-1.0, 1.0),
    "added_variation": (-1.0, 1.0),
    "high_frequency": (0.0, 1.0),
}
COLUMNS = (
    *("dataset", "method", "origin", "point_id", "n", "without_adversary", "replicates"),
    *(name + end for name in MEASURES for end in ("", "_low", "_high")),
    *("interval", "scale", "protocol", "source"),
)


def read_changes(arrays: Sequence[str]) -> pd.DataFrame:
    """Returns the measures of each attacked image of one training of a model.

    The adversarial image is the last iterate, as the paper shows it; where none is adversarial, the
    image at the decision boundary.

    Args:
        arrays: files of adversarial arrays, with ``x``, ``x_final_iterate`` and ``x_adv`` float32
            ``[n, channels, height, width]``, NaN where the attack failed.

    Returns:
        One row per point, by ``point_id``, with the columns :data:`MEASURES` (float64): NaN where
        there is no adversarial image, and no high-frequency share where nothing was changed, for
        the model misclassifies the original.

    Raises:
        InputError: a file does not exist.
    """
    import pandas as pd

    frames = []
    for path in arrays:
        if not Path(path).is_file():
            raise InputError("This file of adversarial arrays does not exist.", where=str(path))
        tensors = io.read_tensors(path)
        frames.append(_measured(tensors))
    return pd.concat(frames).sort_index()


def _measured(tensors: Mapping[str, np.ndarray]) -> pd.DataFrame:
    import pandas as pd

    x, found, boundary = (
        tensors[name].astype(np.float64) for name in ("x", "x_final_iterate", "x_adv")
    )
    lost = ~_finite(found)
    found[lost] = boundary[lost]
    there = _finite(found)
    frame = pd.DataFrame(np.nan, index=tensors["point_id"], columns=list(MEASURES))
    frame.index.name = "point_id"
    if not there.any():
        return frame
    changes = found[there] - x[there]
    distance = np.sqrt((changes**2).sum(axis=(1, 2, 3)))
    high = image_changes.high_frequency_share(changes)
    variation = image_changes.total_variation
    measured = {
        "distance": distance,
        "similarity": image_changes.structural_similarity(x[there], found[there]),
        "added_variation": variation(found[there]) - variation(x[there]),
        "high_frequency": np.where(distance > 0, high, np.nan),
    }
    frame.loc[there] = np.column_stack([measured[name] for name in MEASURES])
    return frame


def _finite(images: np.ndarray) -> np.ndarray:
    return np.isfinite(images).all(axis=(1, 2, 3))


def build_image_differences(
    inputs: Sequence[AttackInput],
    out_stem: str | os.PathLike[str],
    context: RunContext,
    attack: str,
) -> list[Path]:
    """Writes the measures of each model's adversarial images, their means and each image.

    Args:
        inputs: attack records with arrays that exist, of any models and data sets of images.
        out_stem: path without suffix.
        context: the run.
        attack: the attack and its budget in words.

    Returns:
        The files written.

    Raises:
        InputError: arrays are missing, or two inputs are the same model, data set and replicate.
    """
    groups, sources = grouped(inputs), sources_of(inputs)
    changes = {key: [read_changes(item.arrays) for item in items] for key, items in groups.items()}
    frame = _rows(changes, sources, context)
    return artefacts.write_table_artefact(
        out_stem,
        frame,
        title="What adversarial images look like beside their originals",
        caption=(
            "Last iterates, as the paper shows them. Structural similarity (Wang et al. 2004): 1 "
            "where an image equals its original. Total variation added: the mean difference of "
            "neighbouring pixels (in [0, 1]) of the adversarial image minus that of the original, "
            "which dots raise. High-frequency share: the part of the change's energy at more than "
            f"{image_changes.HIGH_FREQUENCY:g} cycles per pixel; noise from pixel to pixel has "
            ".80. Means over points with their 95 % intervals, then each image."
        ),
        context=context,
        sources=sources,
        n=_sizes(frame),
        budget=attack,
        notes=[*interval_notes(frame), *_notes(frame)],
        panels=_panels(frame),
        inputs=[path for item in inputs for path in item.arrays],
    )


def _rows(
    changes: Mapping[tuple[str, str], Sequence[pd.DataFrame]],
    sources: Mapping[str, str],
    context: RunContext,
) -> pd.DataFrame:
    """Returns a row for the mean of each model, then one for each of its images."""
    import pandas as pd

    rows = []
    for dataset, model in cells_of(changes, IMAGES):
        frames = changes.get((dataset, model), ())
        of_paper = dataset in IMAGES.datasets and model in IMAGES.models
        named = {
            "dataset": dataset,
            "method": model,
            "origin": "paper" if of_paper else "added",
            "replicates": len(frames),
            "scale": context.scale,
            "protocol": context.protocol,
            "source": sources.get(dataset, ""),
        }
        if frames:
            rows.append(named | _means(frames, dataset, model, context))
            rows += [named | one for one in _images(frames)]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    return typed(frame, text=("interval",), whole=("point_id", "without_adversary"))


def _means(
    frames: Sequence[pd.DataFrame], dataset: str, model: str, context: RunContext
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "n": len(frames[0]),
        "without_adversary": sum(int(frame["distance"].isna().sum()) for frame in frames),
    }
    for measure in MEASURES:
        values = [frame[measure].dropna().to_numpy() for frame in frames]
        if not all(map(len, values)):
            continue
        names = ("bootstrap", STUDY, "image differences", dataset, model, measure)
        random = seeds.generator(context.seed, *names)
        estimate = statistics.mean_estimate(values, generator=random, limits=LIMITS[measure])
        row |= {
            measure: estimate.value,
            f"{measure}_low": estimate.ci_low,
            f"{measure}_high": estimate.ci_high,
            "interval": estimate.basis,
        }
    return row


def _images(frames: Sequence[pd.DataFrame]) -> list[dict[str, Any]]:
    """Returns a row for each image, the mean over the trainings that met it."""
    import pandas as pd

    together = pd.concat(frames)
    by_point = together.groupby(level="point_id")
    means, missing = by_point.mean(), by_point["distance"].agg(lambda one: int(one.isna().sum()))
    return [
        {"point_id": point, "n": 1, "without_adversary": missing[point], **values}
        for point, values in means.to_dict("index").items()
    ]


def _sizes(frame: pd.DataFrame) -> str:
    sizes = frame[frame["point_id"].isna()].groupby("dataset", sort=False)["n"].first()
    told = (f"{heading(name)}: {int(n)} points" for name, n in sizes.items())
    return "; ".join(told) or "nothing was run"


def _notes(frame: pd.DataFrame) -> list[str]:
    if not (frame["without_adversary"] > 0).any():
        return []
    return ["Images without an adversarial version, because the attack failed, are not counted."]


def _panels(frame: pd.DataFrame) -> list[Panel]:
    import pandas as pd

    panels = []
    for dataset, part in frame.groupby("dataset", sort=False):
        title = marked(heading(dataset), frame, dataset)
        means, images = part[part["point_id"].isna()], part[part["point_id"].notna()]
        of_paper = [row["method"] in IMAGES.models for row in plain(means)]
        added = (
            {of_paper.index(False): "Added models, not in the paper"} if not all(of_paper) else {}
        )
        rows = [_mean_shown(row) for row in plain(means)]
        panels.append(Panel(pd.DataFrame(rows), title=title, sections=added))
        rows = [_image_shown(row) for row in plain(images)]
        panels.append(Panel(pd.DataFrame(rows), title=f"{title}, each image"))
    return panels or [Panel(pd.DataFrame({"result": ["nothing was run"]}))]


def _mean_shown(row: Mapping[str, Any]) -> dict[str, str]:
    shown = {
        f"{label} [95 %]": with_interval(
            row[name], row[f"{name}_low"], row[f"{name}_high"], decimals
        )
        for name, (label, decimals) in MEASURES.items()
    }
    return {"model": model_label(row["method"]), **shown}


def _image_shown(row: Mapping[str, Any]) -> dict[str, str]:
    shown = {
        # A change that rounds to 0 has no sign.
        label: number(None if row[name] is None else round(row[name], decimals) or 0.0, decimals)
        for name, (label, decimals) in MEASURES.items()
    }
    return {"model": model_label(row["method"]), "point": f"{row['point_id']}", **shown}


def draw_image_differences(request: Request) -> list[Path]:
    """Writes the measures of the request's adversarial images."""
    return build_image_differences(
        attack_inputs(request), request.out_stem, request.context, attack_text(request)
    )
