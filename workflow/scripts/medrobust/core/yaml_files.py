"""Reading settings: YAML files, and ``KEY=VALUE`` of the command line, one way for every command.

Snakemake reads ``--config`` by rules of its own, which are not those of YAML: ``seed=012`` is 12
there and 10 in YAML 1.1. ``python -m medrobust`` follows them, so that a setting means the same
whoever reads it. In files a number that both could read is refused, and so is a key given twice, of
which plain YAML would keep the last in silence.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from medrobust.core.errors import InputError

_OTHER_BASES = re.compile(r"[-+]?(0[0-9_]+|[1-9][0-9_]*(:[0-5]?[0-9])+)")
"""Whole numbers that YAML 1.1 reads to the base 8 or 60, and people to the base 10."""


def read_yaml(path: str | Path) -> Any:
    """Reads a YAML file.

    Raises:
        InputError: the file is missing, is not UTF-8 or not YAML, gives a key twice, or has a whole
            number that YAML reads to another base than 10 (012, 1:30); it names file and line.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        # A subclass of SafeLoader: plain data only, no object construction.
        return yaml.load(text, Loader=_FileLoader)  # noqa: S506
    except FileNotFoundError:
        raise InputError("This file does not exist.", where=str(path)) from None
    except UnicodeDecodeError as error:
        raise InputError(f"This file is not UTF-8 text ({error}).", where=str(path)) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        raise InputError(f"This is not valid YAML: {error}", where=f"{path}{line}") from None


def command_line_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Returns the settings that ``--config`` gives, as Snakemake reads them.

    Args:
        settings: texts ``KEY=VALUE``. A value is a whole number, a number, ``True`` or ``False``,
            or YAML all of whose scalars stay text, whatever of these comes first.

    Raises:
        InputError: a text has another form, or a mapping in it gives a key twice.
    """
    values: dict[str, Any] = {}
    for setting in settings:
        key, separator, text = setting.partition("=")
        if not separator:
            raise InputError(f"Expected KEY=VALUE, found {setting!r}.", where="--config")
        values = overlaid(values, {key: _value(text.strip("'\""), setting)})
    return values


def overlaid(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns ``values`` with ``changes`` laid over them, mappings key by key."""
    result = dict(values)
    for key, value in changes.items():
        if isinstance(value, Mapping):
            below = result.get(key)
            value = overlaid(below if isinstance(below, Mapping) else {}, value)
        result[key] = value
    return result


def typed(node: Any) -> Any:
    """Returns ``node`` with text as the numbers and words that it is.

    Snakemake hands over everything inside a mapping of ``--config`` as text.
    """
    if isinstance(node, Mapping):
        return {key: typed(value) for key, value in node.items()}
    if isinstance(node, list):
        return [typed(value) for value in node]
    if not isinstance(node, str):
        return node
    for number in (int, float):
        with contextlib.suppress(ValueError):
            return number(node)
    try:
        return yaml.safe_load(node)
    except yaml.YAMLError:
        return node


def _value(text: str, setting: str) -> Any:
    if text == "":
        return None
    for number in (int, float):
        with contextlib.suppress(ValueError):
            return number(text)
    if text in ("True", "False"):
        return text == "True"
    try:
        return yaml.load(text, Loader=_TextLoader)  # noqa: S506
    except _TwiceError as error:
        raise InputError(f"{error.problem}.", where=f"--config {setting}") from None
    except yaml.YAMLError:
        return text


class _TwiceError(yaml.constructor.ConstructorError):
    """A mapping gives a key twice."""


class _UniqueKeys:
    """Refuses a mapping that gives a key twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)  # type: ignore[attr-defined]
            if key in seen:
                raise _TwiceError(
                    None, None, f"the key {key!r} is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)  # type: ignore[misc]


# Where PyYAML was built with libyaml, reading takes a fifth of the time.
class _FileLoader(_UniqueKeys, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Plain data, no key twice, whole numbers to the base 10."""

    def construct_yaml_int(self, node: Any) -> int:
        text = self.construct_scalar(node)
        if _OTHER_BASES.fullmatch(text):
            raise yaml.constructor.ConstructorError(
                None,
                None,
                f"{text} is {super().construct_yaml_int(node)} in YAML, which not everybody "
                "expects; write it so, or in quotes if it is no number",
                node.start_mark,
            )
        return super().construct_yaml_int(node)


_FileLoader.add_constructor("tag:yaml.org,2002:int", _FileLoader.construct_yaml_int)


class _TextLoader(_UniqueKeys, yaml.BaseLoader):
    """All scalars stay text."""
