"""Preflight: what is there, what will be fetched, what is missing, and what can run now."""

from __future__ import annotations

import importlib.metadata
import os
import re
import time
import tomllib
from pathlib import Path

import pytest
from medrobust.core import machine
from medrobust.core.machine import snakemake_command
from medrobust.data.registry import STANDIN, default_registry_path, load_registry
from medrobust.experiment import preflight as module
from medrobust.experiment.preflight import (
    PACKAGES,
    PACKAGES_OF_FORM,
    PACKAGES_OF_SOURCE,
    format_missing,
    format_preflight,
    preflight,
    runnable,
)

from tests.unit.servers import Behaviour, KaggleBehaviour, file_server, kaggle_server

TOKEN = "KGAT_preflight-secret"


@pytest.fixture(autouse=True)
def no_credentials(tmp_path: Path, monkeypatch) -> None:
    for name in list(os.environ):
        if name.startswith("KAGGLE_") or name == "XDG_CONFIG_HOME":
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def _run(tmp_path: Path, studies, **options):
    options.setdefault("registry", load_registry())
    options.setdefault("raw_dirs", [])
    return preflight(
        studies, download_dir=tmp_path / "raw", results_dir=tmp_path / "results", **options
    )


def _level(findings, subject: str) -> list[str]:
    return [f.level for f in findings if f.subject == subject]


def _records(folder: Path, leave_out: str = "") -> Path:
    """Files with the names of the PhysioNet records (their content is not looked at)."""
    (folder / "mitbih").mkdir(parents=True)
    for file in load_registry()["mitbih"].sources["physionet"].files:
        if file.name != leave_out:
            (folder / "mitbih" / file.name).write_bytes(b"x")
    return folder


