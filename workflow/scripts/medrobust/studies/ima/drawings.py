"""Figures of ima that explain: the search (2 to 4), the equilibrium (5); and CT images (1, panel).

Figures 2 to 4 and the left of 5 show what the algorithm did in a model that it trained
(:func:`medrobust.jobs.plane.trace_search`), the right of 5 is computed.
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
from medrobust.reporting.request import Entry, Request
from medrobust.reporting.rows import draw_not_run, typed, words_alone

if TYPE_CHECKING:
    import pandas as pd

#: Of the two classes, and paler where the model says so.
CLASS_COLOURS = ("#0072B2", "#D55E00", "#009E73")
REGION_COLOURS = ("#C9E0F0", "#FFFFFF", "#F9D9C4")
CLASS_MARKERS = ("o", "s", "^")
NOISY = "#AA3377"
MIDDLE_RIGHT, MIDDLE_WRONG = "#555555", "#CC3311"
#: A middle of Figure 3 by what the model calls it: colour, marker, and the marker's size beside a
#: dot's, for which a cross looks smaller.
MIDDLES = {"right": (MIDDLE_RIGHT, "o", 1.0), "wrong": (MIDDLE_WRONG, "X", 1.3)}
BRACKET, BRACKET_WIDTH = "#BBBBBB", 5
PLACE_LINE = (0, (4, 2))


# --- what is drawn ----------------------------------------------------------------------


@dataclass(frozen=True)
class Search:
    """What one model's search went through.

    Attributes:
        entry: the model.
        arrays: as :func:`medrobust.jobs.plane.trace_search` names them.
    """

    entry: Entry
    arrays: Mapping[str, np.ndarray]

    @property
    def order(self) -> float:
        """Of the norm: infinity or 2."""
        return self.number("order")

    @property
    def norm(self) -> str:
        """The norm, to be printed."""
        return "L∞" if np.isinf(self.order) else "L2"

    def number(self, name: str) -> float:
        """Returns a single value."""
        return float(self.arrays[name][0])

    def part(self, name: str) -> dict[str, np.ndarray] | None:
        """Returns the arrays of a part ("case0", ...), without its name; None if there is none."""
        start = f"{name}_"
        found = {k.removeprefix(start): v for k, v in self.arrays.items() if k.startswith(start)}
        return found or None


_GENERAL = ("order", "margin_step", "largest_margin", "steps", "reach", "points", "shrunk")
_MAP = ("first", "second", "probability")
_POINT = ("point_id", "label", "x", "margin", "start_radius", *_MAP)
_PARTS = {
    "case0": (*_POINT, "path", "clear"),
    "case1": (
        *(*_POINT, "path", "right", "wrong", "middles", "middle_right"),
        *(f"segment_{name}" for name in _MAP),
    ),
    "shrink": (*_POINT, "noisy", "after"),
    "balls": ("point_id", "label", "x", "margin", "noisy", *_MAP),
}


def read_search(request: Request) -> Search | None:
    """Returns the search of the first model that has one; None where none was run.

    Raises:
        InputError: a file is missing, or arrays in it are.
    """
    entry = next((entry for entry in request.entries if entry.search), None)
    if entry is None:
        return None
    if not Path(entry.search).is_file():
        raise InputError("This file of a search does not exist.", where=entry.search)
    arrays = io.read_tensors(entry.search)
    missing = {*_GENERAL} - set(arrays)
    for part, names in _PARTS.items():
        if any(name.startswith(f"{part}_") for name in arrays):
            missing |= {f"{part}_{name}" for name in names} - set(arrays)
    if missing:
        raise InputError(f"Arrays are missing: {', '.join(sorted(missing))}.", where=entry.search)
    return Search(entry, arrays)


def _write(
    request: Request,
    search: Search,
    figure: Any,
    drawn: pd.DataFrame,
    *,
    title: str,
    caption: str,
    n: str,
) -> list[Path]:
    """Writes a figure of a search."""
    entry = search.entry
    steps, reach = search.number("steps"), search.number("reach")
    shape = "squares" if np.isinf(search.order) else "circles"
    return artefacts.write_figure_artefact(
        request.out_stem,
        figure,
        drawn,
        title=title,
        caption=(
            f"{caption} The model is {entry.model} on {entry.dataset}, after its last epoch; its "
            "training points were searched once more from their margins, by the functions that "
            f"train. Balls are of the {search.norm} norm, {shape}. Shading: the probability of "
            "each class; line: where both have 1/2."
        ),
        context=request.context,
        sources={entry.dataset: entry.source},
        n=n,
        budget=(
            f"BPGD of the training, {steps:g} steps of {reach:g} ε / {steps:g}, ε being the "
            "point's margin"
        ),
        inputs=[entry.search],
    )


def _write_none(request: Request, search: Search, title: str, what: str) -> list[Path]:
    """Writes a figure that says that the run has no point to show."""
    import pandas as pd

    from medrobust.reporting import plotting

    text = f"In this run {what}."
    with plotting.style():
        figure = words_alone(title, text)
        drawn = pd.DataFrame({"status": [text]})
        return _write(request, search, figure, drawn, title=title, caption=text, n="0")


def _class_name(request: Request, label: int) -> str:
    names = request.class_names
    return names[label] if len(names) == 2 else str(label)


def _point_text(request: Request, part: Mapping[str, np.ndarray]) -> str:
    label = int(part["label"][0])
    return f"training point {int(part['point_id'][0])} (class {_class_name(request, label)})"


# --- elements of the drawings -----------------------------------------------------------


def _field(axes: Any, part: Mapping[str, np.ndarray], prefix: str = "") -> None:
    """Shades a map and draws the boundary; the picture ends where the map ends."""
    from matplotlib.colors import LinearSegmentedColormap

    from medrobust.reporting import plotting

    first, second, probability = (
        part[f"{prefix}{name}"].astype(np.float64) for name in ("first", "second", "probability")
    )
    across, up = (values[1] - values[0] for values in (first, second))
    axes.imshow(
        probability,
        origin="lower",
        extent=(
            *(first[0] - across / 2, first[-1] + across / 2),
            *(second[0] - up / 2, second[-1] + up / 2),
        ),
        cmap=LinearSegmentedColormap.from_list("regions", REGION_COLOURS),
        vmin=0,
        vmax=1,
        interpolation="bilinear",
        aspect="equal",
        zorder=0,
    )
    if probability.min() < 0.5 < probability.max():
        axes.contour(
            first, second, probability, levels=[0.5], colors=plotting.ORIGINAL, linewidths=1.1
        )
    axes.set_xlim(first[0], first[-1])
    axes.set_ylim(second[0], second[-1])
    axes.spines[:].set_visible(True)


def _ball(axes: Any, x: np.ndarray, radius: float, order: float, **style: Any) -> None:
    """Draws the ball around a point in the norm: a square in Linf, a circle in L2."""
    from matplotlib.patches import Circle, Rectangle

    style = {"fill": False, "linewidth": 1.0, "zorder": 2} | style
    if np.isinf(order):
        corner = (x[0] - radius, x[1] - radius)
        axes.add_patch(Rectangle(corner, 2 * radius, 2 * radius, **style))
    else:
        axes.add_patch(Circle((x[0], x[1]), radius, **style))


def _point(axes: Any, x: np.ndarray, label: int, size: float = 6.0) -> None:
    axes.plot(
        *x,
        CLASS_MARKERS[label],
        color=CLASS_COLOURS[label],
        markersize=size,
        markeredgecolor="white",
        markeredgewidth=0.6,
        zorder=6,
    )


def _name(
    axes: Any, at: np.ndarray, text: str, away: tuple[float, float], colour: str = "#222222"
) -> None:
    """Writes a name beside a place, ``away`` points of print from it."""
    from matplotlib.patheffects import withStroke

    axes.annotate(
        text,
        at,
        xytext=away,
        textcoords="offset points",
        color=colour,
        fontsize=8,
        ha="center",
        va="center",
        zorder=8,
        path_effects=[withStroke(linewidth=2.2, foreground="white", alpha=0.85)],
    )


def _offset(vector: np.ndarray, length: float) -> tuple[float, float]:
    """Returns a vector's direction as an offset of that many points of print."""
    size = float(np.linalg.norm(vector))
    first, second = vector / size if size > 0 else np.array([0.0, 1.0])
    return length * float(first), length * float(second)


