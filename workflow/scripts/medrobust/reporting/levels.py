"""Tables and curves by noise level: what studies of attacks within a ball have in common.

A study says how it estimates an accuracy, from which random streams, and what its paper prints.
Reading the tallies of attacks, the columns that they fill, panels with one column per noise level,
and the look of curves are here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medrobust.core import seeds
from medrobust.core.errors import InputError
from medrobust.evaluation.tally import FIRST_PER_CLASS, Tally, read_tally
from medrobust.reporting.artefacts import NOT_RUN, Panel, in_place_of, number, with_interval
from medrobust.reporting.plotting import model_label
from medrobust.reporting.rows import plain, signed, with_synthetic_mark

if TYPE_CHECKING:
    import pandas as pd

    from medrobust.reporting.request import Entry

#: Status of a number at a level that the attack was not run at.
NO_LEVEL = "this noise level is not part of this run"


# --- results ----------------------------------------------------------------------------


@dataclass(frozen=True)
class LevelResults:
    """Tallies of a run.

    Attributes:
        study: name of the study; every random stream begins with it.
        tallies: (data set, model, attack) to the tallies of its replicates.
        sources: data set to source, the paper's first.
        models: of each data set, in the order of the tables.
        seed: root seed.
        files: every file that was read.
    """

    study: str
    tallies: Mapping[tuple[str, str, str], Sequence[Tally]]
    sources: Mapping[str, str]
    models: Mapping[str, Sequence[str]]
    seed: int
    files: Sequence[str]

    def of(self, dataset: str, model: str, attack: str) -> Sequence[Tally]:
        """Returns the tallies of an attacked model, none if it was not run."""
        return self.tallies.get((dataset, model, attack), ())

    def attacked(self, attack: str, dataset: str) -> list[Tally]:
        """Returns every tally of an attack on a data set."""
        return [
            tally
            for (name, _, made), replicates in self.tallies.items()
            for tally in replicates
            if (name, made) == (dataset, attack)
        ]

    def levels(self, attack: str, dataset: str) -> list[float]:
        """Returns the levels of an attack, ascending, with 0; none if it was not run."""
        levels = {level for tally in self.attacked(attack, dataset) for level in tally.levels}
        return sorted({0.0, *levels}) if levels else []

    def trainings(self, dataset: str) -> int | None:
        """Returns the fewest trainings behind the models of a data set."""
        counts = [len(tallies) for (name, *_), tallies in self.tallies.items() if name == dataset]
        return min(counts, default=None)

    def random(self, *names: object) -> np.random.Generator:
        """Returns the generator of a named piece of work."""
        return seeds.generator(self.seed, self.study, *names)


def read_tallies(
    groups: Mapping[tuple[str, str], Sequence[Entry]],
    attacks: Collection[str] | None = None,
    described: Callable[[Tally], str] | None = None,
) -> tuple[dict[tuple[str, str, str], list[Tally]], list[str]]:
    """Reads the tallies of models.

    Args:
        groups: (data set, model) to the results of its replicates.
        attacks: those to read; None for all.
        described: which points a tally is of, in words; :func:`points_text` by default.

    Returns:
        (data set, model, attack) to the tallies of its replicates, and the files read.

    Raises:
        InputError: a file is missing or wrong, or the tallies of an attack are of different points.
    """
    tallies: dict[tuple[str, str, str], list[Tally]] = {}
    files: list[str] = []
    for (dataset, model), replicates in groups.items():
        for entry in replicates:
            for attack, path in entry.tallies.items():
                if attacks is None or attack in attacks:
                    tallies.setdefault((dataset, model, attack), []).append(read_tally(path))
                    files.append(path)
    check_same_points(tallies, described or points_text)
    return tallies, files


def check_same_points(
    tallies: Mapping[tuple[str, str, str], Sequence[Tally]], described: Callable[[Tally], str]
) -> None:
    """Refuses tallies of one attack whose points differ: their numbers stand side by side.

    Args:
        tallies: (data set, model, attack) to the tallies of its replicates.
        described: which points a tally is of, in words.

    Raises:
        InputError: two tallies of an attack on a data set are of different points, or of test
            sets of different sizes.
    """
    first: dict[tuple[str, str], tuple[str, tuple]] = {}
    for (dataset, model, attack), replicates in tallies.items():
        for tally in replicates:
            fact = (tally.selection, tally.per_class, tally.test_points)
            known = first.setdefault((dataset, attack), (model, fact))
            if known[1] != fact:
                raise InputError(
                    f"The attack {attack} was made on {described(tally)} for {model}, on other "
                    f"points for {known[0]}.",
                    where=dataset,
                    remedy="attack the same points of every model.",
                )


def points_text(tally: Tally) -> str:
    """Returns which points a tally is of, in words."""
    n = int(tally.rows(0.0)["points"].sum())
    if tally.selection == FIRST_PER_CLASS:
        return f"{n:,} test points, the first {tally.per_class:,} of each class"
    return f"{n:,} test points"


def spent(tallies: Sequence[Tally], epsilon: float) -> dict[str, Any]:
    """Returns what an attack spent and met at a level, summed over replicates.

    Args:
        tallies: of one model, at least one.
        epsilon: the level; 0 for clean.

    Returns:
        ``selection`` (which points), ``attacked`` (points that are correct without attack),
        ``non_monotone`` (points fooled at a smaller level but not at this one), and the queries and
        gradient evaluations per point.
    """
    rows = [tally.rows(epsilon) for tally in tallies]
    points = sum(int(one["points"].sum()) for one in rows)
    total = {
        name: sum(int(one[name].sum()) for one in rows)
        for name in ("attacked", "non_monotone", "queries", "gradient_evaluations")
    }
    return {
        "selection": tallies[0].selection,
        "attacked": total["attacked"],
        "non_monotone": total["non_monotone"],
        "queries_per_point": total["queries"] / points,
        "gradients_per_point": total["gradient_evaluations"] / points,
    }


# --- tables -----------------------------------------------------------------------------

Cell = Callable[[Mapping[str, Any]], str]
"""A row of numbers -> the text of its cell."""


@dataclass(frozen=True)
class PanelKind:
    """One of the panels that a table has for each data set.

    Attributes:
        heading: of the panel.
        cell: what stands in a cell.
        first_only: only the first data set, the paper's, has this panel.
        marked: the heading says if numbers come from stand-in data.
        filled: a column; a panel without a number in it is left out.
    """

    heading: str
    cell: Cell
    first_only: bool = False
    marked: bool = True
    filled: str = ""


def dataset_panels(
    frame: pd.DataFrame,
    kinds: Sequence[PanelKind],
    in_paper: Callable[[str], bool],
    label: Callable[[str], str] = model_label,
) -> list[Panel]:
    """Returns the panels of the paper's data set, then those of each added data set.

    Args:
        frame: the rows, the paper's data set first.
        kinds: panels of a data set, in order.
        in_paper: whether a column ``method`` is a model of the paper; others get a heading.
        label: how a model is printed.
    """
    panels = []
    for position, (dataset, part) in enumerate(frame.groupby("dataset", sort=False)):
        added = "" if position == 0 else f", added data set {dataset}"
        for kind in kinds:
            if (kind.first_only and added) or (kind.filled and part[kind.filled].isna().all()):
                continue
            heading = f"{kind.heading}{added}"
            title = with_synthetic_mark(heading, set(part["source"])) if kind.marked else heading
            panels.append(level_panel(part, kind.cell, title, in_paper, label))
    return panels


def level_panel(
    part: pd.DataFrame,
    cell: Cell,
    title: str,
    in_paper: Callable[[str], bool] = lambda method: True,
    label: Callable[[str], str] = model_label,
    corner: str = "noise level",
) -> Panel:
    """Returns a panel with one row for each model and one column for each noise level.

    Args:
        part: rows of numbers with ``method`` and ``epsilon``.
        cell, in_paper, label: as for :func:`dataset_panels`.
        title: its heading.
        corner: heading of the first column.
    """
    import pandas as pd

    rows: dict[str, dict[str, str]] = {}
    for row in plain(part):
        shown = rows.setdefault(row["method"], {corner: label(row["method"])})
        shown[row["epsilon"]] = cell(row)
    added = [place for place, name in enumerate(rows) if not in_paper(name)]
    sections = {added[0]: "Added models, not in the paper"} if added else {}
    return Panel(pd.DataFrame(list(rows.values())), title=title, sections=sections)


def reproduced_text(row: Mapping[str, Any], decimals: int) -> str:
    """Returns a reproduced number with its interval."""
    if row["reproduced"] is None:
        return in_place_of(row["status"])
    return with_interval(row["reproduced"], row["ci_low"], row["ci_high"], decimals)


def difference_text(
    row: Mapping[str, Any], decimals: int, stars: Callable[[Mapping[str, Any]], str]
) -> str:
    """Returns reproduced minus published.

    Args:
        row: of numbers.
        decimals: to print it with.
        stars: what is put behind it, for numbers that differ from print.
    """
    if row["difference"] is None:
        return in_place_of(row["status"]) if row["reproduced"] is None else "–"
    return signed(row["difference"], decimals) + stars(row)


def published_text(row: Mapping[str, Any], decimals: int) -> str:
    """Returns a published number."""
    return number(row["published"], decimals)


def attack_notes(frame: pd.DataFrame) -> list[str]:
    """Returns the note on models that an attack was not run on, if there are any."""
    if not (frame["status"] == NOT_RUN).any():
        return []
    return ['"not run": this run has no results of that model under this attack.']


def mismatch_notes(tallies: Sequence[Tally]) -> list[str]:
    """Returns the note on points whose clean prediction the attack saw otherwise, if any."""
    mismatches = sum(int(tally.frame["clean_mismatches"].iloc[0]) for tally in tallies)
    if not mismatches:
        return []
    return [
        f"At {mismatches:,} points the attack saw another clean prediction than the "
        "evaluation (rounding of another processor)."
    ]


# --- curves -----------------------------------------------------------------------------


def curve_frame(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], text: Collection[str]
) -> pd.DataFrame:
    """Returns the points of curves; columns of ``text`` are "" where missing, others float64."""
    import pandas as pd

    frame = pd.DataFrame(rows, columns=list(columns))
    for name in columns:
        if name in text:
            frame[name] = [value if isinstance(value, str) else "" for value in frame[name]]
        else:
            frame[name] = frame[name].astype("float64")
    return frame


def draw_curve(
    axes: Any,
    x: Sequence[float],
    curve: pd.DataFrame,
    style: Mapping[str, Any],
    *,
    ends: tuple[str, str] = ("ci_low", "ci_high"),
    linewidth: float = 1.2,
    zorder: float = 4,
    alpha: float = 0.16,
    label: str | None = None,
) -> None:
    """Draws accuracy by noise level of one model, with its band.

    Args:
        axes: where.
        x: places of the levels.
        curve: a row for each level with ``value`` and the columns of ``ends``.
        style: ``color``, ``linestyle`` and ``marker``
            (:func:`medrobust.reporting.plotting.model_style`).
        ends: columns between which the band lies; no band where one of them is missing.
        linewidth, zorder, label: of the line.
        alpha: of the band.
    """
    # Thin strokes ("1", "2", "3") have no inside that an edge could set off.
    thin = style["marker"] in ("1", "2", "3")
    axes.plot(
        x,
        curve["value"],
        **style,
        label=label,
        markersize=3.4,
        markeredgewidth=0.9 if thin else 0.4,
        markeredgecolor=style["color"] if thin else "white",
        linewidth=linewidth,
        zorder=zorder,
        clip_on=False,
    )
    low, high = (curve[name] for name in ends)
    if low.notna().all() and high.notna().all():
        axes.fill_between(x, low, high, color=style["color"], alpha=alpha, linewidth=0, zorder=1)


def share_axis(axes: Any, step: float) -> None:
    """Gives axes a vertical scale of shares, from 0 to 1, with a line at every ``step``."""
    from matplotlib.ticker import MultipleLocator

    axes.set_ylim(0, 1)
    axes.yaxis.set_major_locator(MultipleLocator(step))
    axes.yaxis.set_minor_locator(MultipleLocator(step / 2))
    axes.grid(axis="y", which="major", color="#DDDDDD", linewidth=0.5)
    axes.set_axisbelow(True)


def model_legend(figure: Any, grid: Sequence[Any], first: Sequence[str] = ()) -> None:
    """Draws above all panels a legend of the models, each once.

    Args:
        figure: the picture.
        grid: the axes of its panels, whose lines have labels.
        first: labels that come first, in this order.
    """
    handles: dict[str, Any] = {}
    for axes in grid:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    order = [label for label in first if label in handles]
    order += [label for label in handles if label not in first]
    figure.legend(
        [handles[label] for label in order],
        order,
        loc="outside upper center",
        ncols=len(handles) if len(handles) <= 9 else 6,
        handlelength=2.6,
        columnspacing=1.1,
    )