def test_a_smoke_run_needs_nothing(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(module, "_installed", lambda _: False)
    studies = {"signnet": [("mitbih", "standin"), ("mitbih_ns", "standin")]}
    findings = _run(tmp_path, studies, free=lambda _: 0)
    assert {f.level for f in findings} == {"ready"}
    assert f"Run now:\n  {snakemake_command()} signnet\n" in format_preflight(
        findings, list(studies)
    )


def test_without_an_account_the_records_will_be_downloaded(tmp_path: Path) -> None:
    findings = _run(tmp_path, {"signnet": [("mitbih", "auto")]})
    (download,) = [f for f in findings if f.level == "download"]
    assert download.subject == "mitbih@physionet" and download.size == 93_857_066
    assert "https://physionet.org/files/mitdb/1.0.0/ (93.9 MB)" in download.text
    assert runnable(findings, ["signnet"]) == ["signnet"]
    assert not (tmp_path / "raw").exists()


def test_ptb_without_an_account_is_downloaded_and_said_to_be_other_rows(tmp_path: Path) -> None:
    findings = _run(tmp_path, {"signnet": [("mitbih", "auto"), ("ptbdb", "auto")]})
    assert _level(findings, "ptbdb@physionet") == ["download", "note"]
    assert _level(findings, "mitbih@physionet") == ["download"]
    text = format_preflight(findings, ["signnet"])
    assert "not those of the published release" in text and "source kaggle" in text
    assert runnable(findings, ["signnet"]) == ["signnet"]


def test_one_archive_at_hand_serves_both_heartbeat_data_sets(tmp_path: Path) -> None:
    archive = tmp_path / "mine" / "mitbih" / "heartbeat.zip"
    archive.parent.mkdir(parents=True)
    archive.write_bytes(b"x")
    studies = {"signnet": [("mitbih", "auto"), ("ptbdb", "auto"), ("ptbdb_8020", "auto")]}
    findings = _run(tmp_path, studies, raw_dirs=[tmp_path / "mine"])
    for name in ("mitbih", "ptbdb", "ptbdb_8020"):
        assert _level(findings, f"{name}@kaggle") == ["ready"]


def test_the_rest_of_an_incomplete_folder_is_counted(tmp_path: Path) -> None:
    raw = _records(tmp_path / "mine", leave_out="100.dat")
    findings = _run(tmp_path, {"signnet": [("mitbih", "auto")]}, raw_dirs=[raw])
    (download,) = [f for f in findings if f.level == "download"]
    assert download.size == 93_857_066 // 144
    found = _run(tmp_path, {"signnet": [("mitbih", "auto")]}, raw_dirs=[raw], allow_subset=True)
    (note,) = [f for f in found if f.subject == "mitbih@physionet"]
    assert note.level == "note" and "missing: 100.dat" in note.text


def test_files_at_hand_are_found(tmp_path: Path) -> None:
    raw = _records(tmp_path / "mine")
    findings = _run(tmp_path, {"signnet": [("mitbih", "auto")]}, raw_dirs=[raw])
    (found,) = [f for f in findings if f.subject == "mitbih@physionet"]
    assert found.level == "ready"
    assert f"found 144 files in {raw}/mitbih" in found.text


def test_kaggle_without_a_credential_blocks_its_study_only(tmp_path: Path) -> None:
    studies = {"signnet": [("mitbih", "kaggle")], "nsr": [("mitbih", "physionet")]}
    findings = _run(tmp_path, studies)
    assert runnable(findings, list(studies)) == ["nsr"]
    text = format_preflight(findings, list(studies))
    assert "signnet: cannot run yet" in text and "nsr: can run" in text
    assert "~/.kaggle/access_token" in text and "`physionet` needs no account" in text
    assert f"\n  {snakemake_command()} nsr\n" in text
    assert f"\n  {snakemake_command()} signnet --config scale=smoke\n" in text


def test_with_a_credential_kaggle_is_chosen(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    findings = _run(tmp_path, {"signnet": [("mitbih", "auto")]})
    (download,) = [f for f in findings if f.level == "download"]
    assert download.subject == "mitbih@kaggle" and "100.0 MB" in download.text
    assert TOKEN not in format_preflight(findings, ["signnet"])


def test_unknown_names_are_findings_with_the_nearest(tmp_path: Path) -> None:
    findings = _run(tmp_path, {"a": [("mitbi", "auto")], "b": [("mitbih", "physionett")]})
    texts = {f.study: f.text for f in findings if f.level == "action"}
    assert "Did you mean 'mitbih'" in texts["a"]
    assert "Did you mean 'physionet'" in texts["b"]
    assert runnable(findings, ["a", "b"]) == []


def test_data_behind_a_form(tmp_path: Path) -> None:
    registry = load_registry()
    form = (
        registry["mitbih"]
        .sources["physionet"]
        .model_copy(update={"kind": "manual", "instructions": "write to the authors"})
    )
    entry = registry["mitbih"].model_copy(update={"sources": {"form": form}})
    findings = _run(tmp_path, {"s": [("mitbih", "auto")]}, registry={"mitbih": entry})
    (action,) = [f for f in findings if f.level == "action"]
    assert action.remedy == "write to the authors"
    assert str(tmp_path / "raw" / "mitbih") in action.text


def test_too_little_disk_blocks_everything(tmp_path: Path) -> None:
    studies = {"signnet": [("mitbih", "auto"), ("mitbih_ns", "auto")]}
    arrays = 4 * 187 * (109446 + 72471 + 2223 + 18118 + 556)
    needed = 93_857_066 + arrays  # the shared raw files are counted once
    for free, can in ((needed - 1, []), (needed, ["signnet"])):
        findings = _run(tmp_path, studies, free=lambda _, free=free: free)
        assert runnable(findings, ["signnet"]) == can
    assert _level(findings, "disk") == ["ready"]


def _not_installed(monkeypatch, missing: str) -> None:
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name == missing:
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)


def test_packages(tmp_path: Path, monkeypatch) -> None:
    _not_installed(monkeypatch, "wfdb")
    studies = {"signnet": [("mitbih", "physionet")]}
    assert _level(_run(tmp_path, studies, conda=True), "packages") == ["note"]
    findings = _run(tmp_path, studies, conda=False)
    (action,) = [f for f in findings if f.subject == "packages"]
    assert action.level == "action" and "wfdb" in action.text
    assert runnable(findings, ["signnet"]) == []
    monkeypatch.setattr(machine.shutil, "which", lambda name: None)
    assert _level(_run(tmp_path, studies), "packages") == ["action"]
    monkeypatch.setattr(machine.shutil, "which", {"conda": "/opt/conda/bin/conda"}.get)
    assert _level(_run(tmp_path, studies), "packages") == ["note"]


def test_segmentation_needs_a_package_that_other_studies_do_not(
    tmp_path: Path, monkeypatch
) -> None:
    _not_installed(monkeypatch, "nnunetv2")
    volumes, beats = [("msd_heart", STANDIN)], [("mitbih", "physionet")]
    studies = {"ima_segmentation": volumes, "signnet": beats, "msd_heart": volumes}
    findings = _run(tmp_path, studies, conda=False)
    assert runnable(findings, list(studies)) == ["signnet", "msd_heart"]
    (action,) = [f for f in findings if f.level == "action"]
    assert "nnunetv2" in action.text and "requirements-segmentation.txt" in action.remedy
    (line,) = format_missing(findings)
    assert line.startswith("NOT THERE: ima_segmentation: packages: not installed: nnunetv2")
    assert runnable(_run(tmp_path, studies, conda=True), list(studies)) == list(studies)


def test_packages_of_segmentation_are_those_of_its_requirements() -> None:
    packages, file = PACKAGES_OF_FORM["volumes"]
    text = (default_registry_path().parents[1] / file).read_text()
    asked = set(re.findall(r"^([a-z0-9_]+)==", text, re.MULTILINE))
    # These come with nnU-Net. torchvision is pinned for its sake and never imported.
    of_nnunet = {"batchgeneratorsv2", "dynamic_network_architectures", "torchvision"}
    assert of_nnunet < asked and set(packages) == asked - of_nnunet


def test_the_packages_looked_for_are_those_the_project_declares() -> None:
    project = tomllib.loads((default_registry_path().parents[1] / "pyproject.toml").read_text())[
        "project"
    ]
    lines = project["dependencies"] + project["optional-dependencies"]["kaggle"]
    declared = {re.split(r"[<>=!~\[ ]", line)[0] for line in lines}
    looked_for = {*PACKAGES, *(p for ps in PACKAGES_OF_SOURCE.values() for p in ps)}
    assert looked_for <= declared


def test_a_wrong_raw_dir_is_noted(tmp_path: Path) -> None:
    findings = _run(tmp_path, {"s": [("mitbih", "auto")]}, raw_dirs=[tmp_path / "typo"])
    assert _level(findings, "raw_dir") == ["note"]


FIRST = "/100.atr"
"""The first missing file, which is what a server is asked for."""


@pytest.mark.parametrize(
    ("status", "level"), [(None, "ready"), (404, "action"), (403, "action"), (401, "action")]
)
def test_the_network_is_asked_only_on_request(
    tmp_path: Path, status: int | None, level: str
) -> None:
    registry = load_registry()
    behaviour = Behaviour({FIRST: b"beats"}, statuses={FIRST: [status] if status else []})
    with file_server(behaviour) as url:
        source = registry["mitbih"].sources["physionet"].model_copy(update={"base_url": url})
        entry = registry["mitbih"].model_copy(update={"sources": {"physionet": source}})
        options = {"registry": {"mitbih": entry}}
        studies = {"a": [("mitbih", "auto")], "b": [("mitbih", "auto")]}
        _run(tmp_path, studies, **options)
        assert behaviour.requests == []
        findings = _run(tmp_path, studies, check_network=True, **options)
    assert len(behaviour.requests) == 1
    assert _level(findings, "mitbih@physionet") == ["download", level] * 2


def test_a_mirror_that_answers_is_enough(tmp_path: Path) -> None:
    registry = load_registry()
    for statuses, level in (([404, None], "ready"), ([404, 403], "action")):
        first, second = (
            Behaviour({FIRST: b"x"}, statuses={FIRST: [status] if status else []})
            for status in statuses
        )
        with file_server(first) as one, file_server(second) as two:
            changes = {"base_url": one, "mirrors": [two]}
            source = registry["mitbih"].sources["physionet"].model_copy(update=changes)
            entry = registry["mitbih"].model_copy(update={"sources": {"physionet": source}})
            findings = _run(
                tmp_path,
                {"a": [("mitbih", "auto")]},
                registry={"mitbih": entry},
                check_network=True,
            )
        (found,) = [f for f in findings if f.level == level and f.subject.startswith("mitbih@")]
        assert (two if level == "ready" else "404") in found.text
        assert len(first.requests) == len(second.requests) == 1


def test_no_network_is_an_action(tmp_path: Path) -> None:
    registry = load_registry()
    with file_server(Behaviour()) as url:
        pass
    source = registry["mitbih"].sources["physionet"].model_copy(update={"base_url": url})
    entry = registry["mitbih"].model_copy(update={"sources": {"physionet": source}})
    findings = _run(
        tmp_path, {"a": [("mitbih", "auto")]}, registry={"mitbih": entry}, check_network=True
    )
    (action,) = [f for f in findings if f.level == "action"]
    assert "cannot be reached" in action.text


@pytest.mark.parametrize(("token", "level"), [(TOKEN, "ready"), ("KGAT_another", "action")])
def test_kaggle_is_asked_whether_the_credential_works(
    tmp_path: Path, monkeypatch, token: str, level: str
) -> None:
    environments = pytest.importorskip("kagglesdk.kaggle_env")
    monkeypatch.setenv("KAGGLE_API_TOKEN", token)
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "TEST")
    with kaggle_server(KaggleBehaviour(token=TOKEN)) as url:
        monkeypatch.setitem(environments._env_to_endpoint, environments.KaggleEnv.TEST, url)
        findings = _run(tmp_path, {"a": [("mitbih", "kaggle")]}, check_network=True)
    assert _level(findings, "mitbih@kaggle") == ["download", level]
    assert token not in format_preflight(findings, ["a"])


def test_it_is_quick(tmp_path: Path) -> None:
    raw = _records(tmp_path / "mine")
    start = time.monotonic()
    _run(tmp_path, {f"s{i}": [("mitbih", "auto")] for i in range(10)}, raw_dirs=[raw])
    assert time.monotonic() - start < 2