def _coordinates(axes: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    axes.set_xlabel("First coordinate")
    axes.set_ylabel("Second coordinate")


def _nothing(axes: Any, what: str) -> None:
    axes.text(0.5, 0.5, what, transform=axes.transAxes, ha="center", va="center")
    axes.set_xticks([])
    axes.set_yticks([])


def _handle(**style: Any) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], **({"linestyle": "none", "color": "#555555"} | style))


# --- Figure 2 ---------------------------------------------------------------------------

_CASES = {
    "case0": "(a) Case 0: no wrong point is found",
    "case1": "(b) Case 1: a wrong point is found",
}


def build_cases(request: Request) -> list[Path]:
    """Writes Figure 2: a search that finds no wrong point, and one that does.

    Raises:
        InputError: the file of the search is missing or incomplete.
    """
    from medrobust.reporting import plotting

    title = "Figure 2. Case 0 and case 1 of BPGD"
    search = read_search(request)
    if search is None:
        return draw_not_run(request, title, "a model trained by IMA on data of the plane")
    parts = {name: search.part(name) for name in _CASES}
    with plotting.style():
        figure = plotting.new_figure(plotting.DOUBLE_COLUMN, 4.15)
        panels = figure.subplots(1, 2)
        for axes, (name, heading) in zip(panels, _CASES.items(), strict=True):
            part = parts[name]
            axes.set_title(heading)
            if part is None:
                _nothing(axes, "no such point in this run")
            else:
                _draw_case(axes, part, search.order)
            if name != "case0":
                axes.set_ylabel("")
        _case_legend(figure, parts["case1"] is not None)
        return _write(
            request,
            search,
            figure,
            _case_rows(parts),
            title=title,
            caption=_case_caption(request, search, parts),
            n="one training point in each panel",
        )


