"""Hash of the code that a piece of work depends on: what it does, not where it lies.

Snakemake sees edits of a rule and its script, not of imported modules. Each rule therefore
carries ``code=``: a hash of the definitions (functions, classes, constants) that the work reaches,
found by following names from its entry points. An edit of one attack reruns that attack and
nothing else. These change no hash:

* comments, docstrings, layout, type hints of functions and of their variables;
* a definition that moves to another module, gets another name, or a module that moves;
* definitions of the same module that the work does not reach.

A definition is hashed as its syntax tree, in which a reference to another definition is the
number under which the walk first met it. Statements of a module that define nothing count as soon
as anything of the module does.

Left out are the modules in ``NEUTRAL``: they do not shape results and are held by tests of
their output instead. So are decorators that they define, and the fields of a contract
(:mod:`medrobust.core.contract`) that shape none, such as costs for the plan, with what only they
refer to. What is chosen at run time by name (``registry.module_of``) cannot be followed: whoever
asks for a hash names the objects that those modules end with as entries too
(``registry.object_of``).
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import json
import re
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medrobust.attacks.contract import Attack
from medrobust.core.contract import Contract
from medrobust.core.io import write_json
from medrobust.data.contract import Adapter
from medrobust.models.contract import Architecture
from medrobust.training.contract import Method

PACKAGE = Path(__file__).parents[1]
NEUTRAL = frozenset(
    f"medrobust.{name}"
    for name in (
        "core.contract",
        "models.contract",
        "training.contract",
        "attacks.contract",
        "data.contract",
        "core.errors",
        "core.logs",
        "core.io",
        "core.schema",
        "core.registry",
        "core.machine",
        "runtime.devices",
        "runtime.journal",
        "experiment.config",
        "experiment.codehash",
    )
) | {"medrobust"}
CONTRACTS: tuple[type[Contract], ...] = (Architecture, Method, Attack, Adapter)
_MODULE_NAME = re.compile(r"medrobust(\.\w+)+")
_REFERENCE = "\0"  # stands in a template for a reference to a definition


@dataclass(frozen=True)
class Name:
    """A name at the top of a module; ``name`` is "" for the module as a whole."""

    module: str
    name: str = ""


#: A class of contracts to the names of its fields that shape no result.
_WITHOUT_EFFECT = {Name(c.__module__, c.__name__): c.without_effect() for c in CONTRACTS}


@dataclass(frozen=True)
class _Definition:
    """A statement at the top of a module.

    Attributes:
        template: its syntax tree as text, references to other definitions left open.
        references: what the openings refer to, in their order.
    """

    template: str
    references: tuple[Name, ...]


@dataclass(frozen=True)
class _Module:
    """A module, read.

    Attributes:
        statements: its statements.
        defined: name to the number of its (last) statement and the place within that statement.
        imported: name to what it is an import of: a definition or module of medrobust, or the
            dotted name of something else.
        effects: numbers of the statements that define nothing.
    """

    statements: tuple[ast.stmt, ...]
    defined: dict[str, tuple[int, int]]
    imported: dict[str, Name | str]
    effects: tuple[int, ...]


def code_hash(*entries: str, without: Collection[str] = ()) -> str:
    """Returns a hash (16 hex digits) of ``entries`` and of all of medrobust that they reach.

    Args:
        entries: modules such as "medrobust.attacks.pgd" (all their definitions, by name), or single
            definitions such as "medrobust.jobs.train:train_members".
        without: modules that do not shape this result, left out with what only they reach.

    Raises:
        ModuleNotFoundError: there is no such module.
        AttributeError: a module has no such definition.
    """
    return _hash(entries, frozenset(without))


def reached(*entries: str, without: Collection[str] = ()) -> set[str]:
    """Returns the modules of which ``entries`` reach anything, but neutral ones."""
    return {module for module, _ in _walk(entries, frozenset(without))[0]}


def forget() -> None:
    """Forgets what was read, for tests that edit a copy of the package."""
    for cached in (_hash, _state, _kept, _file, _module, _definition):
        cached.cache_clear()


@functools.cache
def _hash(entries: tuple[str, ...], without: frozenset[str]) -> str:
    key = " ".join([*entries, "-", *sorted(without)])
    known = _kept()
    if key not in known:
        texts = _walk(entries, without)[1]
        known[key] = hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]
        _keep(known)
    return known[key]


# Each job of a cluster reads the workflow again: hashes are kept until a file differs.


def _kept_file() -> Path:
    return PACKAGE / "__pycache__" / "code_hashes.json"


@functools.cache
def _state() -> str:
    """Returns what tells whether a file of the library changed: sizes and times of all."""
    files = sorted(PACKAGE.rglob("*.py"))
    facts = [(str(f.relative_to(PACKAGE)), f.stat().st_mtime_ns, f.stat().st_size) for f in files]
    return hashlib.sha256(repr([sys.version, *facts]).encode()).hexdigest()


@functools.cache
def _kept() -> dict[str, str]:
    """Returns the hashes that an earlier process found in the same state of the library."""
    try:
        kept = json.loads(_kept_file().read_text(encoding="utf-8"))
        return dict(kept["hashes"]) if kept["state"] == _state() else {}
    except (OSError, ValueError, TypeError, KeyError):  # not there, or not ours
        return {}


def _keep(hashes: dict[str, str]) -> None:
    # A library that may not be written to is read again each time.
    with contextlib.suppress(OSError):
        _kept_file().parent.mkdir(exist_ok=True)
        write_json(_kept_file(), {"state": _state(), "hashes": hashes})


def _walk(
    entries: tuple[str, ...], without: frozenset[str]
) -> tuple[dict[tuple[str, int], int], list[str]]:
    """Returns the numbers of the statements that are reached, and the texts to hash."""
    numbers: dict[tuple[str, int], int] = {}
    seen: set[str] = set()

    def number(module: str, statement: int) -> int:
        if module not in seen:
            seen.add(module)
            for effect in _module(module).effects:
                numbers.setdefault((module, effect), len(numbers))
        return numbers.setdefault((module, statement), len(numbers))

    def place(reference: Name) -> str:
        target = _resolved(reference, without)
        if isinstance(target, str):
            return target
        if not target.name:
            return "{" + " ".join(_contents(target.module, number)) + "}"
        statement, position = _module(target.module).defined[target.name]
        return f"@{number(target.module, statement)}.{position}"

    texts = [place(_entry(entry)) for entry in entries]
    done = 0
    while done < len(numbers):
        # Numbers are given in order, and a dict keeps it.
        for module, statement in list(numbers)[done:]:
            definition = _definition(module, statement)
            openings = definition.template.split(_REFERENCE)
            filled = [*map(place, definition.references), ""]
            texts.append("".join(a + b for a, b in zip(openings, filled, strict=True)))
            done += 1
    return numbers, texts


def _contents(module: str, number: Callable[[str, int], int]) -> Iterator[str]:
    """Yields each name that a module defines, with the number of its statement."""
    for name, (statement, position) in sorted(_module(module).defined.items()):
        yield f"{name}=@{number(module, statement)}.{position}"


def _entry(entry: str) -> Name:
    module, _, name = entry.partition(":")
    if _file(module) is None:
        raise ModuleNotFoundError(module)
    if name and name not in _module(module).defined:
        raise AttributeError(f"{module} defines no {name}")
    return Name(module, name)


def _resolved(reference: Name, without: frozenset[str]) -> Name | str:
    """Returns the definition or module behind a reference, or a text that stands for it."""
    while True:
        if reference.module in NEUTRAL or reference.module in without:
            return f"medrobust:{reference.name}"
        module = _module(reference.module)
        if not reference.name or reference.name in module.defined:
            return reference
        target = module.imported.get(reference.name)
        if target is None:
            inner = f"{reference.module}.{reference.name}"
            if _file(inner) is None:
                raise AttributeError(f"{reference.module} defines no {reference.name}")
            target = Name(inner)
        if isinstance(target, str):
            return target
        reference = target


@functools.cache
def _file(name: str) -> Path | None:
    place = PACKAGE.joinpath(*name.split(".")[1:])
    for candidate in (place.with_suffix(".py"), place / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@functools.cache
def _module(name: str) -> _Module:
    file = _file(name)
    if file is None:
        raise ModuleNotFoundError(name)
    statements = tuple(ast.parse(file.read_text(encoding="utf-8")).body)
    defined: dict[str, tuple[int, int]] = {}
    imported: dict[str, Name | str] = {}
    effects = []
    for number, statement in enumerate(statements):
        if isinstance(statement, ast.Import | ast.ImportFrom):
            imported |= _imports(statement)
        elif not _says_nothing(statement):
            names = list(dict.fromkeys(_bound(statement)))
            defined |= {bound: (number, k) for k, bound in enumerate(names)}
            if not names:
                effects.append(number)
    return _Module(statements, defined, imported, tuple(effects))


def _says_nothing(statement: ast.stmt) -> bool:
    """Returns whether a statement is text only, or for type checkers only."""
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant)
    return isinstance(statement, ast.If) and ast.unparse(statement.test).endswith("TYPE_CHECKING")


def _bound(statement: ast.stmt) -> Iterator[str]:
    """Yields the names that a statement at the top of a module binds."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
        return
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name


