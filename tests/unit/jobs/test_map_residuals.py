"""Residual maps from training to file, on small data: what is written, and what is refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.data.prepared.prepare import prepare
from medrobust.data.prepared.store import load_dataset
from medrobust.evaluation.records import read_records
from medrobust.jobs.attack import attack_chunk, gather_records
from medrobust.jobs.evaluate import evaluate_clean, select_points
from medrobust.jobs.residuals import map_residuals
from medrobust.jobs.train import train_members
from medrobust.models import resnet50
from medrobust.models.failures import metadata_of

from tests.unit.evaluation.test_residuals import plain_residuals

FACTS = {"class_names": ["benign", "malignant"], "shape": [3, 32, 32], "official": {}}
SIZES = {"releases": ["busi"], "size": 32, "folds": 2, "n_train": 14, "n_test": 6}
SETTINGS = {"stages": [4, 3], "blocks": [1, 1], "pooling": "drop_max"}
ARCHITECTURE = {"name": "resnet50", **SETTINGS}
METHOD = {"name": "adam_cross_entropy", "learning_rate": 1e-2, "batch_size": 4, "max_epochs": 2}
ATTACK = {
    "name": "pgd", "num_steps": 3, "step_share": 0.5, "clip_min": 0.0, "clip_max": 1.0,
    "early_stop": False, "grid": {"epsilon": [0.02, 0.1]}, "keep_arrays": 4,
}  # fmt: skip
MODEL = {"architecture": ARCHITECTURE, "vote": "soft"}
FOLD = 1


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("data") / "busi@standin"
    facts = FACTS | {"licence": "none"}
    prepare("busi", "breast_ultrasound", SIZES, "standin", None, folder, 1, facts)
    return str(folder)


@pytest.fixture(scope="module")
def attacked(tmp_path_factory, data) -> SimpleNamespace:
    """Two trained members, attacked in two chunks."""
    folder = tmp_path_factory.mktemp("attacked")
    at = lambda name: str(folder / name)  # noqa: E731
    common = {"data": data, "fold": FOLD, "device": "cpu", "compute_threads": 1}
    work = {"names": ["s", "busi", FOLD, 0, "m"], "seed": 1, "code": "c", "progress_dir": at("p")}
    members = [at("members.safetensors")]
    train_members(
        out=members[0], card=at("card.json"), timing=at("t.json"), extras=at("extras.safetensors"),
        model={"architecture": ARCHITECTURE, "method": METHOD}, members=[0, 1], **common, **work,
    )  # fmt: skip
    evaluate_clean(
        members=members, predictions=at("clean.parquet"), summary=at("clean.json"), model=MODEL,
        **common,
    )  # fmt: skip
    select_points(
        data=data, fold=FOLD, split="test", points_per_class=None, points=None, out=at("points.csv")
    )
    chunks = [(0, 3), (3, len(load_dataset(data, FOLD).test_index))]
    for k, points in enumerate(chunks):
        attack_chunk(
            members=members, evaluated=at("clean.json"), cohort=at("points.csv"),
            records=at(f"c{k}.parquet"), arrays=at(f"c{k}.safetensors"), timing=at(f"c{k}.json"),
            model=MODEL, attack=ATTACK, points=points, **common, **work,
        )  # fmt: skip
    files = {
        name: [at(f"c{k}.{end}") for k in range(2)]
        for name, end in (("chunks", "parquet"), ("arrays", "safetensors"), ("timings", "json"))
    }
    gather_records(
        records=at("records.parquet"), joined_arrays=at("arrays.safetensors"),
        made_with=at("made_with.json"), **files,
    )  # fmt: skip
    return SimpleNamespace(at=at, members=members)


def mapped(attacked, data: str, folder: Path, **more) -> dict[str, np.ndarray]:
    """Runs the job and returns the arrays that it writes."""
    out = folder / "residuals.safetensors"
    given = {"data": data, "members": attacked.members, "arrays": attacked.at("arrays.safetensors")}
    given |= {"fold": FOLD, "model": MODEL, "device": "cpu", "compute_threads": 1} | more
    map_residuals(out=str(out), **given)
    return io.read_tensors(out)


@pytest.fixture(scope="module")
def found(attacked, data, tmp_path_factory) -> dict[str, np.ndarray]:
    return mapped(attacked, data, tmp_path_factory.mktemp("found"))


def test_there_is_a_row_for_each_kept_point_and_epsilon(found, attacked, data):
    test = load_dataset(data, FOLD).test_index
    assert found["point_id"].tolist() == np.repeat(test[:4], 2).tolist()
    assert found["variant"].tolist() == [0, 1] * 4
    assert found["epsilon"].tolist() == [0.02, 0.1] * 4
    np.testing.assert_array_equal(found["label"], load_dataset(data, FOLD).y[found["point_id"]])
    for name in ("point_id", "variant", "label", "clean_prediction", "adversarial_prediction"):
        assert found[name].dtype == np.int64 and found[name].shape == (8,)
    assert len(found) == 7 + 6


def test_maps_are_those_of_plain_pytorch(found, attacked, data):
    kept, members = (
        io.read_tensors(file) for file in (attacked.at("arrays.safetensors"), *attacked.members)
    )
    x = load_dataset(data, FOLD).points(found["point_id"])
    x_adv, spec = kept["x_adv"].reshape(x.shape), resnet50.Spec(**SETTINGS)
    for pooling in ("max", "drop_max"):
        expected = plain_residuals(spec, members, x, x_adv, pooling)
        assert expected["absolute"].shape == (8, 8, 8) and expected["absolute"].any()
        for name, values in expected.items():
            written = found[f"{name}_{pooling}"]
            assert written.dtype == np.float32
            np.testing.assert_allclose(written, values, rtol=1e-3, atol=1e-5)
    assert not np.allclose(found["absolute_max"], found["absolute_drop_max"], rtol=0.01)


def test_predictions_and_sizes_are_those_of_the_records(found, attacked, data):
    rows = read_records(attacked.at("records.parquet")).set_index(["point_id", "epsilon"])
    rows = rows.loc[list(zip(found["point_id"], found["epsilon"], strict=True))]
    assert found["clean_prediction"].tolist() == rows["clean_prediction"].tolist()
    assert found["adversarial_prediction"].tolist() == rows["adversarial_prediction"].tolist()
    success = rows["success"].to_numpy() & (rows["clean_prediction"] == rows["label"]).to_numpy()
    assert success.any()
    np.testing.assert_allclose(found["linf"][success], rows["linf"][success], rtol=1e-5)
    assert (found["linf"] <= found["epsilon"] + 1e-6).all()


def test_the_file_says_with_which_pooling_the_network_was_trained(attacked, data, tmp_path):
    mapped(attacked, data, tmp_path)
    file = tmp_path / "residuals.safetensors"
    assert io.read_metadata(file) == {"own_pooling": "drop_max"}
    before = file.read_bytes()
    other = {"architecture": ARCHITECTURE | {"pooling": "max"}, "vote": "soft"}
    changed = mapped(attacked, data, tmp_path, model=other)
    assert io.read_metadata(file) == {"own_pooling": "max"}
    same = mapped(attacked, data, tmp_path)
    assert file.read_bytes() == before
    # Both poolings stand in the same networks, whichever is theirs.
    for name in ("absolute_max", "signed_drop_max", "change_drop_max"):
        np.testing.assert_array_equal(changed[name], same[name])


def test_of_a_training_that_failed_nothing_is_mapped(attacked, data, tmp_path):
    failed = str(tmp_path / "members.safetensors")
    metadata = metadata_of({1: "loss not finite in epoch 2"})
    io.write_tensors(failed, io.read_tensors(attacked.members[0]), metadata=metadata)
    nothing = str(tmp_path / "arrays.safetensors")
    io.write_tensors(nothing, {})
    assert mapped(attacked, data, tmp_path, members=[failed], arrays=nothing) == {}


def test_an_attack_that_found_nothing_leaves_nothing(attacked, data, tmp_path):
    kept = io.read_tensors(attacked.at("arrays.safetensors"))
    nothing = str(tmp_path / "arrays.safetensors")
    io.write_tensors(nothing, kept | {"x_adv": np.full_like(kept["x_adv"], np.nan)})
    assert mapped(attacked, data, tmp_path, arrays=nothing) == {}


def test_what_has_no_maps_is_refused(attacked, data, tmp_path):
    without = {"name": "batch_norm_resnet18", "stem": "cifar"}
    with pytest.raises(InputError, match="no first pooling"):
        mapped(attacked, data, tmp_path, model=MODEL | {"architecture": without})
    with pytest.raises(InputError, match="missing: epsilon, point_id"):
        mapped(attacked, data, tmp_path, arrays=attacked.members[0])
    other = tmp_path / "busi@standin"
    prepare(
        "busi", "breast_ultrasound", SIZES, "standin", None, other, 2, FACTS | {"licence": "none"}
    )
    with pytest.raises(InputError, match="not the arrays of this data set"):
        mapped(attacked, str(other), tmp_path)
    assert not (tmp_path / "residuals.safetensors").exists()