def _draw_case(axes: Any, part: Mapping[str, np.ndarray], order: float) -> None:
    label, x, path = int(part["label"][0]), part["x"], part["path"]
    _field(axes, part)
    _ball(axes, x, float(part["margin"][0]), order, edgecolor=CLASS_COLOURS[label])
    ended = "wrong" in part
    axes.plot(*path.T, color="#555555", linewidth=0.8, zorder=3)
    correct = path[:-1] if ended else path
    axes.plot(*correct.T, ".", color="#555555", markersize=4.5, zorder=4)
    if len(correct):
        hollow = {"markerfacecolor": "white", "markeredgecolor": "#222222", "markersize": 4.5}
        axes.plot(*path[0], "D", **hollow, zorder=5)
    _point(axes, x, label)
    _name(axes, x, "$x$", _offset(x - path[0], 9), CLASS_COLOURS[label])
    if ended:
        axes.plot(*part["wrong"], "X", color=MIDDLE_WRONG, markersize=6.5, zorder=5)
        _name(axes, part["right"], "$x_{n1}$", _offset(part["right"] - x, 12))
        _name(axes, part["wrong"], "$x_{n2}$", _offset(part["wrong"] - x, 12), MIDDLE_WRONG)
    _coordinates(axes)


def _case_legend(figure: Any, with_wrong: bool) -> None:
    hollow = {"markerfacecolor": "white", "markeredgecolor": "#222222", "markersize": 4.5}
    handles = {
        "start": _handle(marker="D", **hollow),
        "after each step, classified correctly": _handle(marker=".", markersize=5, linestyle="-"),
        "first misclassified": _handle(marker="X", color=MIDDLE_WRONG, markersize=6),
        "ball of the margin": _handle(
            marker="s", markerfacecolor="none", markersize=8, markeredgecolor="#555555"
        ),
        "decision boundary": _handle(linestyle="-", color="#222222"),
    }
    if not with_wrong:
        del handles["first misclassified"]
    figure.legend(
        list(handles.values()), list(handles), loc="outside upper center", ncols=len(handles)
    )