def _imports(node: ast.Import | ast.ImportFrom) -> dict[str, Name | str]:
    """Returns what each name that an import binds refers to."""
    if isinstance(node, ast.ImportFrom):
        module = node.module or ""
        if module.split(".")[0] != "medrobust":
            return {a.asname or a.name: f"{module}.{a.name}" for a in node.names}
        return {a.asname or a.name: _of_medrobust(module, a.name) for a in node.names}
    bound: dict[str, Name | str] = {}
    for alias in node.names:
        whole = alias.name if alias.asname else alias.name.split(".")[0]
        ours = whole.split(".")[0] == "medrobust"
        bound[alias.asname or whole] = Name(whole) if ours else whole
    return bound


def _of_medrobust(module: str, name: str) -> Name:
    # `from medrobust.data import store` names a module, `... import read_x` does not.
    inner = f"{module}.{name}"
    return Name(inner) if _file(inner) else Name(module, name)


@functools.cache
def _definition(module: str, number: int) -> _Definition:
    read = _module(module)
    statement = read.statements[number]
    names = {**{name: Name(module, name) for name in read.defined}, **read.imported}
    # Imports inside functions; two of one name in one definition are the same thing here.
    for node in ast.walk(statement):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= _imports(node)
    writer = _Writer(names)
    writer.write(statement, in_class=False)
    return _Definition("".join(writer.text), tuple(writer.references))


