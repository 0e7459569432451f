"""Trainings that came to nothing: what failed, and how the jobs that follow get to know it.

A training fails if its loss, its weights, or its scores at the test points end NaN or infinite. The
files of its members are written all the same, as they are, with the failure in the metadata of the
safetensors file; files of other trainings have no metadata. Jobs that follow write files of their
usual names without results, so a study goes on without the model
(:mod:`medrobust.reporting.failed`). A model whose members failed in part has failed: one whose
votes are fewer than stated is another model.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from medrobust.core import io

#: Name in the metadata of members' files: JSON, number of a member to what happened.
KEY = "failed"
SCORES = "scores not finite at the test points"
# Numbers of members that are listed.
_LISTED = 3


def failures_of(
    members: Sequence[int],
    parameters: Mapping[str, np.ndarray],
    history: Sequence[Mapping[str, Any]],
) -> dict[int, str]:
    """Returns what happened to members whose loss or weights are not finite.

    Args:
        members: their numbers.
        parameters: their arrays, most with a leading member axis.
        history: of each, what training noted (:class:`medrobust.training.engine.work.Trained`);
            a ``loss`` of None was not finite.

    Returns:
        number of a member to words such as "loss not finite in epoch 3".
    """
    broken = _members_with_broken_weights(parameters, len(members))
    found = {}
    for member, noted, weights in zip(members, history, broken, strict=True):
        epochs = noted.get("epochs")
        if "loss" in noted and noted["loss"] is None:
            found[member] = "loss not finite" + (f" in epoch {epochs}" if epochs else "")
        elif weights:
            found[member] = "weights not finite" + (f" after epoch {epochs}" if epochs else "")
    return found


def _members_with_broken_weights(parameters: Mapping[str, np.ndarray], members: int) -> np.ndarray:
    """Returns bool ``[members]``; all, where arrays without a member axis are not finite."""
    broken = np.zeros(members, dtype=bool)
    for values in parameters.values():
        if values.dtype.kind != "f" or np.isfinite(values).all():
            continue
        own = len(values) == members
        broken |= ~np.isfinite(values.reshape(members, -1)).all(axis=1) if own else True
    return broken


def metadata_of(failures: Mapping[int, str]) -> dict[str, str] | None:
    """Returns the metadata of a members' file; None where nothing failed."""
    return {KEY: json.dumps({str(k): failures[k] for k in sorted(failures)})} if failures else None


def failure_in(files: Iterable[str]) -> str:
    """Returns in words what failed of a model, "" if nothing.

    Args:
        files: safetensors files of all its training jobs.
    """
    failures: dict[str, str] = {}
    for file in files:
        failures |= json.loads(io.read_metadata(file).get(KEY, "{}"))
    return in_words(failures)


def in_words(failures: Mapping[str, str]) -> str:
    """Returns e.g. "members 3, 7: loss not finite in epoch 3"; of member 0 alone what happened."""
    if not failures:
        return ""
    numbers, happened = list(failures), next(iter(failures.values()))
    if numbers == ["0"]:
        return happened
    more = f" and {len(numbers) - _LISTED} more" if len(numbers) > _LISTED else ""
    word = "member" if len(numbers) == 1 else "members"
    first = "" if len(set(failures.values())) == 1 else "the first: "
    return f"{word} {', '.join(numbers[:_LISTED])}{more}: {first}{happened}"
