"""Models whose training failed: what tables, figures and lists of claims say of them.

``clean.json`` of such a model has a text ``failed`` and its other files hold nothing
(:mod:`medrobust.models.failures`). Its results are taken out before anything is drawn, so nobody
counts them; captions name it, and its rows say what happened in place of "not run".
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.reporting.artefacts import FailedTraining
from medrobust.reporting.request import Entry


def without_failed(entries: Sequence[Entry]) -> tuple[list[Entry], tuple[FailedTraining, ...]]:
    """Returns the entries with results, and the trainings that failed.

    Args:
        entries: of an artefact; those without a ``state`` are taken as they are.

    Raises:
        InputError: a file ``clean.json`` does not exist.
    """
    there, failed = [], []
    for entry in entries:
        if entry.state and not Path(entry.state).is_file():
            raise InputError("This summary of clean results does not exist.", where=entry.state)
        happened = io.read_json(entry.state).get("failed") if entry.state else None
        if happened is None:
            there.append(entry)
        else:
            place = (entry.dataset, entry.model, entry.replicate, entry.fold)
            failed.append(FailedTraining(*place, str(happened)))
    return there, tuple(failed)
