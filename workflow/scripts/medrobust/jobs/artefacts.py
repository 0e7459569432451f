"""Jobs that draw tables and figures and hold them against the published numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medrobust.experiment.catalogue import artefacts_of, parts_of
from medrobust.reporting.attack_checks import warnings_of
from medrobust.reporting.catalogue import function_of
from medrobust.reporting.failed import without_failed
from medrobust.reporting.provenance import run_context
from medrobust.reporting.request import Entry, Request


def build_artefact(
    *,
    study: str,
    artefact: str,
    entries: Sequence[Mapping[str, Any]],
    out: str,
    run: Mapping[str, Any],
    attack: Mapping[str, Any],
    class_names: Sequence[str],
    cohort_rule: str,
    attacks: Mapping[str, Mapping[str, Any]],
    claims: Mapping[str, Mapping[str, Any]],
    published: str = "",
    cohort: str = "",
) -> None:
    """Writes a table or figure of a study with all its formats.

    Args:
        study: name of the study.
        artefact: name of the table or figure, as in its catalogue.
        entries: fields of :class:`medrobust.reporting.request.Entry`.
        published: file of the published numbers ("": there are none).
        out: any one of the artefact's files; the others lie beside it.
        run: what the workflow knows of the run
            (:func:`medrobust.reporting.provenance.run_context`).
        attack: name and settings of the attack.
        cohort: file of the attacked points ("" if the artefact needs none).
        class_names: names of the classes of the first data set.
        cohort_rule: which points were attacked, in words.
        attacks: every attack of the study, as :class:`medrobust.reporting.request.Request` has
            them.
        claims: sentences of the study's file, as :class:`medrobust.reporting.request.Request` has
            them.
    """
    there, failed = without_failed([Entry(**entry) for entry in entries])
    request = Request(
        entries=there,
        published=published,
        out_stem=str(Path(out).with_suffix("")),
        context=dataclasses.replace(
            run_context(run, study), failed=failed, warnings=warnings_of(there, attacks)
        ),
        attack=attack,
        cohort=cohort,
        class_names=class_names,
        cohort_rule=cohort_rule,
        attacks=attacks,
        claims=claims,
    )
    chosen = artefacts_of(study)[artefact]
    function_of(chosen.draw)(request, **chosen.settings)


def show_card(*, card: str, text: str, preview: str, page: str) -> None:
    """Writes the card of a data set as a web page, with its picture in it.

    Args:
        card: ``card.json``.
        text: ``card.md``, the same for people.
        preview: ``preview.png``, the examples.
        page: HTML file to write.
    """
    from medrobust.core import io
    from medrobust.reporting.card_page import card_page

    shown = card_page(
        io.read_json(card), Path(text).read_text(encoding="utf-8"), Path(preview).read_bytes()
    )
    io.write_text(page, shown)


def compare(
    *,
    study: str,
    tables: Sequence[str],
    published: str,
    out: str,
    run: Mapping[str, Any],
    sources: Mapping[str, str],
) -> None:
    """Writes every published number of a study beside the reproduced one (CSV, HTML, Markdown).

    Args:
        study: name of the study.
        tables: CSV files of the study's tables.
        published: file of the published numbers.
        out: any one of the files to write.
        run: what the workflow knows of the run.
        sources: data set as printed to source.
    """
    from medrobust.reporting.comparison import build_comparison, no_remark

    stem = str(Path(out).with_suffix(""))
    told = parts_of(study).remark
    remark = function_of(told) if told else no_remark
    build_comparison(
        study,
        published,
        tables,
        stem,
        run_context(run, study),
        sources,
        remark,
        published_study=parts_of(study).published_study,
    )


def check_published(*, study: str, published: str, out: str, run: Mapping[str, Any]) -> None:
    """Writes which printed averages of a paper do not follow from their printed terms."""
    stem = str(Path(out).with_suffix(""))
    build = function_of(parts_of(study).printed_averages)
    build(published, stem, run_context(run, study))
