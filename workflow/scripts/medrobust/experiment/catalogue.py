"""What each study can draw: generic artefacts, and its own if it has a folder in ``studies``.

Nothing heavy is imported here.
"""

from __future__ import annotations

import functools
import importlib.util
import pkgutil
import re
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


def report_label(study: str, name: str, what: str) -> dict[str, str]:
    """Returns the one label of a result in Snakemake's report.

    One, and unlike that of any other result: where the results of a page have a second label with
    two values that half of them have each, the report makes a switch of it, and goes blank unless
    every result has a counterpart; results with equal labels hide each other (seen in Snakemake
    9.27.1, ``report/html_reporter/template/components/abstract_results.js``).

    Args:
        study: name of the study, or of what else the result belongs to.
        name: of the result, such as "Table 10". A number of one digit is set as wide as two, for
            the report sorts by text.
        what: what it shows, in a few words.
    """
    aligned = re.sub(r"(?<= )(\d)(?!\d)", "\N{FIGURE SPACE}\\1", name, count=1)
    return {"result": f"{aligned}: {what} ({study})"}
