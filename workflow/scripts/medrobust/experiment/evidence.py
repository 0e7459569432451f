"""Evidence: the part of a finished real run that is small enough to commit.

``docs/evidence/<study>/<run>/`` then holds the numbers of every table and figure with their
provenance, the figures as PNG, the results that they are drawn from (attack records of a cohort,
tallies of a whole split), the members' cards and the data cards. With ``records_from`` set to
``docs/evidence/<study>`` the workflow redraws each table and figure from these records, in every
format: web pages, Markdown, LaTeX, PDF and SVG take seconds and are not copied.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from medrobust.core.errors import InputError
from medrobust.core.io import atomic_path, write_json
from medrobust.data.registry import STANDIN
from medrobust.experiment.catalogue import artefacts_of
from medrobust.experiment.entries import entries_of
from medrobust.experiment.graph import Graph
from medrobust.experiment.layout import DATA, RUN_FACTS

#: Of what is drawn, the formats that are kept: numbers, where they come from, pictures to look at.
KEPT_SUFFIXES = (".csv", ".provenance.json", ".png")
#: Folders of what is drawn.
DRAWN_FOLDERS = ("tables", "figures", "comparison", "claims")
KEPT = (
    "evaluations/**/cohort.csv",
    "evaluations/**/clean.json",
    "evaluations/**/slices.json",
    "evaluations/**/made_with.json",
    "evaluations/**/counted_with.json",
    "evaluations/**/outcomes.parquet",
    "models/**/members_*.json",
    "models/**/network.json",
    "models/**/network.extras.safetensors",  # margins of slices, where a method keeps them
    *(f"{folder}/*{suffix}" for folder in DRAWN_FOLDERS for suffix in KEPT_SUFFIXES),
)
CARDS = ("card.json", "card.md", "preview.png")
#: Two images of 3 x 224 x 224 values with their adversarial versions take 2.4 MB.
LARGEST_BYTES = 2_500_000


def export_evidence(graph: Graph, study: str, destination: Path) -> list[Path]:
    """Copies what is worth keeping of a finished run of ``study``.

    Args:
        graph: the run's graph.
        study: name of the study.
        destination: folder of the study's evidence, e.g. ``docs/evidence/signnet``; the run's
            files go to a folder of its name there, which is replaced.

    Returns:
        The files written.

    Raises:
        InputError: a data set is a stand-in, an artefact is missing, or a file is too large for
            a repository.
    """
    synthetic = [name for name, source in graph.sources.items() if source == STANDIN]
    if synthetic:
        raise InputError(
            "Results on generated stand-ins are evidence of nothing.",
            where=", ".join(synthetic),
            remedy="run a scale with real data: --config scale=laptop",
        )
    missing = [file for file in graph.artefacts(study) if not Path(file).exists()]
    if missing:
        raise InputError(
            "The run is not finished: an artefact is missing.",
            where=missing[0],
            remedy=f"run `snakemake --cores 2 {study}` with the same settings first.",
        )
    source = Path("results") / graph.resolved.run / study
    target = destination / graph.resolved.run
    chosen = {
        path: target / path.relative_to(source)
        for pattern in KEPT
        for path in sorted(source.glob(pattern))
        if not path.name.endswith(".timing.json") and _of_selected_data(graph, study, path)
    }
    for file in drawn_from(graph, study):
        chosen[file] = target / file.relative_to(source)
    for dataset in graph.study(study).datasets:
        folder = Path(DATA.format(dataset=dataset, source=graph.sources[dataset]))
        chosen |= {folder / name: target / "data" / folder.name / name for name in CARDS}
    for path in chosen:
        if path.stat().st_size > LARGEST_BYTES:
            raise InputError(
                f"This file of {path.stat().st_size:,} bytes is too large to commit.",
                where=str(path),
                remedy=f"evidence holds files of at most {LARGEST_BYTES:,} bytes.",
            )
    shutil.rmtree(target, ignore_errors=True)
    write_json(target / RUN_FACTS, graph.run_facts(study))
    for path, copy in chosen.items():
        with atomic_path(copy) as temporary:
            shutil.copyfile(path, temporary)
    return list(chosen.values())


def _of_selected_data(graph: Graph, study: str, path: Path) -> bool:
    """Whether a result is of no data set or of one that is selected: others may lie there too."""
    used = {f"{name}@{graph.sources[name]}" for name in graph.study(study).datasets}
    return all("@" not in part or part in used for part in path.parts)


def drawn_from(graph: Graph, study: str) -> list[Path]:
    """Returns the results that a study's artefacts are drawn from, each once."""
    results: dict[Path, None] = {}
    for name in graph.study(study).artefacts:
        artefact = artefacts_of(study)[name]
        for entry in entries_of(graph, study, artefact):
            for need in artefact.needs:
                files = entry.get(need, [])
                files = list(files.values()) if isinstance(files, dict) else files
                results |= dict.fromkeys(map(Path, [files] if isinstance(files, str) else files))
    return list(results)
