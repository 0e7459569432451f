"""The same jobs without Snakemake, for debugging and for machines where it cannot run.

Each command works out its files from config/config.yaml as the workflow does, so what it
writes is what the workflow would have written, and Snakemake takes it as done.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medrobust.core.errors import InputError
from medrobust.core.logs import run_logged
from medrobust.experiment import sources
from medrobust.experiment.calls import call_of
from medrobust.experiment.graph import Graph
from medrobust.experiment.layout import Cell
from medrobust.jobs import arguments_of, circumstances_of, job_named

ROOT = Path(__file__).resolve().parents[3]


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command; prints errors that a user can act on, without a traceback.

    Where what is printed is no longer read (``preflight | head``), it ends as other programs do.
    """
    try:
        try:
            _run_command(arguments)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # At its end Python writes out what is left: to nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)


def _run_command(arguments: Sequence[str] | None) -> None:
    options = _parser().parse_args(arguments)
    try:
        graph = None
        if not options.command.endswith("-reference"):
            graph = sources.build_graph(_settings(options), ROOT, Path())
            if options.command not in ("plan", "preflight", "picture", "overview"):
                sources.refuse_without_data(graph)
    except InputError as error:
        sys.exit(f"medrobust: {error}")
    text = run_logged(lambda: options.run(options, graph))
    if text is not None:
        print(text)
    if options.exit_status:
        sys.exit(options.exit_status)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m medrobust", description=__doc__)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--config",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="settings that replace those of config/config.yaml, as for snakemake",
    )
    common.add_argument(
        "--configfile",
        nargs="+",
        default=[],
        metavar="FILE",
        help="files whose settings replace those of config/config.yaml, as for snakemake",
    )
    commands = parser.add_subparsers(dest="command", required=True)

    def add(name: str, run: Any, text: str, *names: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text, parents=[common])
        command.set_defaults(run=run, exit_status=0)
        for positional in names:
            command.add_argument(positional)
        if "study" in names:
            command.add_argument("--dataset", help="default: the study's first")
            command.add_argument("--fold", type=int, default=0)
            command.add_argument("--replicate", type=int, default=0)
        return command

    add("plan", _plan, "print what the selected studies will take")
    text = "print what the selected studies, or the named data sets, still need"
    preflight = add("preflight", _preflight, text)
    preflight.add_argument("datasets", nargs="*", help="names of data sets, or all")
    preflight.add_argument(
        "--quick", action="store_true", help="names and sizes only: read no file, ask no server"
    )
    describe = add(
        "describe", _describe, "print the entry of data of your own (CSV, images)", "path"
    )
    describe.add_argument("--label", help="column of the class: name, or number from 0 (CSV)")
    describe.add_argument("--classes", nargs="+", help="classes in the order wanted")
    describe.add_argument(
        "--patient", help="column (CSV); `folder`, or a pattern of file names (images)"
    )
    describe.add_argument("--ignore", nargs="+", help="columns that are no features (CSV)")
    describe.add_argument("--no-header", action="store_true", help="the first row is data (CSV)")
    describe.add_argument("--separator", help="between two cells (CSV); default: a comma")
    describe.add_argument("--scaling", help="columns, or together for signals (CSV)")
    describe.add_argument("--size", type=int, help="width and height in pixels (images)")
    describe.add_argument("--colour", help="grey or rgb (images)")
    add("picture", _picture, "print a picture (SVG) of what the selected studies run")
    add("overview", _overview, "write results/overview.html: what was found, over all runs there")
    add("config-reference", _config_reference, "print the text of config/README.md")
    add("data-reference", _data_reference, "print the text of docs/data-sets.md")
    add("artefacts-reference", _artefacts_reference, "print the text of docs/artefacts.md")
    add(
        "readme-reference", _readme_reference, "print the text of README.md, its state as it is now"
    )
    add("fetch", _fetch, "find or download raw files of any data set", "dataset")
    add("prepare", _prepare, "turn raw files into arrays, split and card (after fetch)", "dataset")
    train = add("train", _train, "train members of a model", "study", "model")
    train.add_argument("--chunk", type=int, help="one training job only; default: all")
    text = "write a trained member as pretrained weights, in torchvision's names"
    export = add("export-weights", _export_weights, text, "study", "model", "file")
    export.add_argument("--member", type=int, default=0, help="number of the member; default: 0")
    add("evaluate", _evaluate, "predict the clean test points", "study", "model")
    add("plane", _plane, "map what a model says on a plane of data", "study", "model")
    add("search", _search, "follow the search of a model trained by ima", "study", "model")
    add("cohort", _cohort, "choose the points to attack", "study")
    attack = add("attack", _attack, "attack a model", "study", "model", "attack")
    attack.add_argument("--chunk", type=int, help="one chunk only; default: all, then join them")
    text = "map what an attack changes behind a network's first pooling"
    add("residuals", _residuals, text, "study", "model", "attack")
    evidence = add("evidence", _evidence, "keep what a finished run gave", "study")
    evidence.add_argument("--to", help="default: docs/evidence/<study>")
    return parser


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    from medrobust.core.yaml_files import command_line_settings, overlaid, read_yaml

    if not Path("config/config.yaml").is_file():
        raise InputError(
            "There is no config/config.yaml here.",
            where=str(Path.cwd()),
            remedy="run this in the project's folder.",
        )
    settings = read_yaml("config/config.yaml") or {}
    for file in options.configfile:
        settings = overlaid(settings, read_yaml(file) or {})
    return overlaid(settings, command_line_settings(options.config))


