"""A picture of the pipeline: kinds of jobs as boxes, and what they hand on.

Snakemake's own graphs show every table and figure (70 rules) or every job (thousands). Here jobs
stand together by what they make; arrows are found in the calls of the selected studies
(:mod:`medrobust.experiment.calls`), so they are those of the real rules. An arrow that follows from
others is left out: what is attacked was also trained.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from medrobust.experiment.calls import KINDS, artefact_outputs, call_of, work_of
from medrobust.experiment.catalogue import artefacts_of, parts_of
from medrobust.experiment.entries import residual_attacks
from medrobust.experiment.graph import Graph
from medrobust.experiment.layout import DATA, Cell

#: A job to its rule, where that has another name.
RULES = {
    "train_members": "train",
    "attack_chunk": "attack",
    "tally_attack": "tally",
    "build_artefact": "<study>_<artefact>",
}


@dataclass(frozen=True)
class Box:
    """Jobs that stand together.

    Attributes:
        title: what they make.
        jobs: keys of :data:`medrobust.experiment.calls.KINDS`.
        column, row: where it stands.
        files: what is shown of the files; "": the names of the first output of each job.
    """

    title: str
    jobs: tuple[str, ...]
    column: int
    row: int
    files: str = ""


COLUMNS = ("Data", "Models", "Attacks", "Results")
PUBLISHED = Box("Published numbers", (), 0, 2, "resources/published/<study>.csv")
BOXES = (
    Box("Raw files", ("fetch", "fetch_weights"), 0, 0),
    Box(
        "Arrays, splits, card",
        ("prepare", "slice_volumes", "show_card"),
        0,
        1,
        "x.npy  ids.csv  card.html",
    ),
    PUBLISHED,
    Box("Trained members", ("train_members", "train_pixels"), 1, 0),
    Box("Clean predictions", ("evaluate_clean",), 1, 1),
    Box(
        "Margins and planes",
        ("join_margins", "map_plane", "trace_search"),
        1,
        2,
        "{margins,plane,search}.safetensors",
    ),
    Box("Points to attack", ("choose_cohort", "draw_points", "select_points"), 2, 0),
    Box("Attack runs", ("attack_chunk", "attack_pixels"), 2, 1),
    Box(
        "Records, tallies, maps",
        ("gather_records", "tally_attack", "map_residuals"),
        2,
        2,
        "records.*  tally.csv  residuals.*",
    ),
    Box("Tables, figures, claims", ("build_artefact",), 3, 0, ".html .md .csv .tex .png .svg"),
    Box("Comparison with print", ("compare", "check_published"), 3, 1),
)
WIDTH, HEIGHT, GAP_X, GAP_Y, MARGIN, HEAD = 212, 74, 58, 42, 20, 34
COLOURS = ("#2a6f97", "#5a7d2a", "#a3532a", "#6b4a91")


def pipeline_svg(graph: Graph) -> str:
    """Returns the picture of what the selected studies run, as the text of an SVG file.

    Args:
        graph: of the configuration. Which files are there makes no difference.
    """
    width = 2 * MARGIN + len(COLUMNS) * WIDTH + (len(COLUMNS) - 1) * GAP_X
    rows = 1 + max(box.row for box in BOXES)
    height = 2 * MARGIN + HEAD + rows * HEIGHT + (rows - 1) * GAP_Y + GAP_Y // 2
    arrows = edges(graph)
    shown = [box for box in BOXES if any(box in arrow for arrow in arrows)]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" font-family="sans-serif">',
        "<title>From raw data to tables and figures</title>",
        f"<desc>{html.escape(in_words(arrows))}</desc>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="#555"/></marker></defs>',
        f'<rect width="{width}" height="{height}" rx="10" fill="#ffffff"/>',
        *(_heading(column) for column in range(len(COLUMNS))),
        *_lines(arrows),
        *(_drawn(box) for box in shown),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def in_words(arrows: Iterable[tuple[Box, Box]]) -> str:
    """Returns the arrows as a sentence each, for those who cannot see them."""
    return " ".join(f"{start.title} lead to {end.title.lower()}." for start, end in arrows)


def edges(graph: Graph) -> list[tuple[Box, Box]]:
    """Returns which box hands files to which, without what follows from other arrows."""
    direct = _direct(graph)
    longer = {(a, d) for a, b in direct for c, d in _reach(direct) if b == c}
    places = {box: place for place, box in enumerate(BOXES)}
    kept = [pair for pair in direct if pair not in longer]
    return sorted(kept, key=lambda pair: (places[pair[0]], places[pair[1]]))


def _direct(graph: Graph) -> set[tuple[Box, Box]]:
    box_of = {job: box for box in BOXES for job in box.jobs}
    calls = list(_calls(graph))
    maker = {file: box_of[job] for job, _, outputs in calls for file in outputs}
    found = set()
    for job, inputs, _ in calls:
        for name, files in inputs.items():
            for file in [files] if isinstance(files, str) else files:
                start = PUBLISHED if name == "published" else maker.get(file)
                if start is not None and start != box_of[job]:
                    found.add((start, box_of[job]))
    return found


def _reach(pairs: set[tuple[Box, Box]]) -> set[tuple[Box, Box]]:
    """Returns every pair of boxes of which one leads to the other, over whatever others."""
    found = set(pairs)
    while more := {(a, d) for a, b in found for c, d in pairs if b == c} - found:
        found |= more
    return found


def _calls(graph: Graph) -> Iterator[tuple[str, dict[str, str | list[str]], list[str]]]:
    """Yields job, inputs and outputs of what the selected studies run; of a kind's many pieces of
    work on one model, that is the first.
    """
    for dataset, source in graph.sources.items():
        for job in ("fetch", "prepare", "show_card"):
            call = call_of(graph, job, dataset=dataset, source=source)
            folder = DATA.format(dataset=dataset, source=source)
            folds = graph.registry[dataset].folds
            made = [f"{folder}/{name}" for name in ("x.npy", "y.npy", "ids.csv", "card.json")]
            made += [f"{folder}/split_fold{fold}.csv" for fold in range(folds)]
            yield job, dict(call.inputs), made if job == "prepare" else [*call.outputs.values()]
    for study, settings in graph.resolved.studies.items():
        for job, wildcards in work_of(graph, study):
            first = (wildcards.get(name, 0) for name in ("chunk", "first", "fold", "replicate"))
            if any(first):
                continue
            for one in (job, *_beside(job, wildcards, graph)):
                call = call_of(graph, one, **wildcards)
                yield one, dict(call.inputs), list(call.outputs.values())
        of_study = {"study": study, "run": graph.resolved.run}
        for name in settings.artefacts:
            call = call_of(graph, "build_artefact", artefact=name, **of_study)
            outputs = artefact_outputs(graph, study, name).values()
            yield "build_artefact", dict(call.inputs), list(outputs)
        checks = ["check_published"] if parts_of(study).printed_averages else []
        for job in ["compare", *checks] if settings.published else []:
            call = call_of(graph, job, **of_study)
            yield job, dict(call.inputs), list(call.outputs.values())


def _beside(job: str, wildcards: dict[str, object], graph: Graph) -> Iterator[str]:
    """Yields what is asked of a model, or of an attack on it, where artefacts show it."""
    study = str(wildcards["study"])
    if job in ("gather_records", "tally_attack"):
        shown = residual_attacks(graph, Cell.of(wildcards), str(wildcards["model"]))
        if wildcards["attack"] in shown:
            yield "map_residuals"
    if job != "evaluate_clean":
        return
    needs = {n for name in graph.study(study).artefacts for n in artefacts_of(study)[name].needs}
    shown = {"margins": "join_margins", "plane": "map_plane", "search": "trace_search"}
    yield from (one for need, one in shown.items() if need in needs)


def _corner(box: Box) -> tuple[int, int]:
    x = MARGIN + box.column * (WIDTH + GAP_X)
    return x, MARGIN + HEAD + box.row * (HEIGHT + GAP_Y)


def _heading(column: int) -> str:
    x = MARGIN + column * (WIDTH + GAP_X) + WIDTH // 2
    return (
        f'<text x="{x}" y="{MARGIN + 16}" text-anchor="middle" font-size="15" font-weight="bold" '
        f'fill="{COLOURS[column]}">{COLUMNS[column]}</text>'
    )


def _drawn(box: Box) -> str:
    x, y = _corner(box)
    middle, colour = x + WIDTH // 2, COLOURS[box.column]
    rules = ", ".join(RULES.get(job, job) for job in box.jobs)
    lines = [(rules, 11, "#333")] if rules else []
    lines.append((box.files or "  ".join(dict.fromkeys(map(_file_of, box.jobs))), 10, "#777"))
    # A width of its own keeps a line in its box, whatever the font of the reader.
    text = "".join(
        f'<text x="{middle}" y="{y + 44 + 17 * k}" text-anchor="middle" font-size="{size}" '
        f'font-family="monospace" fill="{fill}" '
        f'textLength="{min(WIDTH - 14, len(line) * size * 3 // 5)}" '
        f'lengthAdjust="spacingAndGlyphs">{html.escape(line)}</text>'
        for k, (line, size, fill) in enumerate(lines)
    )
    dashes = "" if box.jobs else ' stroke-dasharray="5 3"'
    return (
        f'<g><rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="8" fill="#fafafa" '
        f'stroke="{colour}" stroke-width="2"{dashes}/>'
        f'<text x="{middle}" y="{y + 23}" text-anchor="middle" font-size="14" font-weight="bold" '
        f'fill="#222">{html.escape(box.title)}</text>{text}</g>'
    )


def _file_of(job: str) -> str:
    name = PurePosixPath(next(iter(KINDS[job].outputs.values()))).name
    return re.sub(r"\{(\w+)\}", r"<\1>", name)


def _lines(arrows: list[tuple[Box, Box]]) -> Iterator[str]:
    """Yields the arrows. Those that do not go to a neighbour bend in the gaps between boxes."""
    tracks: dict[int, int] = {}
    for start, end in arrows:
        (x0, y0), (x1, y1) = _corner(start), _corner(end)
        if start.column == end.column and end.row == start.row + 1:
            points = [(x0 + WIDTH // 2, y0 + HEIGHT), (x1 + WIDTH // 2, y1)]
        else:
            track = tracks[start.column] = tracks.get(start.column, 0) + 1
            gap = x0 + WIDTH + 12 * track
            middle0, middle1 = y0 + HEIGHT // 2 + 4 * track, y1 + HEIGHT // 2
            points = [(x0 + WIDTH, middle0), (gap, middle0)]
            if end.column == start.column:
                points += [(gap, middle1), (x1 + WIDTH, middle1)]
            elif end.column == start.column + 1:
                points += [(gap, middle1), (x1, middle1)]
            else:
                # Below the row of the start, past the boxes between.
                below, last = y0 + HEIGHT + GAP_Y // 2 - 4 * track, x1 - 10 - 8 * track
                points += [(gap, below), (last, below), (last, middle1), (x1, middle1)]
        path = " ".join(f"{x},{y}" for x, y in points)
        yield (
            f'<polyline points="{path}" fill="none" stroke="#555" stroke-width="1.6" '
            'stroke-linejoin="round" marker-end="url(#tip)"/>'
        )
