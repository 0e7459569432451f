"""Errors that a user can act on.

Every failure caused by input (a file, a setting, a credential, the disk) is raised as an
:class:`InputError`: it says what is wrong, where, and what to do. Command line entry
points and workflow scripts print its message without a traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(Exception):
    """Something given to medrobust is missing or wrong.

    Args:
        what: what is wrong, in one sentence.
        where: the file, key, record or address concerned (may be empty).
        remedy: what the user can do about it (may be empty).
    """

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        self.what, self.where, self.remedy = what, str(where), remedy
        lines = [what]
        if self.where:
            lines.append(f"  where: {self.where}")
        if remedy:
            lines.append(f"  what to do: {remedy}")
        super().__init__("\n".join(lines))


class NotFiniteError(InputError):
    """Scores of a model are NaN or infinite: they say nothing of any class.

    Args:
        what, where, remedy: as for :class:`InputError`.
        members: positions of the members of an ensemble whose scores these are.
    """

    def __init__(
        self, what: str, *, where: str = "", remedy: str = "", members: Iterable[int] = ()
    ) -> None:
        super().__init__(what, where=where, remedy=remedy)
        self.members = tuple(members)


def nearest(name: object, allowed: Iterable[str]) -> str | None:
    """Returns the allowed name closest in spelling to ``name``, or None if none is close."""
    matches = difflib.get_close_matches(str(name), [str(a) for a in allowed], n=1, cutoff=0.5)
    return matches[0] if matches else None