def _case_caption(
    request: Request, search: Search, parts: Mapping[str, Mapping[str, np.ndarray] | None]
) -> str:
    texts = [
        "The search for a noisy point in the ball of a training point: gradient ascent from a "
        "random start."
    ]
    case0, case1 = parts["case0"], parts["case1"]
    if case0 is not None:
        places = len(np.unique(case0["path"], axis=0))
        texts.append(
            f"(a) {_point_text(request, case0).capitalize()}, margin {case0['margin'][0]:.3f}: the "
            f"start and all {len(case0['path']) - 1} steps ({places} different places) are called "
            "right; the search returns nothing, and the margin grows. It is the first point in a "
            f"seeded order, of margin below {search.number('largest_margin'):g}, for which nothing "
            + (
                "was found, and whose ball does not reach the boundary in the picture."
                if case0["clear"][0]
                else "was found; the picture shows what the search missed, if anything."
            )
        )
    if case1 is not None:
        texts.append(
            f"(b) {_point_text(request, case1).capitalize()}, margin {case1['margin'][0]:.3f}: "
            f"step {len(case1['path']) - 1} leads to the first wrong point x_n2; x_n1 is the right "
            "one before it. It is the first point in the same order whose first wrong point came "
            "after at least 3 steps."
        )
    return " ".join(texts)


def _case_rows(parts: Mapping[str, Mapping[str, np.ndarray] | None]) -> pd.DataFrame:
    rows = []
    for panel, part in zip("ab", parts.values(), strict=True):
        if part is None:
            continue
        point = {"panel": panel, "point_id": int(part["point_id"][0])}
        radius = {"radius": float(part["margin"][0])}
        rows.append(point | {"what": "x"} | _at(part["x"]) | radius)
        last = len(part["path"]) - 1
        for step, place in enumerate(part["path"]):
            called = "wrong" if "wrong" in part and step == last else "right"
            what = {"what": "step" if step else "start", "step": step, "called": called}
            rows.append(point | what | _at(place))
    columns = ["panel", "point_id", "what", "step", "called", "first", "second", "radius"]
    return _frame(rows, columns)


def _at(place: np.ndarray) -> dict[str, float]:
    return {"first": float(place[0]), "second": float(place[1])}


