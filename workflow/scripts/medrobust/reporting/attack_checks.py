"""Did the attacks work? What captions say where one had no gradients, or another did better.

A point that an attack could not move counts as robust. Two things tell of it (Athalye et al. 2018,
section 3.1; Carlini et al. 2019): steps at which the gradient was 0 or not finite
(``steps_without_gradient`` of records), and points that noise or SPSA breaks, though no attack by
gradients does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrobust.attacks import lost_steps_text
from medrobust.core.words import counted
from medrobust.evaluation.outcomes import FILE, broken_by_other, read_outcomes
from medrobust.evaluation.tally import ATTACK, LATER, read_tally
from medrobust.reporting.artefacts import OTHERS as APART

if TYPE_CHECKING:
    from medrobust.reporting.request import Entry

#: Attacks that do not go along gradients, and can show that those misled.
OTHERS = ("uniform_noise", "spsa")


def warnings_of(
    entries: Sequence[Entry], attacks: Mapping[str, Mapping[str, Any]]
) -> tuple[str, ...]:
    """Returns what must be said of the attacks behind an artefact, in sentences.

    Args:
        entries: with the tallies of the attacks.
        attacks: every attack of the study (:class:`medrobust.reporting.request.Request`).
    """
    lost = [text for entry in entries for text in _without_gradients(entry)]
    better = [text for entry in entries for text in _done_better(entry, attacks)]
    own = [text for entry in entries for text in _own_starts(entry, attacks)]
    warnings = []
    if own:
        warnings.append(
            "Fixed starts: these models call the common start by the point's own class, and began "
            f"at a start of their own: {'; '.join(own)}."
        )
    if lost:
        warnings.append(
            "WARNING: the gradient was 0 or not finite, so that the attack could not know where to "
            f"go, at {'; '.join(lost)}. Accuracy there is likely too high: see other losses "
            "(margin), SPSA or noise."
        )
    if better:
        warnings.append(
            "LOOK: points were broken that no attack by gradients broke, so accuracy under these "
            f"is too high: {'; '.join(better)}."
        )
    return tuple(warnings)


def _name(entry: Entry) -> str:
    several = f", replicate {entry.replicate}" if entry.replicate else ""
    fold = f", fold {entry.fold}" if entry.fold else ""
    return f"{entry.model} on {entry.dataset}{several}{fold}"


def _without_gradients(entry: Entry) -> Iterator[str]:
    for attack, path in entry.tallies.items():
        with Path(path).open(encoding="utf-8") as file:
            if not set(LATER) <= set(file.readline().strip().split(",")):
                continue
        tally = read_tally(path)
        rows = tally.frame[tally.frame["reading"] == ATTACK]
        if text := lost_steps_text(*(int(rows[name].sum()) for name in LATER)):
            yield f"{text} of {attack} on {_name(entry)}"


def _own_starts(entry: Entry, attacks: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    from medrobust.evaluation.records import read_records

    settings = [*attacks.values()]
    settings += [own for facts in attacks.values() for own in facts.get(APART, {}).values()]
    if all(one.get("start") != "fixed" for one in settings):
        return
    for file in dict.fromkeys([*entry.records, *entry.attack_records.values()]):
        records = read_records(file)
        own = records.loc[~records["start_shared"].fillna(True), "point_id"].nunique()
        if own:
            yield f"{_name(entry)} at {counted(own, 'point', 'points')}"


def _done_better(entry: Entry, attacks: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    kinds = {name: attacks.get(name, {}).get("name") for name in entry.tallies}
    linf = {n for n in kinds if attacks.get(n, {}).get("norm", "linf") == "linf"}
    others = [name for name, kind in kinds.items() if kind in OTHERS]
    by_gradients = [name for name, kind in kinds.items() if kind == "pgd" and name in linf]
    if not others or not by_gradients:
        return
    outcomes = {
        name: read_outcomes(Path(entry.tallies[name]).with_name(FILE))
        for name in (*others, *by_gradients)
    }
    pgd = [outcomes[name] for name in by_gradients if outcomes[name] is not None]
    for name in others:
        if outcomes[name] is None or not pgd:
            continue
        if found := broken_by_other(pgd, outcomes[name]):
            level, (number, of) = max(found.items(), key=lambda item: item[1][0])
            yield f"{name}, {number} of {of} at {level} on {_name(entry)}"
