"""From the configuration to the graph: where each data set comes from, and what is missing."""

from __future__ import annotations

import functools
import json
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from medrobust.core.errors import InputError
from medrobust.core.schema import unknown_name
from medrobust.core.sources import SOURCES
from medrobust.data.fetching.at_hand import is_part
from medrobust.data.fetching.fetch import choose_source, locate
from medrobust.data.registry import STANDIN, get_dataset
from medrobust.experiment.committed import (
    as_committed,
    check_committed,
    committed_sources,
    study_of_records,
)
from medrobust.experiment.config import (
    Config,
    Resolved,
    named_datasets,
    resolve,
    with_random_weights,
)
from medrobust.experiment.fitting import check_fit
from medrobust.experiment.gpus import gpus_of_run
from medrobust.experiment.graph import Graph
from medrobust.experiment.initial_weights import (
    NamedWeights,
    begins_with,
    fate_of,
    weights_of_studies,
)
from medrobust.experiment.layout import DATA, RAW, SUBSET
from medrobust.models.contract import architecture_of


def build_graph(values: Mapping[str, Any], root: Path, here: Path | None = None) -> Graph:
    """Checks the configuration and chooses the source of every data set in use.

    Only names and sizes of files are looked at, nothing is opened or asked over the network.

    Args:
        values: content of config/config.yaml with command line settings applied.
        root: the workflow's folder.
        here: the folder that the user works in, where it is another.

    Raises:
        InputError: the configuration is wrong; see :func:`medrobust.experiment.config.resolve`.
    """
    resolved = resolve(values, root, here)
    if resolved.config.records_from is not None:
        resolved = as_committed(study_of_records(resolved), values)
    check_fit(resolved)
    config = resolved.config
    raw_dirs = (*([Path(config.raw_dir)] if config.raw_dir else []), RAW)
    if config.raw_dir and not raw_dirs[0].is_dir():
        raise InputError(
            "This folder does not exist.",
            where=f"config/config.yaml, key raw_dir: {config.raw_dir}",
            remedy="correct the path, or set raw_dir to null.",
        )
    if config.records_from is not None:
        sources = committed_sources(resolved)
        graph = Graph(resolved, sources, dict(sources), raw_dirs)
        for study in resolved.studies:
            check_committed(graph, study)
        return graph
    resolved = _with_weights_at_hand(resolved, raw_dirs)
    resolved, skipped = _without_missing(resolved, raw_dirs)
    also = also_prepared(resolved)
    without = _not_to_be_had(resolved, {name: [name] for name in also}, raw_dirs)
    graph = Graph(resolved, {}, {}, raw_dirs, (*skipped, *without))
    used = sorted({d for study in resolved.studies.values() for d in study.datasets})
    for dataset in [*used, *(name for name in also if name not in without)]:
        graph = with_dataset(graph, dataset)
    return graph


def _with_weights_at_hand(resolved: Resolved, raw_dirs: tuple[Path, ...]) -> Resolved:
    """Returns the configuration in which models whose weights cannot be had begin at random."""
    to_be_had = {
        name
        for name, entry in resolved.weights.items()
        if begins_with(fate_of(resolved, entry, raw_dirs))
    }
    studies = {
        name: with_random_weights(
            study, {m for m, one in study.models.items() if one.initial_weights not in to_be_had}
        )
        for name, study in resolved.studies.items()
    }
    return replace(resolved, studies=studies)


def refuse_without_data(graph: Graph) -> None:
    """Raises an InputError if the data of none of the selected studies can be had.

    Before work starts, not when the configuration is read: what is missing can still be told.
    """
    if set(graph.resolved.studies) <= set(graph.skipped):
        raise InputError(
            "The data of none of the selected studies can be had.",
            where="config/config.yaml, key on_missing_data: skip",
            remedy="run `snakemake --cores 1 preflight` to see what each needs.",
        )


def also_prepared(resolved: Resolved) -> list[str]:
    """Returns the data sets of ``also_prepare`` that no selected study uses."""
    used = {dataset for study in resolved.studies.values() for dataset in study.datasets}
    names = named_datasets(resolved.config.also_prepare, resolved.registry)
    return [name for name in names if name not in used and name not in resolved.config.leave_out]


def with_dataset(graph: Graph, dataset: str) -> Graph:
    """Returns ``graph`` with the source of a data set, also of one that no study selects.

    Raises:
        InputError: the registry has no such data set, or calls its source by an unknown name.
    """
    if dataset in graph.sources:
        return graph
    get_dataset(graph.registry, dataset)
    origin = _origin(graph.resolved, dataset, graph.raw_dirs)
    if origin not in SOURCES:
        where = f"config/datasets.yaml, key datasets.{dataset}.sources"
        raise unknown_name("source", origin, SOURCES, where=where)
    label = _label(graph.resolved, dataset, origin, graph.raw_dirs)
    return replace(
        graph,
        sources={**graph.sources, dataset: label},
        origins={**graph.origins, dataset: origin},
    )


