"""The documentation: links lead somewhere, and commands, settings and paths that it names exist."""

from __future__ import annotations

import ast
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from medrobust.data.registry import load_registry
from medrobust.evaluation.records import LATER, SCHEMA
from medrobust.experiment.artefacts_reference import (
    artefacts_reference,
    best_evidence,
    with_state,
)
from medrobust.experiment.catalogue import artefacts_of, parts_of, studies_with_parts
from medrobust.experiment.config import Config
from medrobust.experiment.data_reference import data_reference
from medrobust.experiment.evidence import DRAWN_FOLDERS, KEPT_SUFFIXES
from medrobust.experiment.plan import make_plan
from medrobust.experiment.reference import config_reference
from medrobust.experiment.sources import build_graph
from medrobust.reporting import claims
from medrobust.reporting.comparison import COLUMNS, VERDICTS

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "docs/evidence/*/*.md", "config/*.md")
    for path in ROOT.glob(pattern)
    if path.is_file()
)
# Targets and settings of the worked examples in docs/extending.md and docs/data.md.
EXAMPLE_TARGETS = {"pulse", "breast", "noise", "signnet_fig3", "scale=smoke"}


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def code_of(page: Path) -> list[str]:
    """Returns the commands of a page: inline code and lines of code blocks."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)
    rest = re.sub(r"```\w*\n.*?```", "", text, flags=re.DOTALL)
    indented = re.findall(r"^ {4}(\S.*)$", rest, re.MULTILINE)
    inline = re.findall(r"`([^`\n]+)`", rest)
    return [line.strip() for line in [*"\n".join(blocks).splitlines(), *indented, *inline]]


def snakemake_calls(page: Path) -> list[list[str]]:
    calls = []
    for code in code_of(page):
        for part in re.split(r"&&|\|", re.sub(r"\s#.*| {2,}.*", "", code)):
            words = shlex.split(part) if part.strip().startswith("snakemake ") else []
            if words:
                calls.append(words[1:])
    return calls


def targets_and_settings(words: list[str]) -> tuple[list[str], list[str]]:
    """Divides a call as Snakemake does: ``--config`` takes every word up to the next option."""
    one_argument = {"--cores", "--report", "--executor", "--profile", "--quiet", "--until"}
    one_argument |= {"-s", "--directory", "--jobs", "--retries", "--local-cores", "--latency-wait"}
    one_argument |= {"--cluster-generic-submit-cmd", "--conda-prefix"}
    several = {"--config", "--configfile", "--forcerun", "--rerun-triggers", "--resources"}
    several |= {"--set-resources", "--set-resource-scopes", "--default-resources"}
    targets, settings, position = [], [], 0
    while position < len(words):
        word = words[position]
        position += 1
        if word in one_argument:
            position += 1
        elif word in several:
            while position < len(words) and not words[position].startswith("-"):
                if word == "--config":
                    settings.append(words[position])
                position += 1
        elif not word.startswith("-"):
            targets.append(word)
    return targets, settings


def rule_names() -> set[str]:
    files = [ROOT / "workflow/Snakefile", *sorted((ROOT / "workflow/rules").glob("*.smk"))]
    text = "\n".join(file.read_text(encoding="utf-8") for file in files)
    made = [
        name
        for study in studies_with_parts()
        for key, artefact in artefacts_of(study).items()
        for name in (study, f"{study}_{key}", artefact.alias)
    ]
    return set(re.findall(r"^\s*rule (\w+):", text, re.MULTILINE)) | set(made)


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_pages_are_there() -> None:
    names = {named(page) for page in PAGES}
    docs = {f"docs/{name}.md" for name in ("data", "extending", "protocols", "results", "running")}
    assert {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "config/README.md", *docs} <= names


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_relative_links_resolve(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{named(page)}: {link}"
        if anchor:
            assert anchor in anchors(target), f"{named(page)}: {link}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_targets_and_settings_of_commands_exist(page: Path) -> None:
    for words in snakemake_calls(page):
        targets, settings = targets_and_settings(words)
        for target in targets:
            is_file = target.startswith("results/")
            known = is_file or target in rule_names() | EXAMPLE_TARGETS
            assert known, f"{named(page)}: snakemake {' '.join(words)}"
        for setting in settings:
            key, equals, _ = setting.partition("=")
            assert equals and key in Config.model_fields, f"{named(page)}: {setting}"


def test_readme_names_commands() -> None:
    calls = [targets_and_settings(words) for words in snakemake_calls(ROOT / "README.md")]
    targets = {target for named_targets, _ in calls for target in named_targets}
    assert {"signnet_fig2", "plan", "preflight"} <= targets


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    known = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
    for page in PAGES:
        for code in code_of(page):
            target = re.match(r"make ([\w-]+)", code)
            assert not target or target[1] in known, f"{named(page)}: {code}"


def test_commands_of_the_package_exist() -> None:
    source = (ROOT / "workflow/scripts/medrobust/__main__.py").read_text(encoding="utf-8")
    known = {
        call.args[0].value
        for call in ast.walk(ast.parse(source))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id == "add"
        and isinstance(call.args[0], ast.Constant)
    }
    used = {
        match[1]
        for page in PAGES
        for code in code_of(page)
        for match in re.finditer(r"python -m medrobust ([a-z-]+)", code)
    }
    assert {"plan", "train", "attack"} <= used <= known


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_pages_name_no_place_of_one_machine(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"(?<![\w.])/(?:work|tmp|home|root|mnt|Users)/", text), named(page)


def test_evidence_holds_no_file_that_is_redrawn_in_seconds() -> None:
    drawn = [p for name in DRAWN_FOLDERS for p in ROOT.glob(f"docs/evidence/*/*/{name}/*")]
    redrawn = [named(path) for path in drawn if not path.name.endswith(KEPT_SUFFIXES)]
    assert len(drawn) > 100 and not redrawn


def test_config_readme_is_what_the_code_generates() -> None:
    written = (ROOT / "config/README.md").read_text(encoding="utf-8")
    assert written == config_reference(), (
        "run: PYTHONPATH=workflow/scripts python -m medrobust config-reference > config/README.md"
    )


def test_every_setting_is_in_the_config_file() -> None:
    written = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))
    assert set(written) == set(Config.model_fields)


def test_page_of_data_sets_is_what_the_configuration_generates() -> None:
    written = (ROOT / "docs/data-sets.md").read_text(encoding="utf-8")
    assert written == data_reference(ROOT), (
        "run: PYTHONPATH=workflow/scripts python -m medrobust data-reference > docs/data-sets.md"
    )


def test_page_of_tables_and_figures_is_what_the_catalogues_and_the_evidence_generate() -> None:
    written = (ROOT / "docs/artefacts.md").read_text(encoding="utf-8")
    assert written == artefacts_reference(ROOT), (
        "run: PYTHONPATH=workflow/scripts python -m medrobust artefacts-reference "
        "> docs/artefacts.md"
    )
    for study in studies_with_parts():
        for name, artefact in parts_of(study).artefacts.items():
            asked = artefact.alias or f"{study}_{name}"
            assert f"| {artefact.label} | {artefact.what} | `{asked}` |" in written


def test_state_in_the_readme_is_that_of_the_page_of_tables_and_figures() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme == with_state(readme, ROOT), "run: make reference"
    page = (ROOT / "docs/artefacts.md").read_text(encoding="utf-8")
    for study in page.split("\n## ")[1:]:
        rows = [line.split(" | ") for line in study.splitlines() if line.startswith("| ")][1:]
        scales = [row[4].split(";")[0].strip(" |") for row in rows]
        counts = len(rows), scales.count("paper"), scales.count("laptop"), scales.count("")
        assert f"| *{study.split()[0]}* | {' | '.join(map(str, counts))} |" in readme


def test_evidence_names_no_folder_of_a_machine() -> None:
    told = re.compile(r"(?<![\w./:-])/(home|root|work|tmp|mnt|scratch|Users)/\w+")
    texts = [f for f in (ROOT / "docs").rglob("*") if f.suffix in (".md", ".json", ".csv")]
    assert len(texts) > 500
    assert not [f for f in texts if told.search(f.read_text(encoding="utf-8"))]


def test_the_best_evidence_is_of_the_largest_scale_then_of_most_numbers(tmp_path) -> None:
    def run(name: str, scale: str, rows: int, *, synthetic: bool = False) -> None:
        folder = tmp_path / "docs/evidence/nsr" / name / "tables"
        folder.mkdir(parents=True)
        lines = ["reproduced"] + [".5"] * rows + ['""'] * (4 - rows)
        (folder / "table1.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        facts: dict = {"synthetic": synthetic, "sources": {"MIT-BIH": "kaggle"}}
        facts["run"] = {"run": name, "scale": scale}
        (folder / "table1.provenance.json").write_text(json.dumps(facts), encoding="utf-8")

    assert best_evidence(tmp_path, "nsr", "table1") is None
    run("paper-a", "paper", 0)
    run("generated", "paper", 4, synthetic=True)
    assert best_evidence(tmp_path, "nsr", "table1") is None
    run("laptop-a", "laptop", 3)
    run("laptop-b", "laptop", 4)
    assert best_evidence(tmp_path, "nsr", "table1").run == "laptop-b"
    run("paper-b", "paper", 1)
    found = best_evidence(tmp_path, "nsr", "table1")
    assert found.run == "paper-b" and found.numbers == (1, 4)


def test_page_of_data_sets_says_who_uses_them_and_when(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "config", tmp_path / "config")
    shutil.copytree(ROOT / "resources", tmp_path / "resources", ignore=lambda *_: ["raw"])
    study = tmp_path / "config/studies/signnet.yaml"
    text = study.read_text(encoding="utf-8")
    added = "  kather_8:\n    protocol: text\n    extra: true\n    points: 21\n"
    text = text.replace("datasets:\n", f"datasets:\n{added}", 1)
    study.write_text(text.replace("kather_slide]", "kather_slide, kather_8]", 1), encoding="utf-8")
    rows = data_reference(tmp_path).splitlines()
    (kather,) = [row for row in rows if row.startswith("| `kather_8` |")]
    assert kather.endswith("| signnet with `protocol: text` and `include_extras: true` |")
    (ptbdb,) = [row for row in rows if row.startswith("| `ptbdb` |")]
    assert ptbdb.endswith("| signnet with `protocol: code`, printed as PTBD |")
    (busis,) = [row for row in rows if row.startswith("| `busis` |")]
    assert "| 113 (5 folds) | `official` | no study |" in busis


def test_data_sets_and_sources_are_documented() -> None:
    text = (ROOT / "docs/data.md").read_text(encoding="utf-8")
    for name, entry in load_registry().items():
        assert f"`{name}`" in text or f"`{name.rpartition('_')[0]}`" in text, name
        for source in entry.sources:
            assert f"| `{source}` |" in text


def test_columns_of_records_claims_and_comparison_are_documented() -> None:
    text = (ROOT / "docs/results.md").read_text(encoding="utf-8")
    records = text[text.index("## Attack records") : text.index("## Tables")]
    first_cells = re.findall(r"^\| (`[^|]+) \|", records, re.MULTILINE)
    documented = [name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)]
    assert documented == [*SCHEMA, *LATER]
    judged = text[text.index("## claims.csv") : text.index("## comparison.csv")]
    cells = re.findall(r"^\| (`[^|]+) \|", judged, re.MULTILINE)
    names = [name for cell in cells for name in re.findall(r"`([\w ]+)`", cell)]
    assert sorted(names) == sorted([*claims.COLUMNS, *claims.VERDICTS])
    comparison = text[text.index("## comparison.csv") : text.index("## Provenance")]
    cells = re.findall(r"^\| (`[^|]+) \|", comparison, re.MULTILINE)
    names = [name for cell in cells for name in re.findall(r"`([\w ]+)`", cell)]
    assert names == [*COLUMNS, *VERDICTS]


def test_version_is_the_same_everywhere() -> None:
    from medrobust import __version__

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"State of version {__version__}." in (ROOT / "README.md").read_text(encoding="utf-8")


def test_citation_has_a_date_once_released_and_names_the_studies() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    (state,) = re.findall(rf"^## \[{citation['version']}\] - (.+)$", changes, re.MULTILINE)
    assert str(citation.get("date-released", "unreleased")) == state
    files = [ROOT / f"config/studies/{name}.yaml" for name in studies_with_parts()]
    titles = {yaml.safe_load(file.read_text(encoding="utf-8"))["title"] for file in files}
    assert {work["title"] for work in citation["references"]} == titles


def test_readme_says_for_whom_and_shows_two_results_at_once() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert "For those who" in "\n".join(lines[:10])
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", "\n".join(lines[:25]))
    assert len(pictures) == 2 and {Path(x).stem for x in pictures} == {"figure6", "matrix"}


def test_readme_counts_data_sets_and_hours_as_the_code_does(tmp_path, monkeypatch) -> None:
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    (counted,) = re.findall(r"(\d+) data sets", readme)
    assert int(counted) == len(load_registry())
    said = []
    for scale in ("laptop", "paper"):
        graph = build_graph({"scale": scale}, ROOT)
        with monkeypatch.context() as elsewhere:
            elsewhere.chdir(tmp_path)  # unit costs as stated, not as measured here
            plans = make_plan(graph)
        hours = [
            f"{p.cpu_hours:.1f}" if p.cpu_hours < 9.5 else f"{p.cpu_hours:,.0f}" for p in plans
        ]
        total, jobs = sum(p.cpu_hours for p in plans), sum(p.jobs for p in plans)
        said.append(
            (f"{total:,.0f}", f"{jobs:,}", dict(zip(graph.resolved.studies, hours, strict=True)))
        )
    (laptop, laptop_jobs, hours), (paper, paper_jobs, more) = said
    each = ", ".join(f"{study} {h}" for study, h in hours.items())
    assert (
        f"The plan of `laptop` is {laptop} core hours in {laptop_jobs} jobs ({each}), that of "
        f"`paper` {paper} in {paper_jobs} ({', '.join(more.values())})," in readme
    )


# Said by Snakemake, Python or the shell.
OTHERS_SAY = (
    *("No rule to produce", "Config entries have to", "cores have to be specified"),
    *("No Snakefile found", "Error running conda info", "Directory cannot be locked"),
    *("File ... marked for report", "ModuleNotFoundError"),
)


def test_messages_that_the_table_of_errors_explains_are_said_by_the_code() -> None:
    text = (ROOT / "docs/running.md").read_text(encoding="utf-8")
    table = text[text.index("## When something goes wrong") :]
    messages = re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)
    said = set()
    for file in (ROOT / "workflow/scripts/medrobust").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                said.add(node.value.strip())
    for file in (ROOT / "workflow/rules").glob("*.smk"):
        said.update(re.findall(r'"([^"\n]+)"', file.read_text(encoding="utf-8")))
    pieces = [piece for piece in said if len(piece) >= 10]
    ours = [m for m in messages if not m.startswith(OTHERS_SAY)]
    assert len(ours) > 12
    unknown = [m for m in ours if not any(p in m or m.strip(". ") in p for p in pieces)]
    assert not unknown


def test_catalog_entry_says_how_the_workflow_is_used() -> None:
    entry = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text(encoding="utf-8"))
    assert entry["usage"]["software-stack-deployment"]["conda"] is True
    readme = (ROOT / "README.md").read_text(encoding="utf-8").lower()
    assert "snakemake" in readme and "workflow" in readme
    assert (ROOT / "Snakefile").is_file()


def test_examples_are_python_that_compiles_and_is_formatted(tmp_path: Path) -> None:
    files = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for number, block in enumerate(re.findall(r"```python\n(.*?)```", text, re.DOTALL)):
            if "from __future__" not in block:
                continue
            compile(block, f"{named(page)} block {number}", "exec")
            file = tmp_path / f"{page.stem}_{number}.py"
            file.write_text(block, encoding="utf-8")
            files.append(str(file))
    assert len(files) >= 5
    config = str(ROOT / "pyproject.toml")
    # Outside the project ruff cannot know that medrobust is ours, so import order is left out.
    for command in (["check", "--ignore", "I001"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--config", config, *files],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
