"""Labels of the report: what Snakemake's own page makes of them."""

from __future__ import annotations

import itertools
import re

import pytest
from medrobust.experiment.catalogue import artefacts_of, report_label, studies_with_parts

from tests import browser


def labels_of(study):
    return [report_label(study, one.label, one.what) for one in artefacts_of(study).values()]


def switches(labels):
    """Returns what becomes a switch, by Snakemake 9.27.1 (abstract_results.js)."""
    names = list(dict.fromkeys(name for one in labels for name in one))
    found = []
    for name in names[1:]:
        values = [one[name] for one in labels if name in one]
        if len(set(values)) == 2 and all(values.count(v) == len(labels) / 2 for v in set(values)):
            found.append(name)
    return found


def test_the_rule_finds_what_went_wrong():
    shown = [{"artefact": "Figure 2", "what": "beat"}, {"artefact": "Convergence", "what": "d"}]
    assert switches(shown) == ["what"]


def test_no_two_results_can_form_a_switch_or_hide_each_other():
    """Search puts any results side by side."""
    every = [label for study in studies_with_parts() for label in labels_of(study)]
    every += [report_label(s, "Comparison", "numbers") for s in studies_with_parts()]
    every += [
        report_label(source, data, what)
        for source in ("kaggle", "standin")
        for data in ("mitbih", "mitbih_ns")
        for what in ("card", "examples")
    ]
    assert all(list(label) == ["result"] for label in every)
    assert len({label["result"] for label in every}) == len(every)
    assert not any(switches(pair) for pair in itertools.combinations(every, 2))


@pytest.mark.parametrize("study", ["nsr", "ima"])
def test_tables_stand_in_the_order_of_their_numbers(study, tmp_path):
    file = tmp_path / "page.html"
    file.write_text("<p></p>")
    shown = [label["result"] for label in labels_of(study)]
    tables = [label for label in shown if re.match(r"Table\s+\d", label)]
    with browser.opened(file) as page:  # the report sorts by localeCompare
        in_order = page.evaluate("labels => labels.sort((a, b) => a.localeCompare(b))", tables)
    numbers = [int(re.search(r"\d+", label)[0]) for label in in_order]
    assert numbers == sorted(numbers) and len(numbers) > 2