class _Writer:
    """Writes a syntax tree as text, references left open.

    Args:
        names: what the names of the module and of imports inside the definition refer to.
    """

    def __init__(self, names: dict[str, Name | str]) -> None:
        self.names = names
        self.text: list[str] = []
        self.references: list[Name] = []

    def write(self, node: object, *, in_class: bool) -> None:
        """Adds a node, a list of nodes, or a plain value.

        Args:
            node: what to add.
            in_class: it stands directly in the body of a class, where a type hint makes a field.
        """
        if isinstance(node, list):
            self._write_list(node, in_class)
        elif not isinstance(node, ast.AST):
            known = isinstance(node, str) and _MODULE_NAME.fullmatch(node) and _file(node)
            self.text.append("<module>" if known else repr(node))
        else:
            target = self._target(node)
            if isinstance(target, Name):
                self.references.append(target)
                self.text.append(_REFERENCE)
            elif target is not None:
                self.text.append(target)
            else:
                self._write_node(node, in_class)

    def _write_list(self, nodes: list[object], in_class: bool) -> None:
        self.text.append("[")
        for node in nodes:
            text_only = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            if not text_only and not isinstance(node, ast.Import | ast.ImportFrom):
                self.write(node, in_class=in_class)
                self.text.append(",")
        self.text.append("]")

    def _write_node(self, node: ast.AST, in_class: bool) -> None:
        self.text.append(type(node).__name__ + "(")
        for field, value in self._fields(node):
            hint = field == "returns" or (field == "annotation" and not in_class)
            own_name = field == "name" and value in self.names
            if not (hint or own_name or field in ("type_comment", "kind", "ctx")):
                self.write(value, in_class=isinstance(node, ast.ClassDef) and field == "body")
        self.text.append(")")

    def _fields(self, node: ast.AST) -> Iterator[tuple[str, Any]]:
        """Yields the parts of a node; of a contract without the fields that shape no result."""
        if isinstance(node, ast.Call):
            left_out = _WITHOUT_EFFECT.get(self._target(node.func), frozenset())
            yield "func", node.func
            yield "args", node.args
            yield "keywords", [k for k in node.keywords if k.arg not in left_out]
        else:
            for field, value in ast.iter_fields(node):
                if field == "decorator_list":
                    value = [one for one in value if not self._is_neutral(one)]
                yield field, value

    def _is_neutral(self, decorator: ast.expr) -> bool:
        function = decorator.func if isinstance(decorator, ast.Call) else decorator
        target = self._target(function)
        return isinstance(target, Name) and target.module in NEUTRAL

    def _target(self, node: ast.AST) -> Name | str | None:
        """Returns what a name, or an attribute of an imported module, refers to."""
        if isinstance(node, ast.Name):
            return self.names.get(node.id)
        if isinstance(node, ast.Attribute):
            base = self._target(node.value)
            if isinstance(base, Name) and not base.name:
                return _of_medrobust(base.module, node.attr)
        return None
