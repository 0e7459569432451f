"""What preflight and plan say of pretrained weights before any work."""

from __future__ import annotations

import hashlib
import pickle
import shlex
from pathlib import Path

import numpy as np
import pytest
import yaml
from medrobust.core import io
from medrobust.data.registry import load_registry
from medrobust.experiment import sources
from medrobust.experiment.initial_weights import weights_of_studies
from medrobust.experiment.plan import format_plan, make_plan
from medrobust.experiment.preflight import preflight, runnable

from tests.unit.servers import Behaviour, file_server

ROOT = Path(__file__).parents[3]
NAMED = ["covid_adv01", "covid_trades"]
MINE = {"title": "elsewhere", "file": "mine.safetensors"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    """Where the user works, with two studies of which two of four models name weights."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    values = yaml.safe_load((ROOT / "config/studies/ima.yaml").read_text(encoding="utf-8"))
    models = {name: values["models"][name] for name in [*NAMED, "covid_mma", "fashion_ce"]}
    grey = {"name": "resnet50", "mean": [0.5], "deviation": [0.5], "stages": [64, 128, 256, 512]}
    for name in NAMED:
        models[name] |= {"initial_weights": "mine", "architecture": grey}
    attacks = {"pgd": {"name": "pgd", "select": "test", "options": {"epsilon": 0.1}}}
    study = {"title": "t", "citation": "c", "datasets": {"covid_ct": {}, "fashion_mnist": {}}}
    study |= {"models": models, "attacks": attacks}
    for name in ("one", "two"):
        text = yaml.safe_dump(study, sort_keys=False)
        (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
    (tmp_path / "raw/weights").mkdir(parents=True)
    return tmp_path


def graph_of(folder: Path, entry=None, **values):
    settings = {
        "studies": [str(folder / "one.yaml")],
        "own_weights": {"mine": MINE | (entry or {})},
        "raw_dir": str(folder / "raw"),
        "sources": {"covid_ct": "kaggle"},
    }
    return sources.build_graph(settings | values, ROOT)


def items_of(graph, **options):
    """Returns what the preflight says of a graph's weights and of the disk, its data apart."""
    studies = {name: [("covid_ct", "standin")] for name in graph.resolved.studies}
    items = preflight(
        studies,
        registry=load_registry(),
        raw_dirs=graph.raw_dirs,
        download_dir=sources.RAW,
        results_dir="results",
        conda=True,
        weights=weights_of_studies(graph.resolved, graph.raw_dirs),
        **options,
    )
    told = [item for item in items if item.subject.startswith(("weights", "disk"))]
    return told, runnable(items, list(studies))


def put(folder: Path, content: bytes | None = None) -> Path:
    """Puts a file of weights into the raw folder: these bytes, or some arrays."""
    file = folder / "raw/weights/mine.safetensors"
    if content is None:
        io.write_tensors(file, {"a": np.zeros(30, dtype=np.float32)})
    else:
        file.write_bytes(content)
    return file


@pytest.mark.parametrize(
    ("stated", "read", "told"),
    [
        ("right", True, "its SHA-256 is the stated one"),
        ("right", False, "its SHA-256 is compared when the run fetches it"),
        ("wrong", False, "its SHA-256 is compared when the run fetches it"),
        (None, True, "no SHA-256 is stated"),
    ],
)
def test_weights_at_hand_are_told_with_their_place_and_models(folder, stated, read, told):
    file = put(folder)
    right = hashlib.sha256(file.read_bytes()).hexdigest()
    sha256 = {"right": right, "wrong": "0" * 64, None: None}[stated]
    graph = graph_of(folder, {"sha256": sha256})
    (item,), can_run = items_of(graph, check_files=read)
    assert (item.level, item.study, item.subject) == ("ready", "one", "weights mine")
    size = file.stat().st_size / 1e6
    found = f"found {file} ({size:.1f} MB), for covid_adv01, covid_trades"
    assert item.text == f"{found}; {told}" and item.remedy == "" and can_run == ["one"]
    (line,) = plan_lines(graph)
    assert line == f"weights mine of one: {found}"


def test_a_file_with_another_checksum_stops_the_study(folder):
    file = put(folder)
    (item,), can_run = items_of(graph_of(folder, {"sha256": "0" * 64}), check_files=True)
    assert item.level == "action" and can_run == []
    assert "sha256 expected 0000" in item.text and str(file) in item.text


@pytest.mark.parametrize("read", [True, False])
def test_a_pickle_stops_the_study_and_is_not_read(folder, read):
    class Run:
        def __reduce__(self):
            return (Path.touch, (folder / "ran",))

    for content in (pickle.dumps(Run()), b"PK\x03\x04\x14\0\0\0\x08\0 a zip archive"):
        put(folder, content)
        (item,), can_run = items_of(graph_of(folder), check_files=read)
        assert item.level == "action" and "pickle" in item.text and can_run == []
        assert "safetensors" in item.remedy and not (folder / "ran").exists()


def test_safetensors_whose_length_begins_as_a_pickle_are_none(folder):
    """Its first eight bytes are the length of what follows, here 128: those of a pickle."""
    head = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(128)
    file = put(folder, (128).to_bytes(8, "little") + head + bytes(4))
    assert list(io.read_tensors(file)) == ["a"]
    (item,), _ = items_of(graph_of(folder))
    assert item.level == "ready"


def test_models_without_their_weights_are_told_with_what_to_do(folder):
    graph = graph_of(folder)
    (item,), can_run = items_of(graph)
    assert item.level == "note" and can_run == ["one"]  # it can run: at random
    assert "RANDOM INIT: covid_adv01, covid_trades" in item.text and "covid_mma" not in item.text
    for place in (folder / "raw", sources.RAW):
        assert str(place / "weights/mine.safetensors") in item.text
    assert "put the file there" in item.remedy and "docs/weights.md" in item.remedy
    (line,) = plan_lines(graph)
    assert item.text in line and item.remedy in line
    assert graph.random_init("one") == NAMED


def test_a_download_is_told_with_address_and_size_and_counted_everywhere(folder):
    absent = make_plan(graph_of(folder))[0]
    url, size = "https://example.org/w.safetensors", 102_000_000
    entry = {"url": url, "sha256": "0" * 64, "about_bytes": size}
    graph = graph_of(folder, entry)
    (item, disk), can_run = items_of(graph, free=lambda _: size)
    assert (item.level, item.size) == ("download", size) and can_run == ["one"]
    assert f"from {url} (102.0 MB) to {sources.RAW}/weights/mine.safetensors" in item.text
    assert "RANDOM INIT" not in item.text and disk.text.startswith("102.0 MB needed")
    (_, disk), can_run = items_of(graph, free=lambda _: size - 1)
    assert disk.level == "action" and can_run == []
    (planned,) = make_plan(graph)
    assert planned.download_gb - absent.download_gb == pytest.approx(0.102)
    assert planned.jobs == absent.jobs + 1 and planned.disk_gb == absent.disk_gb
    (line,) = plan_lines(graph)
    assert item.text in line


@pytest.mark.parametrize(("status", "level"), [(None, "ready"), (404, "action")])
def test_two_studies_that_name_the_same_weights_are_one_download_and_one_question(
    folder, status, level
):
    statuses = {"/w": [status] if status else []}
    behaviour = Behaviour({"/w": b"tensors"}, statuses=statuses)
    both = [str(folder / f"{name}.yaml") for name in ("one", "two")]
    with file_server(behaviour) as address:
        entry = {"url": f"{address}/w", "sha256": "0" * 64, "about_bytes": 10**8}
        graph = graph_of(folder, entry, studies=both)
        items, can_run = items_of(graph, check_network=True)
    *weights, disk = items
    assert [(item.study, item.level) for item in weights] == [
        ("one", "download"),
        ("one", level),
        ("two", "download"),
        ("two", level),
    ]
    assert behaviour.count("/w") == 1 and disk.text.startswith("100.0 MB needed")
    assert can_run == ([] if status else ["one", "two"])
    alone, (first, second) = make_plan(graph_of(folder, entry))[0], make_plan(graph)
    assert alone.download_gb == first.download_gb == second.download_gb > 0.1
    assert alone.jobs == first.jobs == second.jobs
    assert [line.split(":")[0] for line in plan_lines(graph)] == [
        "weights mine of one",
        "weights mine of two",
    ]


def test_a_server_that_cannot_be_reached_is_told_with_ways_around_it(folder):
    with file_server(Behaviour()) as address:
        pass
    entry = {"url": f"{address}/w", "sha256": "0" * 64}
    (download, action, _), can_run = items_of(graph_of(folder, entry), check_network=True)
    assert "(of unknown size)" in download.text and action.level == "action" and can_run == []
    assert "initial_weights=random" in action.remedy


@pytest.mark.parametrize(
    ("changes", "level", "told"),
    [
        ({"initial_weights": "random"}, "note", "not used (initial_weights=random)"),
        ({"scale": "smoke", "sources": {}}, "ready", "not used by generated data"),
    ],
)
def test_weights_that_are_not_wanted_are_told_and_not_looked_at(folder, changes, level, told):
    put(folder, b"\x80 a pickle")
    entry = {"url": "https://example.org/w", "sha256": "0" * 64, "about_bytes": 10**8}
    graph = graph_of(folder, entry, **changes)
    (item,), can_run = items_of(graph, check_files=True, check_network=True)
    assert (item.level, item.size) == (level, 0) and can_run == ["one"]
    assert item.text == f"{told}, RANDOM INIT: covid_adv01, covid_trades"
    (line,) = plan_lines(graph)
    assert item.text in line
    assert make_plan(graph)[0].jobs == make_plan(graph_of(folder, **changes))[0].jobs


def test_the_commands_tell_of_weights_beside_the_data(folder):
    put(folder, b"\x80 a pickle")
    graph = graph_of(folder)
    text, can_run = sources.preflight_answer(graph)
    assert not can_run and text.index("covid_ct:") < text.index("TO DO  weights mine: This is a")
    text, _ = sources.preflight_answer(graph, ("covid_ct",))
    assert "weights" not in text  # of data sets by name


def test_data_that_can_be_had_are_not_left_out_for_their_models_weights(folder, monkeypatch):
    """on_missing_data: skip is about data; a pickle in place of weights has to be told."""
    put(folder, b"\x80 a pickle")
    monkeypatch.setenv("KAGGLE_API_TOKEN", "KGAT_any")
    graph = graph_of(folder, on_missing_data="skip")
    assert graph.skipped == () and len(plan_lines(graph)) == 1
    assert "TO DO  weights mine" in sources.preflight_text(graph)
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    skipped = graph_of(folder, on_missing_data="skip", studies=[str(folder / "one.yaml"), "nsr"])
    assert skipped.skipped == ("one",) and plan_lines(skipped) == []


def test_only_weights_of_models_that_are_trained_are_told(folder):
    graph = graph_of(folder, leave_out=["covid_ct"])
    assert list(graph.study("one").models) == ["fashion_ce"] and not plan_lines(graph)
    left = {"one": {"datasets": {"covid_ct": {"without": NAMED[:1]}}}}
    (line,) = plan_lines(graph_of(folder, overrides=left))
    assert line.split("RANDOM INIT: ")[1].split(";")[0] == NAMED[1]


def test_a_study_without_weights_is_told_of_none():
    graph = sources.build_graph({"studies": ["signnet"]}, ROOT)
    assert plan_lines(graph) == []


def plan_lines(graph) -> list[str]:
    text = format_plan(make_plan(graph), graph)
    return [line for line in text.splitlines() if line.startswith("weights")]


def test_the_plan_counts_the_files_of_large_networks(folder):
    """Two models are ResNet-50, each of one member on one data set."""
    small = {"stages": [4, 8, 8, 8]}
    overrides = {"one": {"models": {name: {"architecture": small} for name in NAMED}}}
    (large,), (little,) = (
        make_plan(graph_of(folder)),
        make_plan(graph_of(folder, overrides=overrides)),
    )
    members = 2 * len([c for c in graph_of(folder).cells("one") if c.dataset == "covid_ct"])
    # 23.5 million numbers of four bytes.
    assert large.disk_gb - little.disk_gb == pytest.approx(0.094 * members, rel=0.02)


def test_the_way_to_try_it_without_data_selects_the_study(tmp_path):
    """What is tried without data is the study that was selected, alone."""
    here = tmp_path / "empty"
    here.mkdir()
    graph = sources.build_graph({"scale": "paper", "studies": ["mirst"]}, ROOT, here)
    (command,) = [
        line for line in sources.preflight_text(graph).splitlines() if "scale=smoke" in line
    ]
    words = shlex.split(command)
    settings = dict(word.split("=", 1) for word in words[words.index("--config") + 1 :])
    assert "mirst" in words[: words.index("--config")]
    chosen = {key: yaml.safe_load(value) for key, value in settings.items()}
    again = sources.build_graph(chosen, ROOT, here)
    assert list(again.resolved.studies) == ["mirst"] and again.resolved.config.scale == "smoke"
