"""One style for all figures: sizes, fonts, colours of models, the mark of synthetic data.

Figures are made with :func:`new_figure` inside ``with style():`` and written by
:func:`medrobust.reporting.artefacts.write_figure_artefact`. Nothing here touches matplotlib's
global state or needs a display. Colours are Okabe and Ito's and Paul Tol's sets for colour-blind
readers; each model also has its own line style, so that greyscale prints stay readable.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Widths of one and of two columns of a journal page, in inches (89 mm and 183 mm).
SINGLE_COLUMN = 3.5
DOUBLE_COLUMN = 7.2
DPI = 300
# Decimals of an axes' place, in parts of the figure: a twentieth of a point.
_PLACES = 4

#: Colour of the clean signal in every figure.
ORIGINAL = "#222222"
#: Of a perturbed one where no model is to be told from another.
ADVERSARIAL = "#C4451C"
MUTED = "#8A8A8A"
SYNTHETIC_TEXT = "SYNTHETIC DATA"

_SOLID, _DASHED, _DOTTED, _DASHDOT = "-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5))
_MODELS: dict[str, tuple[str, Any, str]] = {
    "SCD01": ("#0072B2", _SOLID, "o"),
    "SCDCE": ("#3D9BD1", _DASHED, "s"),
    "BNN": ("#AA4499", _DASHDOT, "D"),
    "MLP": ("#C77C00", _SOLID, "^"),
    "CNN": ("#009E73", _DASHED, "v"),
    "LeNet": ("#117733", _DOTTED, "v"),
    "ResNet18": ("#6B6B00", _DASHDOT, "P"),
    "RandomForest": ("#D55E00", _SOLID, "X"),
    # Training losses of nsr; adversarial training in one hue, darker with its radius.
    "ce": ("#444444", _SOLID, "<"),
    "jacob": ("#AA4499", _DASHDOT, "D"),
    "mse": ("#DDAA33", _DASHED, "s"),
    "mseMargin": ("#D55E00", _DASHED, "^"),
    "loss2": ("#0072B2", _SOLID, "o"),
    "loss1": ("#56B4E9", _SOLID, "v"),
    "adv0.1": ("#7FB800", _DOTTED, "P"),
    "adv0.2": ("#2CA25F", _DASHDOT, "X"),
    "adv0.3": ("#00441B", _DASHED, "p"),
    # Trainings of ima, likewise: each data set has three or four of the radii.
    "IMA": ("#0072B2", _SOLID, "o"),
    "MMA": ("#D55E00", _SOLID, "s"),
    "TRADES": ("#AA4499", _DASHDOT, "D"),
    "DDN": ("#56B4E9", _DASHED, "v"),
    "adv": ("#00441B", _DASHED, "p"),
    "adv0.15": ("#57B52E", _DOTTED, "h"),
    **dict.fromkeys(("adv1", "adv0.01", "adv0.5"), ("#7FB800", _DOTTED, "P")),
    **dict.fromkeys(("adv3", "adv0.06", "adv1.0"), ("#2CA25F", _DASHDOT, "X")),
    **dict.fromkeys(("adv5", "adv0.10", "adv2.0"), ("#00441B", _DASHED, "p")),
    "rand0.1": ("#E6C229", _DOTTED, "1"),
    "rand0.2": ("#C2912E", _DASHDOT, "2"),
    "rand0.3": ("#7A5C1E", _DASHED, "3"),
}
# For models that a user adds; a name always gets the same one, whatever else is drawn.
_FURTHER_COLOURS = ("#332288", "#882255", "#999933", "#44AA99", "#661100", "#6699CC", "#DDAA33")
_FURTHER_LINES = (_SOLID, _DASHED, _DOTTED, _DASHDOT)
_FURTHER_MARKERS = ("o", "s", "D", "^", "v", "P", "X")

_MODEL_LABELS = {"RandomForest": "Random forest"}

_SETTINGS: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.unicode_minus": True,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "lines.linewidth": 1.1,
    "figure.dpi": 100,
    "savefig.dpi": DPI,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "pdf.fonttype": 42,
    "svg.fonttype": "path",
    # Fixed, so that equal figures are equal files.
    "svg.hashsalt": "medrobust",
}


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Applies the project's figure style inside the block, and only there."""
    import matplotlib
    import seaborn

    base = {**seaborn.axes_style("ticks"), **seaborn.plotting_context("paper")}
    with matplotlib.rc_context({**base, **_SETTINGS}):
        yield


