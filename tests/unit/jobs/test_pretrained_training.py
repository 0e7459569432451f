"""A training that begins with weights of a file: the file's values, its hash, its own progress."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.data.prepared.prepare import prepare
from medrobust.jobs.data import fetch_weights
from medrobust.jobs.export import export_weights
from medrobust.jobs.train import train_members
from medrobust.models import resnet50
from medrobust.models.engine.pretrained import read_weights, torchvision_layout

ARCHITECTURE = {"name": "resnet50", "stages": [2, 3], "blocks": [1, 1]}
METHOD = {"name": "adam_cross_entropy", "learning_rate": 1e-6, "batch_size": 8, "max_epochs": 1}
FACTS = {"class_names": ["benign", "malignant"], "shape": [3, 32, 32], "official": {}}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("data") / "busi@standin"
    sizes = {"releases": ["busi"], "size": 32, "folds": 2, "n_train": 12, "n_test": 6}
    facts = FACTS | {"licence": "none"}
    prepare("busi", "breast_ultrasound", sizes, "standin", None, folder, 1, facts)
    return str(folder)


def weights_of(spec: resnet50.Spec, seed: int) -> dict[str, np.ndarray]:
    drawn = resnet50.initial_parameters(spec, (3, 32, 32), 2, [seed])
    random = np.random.default_rng(seed)
    arrays = {
        name: value[0] + random.uniform(0, 0.1, value.shape[1:]).astype(np.float32)
        for name, value in drawn.items()
    }
    return arrays


def train(folder: Path, data: str, manifest: str | None) -> tuple[dict[str, np.ndarray], dict]:
    folder.mkdir()
    at = {name: str(folder / name) for name in ("out", "card", "timing", "extras", "progress_dir")}
    train_members(
        data=data, model={"architecture": ARCHITECTURE, "method": METHOD}, members=[0, 1],
        names=["s", "busi", 0, 0, "m"], seed=1, device="cpu", compute_threads=1, code="c",
        weights=manifest, **at,
    )  # fmt: skip
    return io.read_tensors(at["out"]), json.loads(Path(at["card"]).read_text())


def test_members_begin_with_the_weights_of_the_file(tmp_path, data) -> None:
    spec = resnet50.Spec(stages=[2, 3], blocks=[1, 1])
    member = weights_of(spec, 5)
    file = tmp_path / "raw" / "weights" / "mine.safetensors"
    file.parent.mkdir(parents=True)
    io.write_tensors(file, torchvision_layout(spec, member))
    manifest = str(tmp_path / "mine.json")
    definition = {"title": "elsewhere", "file": "mine.safetensors"}
    fetch_weights(
        name="mine", definition=definition, raw_dir=str(tmp_path / "raw"), manifest=manifest
    )
    plain, plain_card = train(tmp_path / "plain", data, None)
    found, card = train(tmp_path / "found", data, manifest)
    assert card["weights"] == {"sha256": io.sha256_of_file(file), "layout": "torchvision"}
    assert "weights" not in plain_card
    for name in found:
        if name in ("mean", "variance"):
            continue  # these follow the batches
        near = np.abs(found[name] - member[name][None]).max() < 1e-4
        assert near == (name not in ("w_output", "b_output")), name
    # The output layer is each member's own draw, the rest is the same for all.
    assert np.abs(found["w_output"] - plain["w_output"]).max() < 1e-4
    assert np.abs(found["w1"][0] - found["w1"][1]).max() < 1e-4
    assert np.abs(plain["w1"][0] - plain["w1"][1]).max() > 0.01


def test_a_file_that_was_replaced_since_is_refused(tmp_path, data) -> None:
    spec = resnet50.Spec(stages=[2, 3], blocks=[1, 1])
    file = tmp_path / "mine.safetensors"
    io.write_tensors(file, torchvision_layout(spec, weights_of(spec, 5)))
    manifest = str(tmp_path / "mine.json")
    definition = {"title": "elsewhere", "file": str(file)}
    fetch_weights(name="mine", definition=definition, raw_dir=None, manifest=manifest)
    io.write_tensors(file, torchvision_layout(spec, weights_of(spec, 6)))
    with pytest.raises(InputError, match=r"(?s)were replaced since.*forcerun"):
        train(tmp_path / "out", data, manifest)


def test_a_trained_member_is_written_as_weights_that_another_can_begin_with(tmp_path, data) -> None:
    train(tmp_path / "first", data, None)
    members, file = tmp_path / "first/members_0-1.safetensors", str(tmp_path / "own.safetensors")
    (tmp_path / "first/out").rename(members)
    (tmp_path / "first/card").rename(members.with_suffix(".json"))
    assert "member 1 of" in export_weights(str(members), 1, file)
    spec = resnet50.Spec(stages=[2, 3], blocks=[1, 1])
    read, trained = read_weights(file, spec), io.read_tensors(members)
    for name, value in read.arrays.items():
        assert value.tobytes() == trained[name][1].tobytes(), name
    with pytest.raises(InputError, match="This file is there"):
        export_weights(str(members), 0, file)
    with pytest.raises(InputError, match="not trained yet"):
        export_weights(str(tmp_path / "none.safetensors"), 0, str(tmp_path / "x"))
