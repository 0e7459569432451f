"""Figures of mirst: one image and what each attack makes of it; what each pooling lets through.

Figure 2 of the paper shows residual maps: the difference of the first pooling's maps between an
image and its adversarial version, all channels added. Drop-max hands on smaller values, so its
differences are smaller whatever it lets through: what compares is the difference by the size of the
maps themselves. And a network that learned with drop-max is another one: each model is shown with
both poolings at its own weights, and with the adversarial image that was made against it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.reporting import artefacts
from medrobust.reporting.artefacts import number
from medrobust.reporting.generic_tables import attacks_in_words
from medrobust.reporting.kept_images import KeptImages, bare, head, read_kept_images
from medrobust.reporting.request import Request
from medrobust.reporting.rows import draw_not_run

if TYPE_CHECKING:
    import pandas as pd

    from medrobust.reporting.request import Entry

#: Attack of the study -> its heading.
ATTACKS = {"image_fgsm": "FGSM", "image_pgd20": "PGD", "image_cw10": "CW"}
MALIGNANT = 1
_TITLE1 = "Figure 1. Perturbations and adversarial images"


def build_figure1(request: Request) -> list[Path]:
    """Writes Figure 1: perturbations above, adversarial images below, beside the image itself.

    Shown is the first malignant one of the kept images that the model classifies correctly and
    that every attack brings to benign; else the first that most do; of one model, the first.

    Raises:
        InputError: a file is missing, or the attacks kept different images.
    """
    from medrobust.reporting import plotting

    entry = next((one for one in request.entries if set(ATTACKS) <= set(one.attack_arrays)), None)
    if entry is None:
        return draw_not_run(request, _TITLE1, f"the attacks {', '.join(ATTACKS)} on one model")
    kept = {
        attack: read_kept_images(entry, attack, [entry.kept_records[attack]]) for attack in ATTACKS
    }
    place = _chosen(list(kept.values()))
    names = request.class_names
    with plotting.style():
        figure = plotting.new_figure(plotting.DOUBLE_COLUMN, 4.1)
        upper, lower = figure.subplots(2, 1 + len(kept))
        first = next(iter(kept.values()))
        _draw(lower[0], first.x[place])
        _draw_head(lower[0], "image", int(first.clean[place]), int(first.labels[place]), names)
        upper[0].set_visible(False)
        for column, (attack, images) in enumerate(kept.items(), start=1):
            noise = images.noisy[place, 0] - images.x[place]
            _draw(upper[column], 0.5 + noise / (2 * _radius(images)))
            upper[column].set_title(f"{ATTACKS[attack]}: perturbation,\n±{_radius(images):.4f}")
            _draw(lower[column], images.noisy[place, 0])
            found, label = int(images.found[place, 0]), int(images.labels[place])
            _draw_head(lower[column], f"image + {ATTACKS[attack]}", found, label, names)
        rows = figure1_rows(kept, place)
        return artefacts.write_figure_artefact(
            request.out_stem,
            figure,
            rows,
            title=_TITLE1,
            caption=_caption(entry, first, place, rows, names),
            context=request.context,
            sources={entry.dataset: entry.source},
            n="1 test image",
            budget=attacks_in_words(request, list(ATTACKS)),
            inputs=[file for images in kept.values() for file in images.files],
        )


def _chosen(kept: Sequence[KeptImages]) -> int:
    """Returns the place of the image that is shown."""
    first = kept[0]
    if any(not np.array_equal(one.ids, first.ids) for one in kept):
        raise InputError(
            "The attacks kept different images, which cannot stand beside each other.",
            where=", ".join(one.files[0] for one in kept),
            remedy="give them the same points in the study's file, and run them again.",
        )
    fooled = np.sum([one.fooled(one.levels[0]) for one in kept], axis=0)
    malignant = first.labels == MALIGNANT
    return int(np.argmax((1 + fooled + first.right) * (1 + len(kept) * malignant)))


def _radius(images: KeptImages) -> float:
    return float(images.levels[0])


def _draw(axes: Any, image: np.ndarray) -> None:
    """Draws ``[channels, h, w]`` with values in [0, 1], in colour where there are three."""
    shown = np.clip(image, 0, 1)
    picture = shown.transpose(1, 2, 0) if len(shown) == 3 else shown[0]
    axes.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    bare(axes)


def _draw_head(axes: Any, text: str, found: int, label: int, names: Sequence[str]) -> None:
    called = names[found] if 0 <= found < len(names) else ""
    head(axes, text, called, wrong=found != label)


def figure1_rows(kept: Mapping[str, KeptImages], place: int) -> pd.DataFrame:
    """Returns what each attack made of an image.

    Returns:
        ``point_id``, ``attack``, ``epsilon``, ``label``, ``clean_prediction``, ``prediction``
        (missing if there is none), ``largest_change`` and ``rms_change`` of the pixels, and
        ``at_the_bound``, the share of values changed by at least 99 % of epsilon.
    """
    import pandas as pd

    rows = []
    for attack, images in kept.items():
        change = np.abs(images.noisy[place, 0].astype(np.float64) - images.x[place])
        found = int(images.found[place, 0])
        rows.append(
            {
                "point_id": int(images.ids[place]),
                "attack": ATTACKS[attack],
                "epsilon": _radius(images),
                "label": int(images.labels[place]),
                "clean_prediction": int(images.clean[place]),
                "prediction": None if found < 0 else found,
                "largest_change": float(change.max()),
                "rms_change": float(np.sqrt(np.mean(change**2))),
                "at_the_bound": float(np.mean(change >= 0.99 * _radius(images))),
            }
        )
    whole = dict.fromkeys(("point_id", "label", "clean_prediction", "prediction"), "Int64")
    return pd.DataFrame(rows).astype(whole)


def _caption(
    entry: Entry, images: KeptImages, place: int, rows: pd.DataFrame, names: Sequence[str]
) -> str:
    label = int(images.labels[place])
    fooled = int((rows["prediction"] != label).sum()) if images.right[place] else 0
    changes = "; ".join(
        f"{row.attack} by at most {row.largest_change:.4f} ({row.rms_change:.4f} root mean square)"
        for row in rows.itertuples()
    )
    return (
        f"Test image {images.ids[place]}, {names[label]}, and the model {entry.model}. Above: what "
        f"each attack adds to it, grey where nothing, amplified to the radius; below: the sum, "
        f"as the model is given it, and what it calls it. Pixels lie in [0, 1] and are changed "
        f"{changes}. Of the {len(images.ids)} kept images it is the first malignant one, if there "
        f"is one, that most attacks bring to another class: {fooled} of {len(rows)} attacks do."
    )


# --- Figure 2 ---------------------------------------------------------------------------

_TITLE2 = "Figure 2. What the first pooling lets through"
MAPS = "maps"
#: Pooling in the files -> its heading.
POOLINGS = {"max": "max-pooling", "drop_max": "drop-max"}


@dataclass(frozen=True)
class Residuals:
    """What the two poolings of a model let through, of each kept image.

    Attributes:
        model: label.
        own: the pooling that it has.
        ids, labels: int ``[k]``.
        attacked: bool ``[k]``: an image that is misclassified as it is stays as it is.
        maps: pooling to float32 ``[k, h, w]``, absolute differences added over channels.
        change: pooling to float32 ``[k]``, L1 of the difference by L1 of the clean maps.
    """

    model: str
    own: str
    ids: np.ndarray
    labels: np.ndarray
    attacked: np.ndarray
    maps: Mapping[str, np.ndarray]
    change: Mapping[str, np.ndarray]


def build_figure2(request: Request) -> list[Path]:
    """Writes Figure 2: residual maps of one image by both poolings, and their sizes of all.

    Raises:
        InputError: a file is missing or of another form.
    """
    from medrobust.reporting import plotting

    entries = [one for one in request.entries if MAPS in one.residuals]
    found = [one for one in map(_read_residuals, entries) if one]
    if not found:
        return draw_not_run(request, _TITLE2, f"the attack {MAPS} on a model that pools")
    # The first of which the most models have an adversarial version, of these a malignant one.
    attacked = np.sum([one.attacked for one in found], axis=0)
    place = int(np.argmax(2 * attacked + (found[0].labels == MALIGNANT)))
    with plotting.style():
        figure = plotting.new_figure(plotting.DOUBLE_COLUMN, 4.6)
        grid = figure.subplots(3, len(found), squeeze=False)
        for column, residuals in enumerate(found):
            _draw_maps(grid[:2, column], residuals, place)
            _draw_changes(grid[2, column], residuals, place)
        top = max(float(np.nanmax(each)) for one in found for each in one.change.values())
        for axes in grid[2]:
            axes.set_ylim(0, 1.08 * top if top > 0 else 1)
            axes.label_outer()
        grid[2, 0].set_ylabel("difference\nby clean maps")
        for axes, name in zip(grid[:2, 0], POOLINGS.values(), strict=True):
            axes.set_ylabel(name)
        rows = figure2_rows(found, place)
        return artefacts.write_figure_artefact(
            request.out_stem,
            figure,
            rows,
            title=_TITLE2,
            caption=_caption2(found, place, request.class_names),
            context=request.context,
            sources={one.dataset: one.source for one in entries},
            n=f"{len(found[0].ids)} test images",
            budget=attacks_in_words(request, [MAPS]),
            inputs=[one.residuals[MAPS] for one in entries],
        )


def _read_residuals(entry: Entry) -> Residuals | None:
    """Returns what a model's file holds; None where its training failed."""
    path = entry.residuals[MAPS]
    if not Path(path).is_file():
        raise InputError("This file of residual maps does not exist.", where=path)
    arrays = io.read_tensors(path)
    if not arrays:
        return None
    names = [f"{kind}_{pooling}" for kind in ("absolute", "change") for pooling in POOLINGS]
    if missing := sorted({"point_id", "label", "linf", *names} - set(arrays)):
        raise InputError(f"Arrays are missing: {', '.join(missing)}.", where=path)
    return Residuals(
        entry.model,
        io.read_metadata(path)["own_pooling"],
        arrays["point_id"],
        arrays["label"],
        arrays["linf"] > 0,
        {pooling: arrays[f"absolute_{pooling}"] for pooling in POOLINGS},
        {pooling: arrays[f"change_{pooling}"] for pooling in POOLINGS},
    )


