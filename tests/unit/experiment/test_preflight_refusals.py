"""Preflight says no where a run could not run, and its exit status says so too."""

from __future__ import annotations

import importlib.metadata
import os

import numpy as np
import pytest
import torch
from medrobust import __main__ as command
from medrobust.core.errors import InputError
from medrobust.data.fetching.at_hand import needs_each
from medrobust.data.registry import load_registry
from medrobust.experiment import preflight as module
from medrobust.experiment import sources
from medrobust.experiment.preflight import preflight, runnable

FASHION = load_registry()["fashion_mnist"].sources["official"]


@pytest.fixture(autouse=True)
def no_credentials(tmp_path, monkeypatch) -> None:
    for name in [name for name in os.environ if name.startswith("KAGGLE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def run(tmp_path, pairs, **options):
    options.setdefault("registry", load_registry())
    items = preflight(
        {"a": pairs},
        raw_dirs=[tmp_path / "mine"],
        download_dir=tmp_path / "raw",
        results_dir=tmp_path / "results",
        free=lambda _: 10**13,
        **options,
    )
    return items, runnable(items, ["a"]) == ["a"]


def of_any_size():
    """Returns a registry in which the files of Fashion-MNIST have no known size, and the files."""
    registry = load_registry()
    unknown = {"bytes": None, "sha256": None, "md5": None}
    files = [file.model_copy(update=unknown) for file in FASHION.files]
    source = FASHION.model_copy(update={"files": files})
    entry = registry["fashion_mnist"].model_copy(update={"sources": {"official": source}})
    return registry | {"fashion_mnist": entry}, files


def put(tmp_path, folder: str, name: str, content: bytes) -> None:
    (tmp_path / "mine" / folder).mkdir(parents=True, exist_ok=True)
    (tmp_path / "mine" / folder / name).write_bytes(content)


def test_a_part_of_a_few_named_files_is_no_subset(tmp_path):
    registry, files = of_any_size()
    put(tmp_path, "fashion_mnist", files[0].name, b"x")
    pairs = [("fashion_mnist", "official")]
    items, can_run = run(tmp_path, pairs, allow_subset=True, registry=registry)
    assert not can_run
    (action,) = [item for item in items if item.level == "action"]
    assert "found 1 file in" in action.text and "none of them can be done without" in action.text
    assert files[1].name in action.text and "allow_subset: false" in action.remedy
    # A part of many images, or of records, can be used.
    put(tmp_path, "sarscov2_ct", "x", b"")
    put(tmp_path, "sarscov2_ct/COVID", "Covid (1).png", b"x")
    _, can_run = run(tmp_path, [("covid_ct", "kaggle")], allow_subset=True)
    assert can_run
    kinds = {name: s for e in load_registry().values() for name, s in e.sources.items()}
    assert needs_each(FASHION) and not needs_each(kinds["physionet"])


@pytest.mark.parametrize("missing", [True, False])
def test_files_without_content_are_named(tmp_path, missing):
    registry, files = of_any_size()
    for number, file in enumerate(files):
        put(tmp_path, "fashion_mnist", file.name, b"" if missing and number == 0 else b"x")
    if not missing:  # whole, and beside it an empty copy
        put(tmp_path, "fashion_mnist/copy", files[0].name, b"")
    items, _ = run(
        tmp_path,
        [("fashion_mnist", "official")],
        registry=registry,
        check_files=True,
    )
    told = [item.text for item in items if "is empty (0 bytes)" in item.text]
    assert len(told) == 1 and files[0].name in told[0]


def own(tmp_path, bad: str = "0.5", points: int | None = 3):
    random = np.random.default_rng(0)
    lines = ["a,b,state", *(f"{x:.3f},{x:.2f},{i % 2}" for i, x in enumerate(random.random(20)))]
    lines[4] = f"0.1,{bad},1"
    put(tmp_path, "mine", "t.csv", "\n".join(lines).encode())
    entry = {
        "adapter": "csv_table",
        "classes": ["0", "1"],
        "shape": [2],
        "options": {"file": "t.csv", "label": "state"},
    }
    return run(
        tmp_path,
        [("mine", "auto")],
        registry=load_registry(entries={"mine": entry}),
        check_files=True,
        points={} if points is None else {("a", "mine"): points},
        seed=1,
    )


def test_data_of_ones_own_are_read_before_they_are_prepared(tmp_path):
    items, can_run = own(tmp_path)
    assert can_run
    (told,) = [item.text for item in items if "can be read" in item.text]
    assert told == "can be read: train 0 8, 1 8; test 0 2, 1 2"


@pytest.mark.parametrize(
    ("bad", "points", "says"),
    [
        ("x", 3, "column b: no number: row 4 'x'"),
        ("nan", 3, "no finite number: row 4 'nan'"),
        ("1", 5, "5 points of mine are to be attacked, but its test split has 4"),
    ],
)
def test_what_cannot_be_used_of_ones_own_is_to_do(tmp_path, bad, points, says):
    items, can_run = own(tmp_path, bad, points)
    assert not can_run
    assert any(says in item.text for item in items if item.level == "action")


def status_of(*arguments: str) -> int:
    try:
        command.main(["preflight", *arguments])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.fixture
def here(root, monkeypatch):
    monkeypatch.chdir(root)
    return root


SMOKE = ("--config", "scale=smoke", "studies=signnet")


def test_the_exit_status_tells_whether_it_can_run(here, tmp_path, capsys):
    assert status_of("--quick", *SMOKE) == 0
    assert "signnet: can run" in capsys.readouterr().out
    (tmp_path / "empty").mkdir()
    data = ("--config", f"raw_dir={tmp_path / 'empty'}")
    assert status_of("--quick", "busis", *data) == 1
    assert "busis: cannot run yet" in capsys.readouterr().out
    # What is left out stands in the way of nothing.
    out = "leave_out=[chest_xray,kather]"
    skipped = (*data, "studies=signnet", out, "also_prepare=[busis]", "on_missing_data=skip")
    assert status_of("--quick", *skipped) == 0


def test_a_gpu_that_is_asked_for_must_be_there(here, capsys, monkeypatch):
    monkeypatch.setattr(module, "gpu_state", lambda: "none")
    assert status_of("--quick", *SMOKE, "device=cuda") == 1
    said = capsys.readouterr().out
    assert "TO DO  device: the configuration asks for a CUDA device" in said
    assert "signnet: cannot run yet" in said
    for state in ("usable", "unknown"):
        monkeypatch.setattr(module, "gpu_state", lambda state=state: state)
        assert status_of("--quick", *SMOKE, "device=cuda") == 0
    assert "PyTorch is not installed here" in capsys.readouterr().out


def test_whether_there_is_a_gpu_is_what_pytorch_says(monkeypatch):
    assert module.gpu_state() == ("usable" if torch.cuda.is_available() else "none")

    def not_there(_):
        raise importlib.metadata.PackageNotFoundError

    monkeypatch.setattr(importlib.metadata, "version", not_there)
    assert module.gpu_state() == "unknown"


def test_the_target_of_snakemake_ends_with_an_error_too(here, monkeypatch):
    monkeypatch.setattr(module, "gpu_state", lambda: "none")
    values = {"scale": "smoke", "studies": ["signnet"]}
    graph = sources.build_graph(values, here)
    sources.refuse_what_cannot_run(graph, {"preflight"})
    graph = sources.build_graph(values | {"device": "cuda"}, here)
    sources.refuse_what_cannot_run(graph, {"plan"})
    with pytest.raises(InputError, match="Not all that is selected can run"):
        sources.refuse_what_cannot_run(graph, {"preflight"})


def test_data_of_ones_own_without_the_packages_to_read_them_are_no_obstacle(tmp_path, monkeypatch):
    def nothing(*arguments, **options):
        raise ModuleNotFoundError("No module named 'pyarrow'", name="pyarrow")

    monkeypatch.setattr(module, "try_out", nothing)
    items, can_run = own(tmp_path)
    assert can_run and any("cannot be read here without pyarrow" in item.text for item in items)
