"""Hash of the code that a piece of work depends on.

Snakemake sees edits of a rule and its script, not of imported modules. Each rule therefore
carries ``code=``: a hash of the syntax trees, without docstrings and comments, of the module
that does the work and of everything in medrobust that this module imports. An edit of one
attack reruns that attack and nothing else; a comment reruns nothing.

Left out are the modules in ``NEUTRAL``: they do not shape results and are held by tests of
their output instead.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Collection
from pathlib import Path

PACKAGE = Path(__file__).parent
NEUTRAL = frozenset(
    f"medrobust.{name}"
    for name in (
        "errors",
        "logs",
        "io",
        "config",
        "schema",
        "registry",
        "codehash",
        "devices",
        "machine",
        "progress",
    )
) | {"medrobust"}


def code_hash(*modules: str, without: Collection[str] = ()) -> str:
    """Returns a hash (16 hex digits) of ``modules`` and all medrobust modules they import.

    Args:
        modules: dotted names such as "medrobust.attacks.hopskipjump".
        without: modules that do not shape this result, left out with what only they import.
    """
    digest = hashlib.sha256()
    for name in sorted(closure(*modules, without=without)):
        digest.update(f"{name}\0{_tree(name)[0]}\0".encode())
    return digest.hexdigest()[:16]


def closure(*modules: str, without: Collection[str] = ()) -> set[str]:
    """Returns ``modules`` and all they import of medrobust, directly or not, but neutral ones."""
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in found or name in NEUTRAL or name in without:
            continue
        found.add(name)
        waiting.extend(_tree(name)[1])
    return found


def _file(name: str) -> Path | None:
    relative = Path(*name.split(".")[1:])
    for candidate in (PACKAGE / relative.with_suffix(".py"), PACKAGE / relative / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@functools.cache
def _tree(name: str) -> tuple[str, frozenset[str]]:
    """Returns the dumped syntax tree of a module and the medrobust modules it imports."""
    file = _file(name)
    if file is None:
        raise ModuleNotFoundError(name)
    tree = ast.parse(file.read_text(encoding="utf-8"))
    imported: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported.update(a.name for a in node.names if a.name.startswith("medrobust"))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("medrobust"):
            # `from medrobust.data import store` names a module, `... import read_x` does not.
            for alias in node.names:
                sub = f"{node.module}.{alias.name}"
                imported.add(sub if _file(sub) else str(node.module))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
            _drop_docstring(node)
    return ast.dump(tree), frozenset(imported)


def _drop_docstring(
    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module,
) -> None:
    first = node.body[0] if node.body else None
    if (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    ):
        node.body = node.body[1:] or [ast.Pass()]