def _draw_maps(column: Sequence[Any], residuals: Residuals, place: int) -> None:
    """Draws the two maps of an image, in one scale."""
    top = max(float(maps[place].max()) for maps in residuals.maps.values())
    for axes, pooling in zip(column, POOLINGS, strict=True):
        shown = residuals.maps[pooling][place]
        axes.imshow(shown, cmap="magma", vmin=0, vmax=top or 1, interpolation="nearest")
        bare(axes)
        own = " (its own)" if pooling == residuals.own else ""
        axes.set_title(f"{residuals.change[pooling][place]:.3f}{own}", fontsize=7)
        if not residuals.attacked[place]:
            axes.text(
                *(0.5, 0.5, "misclassified\nwithout attack"),
                transform=axes.transAxes,
                ha="center",
                va="center",
                color="white",
                fontsize=7,
            )
    model = residuals.model.replace(" with ", "\nwith ")
    column[0].set_title(f"{model}\n{column[0].get_title(loc='left')}", fontsize=7)


def _draw_changes(axes: Any, residuals: Residuals, place: int) -> None:
    """Draws the sizes of all images by both poolings, a line each; the image shown is dark."""
    values = np.stack([residuals.change[pooling] for pooling in POOLINGS])
    for image in np.flatnonzero(residuals.attacked):
        colour = "#222222" if image == place else "#A8A8A8"
        axes.plot([0, 1], values[:, image], marker="o", ms=2.5, color=colour, lw=0.8)
    axes.set_xlim(-0.3, 1.3)
    axes.set_xticks([0, 1], labels=["max", "drop-max"])


