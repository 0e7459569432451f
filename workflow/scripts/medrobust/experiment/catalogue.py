"""What each study can draw: generic artefacts, and its own if it has a folder in ``studies``.

Nothing heavy is imported here.
"""

from __future__ import annotations

import functools
import importlib.util
import pkgutil
from collections.abc import Mapping

from medrobust.reporting.catalogue import Artefact, StudyParts
from medrobust.reporting.generic import GENERIC


@functools.cache
def parts_of(study: str) -> StudyParts:
    """Returns what only ``study`` has; a study without a folder of its own has nothing."""
    package = f"medrobust.studies.{study}"
    if importlib.util.find_spec(package) is None:
        return StudyParts(artefacts={})
    return importlib.import_module(f"{package}.catalogue").PARTS


def artefacts_of(study: str) -> Mapping[str, Artefact]:
    """Returns what can be drawn of a study, by name: its own artefacts, then generic ones.

    Its own win over generic ones of the same name.
    """
    own = parts_of(study).artefacts
    return {**own, **{name: one for name, one in GENERIC.items() if name not in own}}


def studies_with_parts() -> list[str]:
    """Returns the studies that have a folder of their own, by name."""
    import medrobust.studies

    return sorted(found.name for found in pkgutil.iter_modules(medrobust.studies.__path__))
