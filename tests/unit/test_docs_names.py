"""Modules, functions and paths that documentation, docstrings and comments name exist."""

from __future__ import annotations

import dataclasses
import importlib
import re
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
    *(ROOT / name for name in ("Snakefile", "Makefile", "benchmarks/README.md")),
    *sorted(ROOT.glob("config/**/*.*")),
    *sorted(ROOT.glob("benchmarks/*.py")),
    *sorted(ROOT.glob("workflow/rules/*.smk")),
    *sorted(SCRIPTS.glob("*.py")),
    *MODULES,
]
# Modules and files that the worked examples of docs/extending.md and docs/data.md add.
EXAMPLES = re.compile(r"\b(?:noise|linear|fgsm_training|random_noise|two_files)\b")
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
    unknown = [name for name in unknown if not exists(name)]
    for path in paths_in(content):
        if EXAMPLES.search(path) or path.startswith(tuple(ELSEWHERE)):
            continue
        if not lies_somewhere(path, text):
            unknown.append(path)
    assert not unknown, f"{named(text)} names what is not there: {', '.join(unknown)}"


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