def figure2_rows(found: Sequence[Residuals], place: int) -> pd.DataFrame:
    """Returns what is told of each image and model.

    Returns:
        ``model``, ``own_pooling``, ``point_id``, ``label``, ``attacked`` (not misclassified without
        attack), ``shown`` (whether its maps are drawn),
        ``change_max`` and ``change_drop_max`` (L1 of the difference by L1 of the clean maps), and
        ``residual_max`` and ``residual_drop_max`` (mean over places of the drawn maps).
    """
    import pandas as pd

    rows = [
        {
            "model": one.model,
            "own_pooling": one.own,
            "point_id": int(one.ids[image]),
            "label": int(one.labels[image]),
            "attacked": bool(one.attacked[image]),
            "shown": image == place,
            **{f"change_{pooling}": float(one.change[pooling][image]) for pooling in POOLINGS},
            **{
                f"residual_{pooling}": float(one.maps[pooling][image].mean())
                for pooling in POOLINGS
            },
        }
        for one in found
        for image in range(len(one.ids))
    ]
    return pd.DataFrame(rows)


def _caption2(found: Sequence[Residuals], place: int, names: Sequence[str]) -> str:
    means = "; ".join(
        f"{one.model} {_mean(one, 'max')} and {_mean(one, 'drop_max')} ({one.attacked.sum()})"
        for one in found
    )
    first = found[0]
    return (
        f"Test image {first.ids[place]}, {names[int(first.labels[place])]}. Above: absolute "
        "differences of the maps behind the first pooling between the image and its adversarial "
        "version, added over channels, of each model by both poolings at its own weights and with "
        "the image that was made against it; bright is much, one scale for the two of a model. The "
        "number is the difference by the clean maps themselves (L1): drop-max hands on smaller "
        "values, so brightness alone does not compare. Below: the same of all "
        f"{len(first.ids)} kept images but those that a model misclassifies without attack, the "
        "one above in black. Means of max-pooling and drop-max, in brackets of how many images: "
        f"{means}. One training of each model, fold 0."
    )


def _mean(residuals: Residuals, pooling: str) -> str:
    """Returns the mean change of the attacked images."""
    values = residuals.change[pooling][residuals.attacked]
    return number(float(values.mean()) if values.size else None, 3)
