"""Names to ask for: each listed once with its title; of others it is said what is near."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def project(make_project):
    return make_project()


def test_every_artefact_is_listed_once_with_its_title(project):
    lines = project.snakemake("--list-target-rules").splitlines()
    listed = dict(line.split(" (", 1) for line in lines if line.endswith(")"))
    assert listed["signnet_figure2"].startswith("Figure 2: ")
    assert "short: signnet_fig2" in listed["signnet_figure2"]
    assert "signnet_fig2" not in listed and "no_such_target" not in listed
    assert listed["plan"] and listed["nsr"].startswith("The whole study: Improve robustness")
    # Nothing stands there without a title.
    assert not set(lines) & {"all", "data", "cards", "claims", "comparison", "preflight", "ima"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-n", "fig2"], "ask for signnet_fig2 or nsr_fig2 or ima_fig2"),
        (["nsr_fig1", "--config", "studies=signnet"], "study nsr, which is not selected"),
        (["signnet_fig2", "signnet_fig9", "--report", "r.html"], "Did you mean 'signnet_fig1'?"),
        (["-n", "data", "--forcerun", "cadrs"], "Did you mean 'cards'"),
    ],
)
def test_what_is_near_is_said_before_any_work(project, arguments, said):
    output = project.snakemake(*arguments, fails=True)
    assert said in output and "No rule to produce" not in output
    assert not (project.folder / "results").exists()


def test_names_in_a_profile_are_checked_too(project, tmp_path):
    (tmp_path / "profile.v9+.yaml").write_text("forcerun: [signnet_fig9]\n", encoding="utf-8")
    output = project.snakemake("-n", "data", "--profile", str(tmp_path), fails=True)
    assert "Did you mean 'signnet_fig1'?" in output