def _origin(resolved: Resolved, dataset: str, raw_dirs: tuple[Path, ...]) -> str:
    if resolved.scale.data == STANDIN:
        return STANDIN
    if dataset in resolved.config.sources:
        return resolved.config.sources[dataset]
    entry = resolved.registry[dataset]
    return choose_source(entry, raw_dirs, allow_subset=resolved.config.allow_subset)[0]


def _label(resolved: Resolved, dataset: str, origin: str, raw_dirs: tuple[Path, ...]) -> str:
    """Returns ``origin``, or "subset" where an incomplete release is accepted."""
    if origin == STANDIN or not resolved.config.allow_subset:
        return origin
    return SUBSET if is_part(locate(resolved.registry[dataset], origin, raw_dirs)) else origin


def _without_missing(
    resolved: Resolved, raw_dirs: tuple[Path, ...]
) -> tuple[Resolved, tuple[str, ...]]:
    """Leaves out the studies whose data cannot be had, if the configuration says so.

    Where that is so of all, they stay, to be told of; see :func:`refuse_without_data`.
    """
    skipped = _not_to_be_had(resolved, _datasets_of_studies(resolved), raw_dirs)
    if not skipped:
        return resolved, ()
    can_run = [name for name in resolved.studies if name not in skipped]
    if not can_run:
        return resolved, tuple(resolved.studies)
    kept = {name: study for name, study in resolved.studies.items() if name in can_run}
    return replace(resolved, studies=kept), skipped


def _not_to_be_had(
    resolved: Resolved, wanted: Mapping[str, Sequence[str]], raw_dirs: tuple[Path, ...]
) -> tuple[str, ...]:
    """Returns whose data cannot be had, if the configuration says to leave it out.

    Args:
        resolved: the checked configuration.
        wanted: study (or data set) -> its data sets.
        raw_dirs: folders that may hold raw files.
    """
    if resolved.config.on_missing_data != "skip" or resolved.scale.data == STANDIN or not wanted:
        return ()
    from medrobust.experiment.preflight import runnable

    # Whatever packages there are: this is about data.
    items = _preflight(resolved, wanted, raw_dirs, thorough=False, conda=True)
    can_run = runnable(items, list(wanted))
    return tuple(name for name in wanted if name not in can_run)


def _preflight(
    resolved: Resolved,
    wanted: Mapping[str, Sequence[str]],
    raw_dirs: tuple[Path, ...],
    *,
    thorough: bool,
    conda: bool | None = None,
    manifests: Mapping[str, Path] | None = None,
    weights: Sequence[NamedWeights] = (),
) -> list[Any]:
    """Returns what the preflight says of studies (or data sets), their data sets and weights."""
    from medrobust.experiment.preflight import preflight

    chosen = resolved.config.sources

    def setting(dataset: str) -> str:
        return STANDIN if resolved.scale.data == STANDIN else chosen.get(dataset, "auto")

    return preflight(
        {name: [(d, setting(d)) for d in datasets] for name, datasets in wanted.items()},
        registry=resolved.registry,
        raw_dirs=raw_dirs,
        download_dir=RAW,
        results_dir="results",
        allow_subset=resolved.config.allow_subset,
        conda=conda,
        check_network=thorough,
        check_files=thorough,
        manifests=manifests,
        weights=weights,
        points={
            (name, dataset): use.points
            for name, study in resolved.studies.items()
            for dataset, use in study.datasets.items()
            if use.points is not None
        },
        seed=resolved.config.seed,
    )


def _datasets_of_studies(resolved: Resolved) -> dict[str, list[str]]:
    return {name: list(study.datasets) for name, study in resolved.studies.items()}


#: Settings that captions leave out, because they change no result: where files lie, where to
#: compute, what to do without data, what is selected.
NOT_IN_CAPTIONS = (
    "device",
    "allow_tf32",
    "raw_dir",
    "allow_subset",
    "on_missing_data",
    "records_from",
    "studies",
    "also_prepare",
    "own_datasets",
)


def changed_settings(config: Config, without: Sequence[str] = ()) -> str:
    """Returns the settings that differ from the defaults, as arguments of Snakemake.

    Args:
        config: the settings.
        without: names to leave out.
    """
    defaults = Config()
    changed = {
        name: getattr(config, name)
        for name in Config.model_fields
        if name not in (*without, "own_datasets")
        and getattr(config, name) != getattr(defaults, name)
    }
    words = [
        f"{name}={json.dumps(value) if isinstance(value, dict | list) else value}"
        for name, value in changed.items()
    ]
    text = " --config " + " ".join(shlex.quote(word) for word in words) if words else ""
    # An entry is too long for a command line, and comes from a file of the user's.
    return f"{text} --configfile YOUR_FILE.yaml" if config.own_datasets else text


