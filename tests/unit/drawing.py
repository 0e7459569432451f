"""Draws artefacts as the job does."""

from __future__ import annotations

from pathlib import Path

from medrobust.experiment.catalogue import artefacts_of
from medrobust.reporting.catalogue import function_of
from medrobust.reporting.request import Request


def draw(study: str, name: str, request: Request) -> list[Path]:
    """Writes an artefact of a study and returns its files."""
    artefact = artefacts_of(study)[name]
    return function_of(artefact.draw)(request, **artefact.settings)