def _frame(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    import pandas as pd

    text = {"panel", "what", "called", "classes"}
    whole = {"point_id", "step", "label", "halving"} & set(columns)
    frame = pd.DataFrame(list(rows), columns=list(columns))
    return typed(frame, text=text, whole=whole)


# --- Figure 3 ---------------------------------------------------------------------------


def build_halving(request: Request) -> list[Path]:
    """Writes Figure 3: the middles of the segment between a right and a wrong point.

    Raises:
        InputError: the file of the search is missing or incomplete.
    """
    from medrobust.reporting import plotting

    title = "Figure 3. Binary search in BPGD"
    search = read_search(request)
    if search is None:
        return draw_not_run(request, title, "a model trained by IMA on data of the plane")
    part = search.part("case1")
    if part is None:
        return _write_none(
            request, search, title, "no point had its first wrong one after 3 steps or more"
        )
    with plotting.style():
        figure = plotting.new_figure(plotting.DOUBLE_COLUMN, 3.9)
        left, right = figure.subplots(1, 2, width_ratios=[1, 1])
        _draw_segment(left, part)
        left.set_title("(a) The segment between $x_{n1}$ and $x_{n2}$")
        _draw_brackets(right, halving_rows(part))
        right.set_title("(b) The bracket, halving by halving")
        _halving_legend(figure)
        length = float(np.linalg.norm(part["wrong"] - part["right"]))
        halvings = len(part["middles"])
        return _write(
            request,
            search,
            figure,
            halving_rows(part),
            title=title,
            caption=(
                f"The search of Figure 2 (b), {_point_text(request, part)}, goes on: the segment "
                "between the last right point x_n1 and the first wrong one x_n2 is halved "
                f"{halvings} times. Dots: classified correctly; crosses: misclassified. (a) The "
                "middles, numbered as far as they can be told apart, and both ends, larger; star: "
                f"the noisy point x_n, which is middle {halvings}. (b) Place of each middle on the "
                "segment as a share of its length; bars: the bracket, where the boundary was known "
                f"to be before; dashed line: the place of x_n. The segment is {length:.2g} long "
                f"(L2), the last bracket {length / 2 ** (halvings - 1):.1g}."
            ),
            n="one training point",
        )


def halving_rows(part: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Returns the middles of a segment and what was known before each.

    Returns:
        ``halving`` (from 1), ``first``, ``second``, ``share`` (of the way from the right end),
        ``low`` and ``high`` (shares between which the boundary was known to be), ``called``;
        halving 0 are the two ends.
    """
    right, wrong = part["right"].astype(np.float64), part["wrong"].astype(np.float64)
    way = wrong - right
    rows = [
        {"halving": 0, **_at(right), "share": 0.0, "called": "right"},
        {"halving": 0, **_at(wrong), "share": 1.0, "called": "wrong"},
    ]
    low, high = 0.0, 1.0
    for number, (middle, ok) in enumerate(
        zip(part["middles"], part["middle_right"], strict=True), start=1
    ):
        # The shares are exact: middles are stored with the precision of the coordinates.
        share = (low + high) / 2
        place = {"share": share, "low": low, "high": high}
        called = "right" if ok else "wrong"
        rows.append({"halving": number, **_at(middle), **place, "called": called})
        low, high = (share, high) if ok else (low, share)
    assert np.allclose(right + share * way, part["middles"][-1], atol=1e-5)
    return _frame(rows, ["halving", "first", "second", "share", "low", "high", "called"])


def _draw_segment(axes: Any, part: Mapping[str, np.ndarray]) -> None:
    right, wrong, middles = part["right"], part["wrong"], part["middles"]
    _field(axes, part, "segment_")
    axes.plot(*np.stack([right, wrong]).T, color="#555555", linewidth=0.8, zorder=3)
    way = wrong - right
    aside = np.array([-way[1], way[0]])
    _middle(axes, *right, "right", 5)
    _middle(axes, *wrong, "wrong", 5)
    _name(axes, right, "$x_{n1}$", _offset(-way, 13))
    _name(axes, wrong, "$x_{n2}$", _offset(way, 13), MIDDLE_WRONG)
    length, shown = float(np.linalg.norm(way)), [right, wrong, middles[-1]]
    for number, (middle, ok) in enumerate(zip(middles, part["middle_right"], strict=True), 1):
        called = "right" if ok else "wrong"
        _middle(axes, *middle, called, 3)
        # A number where it does not stand upon another.
        gaps = [float(np.linalg.norm(middle - place)) for place in shown]
        if min(gaps) > 0.045 * length:
            _name(axes, middle, str(number), _offset(aside, 8), MIDDLES[called][0])
            shown.append(middle)
    axes.plot(*middles[-1], "*", color=NOISY, markersize=9, markeredgecolor="white", zorder=7)
    _name(axes, middles[-1], "$x_n$", _offset(-aside, 12), NOISY)
    _coordinates(axes)


def _middle(axes: Any, across: Any, up: Any, called: str, size: float) -> None:
    """Draws points by what the model calls them, of that many points of print across."""
    colour, marker, larger = MIDDLES[called]
    axes.plot(across, up, marker, color=colour, markersize=larger * size, zorder=5)


def _draw_brackets(axes: Any, rows: pd.DataFrame) -> None:
    steps = rows[rows["halving"] > 0]
    numbers = [int(number) for number in steps["halving"]]
    bars = {"color": BRACKET, "linewidth": BRACKET_WIDTH, "zorder": 1}
    axes.vlines(numbers, steps["low"], steps["high"], **bars)
    for called in MIDDLES:
        own = steps[steps["called"] == called]
        _middle(axes, [int(number) for number in own["halving"]], own["share"], called, 4)
    line = {"color": NOISY, "linewidth": 0.8, "linestyle": PLACE_LINE, "zorder": 0}
    axes.axhline(steps["share"].iloc[-1], **line)
    axes.set_xticks(numbers)
    axes.set_ylim(-0.04, 1.04)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["$x_{n1}$  0", "0.25", "0.5", "0.75", "$x_{n2}$  1"])
    axes.set_xlabel("Halving")
    axes.set_ylabel("Share of the way from $x_{n1}$ to $x_{n2}$")


def _halving_legend(figure: Any) -> None:
    handles = {
        f"called {called}": _handle(marker=marker, color=colour, markersize=4 * larger)
        for called, (colour, marker, larger) in MIDDLES.items()
    }
    handles["noisy point $x_n$"] = _handle(marker="*", color=NOISY, markersize=9)
    handles["place of $x_n$"] = _handle(linestyle=PLACE_LINE, linewidth=0.8, color=NOISY)
    handles["bracket"] = _handle(
        linestyle="-", linewidth=BRACKET_WIDTH, color=BRACKET, solid_capstyle="butt"
    )
    handles["decision boundary"] = _handle(linestyle="-", color="#222222")
    figure.legend(
        list(handles.values()), list(handles), loc="outside upper center", ncols=len(handles)
    )


# --- Figure 4 ---------------------------------------------------------------------------


def build_shrinking(request: Request) -> list[Path]:
    """Writes Figure 4: a margin that becomes smaller.

    Raises:
        InputError: the file of the search is missing or incomplete.
    """
    from medrobust.reporting import plotting

    title = "Figure 4. A margin shrinks"
    search = read_search(request)
    if search is None:
        return draw_not_run(request, title, "a model trained by IMA on data of the plane")
    part = search.part("shrink")
    if part is None:
        return _write_none(request, search, title, "no margin shrank by a step or more")
    before, after = float(part["margin"][0]), float(part["after"][0])
    with plotting.style():
        figure = plotting.new_figure(plotting.SINGLE_COLUMN, 4.1)
        axes = figure.subplots()
        _draw_shrinking(axes, part, search.order)
        _shrinking_legend(figure)
        return _write(
            request,
            search,
            figure,
            _shrinking_rows(part),
            title=title,
            caption=(
                f"{_point_text(request, part).capitalize()}: in its ball, of margin {before:.3f}, "
                f"the search finds the noisy point x_n on the decision boundary, {after:.3f} away "
                f"({search.norm}); that is the new margin. It is the first point in a seeded order "
                f"whose margin shrinks by at least the margin step "
                f"{search.number('margin_step'):.3g}; in this sweep {search.number('shrunk'):,.0f} "
                f"of {search.number('points'):,.0f} margins became smaller."
            ),
            n="one training point",
        )


def _draw_shrinking(axes: Any, part: Mapping[str, np.ndarray], order: float) -> None:
    label, x, noisy = int(part["label"][0]), part["x"], part["noisy"]
    colour = CLASS_COLOURS[label]
    _field(axes, part)
    _ball(axes, x, float(part["margin"][0]), order, edgecolor=colour, linestyle=(0, (4, 2)))
    _ball(axes, x, float(part["after"][0]), order, edgecolor=colour, linewidth=1.5)
    axes.plot(*np.stack([x, noisy]).T, color="#555555", linewidth=0.8, zorder=3)
    _point(axes, x, label)
    axes.plot(*noisy, "*", color=NOISY, markersize=10, markeredgecolor="white", zorder=7)
    _name(axes, x, "$x$", _offset(x - noisy, 10), colour)
    _name(axes, noisy, "$x_n$", _offset(noisy - x, 13), NOISY)
    _coordinates(axes)


def _shrinking_legend(figure: Any) -> None:
    handles = {
        "ball before": _handle(linestyle=(0, (4, 2)), color="#555555"),
        "ball after": _handle(linestyle="-", linewidth=1.5, color="#555555"),
        "noisy point": _handle(marker="*", color=NOISY, markersize=9),
        "decision boundary": _handle(linestyle="-", color="#222222"),
    }
    figure.legend(list(handles.values()), list(handles), loc="outside upper center", ncols=2)


def _shrinking_rows(part: Mapping[str, np.ndarray]) -> pd.DataFrame:
    point = {"point_id": int(part["point_id"][0]), "label": int(part["label"][0])}
    rows = [
        point | {"what": "x, ball before"} | _at(part["x"]) | {"radius": float(part["margin"][0])},
        point | {"what": "x, ball after"} | _at(part["x"]) | {"radius": float(part["after"][0])},
        point | {"what": "noisy point"} | _at(part["noisy"]),
    ]
    return _frame(rows, ["point_id", "label", "what", "first", "second", "radius"])


# --- Figure 5 ---------------------------------------------------------------------------

#: Three points of three classes, for the right of Figure 5. The third is as far from the first as
#: from the second, so that its ball meets both of theirs.
THREE = np.array([[-1.0, 0.0], [1.0, 0.0], [0.0, 2.0]])


def grown_radii(points: np.ndarray) -> np.ndarray:
    """Returns the radii of balls (L2) that grow alike from 0, each until it meets another.

    Args:
        points: centres, all different, float64 ``[n, 2]``, n at least 2.

    Returns:
        radii float64 ``[n]``.
    """
    gaps = np.linalg.norm(points[:, None] - points[None], axis=2)
    radii, growing = np.zeros(len(points)), np.ones(len(points), dtype=bool)
    while growing.any():
        # When each growing ball meets each other one, if nothing happens before.
        both = growing[:, None] & growing[None]
        meets = np.where(both, gaps / 2, gaps - radii[None])
        meets[~growing] = np.inf
        np.fill_diagonal(meets, np.inf)
        now = meets.min()
        stop = growing & (meets.min(axis=1) <= now * (1 + 1e-12))
        radii[stop] = now
        growing &= ~stop
    return radii


def nearest_ball(places: np.ndarray, points: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Returns the distances (L2) of places ``[k, 2]`` from balls, ``[k, n]``; negative within."""
    gaps = np.linalg.norm(places[:, None] - points[None], axis=2)
    return gaps - radii[None]


def build_equilibrium(request: Request) -> list[Path]:
    """Writes Figure 5: balls of both classes with the boundary between; and three classes.

    Raises:
        InputError: the file of the search is missing or incomplete.
    """
    from medrobust.reporting import plotting

    title = "Figure 5. Equilibrium of margins"
    search = read_search(request)
    if search is None:
        return draw_not_run(request, title, "a model trained by IMA on data of the plane")
    balls, radii = search.part("balls"), grown_radii(THREE)
    assert balls is not None
    with plotting.style():
        figure = plotting.new_figure(plotting.DOUBLE_COLUMN, 3.5)
        left, right = figure.subplots(1, 2, width_ratios=[1.62, 1])
        _draw_balls(left, balls, search.order)
        left.set_title(f"(a) Margins of training points, {search.entry.model}")
        _draw_three(right, radii)
        right.set_title("(b) Three classes (computed)")
        _equilibrium_legend(figure, request)
        counts = [int((balls["label"] == label).sum()) for label in (0, 1)]
        return _write(
            request,
            search,
            figure,
            _equilibrium_rows(balls, radii),
            title=title,
            caption=(
                "(a) Balls around training points, whose radii are the margins after the last "
                f"epoch, at most {search.number('largest_margin'):g}: of each class the points "
                "that are classified correctly, in a seeded order and with none in the ball of "
                "another of its class. Stars: the noisy points found within these balls. (b) "
                "Computed, not from data: balls (L2) around one point of each of three classes "
                "grow alike, each until it meets another; stars: where they meet; lines: equally "
                "far from two balls."
            ),
            n=f"{counts[0]} and {counts[1]} training points in (a), no data in (b)",
        )


def _draw_balls(axes: Any, balls: Mapping[str, np.ndarray], order: float) -> None:
    _field(axes, balls)
    for x, label, margin in zip(balls["x"], balls["label"], balls["margin"], strict=True):
        colour = CLASS_COLOURS[int(label)]
        _ball(axes, x, float(margin), order, edgecolor=colour, linewidth=0.9)
        axes.plot(*x, CLASS_MARKERS[int(label)], color=colour, markersize=2.2, zorder=4)
    axes.plot(
        *balls["noisy"].T,
        "*",
        color=NOISY,
        markersize=5.5,
        markeredgecolor="white",
        markeredgewidth=0.3,
        zorder=5,
    )
    _coordinates(axes)


def _draw_three(axes: Any, radii: np.ndarray) -> None:
    from medrobust.reporting import plotting

    low, high = (THREE - radii[:, None]).min(axis=0), (THREE + radii[:, None]).max(axis=0)
    edge = 0.25
    first = np.linspace(low[0] - edge, high[0] + edge, 300)
    second = np.linspace(low[1] - edge, high[1] + edge, 300)
    places = np.stack(np.meshgrid(first, second), axis=-1).reshape(-1, 2)
    distances = nearest_ball(places, THREE, radii).reshape(300, 300, 3)
    for i, j in _PAIRS:
        k = 3 - i - j
        pair = np.where(
            np.minimum(distances[..., i], distances[..., j]) <= distances[..., k],
            distances[..., i] - distances[..., j],
            np.nan,
        )
        axes.contour(first, second, pair, levels=[0], colors=plotting.ORIGINAL, linewidths=1.1)
    for label, (x, radius) in enumerate(zip(THREE, radii, strict=True)):
        _ball(axes, x, radius, 2.0, edgecolor=CLASS_COLOURS[label])
        _point(axes, x, label)
        _name(axes, x, f"$c_{label + 1}$", (0, -10), CLASS_COLOURS[label])
    for (i, j), at in zip(_PAIRS, contacts(radii), strict=True):
        axes.plot(*at, "*", color=NOISY, markersize=9, markeredgecolor="white", zorder=7)
        end = _edge_label(i, j)
        _name(axes, end, f"$B_{{{i + 1}{j + 1}}}$", (0, 0))
    axes.set_aspect("equal")
    axes.set_xlim(first[0], first[-1])
    axes.set_ylim(second[0], second[-1])
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(True)


_PAIRS = ((0, 1), (0, 2), (1, 2))


def _edge_label(i: int, j: int) -> np.ndarray:
    return {(0, 1): np.array([0.22, -0.95]), (0, 2): np.array([-1.62, 1.66])}.get(
        (i, j), np.array([1.62, 1.66])
    )


def contacts(radii: np.ndarray) -> np.ndarray:
    """Returns where the balls around :data:`THREE` meet, pair by pair, ``[3, 2]``."""
    return np.stack(
        [
            THREE[i] + radii[i] * (THREE[j] - THREE[i]) / np.linalg.norm(THREE[j] - THREE[i])
            for i, j in _PAIRS
        ]
    )


def _equilibrium_legend(figure: Any, request: Request) -> None:
    handles = {
        f"class {_class_name(request, label)} and its balls": _handle(
            marker=CLASS_MARKERS[label], color=CLASS_COLOURS[label], linestyle="-", markersize=4
        )
        for label in (0, 1)
    }
    handles["noisy point"] = _handle(marker="*", color=NOISY, markersize=8)
    handles["decision boundary"] = _handle(linestyle="-", color="#222222")
    figure.legend(
        list(handles.values()), list(handles), loc="outside upper center", ncols=len(handles)
    )


def _equilibrium_rows(balls: Mapping[str, np.ndarray], radii: np.ndarray) -> pd.DataFrame:
    rows = []
    names = ("point_id", "label", "x", "margin", "noisy")
    for point, label, x, margin, noisy in zip(*(balls[n] for n in names), strict=True):
        own = {"panel": "a", "point_id": int(point), "label": int(label)}
        rows.append(own | {"what": "ball"} | _at(x) | {"radius": float(margin)})
        if np.isfinite(noisy).all():
            rows.append(own | {"what": "noisy point"} | _at(noisy))
    for label, (x, radius) in enumerate(zip(THREE, radii, strict=True)):
        own = {"panel": "b", "what": "ball", "label": label}
        rows.append(own | _at(x) | {"radius": float(radius)})
    for (i, j), at in zip(_PAIRS, contacts(radii), strict=True):
        rows.append({"panel": "b", "what": f"contact {i + 1} {j + 1}"} | _at(at))
    return _frame(rows, ["panel", "what", "point_id", "label", "first", "second", "radius"])