def _cell(options: argparse.Namespace, graph: Graph) -> Cell:
    from medrobust.core.schema import unknown_name

    if options.study not in graph.resolved.studies:
        raise unknown_name("study", options.study, graph.resolved.studies, where="command line")
    study = graph.study(options.study)
    for kind, known in (("model", study.models), ("attack", study.attacks)):
        name = getattr(options, kind, None)
        if name is not None and name not in known:
            raise unknown_name(kind, name, known, where="command line")
    model = getattr(options, "model", None)
    fit = [d for d in study.datasets if model is None or model in graph.models(options.study, d)]
    attack = getattr(options, "attack", None)
    if attack is not None:
        fit = [d for d in fit if model in graph.attacked_models(options.study, attack, d)]
    if not fit:
        raise InputError(
            f"The attack {attack!r} is not run on the model {model!r}.",
            where="command line",
            remedy=f"see `models` of the attack in config/studies/{options.study}.yaml.",
        )
    dataset = options.dataset or fit[0]
    if dataset not in fit:
        raise unknown_name("data set", dataset, fit, where="command line")
    cells = {(c.dataset, c.fold, c.replicate): c for c in graph.cells(options.study)}
    if (dataset, options.fold, options.replicate) not in cells:
        raise InputError(
            f"There is no fold {options.fold} with a replicate {options.replicate} of {dataset}.",
            where="--fold, --replicate",
        )
    return cells[dataset, options.fold, options.replicate]


def _plan(options: argparse.Namespace, graph: Graph) -> str:
    from medrobust.experiment.plan import plan_text
    from medrobust.experiment.telling import failed_trainings

    return "\n".join([plan_text(graph), *failed_trainings(graph)])


def _preflight(options: argparse.Namespace, graph: Graph) -> str:
    text, can_run = sources.preflight_answer(
        graph, tuple(options.datasets), thorough=not options.quick
    )
    options.exit_status = 0 if can_run else 1
    return text


def _describe(options: argparse.Namespace, graph: Graph) -> str:
    from medrobust.experiment.describe import describe

    names = ("label", "classes", "patient", "ignore", "separator", "scaling", "size", "colour")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    if options.no_header:
        given["header"] = False
    if not Path(options.path).is_dir():
        given = {
            name: _columns(value) if name in _COLUMNS else value for name, value in given.items()
        }
    return describe(options.path, given, seed=graph.resolved.config.seed).removesuffix("\n")


_COLUMNS = ("label", "patient", "ignore")


def _columns(given: Any) -> Any:
    """Returns a column given on the command line, or several: whole numbers are places."""
    if isinstance(given, list):
        return [_columns(one) for one in given]
    return int(given) if given.lstrip("-").isdecimal() else given


def _picture(options: argparse.Namespace, graph: Graph) -> str:
    from medrobust.experiment.picture import pipeline_svg

    return pipeline_svg(graph).removesuffix("\n")


def _overview(options: argparse.Namespace, graph: Graph) -> str:
    from medrobust.experiment.overview import write_overview

    return str(write_overview(graph, ROOT / "resources/published"))


def _config_reference(options: argparse.Namespace, graph: None) -> str:
    from medrobust.experiment.reference import config_reference

    return config_reference().removesuffix("\n")


def _data_reference(options: argparse.Namespace, graph: None) -> str:
    from medrobust.experiment.data_reference import data_reference

    return data_reference(ROOT).removesuffix("\n")


def _artefacts_reference(options: argparse.Namespace, graph: None) -> str:
    from medrobust.experiment.artefacts_reference import artefacts_reference

    return artefacts_reference(ROOT).removesuffix("\n")