@functools.lru_cache(maxsize=16)
def preflight_answer(
    graph: Graph, datasets: tuple[str, ...] = (), *, thorough: bool = False
) -> tuple[str, bool]:
    """Returns what is still needed with the command that can be run now, and whether all can run.

    Args:
        graph: of the configuration.
        datasets: data sets to tell of, whoever uses them ("all": every one); none: the selected
            studies and the data sets of ``also_prepare``.
        thorough: ask the servers and read the files at hand; else names and sizes only.

    Raises:
        InputError: the registry has no such data set.
    """
    from medrobust.experiment.preflight import format_preflight, no_gpu, runnable

    resolved = graph.resolved
    names = named_datasets(datasets, graph.registry) if datasets else also_prepared(resolved)
    for name in names:
        get_dataset(graph.registry, name)
    wanted = {} if datasets else _datasets_of_studies(resolved)
    wanted |= {name: [name] for name in names}
    manifests = _manifests(graph, {name for names in wanted.values() for name in names})
    items = _preflight(
        resolved,
        wanted,
        graph.raw_dirs,
        thorough=thorough,
        manifests=manifests,
        weights=[] if datasets else weights_of_studies(resolved, graph.raw_dirs),
    )
    if not datasets:
        items += no_gpu(_computing_on_gpu(graph))
    settings = changed_settings(
        resolved.config, without=["also_prepare", "studies"] if datasets else []
    )
    # The command selects the same studies.
    alike = {} if datasets else {"studies": resolved.config.studies}
    text = format_preflight(
        items,
        list(wanted),
        settings=settings,
        smoke=changed_settings(Config(scale="smoke", **alike)),
        targets=_cards(graph, names),
    )
    if not datasets and (said := gpus_of_run(graph).said):
        text += f"\n{said}"
    can_run = runnable(items, list(wanted))
    # What is left out (on_missing_data: skip) stands in the way of nothing, unless it is all.
    needed = set(wanted) - set(graph.skipped) or set(wanted)
    return text, needed <= set(can_run)


def preflight_text(graph: Graph, datasets: Sequence[str] = (), *, thorough: bool = False) -> str:
    """Returns the text of :func:`preflight_answer`."""
    return preflight_answer(graph, tuple(datasets), thorough=thorough)[0]


def not_there(graph: Graph) -> list[str]:
    """Returns a line on each thing that selected studies wait for, as far as is known offline.

    Jobs that need it fail, others go on. Packages count where rules run with those of here.
    """
    resolved = graph.resolved
    if resolved.config.records_from is not None:
        return []
    from medrobust.experiment.preflight import format_missing

    wanted = _datasets_of_studies(resolved)
    conda = not graph.same_packages
    return format_missing(_preflight(resolved, wanted, graph.raw_dirs, thorough=False, conda=conda))


def refuse_what_cannot_run(graph: Graph, targets: Collection[str]) -> None:
    """Raises an InputError where ``preflight`` was asked for and something cannot run.

    Its text, which says what and why, has been printed; the exit status is for scripts.
    """
    if "preflight" in targets and not preflight_answer(graph, thorough=True)[1]:
        raise InputError(
            "Not all that is selected can run.",
            where="preflight",
            remedy="see TO DO above.",
        )


def _computing_on_gpu(graph: Graph) -> list[str]:
    """Returns the studies of which something computes on a GPU, if the configuration says so."""
    if graph.resolved.config.device != "cuda" or graph.resolved.config.records_from is not None:
        return []
    return [
        name
        for name, study in graph.resolved.studies.items()
        if any(
            architecture_of(model.architecture["name"]).uses_gpu for model in study.models.values()
        )
    ]


def _manifests(graph: Graph, datasets: Collection[str]) -> dict[str, Path]:
    """Returns where ``fetch`` writes which raw files there are."""
    sources = {name: with_dataset(graph, name).sources[name] for name in datasets}
    return {
        name: Path(DATA.format(dataset=name, source=source)) / "raw.json"
        for name, source in sources.items()
    }


def _cards(graph: Graph, names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Returns the card of each data set, and that of its stand-in: targets of Snakemake."""
    cards = {}
    for name in names:
        real = with_dataset(graph, name).sources[name]
        cards[name] = tuple(
            DATA.format(dataset=name, source=source) + "/card.md" for source in (real, STANDIN)
        )
    return cards
