"""Errors that a user can act on.

Every failure caused by input (a file, a setting, a credential, the disk) is raised as an
:class:`InputError`: it says what is wrong, where, and what to do. Command line entry
points and workflow scripts print its message without a traceback.
"""

from __future__ import annotations

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
    """Returns the allowed name that ``name`` is most likely a slip of, or None if none is near.

    Near is what some slips of the keyboard make of a name: a letter too many, one too few, another
    one, or two that changed places; one slip in up to five letters, one more for every three
    further letters. In names of up to four letters, another letter is no evidence (``gpu`` is not
    ``cpu``, ``bnn`` not ``cnn``): there only the other slips count. Capitals do not count, and the
    first four letters or more of a single name stand for it (``hopskip``).
    """
    given = str(name).casefold()
    known = list(dict.fromkeys(str(one) for one in allowed))
    slips = {one: _slips(given, one.casefold()) for one in known}
    near = [one for one in known if _is_near(given, one.casefold(), slips[one])]
    if near:
        return min(near, key=lambda one: slips[one])
    begun = [one for one in known if len(given) >= 4 and one.casefold().startswith(given)]
    return begun[0] if len(begun) == 1 else None


def _is_near(given: str, name: str, slips: int) -> bool:
    longer = max(len(given), len(name))
    if slips == 0:
        return True
    if longer <= 4:
        changed_places = sorted(given) == sorted(name)
        return slips == 1 and len(given) >= 2 and (len(given) != len(name) or changed_places)
    return slips <= 1 + (longer - 3) // 3


def _slips(one: str, other: str) -> int:
    """Returns the fewest slips between two names (optimal string alignment)."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, start=1):
        before, last, row = row, before, [i]
        for j, b in enumerate(other, start=1):
            least = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                least = min(least, last[j - 2] + 1)
            row.append(least)
    return row[-1]