def _readme_reference(options: argparse.Namespace, graph: None) -> str:
    from medrobust.experiment.artefacts_reference import with_state

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    return with_state(readme, ROOT).removesuffix("\n")


def _run(graph: Graph, job: str, **wildcards: Any) -> None:
    """Runs one piece of work as its rule would."""
    call = call_of(graph, job, **wildcards)
    function = job_named(job)
    given = {**call.inputs, **call.outputs, **call.params}
    function(**arguments_of(function, given, circumstances_of(graph.resolved.config.model_dump())))


def _of_dataset(options: argparse.Namespace, graph: Graph) -> tuple[Graph, dict[str, str]]:
    graph = sources.with_dataset(graph, options.dataset)
    return graph, {"dataset": options.dataset, "source": graph.sources[options.dataset]}


def _fetch(options: argparse.Namespace, graph: Graph) -> None:
    graph, wildcards = _of_dataset(options, graph)
    _run(graph, "fetch", **wildcards)


def _prepare(options: argparse.Namespace, graph: Graph) -> None:
    graph, wildcards = _of_dataset(options, graph)
    _run(graph, "prepare", **wildcards)


def _train(options: argparse.Namespace, graph: Graph) -> None:
    cell = _cell(options, graph)
    ranges = graph.member_ranges(cell, options.model)
    for first, last in _chosen(ranges, options.chunk):
        _run(graph, "train_members", **vars(cell), model=options.model, first=first, last=last)


def _export_weights(options: argparse.Namespace, graph: Graph) -> str:
    from medrobust.jobs.export import export_weights

    cell = _cell(options, graph)
    ranges = graph.member_ranges(cell, options.model)
    files = zip(ranges, graph.member_files(cell, options.model), strict=True)
    known = [file for (first, last), file in files if first <= options.member <= last]
    if not known:
        raise InputError(
            f"The model {options.model} has no member {options.member}.",
            remedy=f"members are numbered from 0 to {ranges[-1][1]}.",
        )
    return export_weights(known[0], options.member, options.file)


def _evaluate(options: argparse.Namespace, graph: Graph) -> None:
    _run(graph, "evaluate_clean", **vars(_cell(options, graph)), model=options.model)


def _plane(options: argparse.Namespace, graph: Graph) -> None:
    _run(graph, "map_plane", **vars(_cell(options, graph)), model=options.model)


def _search(options: argparse.Namespace, graph: Graph) -> None:
    of_model = {**vars(_cell(options, graph)), "model": options.model}
    _run(graph, "join_margins", **of_model)
    _run(graph, "trace_search", **of_model)


def _cohort(options: argparse.Namespace, graph: Graph) -> None:
    _run(graph, "choose_cohort", **vars(_cell(options, graph)))


def _attack(options: argparse.Namespace, graph: Graph) -> None:
    cell = _cell(options, graph)
    select = graph.study(cell.study).attacks[options.attack].select
    if select != "cohort":
        listed = "draw_points" if select == "random" else "select_points"
        _run(graph, listed, **vars(cell), attack=options.attack)
    of_attack = {**vars(cell), "model": options.model, "attack": options.attack}
    chunks = graph.chunks(cell.study, cell.dataset, options.model, options.attack)
    for number in _chosen(list(range(len(chunks))), options.chunk):
        _run(graph, "attack_chunk", **of_attack, chunk=number)
    if options.chunk is None:
        _run(graph, "tally_attack" if select == "test" else "gather_records", **of_attack)


def _residuals(options: argparse.Namespace, graph: Graph) -> None:
    cell = vars(_cell(options, graph))
    for job in ("gather_records", "map_residuals"):
        _run(graph, job, **cell, model=options.model, attack=options.attack)


def _evidence(options: argparse.Namespace, graph: Graph) -> None:
    from medrobust.experiment.evidence import export_evidence

    cell = _cell(options, graph)
    made = export_evidence(graph, cell.study, Path(options.to or f"docs/evidence/{cell.study}"))
    return f"{len(made)} files, {sum(p.stat().st_size for p in made):,} bytes: {made[0].parents[0]}"


def _chosen(items: list[Any], position: int | None) -> list[Any]:
    if position is None:
        return items
    if not 0 <= position < len(items):
        raise InputError(
            f"There is no chunk {position}.",
            where="--chunk",
            remedy=f"chunks are numbered 0 to {len(items) - 1}.",
        )
    return [items[position]]


if __name__ == "__main__":
    main()
