"""What was found, over all runs in ``results/``: the first page of the report, and a file alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medrobust.experiment.catalogue import parts_of, studies_with_parts
from medrobust.experiment.graph import Graph
from medrobust.experiment.picture import pipeline_svg

RESULTS = Path("results")
OVERVIEW = RESULTS / "overview.html"


def _front() -> dict[str, str]:
    return {study: parts_of(study).front for study in studies_with_parts()}


def page_of_report(graph: Graph, published: Path, contained: Sequence[Path]) -> str:
    """Returns the page for the description of Snakemake's report, as HTML.

    Args:
        graph: of the configuration.
        published: folder of the published numbers.
        contained: files that the report has.
    """
    from medrobust.reporting.start_page import in_report

    return in_report(RESULTS, published, _front(), contained, pipeline_svg(graph))


def write_overview(graph: Graph, published: Path) -> Path:
    """Writes the page to :data:`OVERVIEW` and returns where it is.

    Args:
        graph, published: as for :func:`page_of_report`.
    """
    from medrobust.reporting import start_page

    start_page.write_overview(RESULTS, published, _front(), OVERVIEW, pipeline_svg(graph))
    return OVERVIEW