def panels_across(panels: int, most: int) -> int:
    """Returns in how many columns panels stand, so that none is alone in the last row.

    ``most`` columns where that does, one more or some fewer where it does not.

    >>> [panels_across(n, 3) for n in (1, 3, 4, 5, 6, 7, 10)]
    [1, 3, 2, 3, 3, 4, 4]
    """
    if panels <= most:
        return panels
    wider = [most + 1] if panels > most + 1 else []
    for columns in (most, *wider, *range(most - 1, 1, -1)):
        if panels % columns != 1:
            return columns
    return most


def new_figure(width: float = DOUBLE_COLUMN, height: float = 4.0) -> Figure:
    """Returns an empty figure of ``width`` x ``height`` inches with constrained layout.

    Call it inside ``with style():``.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def model_label(name: str) -> str:
    """Returns how a model's name is printed ("RandomForest" as "Random forest")."""
    return _MODEL_LABELS.get(name, name)


def model_style(name: str) -> dict[str, Any]:
    """Returns the ``color``, ``linestyle`` and ``marker`` that stand for a model everywhere."""
    if name in _MODELS:
        colour, line, marker = _MODELS[name]
    else:
        digest = hashlib.sha256(name.encode()).digest()
        colour = _FURTHER_COLOURS[digest[0] % len(_FURTHER_COLOURS)]
        line = _FURTHER_LINES[digest[1] % len(_FURTHER_LINES)]
        marker = _FURTHER_MARKERS[digest[2] % len(_FURTHER_MARKERS)]
    return {"color": colour, "linestyle": line, "marker": marker}


def model_colour(name: str) -> str:
    """Returns the colour that stands for a model in every figure, as ``#rrggbb``."""
    return model_style(name)["color"]


def mark_synthetic(figure: Figure) -> None:
    """Writes "SYNTHETIC DATA" across the figure; calling it again changes nothing.

    Call it when all axes are there. The words lie behind what is drawn, whose panels become
    see-through, so that they hide no trace and no title; pictures, which would cover them, have
    them in front.
    """
    gid = "synthetic-mark"
    if any(text.get_gid() == gid for text in figure.texts):
        return
    width, height = figure.get_size_inches()
    pictures = any(axes.images for axes in figure.axes)
    if not pictures:
        for axes in figure.axes:
            axes.patch.set_visible(False)
    angle = min(25.0, 0.7 * math.degrees(math.atan2(height, width)))
    sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    # As large as crosses the picture without leaving it; a letter is about .8 em wide.
    length = 0.8 * len(SYNTHETIC_TEXT)
    size = 72 * 0.92 * min(width / (length * cosine + sine), height / (length * sine + cosine))
    figure.text(
        0.5,
        0.5,
        SYNTHETIC_TEXT,
        gid=gid,
        ha="center",
        va="center",
        rotation=angle,
        fontsize=size,
        fontweight="bold",
        color="#B00020",
        alpha=0.22,
        zorder=1000 if pictures else -1,
        in_layout=False,
    )


def footer(figure: Figure, text: str) -> None:
    """Writes ``text`` in small print below the picture, so that it survives being cut out.

    A later call replaces the text of an earlier one.
    """
    import textwrap

    gid = "footer"
    for old in [entry for entry in figure.texts if entry.get_gid() == gid]:
        old.remove()
    width, height = figure.get_size_inches()
    size = 5.5
    lines = textwrap.wrap(text, width=max(20, int(width * 72 / (size * 0.56))))
    figure.text(
        0.006,
        0.006,
        "\n".join(lines),
        gid=gid,
        ha="left",
        va="bottom",
        fontsize=size,
        color="#555555",
        linespacing=1.25,
        in_layout=False,
    )
    engine = figure.get_layout_engine()
    if engine is not None:
        space = (len(lines) * size * 1.35 + 5) / (72 * height)
        # Aligned axis labels may reach a little beyond the layout: keep an edge of the page free.
        engine.set(rect=(0.006, space, 0.988, 0.994 - space))


def settle(figure: Figure) -> None:
    """Lays the figure out once, for all formats, and rounds where its axes stand.

    The solver behind constrained layout goes through its terms in the order of their addresses in
    memory, so the last bits of a position differ from process to process, and with them the sixth
    decimal of an SVG. Call it last, when everything is drawn.
    """
    screen = figure.get_dpi()
    figure.set_dpi(DPI)
    figure.draw_without_rendering()
    figure.set_layout_engine(None)  # within `style` that is none at all
    for axes in figure.axes:
        box = axes.get_position(original=True)
        axes.set_position([round(value, _PLACES) for value in box.bounds])
    figure.set_dpi(screen)
