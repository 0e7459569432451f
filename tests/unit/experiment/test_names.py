"""What is said of a target that nothing makes, and what a list of targets shows."""

from __future__ import annotations

import re

import pytest
from medrobust.experiment.catalogue import artefacts_of, studies_with_parts
from medrobust.experiment.names import meant_for_us, title, unknown_target
from medrobust.experiment.sources import build_graph


@pytest.fixture(scope="module")
def graph(root):
    return build_graph({"scale": "smoke", "studies": ["signnet"]}, root)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("fig2", "ask for signnet_fig2 or ima_fig2 or mirst_fig2 or nsr_fig2"),
        ("table3", "ask for signnet_table3 or mirst_table3 or nsr_table3"),
        ("signnet_fig9", "Did you mean 'signnet_fig1'?"),
        ("signnet_Fig2", "Did you mean 'signnet_fig2'?"),
        ("signnet_convergance", "Did you mean 'signnet_convergence'?"),
        ("nsr_fig1", "select it: snakemake --cores 2 nsr_fig1 --config scale=smoke 'studies="),
        ("nsr_figure1", "snakemake --cores 2 nsr_fig1 --config"),
        ("nsr", "is made by the study nsr, which is not selected"),
        ("nsr_fgi1", "Did you mean 'nsr_fig1'?"),
        (
            "scale=laptop",
            "settings stand behind --config, after all targets: --config scale=laptop",
        ),
        ("scael=laptop", "Did you mean 'scale'?"),
        ("covid_ct", "snakemake --cores 2 data --config also_prepare=covid_ct"),
        ("preflihgt", "Did you mean 'preflight'?"),
        ("signet", "Did you mean 'signnet'"),
        ("qqqq", "`snakemake --list-target-rules` shows all"),
    ],
)
def test_what_is_near_is_said(graph, target, said):
    assert said in str(unknown_target(target, graph))
    assert re.fullmatch(meant_for_us(graph), target)


def test_an_artefact_that_the_study_leaves_out_is_told_apart(graph):
    assert "accuracy" in artefacts_of("signnet")
    text = str(unknown_target("signnet_accuracy", graph))
    assert "is not among what the study signnet makes" in text
    assert "config/studies/signnet.yaml, key artefacts" in text and "signnet_tab3" in text


def test_under_committed_records_another_study_needs_other_records(root):
    records = str(root / "docs/evidence/signnet")
    graph = build_graph({"scale": "laptop", "records_from": records}, root)
    assert "the records of nsr as records_from" in str(unknown_target("nsr_fig1", graph))


@pytest.mark.parametrize("file", ["report.html", "results/x", "results/a/b.csv", "a.b"])
def test_files_are_left_to_snakemake(graph, file):
    assert not re.fullmatch(meant_for_us(graph), file)


def test_beside_another_workflow_only_certain_names_are_ours(graph):
    def renamed(name):
        return f"med_{name}"

    pattern = meant_for_us(graph, renamed=renamed, alone=False)
    ours = ["med_signnet_fig9", "med_nsr_fig1", "med_nsr_figure1", "med_ima", "med_ima_tabb9"]
    assert all(re.fullmatch(pattern, name) for name in ours)
    others = ["all", "plan", "fig2", "signnet_fig2", "med_signnet_summary", "med_other", "x=y"]
    assert not any(re.fullmatch(pattern, name) for name in others)
    text = str(unknown_target("med_signnet_fig9", graph, renamed=renamed, alone=False))
    assert "Did you mean 'med_signnet_fig1'?" in text
    text = str(unknown_target("med_nsr_fig1", graph, renamed=renamed, alone=False))
    assert "add nsr to `studies` in the configuration of the module" in text


def test_every_artefact_has_a_title_of_its_own():
    assert title("signnet", "figure2").startswith("Figure 2: ")
    assert title("signnet", "figure2").endswith("; short: signnet_fig2")
    assert "short" not in title("signnet", "effort")
    for study in studies_with_parts():
        titles = [title(study, name) for name in artefacts_of(study)]
        assert len(set(titles)) == len(titles)
