"""The job that predicts clean points: what it writes, against a plain count."""

import contextlib
import hashlib
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.jobs import evaluate
from medrobust.jobs.shared import evaluated_members
from medrobust.models import mlp

MODEL = {"architecture": {"name": "mlp", "hidden_units": 4}, "vote": "soft"}
RANDOM = np.random.default_rng(2)
X, Y = RANDOM.random((50, 5)).astype(np.float32), RANDOM.integers(0, 2, 50)
TEST = np.arange(30, 50)


def evaluated(folder, monkeypatch, n_val):
    """Returns predictions, summary, and the logits of class 1 of each of three networks."""
    val, train = np.arange(30 - n_val, 30), np.arange(30 - n_val)
    dataset = SimpleNamespace(
        x=X, n_classes=2, input_range=(0.0, 1.0), y_train=Y[train],
        val_index=val, x_val=X[val], y_val=Y[val], test_index=TEST, x_test=X[TEST], y_test=Y[TEST],
        hashes=lambda: {"x.npy": "that of the array"},
    )  # fmt: skip
    members = mlp.initial_parameters(mlp.Spec(hidden_units=4), (5,), 2, [0, 1, 2])
    members = {name: 5 * value for name, value in members.items()}
    io.write_tensors(folder / "members.safetensors", members)
    monkeypatch.setattr("medrobust.data.prepared.store.load_dataset", lambda folder, fold: dataset)
    evaluate.evaluate_clean(
        data="data",
        members=[str(folder / "members.safetensors")],
        predictions=str(folder / "clean.parquet"),
        summary=str(folder / "clean.json"),
        model=MODEL,
        device="cpu",
        compute_threads=1,
    )
    w1, b1, w2, b2 = (members[name].astype(float) for name in ("w1", "b1", "w2", "b2"))
    hidden = 1 / (1 + np.exp(-(np.einsum("nd,mhd->mnh", X, w1) + b1[:, None])))
    logits = np.einsum("mnh,moh->mno", hidden, w2)[:, :, 0] + b2
    return pd.read_parquet(folder / "clean.parquet"), io.read_json(folder / "clean.json"), logits


def test_what_was_evaluated_is_known_by_its_hash(tmp_path, monkeypatch):
    """An attack has no other input that changes with the weights: accuracies can stay the same."""
    _, summary, _ = evaluated(tmp_path, monkeypatch, 10)
    content = (tmp_path / "members.safetensors").read_bytes()
    assert summary["made_from"] == {
        "x.npy": "that of the array",
        "members.safetensors": hashlib.sha256(content).hexdigest(),
    }


def test_members_that_are_lost_or_others_are_not_attacked(tmp_path, monkeypatch):
    evaluated(tmp_path, monkeypatch, 10)
    file, clean = tmp_path / "members.safetensors", str(tmp_path / "clean.json")
    known = io.read_json(clean)["made_from"]["members.safetensors"]
    assert evaluated_members([str(file)], clean) == {"members.safetensors": known}
    weights = io.read_tensors(file)
    weights["b1"][0, 0] += 1e-3
    io.write_tensors(file, weights)
    with pytest.raises(InputError, match="not those that were evaluated") as error:
        evaluated_members([str(file)], clean)
    assert f"delete {clean}" in str(error.value)
    io.write_json(tmp_path / "old.json", {"ensemble_accuracy": 0.5})  # before there were hashes
    with pytest.raises(InputError, match="not those that were evaluated"):
        evaluated_members([str(file)], str(tmp_path / "old.json"))
    file.unlink()
    with pytest.raises(InputError, match="is lost") as error:
        evaluated_members([str(file)], clean)
    assert f"snakemake --cores 1 {file}" in str(error.value)


def test_members_and_their_vote_are_counted(tmp_path, monkeypatch):
    predictions, summary, logits = evaluated(tmp_path, monkeypatch, 10)
    labels = (1 / (1 + np.exp(-logits))).mean(axis=0) > 0.5
    members = ((logits > 0) == Y).astype(float)
    assert 0 < labels.mean() < 1 and len(set(members[:, TEST].mean(axis=1))) > 1
    assert list(predictions["point_id"]) == list(TEST)
    assert (predictions["prediction"] == labels[TEST]).all()
    assert (predictions["label"] == Y[TEST]).all()
    assert (summary["n_train"], summary["n_val"], summary["n_test"]) == (20, 10, 20)
    assert summary["ensemble_accuracy"] == pytest.approx((labels == Y)[TEST].mean())
    assert summary["validation_accuracy"] == pytest.approx((labels == Y)[20:30].mean())
    assert summary["ensemble_accuracy"] != summary["validation_accuracy"]
    own = members[:, TEST].mean(axis=1)
    assert summary["member_accuracy_mean"] == pytest.approx(own.mean())
    assert summary["member_accuracy_std"] == pytest.approx(own.std(ddof=1))


def test_data_without_validation_points_have_no_such_accuracy(tmp_path, monkeypatch):
    _, summary, _ = evaluated(tmp_path, monkeypatch, 0)
    assert summary["n_val"] == 0 and summary["validation_accuracy"] is None


def test_where_a_gpu_computed_stands_beside_what_it_found(tmp_path, monkeypatch):
    _, here, _ = evaluated(tmp_path, monkeypatch, 10)
    monkeypatch.setattr(evaluate, "choose_device", lambda device, uses_gpu: "cuda+tf32")
    monkeypatch.setattr(evaluate, "gpu_slot", lambda kind: contextlib.nullcontext("cpu"))
    _, there, _ = evaluated(tmp_path, monkeypatch, 10)
    assert there == here | {"device": "cuda+tf32", "block": 4096}
    assert "device" not in here
