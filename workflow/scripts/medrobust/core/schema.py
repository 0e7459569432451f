"""What every settings model shares: strictness, and errors a user can act on.

Settings are pydantic models: unknown keys, wrong types and values out of range are refused.
:func:`checked` turns pydantic's report into one :class:`InputError` that names the file, the
key, what is allowed and, for a misspelt name, the nearest valid one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from medrobust.core.errors import InputError, nearest


class Settings(BaseModel):
    """Base of all settings: strict types, no unknown keys, immutable."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


AnySettings = TypeVar("AnySettings", bound=Settings)


def checked(
    model: type[AnySettings], values: Mapping[str, Any], *, file: str, prefix: str = ""
) -> AnySettings:
    """Returns ``values`` as an instance of ``model``.

    Args:
        model: the settings class.
        values: plain data, as read from YAML.
        file: the file the values come from, for messages.
        prefix: the key path of ``values`` within the file, for messages.

    Raises:
        InputError: a key is unknown or missing, or a value has a wrong type or range.
    """
    if not isinstance(values, Mapping):
        raise InputError(
            f"Expected keys and values here, found {type(values).__name__}.",
            where=_place(file, prefix),
        )
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        messages = [_message(model, e, file, prefix) for e in error.errors(include_url=False)]
        raise InputError("\n".join(messages)) from None


def unknown_name(kind: str, name: object, allowed: Any, *, where: str) -> InputError:
    """Returns the error for a name that is not among ``allowed``, with the nearest one."""
    close = nearest(name, allowed)
    return InputError(
        f"Unknown {kind} {name!r}." + (f" Did you mean {close!r}?" if close else ""),
        where=where,
        remedy="allowed: " + ", ".join(str(a) for a in allowed),
    )


def _place(file: str, key: str) -> str:
    return f"{file}, key {key}" if key else file


def _message(model: type[Settings], error: Any, file: str, prefix: str) -> str:
    path = [str(p) for p in error["loc"]]
    place = _place(file, ".".join([*([prefix] if prefix else []), *path]))
    kind = error["type"]
    if kind == "extra_forbidden":
        allowed = sorted(_fields_at(model, error["loc"][:-1]))
        close = nearest(path[-1], allowed)
        hint = f" Did you mean {close!r}?" if close else ""
        return f"{place}: unknown key {path[-1]!r}.{hint} Allowed: {', '.join(allowed)}."
    if kind == "missing":
        return f"{place}: this key is required."
    text = error["msg"].removeprefix("Value error, ").rstrip(".")
    value = error.get("input")
    close = None
    if kind == "literal_error":
        close = nearest(value, re.findall(r"'([^']*)'", str(error["ctx"]["expected"])))
    shown = "" if isinstance(value, Mapping) else f" (found {value!r})"
    return f"{place}: {text}{shown}." + (f" Did you mean {close!r}?" if close else "")


def _fields_at(model: type[Settings], location: tuple[Any, ...]) -> set[str]:
    """Returns the field names of the settings class that lies at ``location`` in ``model``."""
    current: Any = model
    for part in location:
        fields = getattr(current, "model_fields", {})
        if part in fields:
            current = settings_in(fields[part].annotation)
    return set(getattr(current, "model_fields", {}))


def settings_in(annotation: Any) -> Any:
    """Returns the settings class inside an annotation such as ``dict[str, X]`` or ``X | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        inner = settings_in(argument)
        if inner is not None:
            return inner
    return None
