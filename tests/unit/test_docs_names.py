"""Modules, functions and paths that documentation, docstrings and comments name exist."""

from __future__ import annotations

import dataclasses
import importlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "workflow/scripts"
LIBRARY = SCRIPTS / "medrobust"
MODULES = sorted(LIBRARY.rglob("*.py"))
TEXTS = [
    *sorted(ROOT.glob("*.md")),
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(ROOT.glob("docs/evidence/*/*.md")),
    *(
        ROOT / name
        for name in ("Snakefile", "workflow/Snakefile", "Makefile", "benchmarks/README.md")
    ),
    *sorted(ROOT.glob("config/**/*.*")),
    *sorted(ROOT.glob("benchmarks/*.py")),
    *sorted(ROOT.glob("workflow/rules/*.smk")),
    *sorted(SCRIPTS.glob("*.py")),
    *MODULES,
]
# Modules and files that the worked examples of docs/extending.md and docs/data.md add.
EXAMPLES = re.compile(r"\b(?:noise|linear|fgsm_training|random_noise|two_files)\b")
# What Snakemake calls a handler of a module.
HANDLERS = {"medrobust.onsuccess"}
# Files of other projects, and what a run or a user makes.
ELSEWHERE = {"apps/datasets.py", "resources/raw", "benchmarks/bench_"}


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def has(owner: Any, name: str) -> bool:
    """Whether a module or class has an attribute, a field without a default among them."""
    if dataclasses.is_dataclass(owner) and name in {f.name for f in dataclasses.fields(owner)}:
        return True
    return hasattr(owner, name) or name in getattr(owner, "model_fields", {})


def exists(dotted: str) -> bool:
    """Whether ``medrobust.a.b.c`` is a folder, a module, or something in one."""
    parts = dotted.split(".")
    for count in range(len(parts), 0, -1):
        place = SCRIPTS.joinpath(*parts[:count])
        if not place.is_dir() and not place.with_suffix(".py").is_file():
            continue
        owner: Any = importlib.import_module(".".join(parts[:count]))
        for position, name in enumerate(parts[count:], start=count):
            if not has(owner, name):
                return False
            owner = getattr(owner, name, None)
            if owner is None:  # a field: what it holds is not known
                return position == len(parts) - 1
        return True
    return False


def dotted_names(text: str) -> Iterator[str]:
    yield from re.findall(r"\bmedrobust(?:\.[A-Za-z_]\w*)+", text)


def paths_in(text: str) -> Iterator[str]:
    """Yields paths from the project's folder, and Python files named by folder and file."""
    roots = "medrobust|workflow|config|docs|resources|tests|benchmarks|envs|profiles"
    yield from re.findall(rf"(?<![\w/.])(?:{roots})/[\w./-]*\w", text)
    yield from re.findall(r"(?<![\w/.])(?:\w+/)+\w+\.(?:py|smk)\b", text)


def lies_somewhere(path: str, text: Path) -> bool:
    places = (ROOT, SCRIPTS, LIBRARY, text.parent)
    return any((place / path).exists() for place in places)


def module_of(path: Path) -> ModuleType:
    name = ".".join(path.relative_to(SCRIPTS).with_suffix("").parts)
    return importlib.import_module(name.removesuffix(".__init__"))


