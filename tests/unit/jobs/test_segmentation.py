"""Segmentation from volumes to records, on small generated volumes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from medrobust.attacks import pixel_pgd
from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.data.prepared import nnunet, patches
from medrobust.data.prepared import slices as prepared_slices
from medrobust.data.prepared.prepare_volumes import prepare_volumes
from medrobust.data.prepared.slices import FOLDER, PLANS, SLICES, load_slices
from medrobust.data.prepared.volumes import load_volumes
from medrobust.data.registry import load_registry
from medrobust.jobs import segmentation
from medrobust.jobs.segmentation import attack_pixels, slice_volumes, train_pixels
from medrobust.models import nnunet as nnunet_network

from tests.unit.slice_files import needs_nnunet

ROOT = Path(__file__).resolve().parents[3]
ARCHITECTURE = {"name": "nnunet", "patch_size": [32, 32]}
METHOD = {
    "name": "segmentation_ima", "margin_step": 1.0, "largest_margin": 4.0, "steps": 2,
    "bisections": 2, "batch_size": 4, "max_epochs": 1, "batches_per_epoch": 3,
}  # fmt: skip
ATTACK = {
    "name": "pixel_pgd", "num_steps": 3, "batch_size": 3, "grid": {"epsilon": [0, 2, 8]},
    "keep_arrays": 2, "points": 5,
}  # fmt: skip
WORK = {"seed": 1, "device": "cpu", "compute_threads": 1, "code": "c"}


@pytest.fixture(scope="module")
def volumes(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "msd_hippocampus@standin"
    entry = load_registry(ROOT / "config/datasets.yaml")["msd_hippocampus"]
    prepare_volumes("msd_hippocampus", "msd", entry.options, "standin", None, folder, 1, {})
    return folder


@pytest.fixture(scope="module")
def data(volumes) -> str:
    files = {"slices": str(volumes / FOLDER / SLICES), "plans": str(volumes / FOLDER / PLANS)}
    slice_volumes(data=str(volumes), compute_threads=1, **files)
    return str(volumes)


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    train(data, folder)
    return folder


def train(data: str, folder: Path, **settings) -> None:
    files = {name: str(folder / f"network.{name}") for name in ("out", "card", "timing", "extras")}
    train_pixels(
        data=data, model={"architecture": ARCHITECTURE, "method": METHOD}, names=["s", "m"],
        progress_dir=str(folder / "p"), **files, **WORK, **settings,
    )  # fmt: skip


def attacked(data: str, trained: Path, out: Path, **changes) -> pd.DataFrame:
    names = {"records": "parquet", "arrays": "safetensors", "summary": "json", "timing": "t.json"}
    files = {name: str(out / f"slices.{suffix}") for name, suffix in names.items()}
    attack_pixels(
        data=data, network=str(trained / "network.out"), trained=str(trained / "network.card"),
        model={"architecture": ARCHITECTURE}, attack=ATTACK | changes, names=["s", "m", "a"],
        progress_dir=str(out / "p"), **files, **WORK,
    )  # fmt: skip
    return pd.read_parquet(files["records"])


@needs_nnunet
def test_slices_are_standardised_and_fit_their_masks(data, volumes):
    slices, known = load_slices(data), load_volumes(volumes)
    assert slices.cases == known.cases and slices.channels == 1 and slices.n_classes == 3
    for row, case in enumerate(slices.cases):
        image, mask = slices.images[row], slices.masks[row]
        assert image.shape[1:] == mask.shape, case
        assert image.mean() == pytest.approx(0, abs=1e-3) and image.std() == pytest.approx(1, 1e-3)
        # nnU-Net reads axes the other way round; of one spacing, nothing is resampled.
        assert (np.bincount(np.maximum(mask, 0).ravel(), minlength=3)
                == np.bincount(known.label(row).ravel(), minlength=3)).all()  # fmt: skip
    assert slices.plans["configurations"]["2d"]["architecture"]["network_class_name"]
    written = {path.suffix for path in (volumes / FOLDER).iterdir()}
    assert written == {".safetensors", ".json"}  # no pickle


@needs_nnunet
def test_a_training_on_some_cases_sees_no_slice_of_the_others(data, tmp_path):
    train(data, tmp_path, training_points=2)
    slices, card = load_slices(data), json.loads((tmp_path / "network.card").read_text())
    margins = io.read_tensors(tmp_path / "network.extras")["margin"][0]
    cases = {slices.place(number)[0] for number in np.flatnonzero(margins)}
    assert len(cases) == 2 < len(slices.train) and cases < set(slices.train.tolist())
    assert card["cases"]["train"] == 2
    assert card["slices"] == sum(len(slices.masks[row]) for row in cases)


@needs_nnunet
def test_a_network_is_trained_and_its_margins_are_kept(data, trained):
    card = json.loads((trained / "network.card").read_text())
    assert card["history"]["epochs"] == 1 and "failed" not in card
    margins = io.read_tensors(trained / "network.extras")["margin"]
    assert margins.shape == (1, load_slices(data).first[-1])
    assert json.loads((trained / "network.timing").read_text())["units"] == 3


@needs_nnunet
def test_records_hold_every_slice_level_and_class(data, trained, tmp_path):
    frame, slices = attacked(data, trained, tmp_path), load_slices(data)
    assert len(frame) == 5 * 3 * 2 and frame["number"].nunique() == 5
    every = set(slices.with_all_classes(slices.test).tolist())
    assert set(frame["number"]) <= every
    places = {(case, place) for case, place in zip(frame["case"], frame["slice"], strict=True)}
    rows = {slices.place(number) for number in set(frame["number"])}
    assert places == {(slices.cases[row], place) for row, place in rows}
    assert np.allclose(frame["l2"], frame["epsilon"], atol=1e-3)  # each start is on the sphere
    kept = io.read_tensors(tmp_path / "slices.safetensors")
    assert kept["noisy"].shape == (2, 3, 1, 32, 32) and kept["epsilon"].tolist() == [0, 2, 8]
    assert (kept["noisy"][:, 0] == kept["image"]).all()
    for k, number in enumerate(kept["number"]):
        for level, epsilon in enumerate(kept["epsilon"]):
            own = frame[(frame["number"] == number) & (frame["epsilon"] == epsilon)]
            said, there = kept["labels"][k, level], kept["target"][k]
            for row in own.to_dict("records"):
                hit = (said == row["class"]) & (there == row["class"])
                assert row["tp"] == hit.sum()
                assert row["tp"] + row["fp"] == (said == row["class"]).sum()
                assert row["tp"] + row["fn"] == (there == row["class"]).sum()


@needs_nnunet
def test_an_attack_goes_on_with_finished_batches(data, trained, tmp_path, monkeypatch):
    whole = attacked(data, trained, tmp_path / "whole")
    done = []
    original = segmentation._Attacked.batch

    def dies(self, *arguments):
        done.append(arguments)
        if len(done) == 2:
            raise KeyboardInterrupt
        return original(self, *arguments)

    monkeypatch.setattr(segmentation._Attacked, "batch", dies)
    with pytest.raises(KeyboardInterrupt):
        attacked(data, trained, tmp_path / "again")
    found = attacked(data, trained, tmp_path / "again")
    assert len(done) == 3  # the first batch once, the second twice
    pd.testing.assert_frame_equal(found, whole)


@needs_nnunet
def test_it_is_the_fast_network_that_is_attacked(data, trained, tmp_path, monkeypatch):
    made, fast = [], nnunet_network.fast
    monkeypatch.setattr(
        nnunet_network, "fast", lambda own, **how: made.append(own) or fast(own, **how)
    )
    attacked(data, trained, tmp_path)
    assert len(made) == 1 and fast(made[0]) is not made[0]


@needs_nnunet
@pytest.mark.parametrize("where", ["clean", "noisy"])
def test_a_network_whose_outputs_are_not_finite_has_failed(
    data, trained, tmp_path, where, monkeypatch
):
    arrays = io.read_tensors(trained / "network.out")
    if where == "clean":
        # Of the finest resolution; finite themselves.
        head = max(name for name in arrays if "seg_layers" in name and name.endswith("weight"))
        arrays[head] = np.full_like(arrays[head], 3e38)
    else:
        monkeypatch.setattr(pixel_pgd, "attack", lambda network, x, t, specs, seeds: (
            torch.full((len(specs), *x.shape), torch.nan)
        ))  # fmt: skip
    io.write_tensors(tmp_path / "network.out", arrays)
    (tmp_path / "network.card").write_bytes((trained / "network.card").read_bytes())
    frame = attacked(data, tmp_path, tmp_path)
    assert frame.empty and "tp" in frame
    assert io.read_tensors(tmp_path / "slices.safetensors") == {}
    assert "not finite" in json.loads((tmp_path / "slices.json").read_text())["failed"]


@needs_nnunet
def test_a_checkpoint_is_of_its_training_cases_plans_and_packages(data, tmp_path, monkeypatch):
    keys, known = [], segmentation.progress_key
    monkeypatch.setattr(segmentation, "progress_key", lambda *a: keys.append(known(*a)) or keys[-1])
    slices = load_slices(data)
    others = [
        slices,
        dataclasses.replace(slices, train=slices.train[:-1]),
        dataclasses.replace(slices, plans=slices.plans | {"changed": 1}),
    ]
    for k, one in enumerate(others):
        monkeypatch.setattr(prepared_slices, "load_slices", lambda _, one=one: one)
        train(data, tmp_path / str(k))
    monkeypatch.setattr(prepared_slices, "load_slices", lambda _: slices)
    monkeypatch.setattr(segmentation, "versions", lambda *names: dict.fromkeys(names, "9"))
    train(data, tmp_path / "versions")
    assert len(set(keys)) == 4
    card = json.loads((tmp_path / "versions/network.card").read_text())
    assert set(card["versions"]) == set(nnunet.PACKAGES)
    real = json.loads((tmp_path / "0/network.card").read_text())["versions"]
    assert set(nnunet.PACKAGES) < set(real) and real["nnunetv2"].startswith("2.")


@needs_nnunet
def test_without_a_slice_of_all_classes_nothing_is_attacked(data, trained, tmp_path, monkeypatch):
    slices = load_slices(data)
    masks = tuple(np.where(mask == 2, 0, mask) for mask in slices.masks)
    one = dataclasses.replace(slices, masks=masks)
    monkeypatch.setattr(prepared_slices, "load_slices", lambda _: one)
    with pytest.raises(InputError, match="contains every class"):
        train(data, tmp_path)
    assert not (tmp_path / "network.out").exists()
    with pytest.raises(InputError, match="contains every class") as caught:
        attacked(data, trained, tmp_path)
    name, count = slices.class_names[2], len(one.numbers(one.test))
    assert f"{name} in 0" in str(caught.value) and f"the {count} test slices" in str(caught.value)
    assert f"{slices.class_names[1]} in 0" not in str(caught.value)


@needs_nnunet
def test_patches_that_lost_a_class_are_counted(data, trained, tmp_path, monkeypatch):
    attacked(data, trained, tmp_path / "whole")
    assert json.loads((tmp_path / "whole/slices.json").read_text())["n_lost_a_class"] == 0
    cut = patches.cut_patches

    def blind(*arguments):
        images, targets = cut(*arguments)
        targets[0][targets[0] == 1] = 0
        return images, targets

    monkeypatch.setattr(patches, "cut_patches", blind)
    attacked(data, trained, tmp_path / "cut")
    # The first of each batch.
    assert json.loads((tmp_path / "cut/slices.json").read_text())["n_lost_a_class"] == 2


@needs_nnunet
def test_levels_beyond_memory_go_one_after_another(data, trained, tmp_path, monkeypatch):
    whole, asked, attack = attacked(data, trained, tmp_path / "all"), [], pixel_pgd.attack
    monkeypatch.setattr(
        pixel_pgd,
        "attack",
        lambda n, x, t, specs, seeds: asked.append(len(specs)) or attack(n, x, t, specs, seeds),
    )
    monkeypatch.setattr(nnunet_network, "MOST_TOGETHER", 1)
    each = attacked(data, trained, tmp_path / "each")
    assert asked == [1] * 3 * 2  # three levels, two batches
    counts = ["tp", "fp", "fn"]
    known = ["number", "class", "epsilon"]
    pd.testing.assert_frame_equal(each[known], whole[known])
    assert (each[counts] - whole[counts]).abs().to_numpy().max() <= 2  # last bits


def test_how_many_levels_fit():
    levels = nnunet_network.levels_at_once
    assert levels(366, (56, 40)) == 4 and levels(40, (320, 256)) == levels(32, (320, 320)) == 1
    assert levels(1000, (640, 640)) == 1 and levels(0, (56, 40)) > 100


@needs_nnunet
def test_a_failed_training_is_not_attacked(data, trained, tmp_path):
    card = json.loads((trained / "network.card").read_text()) | {"failed": "loss not finite"}
    io.write_json(tmp_path / "network.card", card)
    (tmp_path / "network.out").write_bytes((trained / "network.out").read_bytes())
    frame = attacked(data, tmp_path, tmp_path)
    assert frame.empty and "tp" in frame
    assert json.loads((tmp_path / "slices.json").read_text())["failed"] == "loss not finite"


def test_slices_of_other_cases_are_refused(volumes):
    folder = volumes / FOLDER
    folder.mkdir(exist_ok=True)
    file = folder / SLICES
    before = file.read_bytes() if file.exists() else None
    io.write_tensors(file, {"image/x": np.zeros(1, np.float32)})
    with pytest.raises(InputError, match="not the slices of the volumes"):
        load_slices(volumes)
    file.unlink()
    if before is not None:
        file.write_bytes(before)


@pytest.mark.parametrize("code", nnunet.REFUSED)
def test_headers_that_contradict_themselves_stop_before_nnunet(volumes, code):
    from medrobust.data.prepared.volume_audit import _TEXTS

    assert code.removeprefix("volume_") in _TEXTS  # a finding that there is
    known = load_volumes(volumes)
    known.card["audit"].append({"code": code, "level": "warning", "text": "two sizes of a voxel"})
    with pytest.raises(InputError, match="two sizes of a voxel"):
        nnunet.refuse_contradictions(known)


def test_without_nnunet_the_message_says_what_to_install(monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError) as caught:
        nnunet.require_nnunet()
    assert "requirements-segmentation.txt" in caught.value.remedy