def inline_code(page: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", page.read_text(encoding="utf-8"))


def layers() -> list[str]:
    """Returns the layers of the library, ground first, as the linter of imports has them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (names,) = (
        contract["layers"]
        for contract in project["tool"]["importlinter"]["contracts"]
        if contract["type"] == "layers"
    )
    return [name.removeprefix("medrobust.") for name in reversed(names)]


def folders_of_library() -> set[str]:
    own = {path.parent.relative_to(LIBRARY).as_posix() for path in MODULES}
    return {folder for folder in own if folder != "."}


def test_the_check_itself_can_tell() -> None:
    assert exists("medrobust.jobs.attack.attack_chunk") and exists("medrobust.data.sets")
    assert exists("medrobust.reporting.request.Request.attacks")
    assert not exists("medrobust.artefacts") and not exists("medrobust.core.seeds.no_such")
    assert lies_somewhere("models/engine/activations.py", ROOT / "README.md")
    assert not lies_somewhere("models/activations.py", ROOT / "README.md")
    assert len(MODULES) > 100 and len(TEXTS) > 150


@pytest.mark.parametrize("text", TEXTS, ids=named)
def test_modules_functions_and_paths_exist(text: Path) -> None:
    content = text.read_text(encoding="utf-8")
    unknown = [name for name in dotted_names(content) if not EXAMPLES.search(name)]
    unknown = [name for name in unknown if name not in HANDLERS and not exists(name)]
    for path in paths_in(content):
        if EXAMPLES.search(path) or path.startswith(tuple(ELSEWHERE)):
            continue
        if not lies_somewhere(path, text):
            unknown.append(path)
    assert not unknown, f"{named(text)} names what is not there: {', '.join(unknown)}"


def test_constants_lie_in_the_files_that_pages_name() -> None:
    named_places = [
        (page, name, path)
        for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
        for name, path in re.findall(
            r"`([A-Z][A-Z_]+)`,? (?:of|in)\s+`((?:\w+/)+\w+\.py)`",
            page.read_text(encoding="utf-8"),
        )
    ]
    assert len(named_places) >= 5
    for page, name, path in named_places:
        (file,) = [f for f in (SCRIPTS / path, LIBRARY / path) if f.is_file()]
        text = file.read_text(encoding="utf-8")
        assert re.search(rf"^{name}\b.* = ", text, re.MULTILINE), f"{named(page)}: {name} in {path}"


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_references_of_docstrings_lead_somewhere(path: Path) -> None:
    """``:func:`name``` without a module is a name of this one, ``:meth:`` of a class here."""
    content = path.read_text(encoding="utf-8")
    references = re.findall(r":(func|class|data|meth|attr):`([\w.]+)`", content)
    module = module_of(path)
    classes = [value for value in vars(module).values() if isinstance(value, type)]
    for kind, name in references:
        if name.startswith("medrobust."):
            continue
        owners = classes if kind in ("meth", "attr") and "." not in name else [module]
        first, *rest = name.split(".")
        known = any(has(owner, first) for owner in owners)
        for attribute in rest:
            known = known and has(getattr(module, first), attribute)
        assert known, f"{named(path)}: :{kind}:`{name}`"


def test_architecture_names_every_folder_of_the_library_ground_first() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    section = text[text.index("## The library") : text.index("## What happens")]
    folders = re.findall(r"^\| `([\w/]+)/` \|", section, re.MULTILINE)
    assert sorted(folders) == sorted(folders_of_library())
    assert [folder for folder in folders if "/" not in folder] == layers()
    for inner in folders:
        assert "/" not in inner or inner.rpartition("/")[0] in folders[: folders.index(inner)]


@pytest.mark.parametrize("name", ["architecture", "glossary"])
def test_functions_named_by_their_place_in_the_library_exist(name: str) -> None:
    """``jobs.attack.attack_chunk`` stands for ``medrobust.jobs.attack.attack_chunk``."""
    page = ROOT / f"docs/{name}.md"
    dotted = [code for code in inline_code(page) if re.fullmatch(r"[a-z]\w*(\.\w+)+", code)]
    places = [code for code in dotted if code.split(".")[0] in layers()]
    assert len(places) >= 20
    unknown = [code for code in places if not exists(f"medrobust.{code}")]
    assert not unknown, f"docs/{name}.md names what is not there: {', '.join(unknown)}"
    # What users import is named as they do; another test holds it.
    others = {code for code in set(dotted) - set(places) if not code.startswith("medrobust.")}
    assert all(
        code.endswith((".md", ".json", ".csv", ".npy", ".yaml", ".py")) for code in others
    ), others


def test_folders_of_the_architecture_exist() -> None:
    page = ROOT / "docs/architecture.md"
    folders = [code for code in inline_code(page) if re.fullmatch(r"[\w./]+/", code)]
    assert len(folders) > 30
    unknown = [folder for folder in folders if not lies_somewhere(folder, page)]
    # `engine/` is the name of several.
    assert set(unknown) <= {"engine/"}


def test_the_way_of_a_heartbeat_has_eight_calls() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    section = text[text.index("## What happens") : text.index("## Where the project")]
    assert re.findall(r"^(\d)\. \*\*", section, re.MULTILINE) == [str(n) for n in range(1, 9)]


def glossary_rows() -> list[tuple[str, str, str]]:
    text = (ROOT / "docs/glossary.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", text, re.MULTILINE)
    return [row for row in rows if row[0] != "word"]


def test_glossary_has_each_word_once_and_says_where_it_lives() -> None:
    rows = glossary_rows()
    words = [word for word, _, _ in rows]
    assert len(words) > 50 and len({word.lower() for word in words}) == len(words)
    for word, meaning, place in rows:
        assert meaning.strip() and re.search(r"`[^`]+`|\]\(", place), word
        for code in re.findall(r"`([^`]+)`", place):
            known = exists(f"medrobust.{code}") or (ROOT / code).exists()
            assert known, f"docs/glossary.md, {word}: {code}"


def test_glossary_names_what_the_experiment_consists_of() -> None:
    text = " ".join(place for _, _, place in glossary_rows())
    for name in ("config", "graph", "layout", "calls"):
        module = importlib.import_module(f"medrobust.experiment.{name}")
        for key, value in vars(module).items():
            if isinstance(value, type) and value.__module__ == module.__name__:
                assert f"`experiment.{name}.{key}`" in text, f"{key} is not in docs/glossary.md"
