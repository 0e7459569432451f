"""Generated images: the right shape, repeatable, learnable but not trivial, marked."""

from __future__ import annotations

import numpy as np
import pytest
from medrobust.core.errors import InputError
from medrobust.data.formats.images import ImageSpec
from medrobust.data.prepared.audit import audit
from medrobust.data.prepared.near_duplicates import thumbnails
from medrobust.data.prepared.store import Prepared
from medrobust.data.sets import breast_ultrasound, chest_xray, covid_ct, kather
from medrobust.data.standins.medical_images import medical_standin

KINDS = {"xray": (2, 0.95), "ct": (2, 0.99), "ultrasound": (2, 0.97), "tissue": (8, 0.95)}
"""Number of classes, and more than which accuracy would be trivial."""


def standin(kind: str, seed: int = 3, n: int = 240, **options: object) -> Prepared:
    colour = {"xray": "grey_rgb", "ct": "grey"}.get(kind, "rgb")
    classes = [f"class{i}" for i in range(KINDS[kind][0])]
    return medical_standin(kind, classes, ImageSpec(64, colour), n, n // 3, seed=seed, **options)


def accuracy(data: Prepared) -> float:
    from sklearn.ensemble import RandomForestClassifier

    train, _, test = data.folds[0]
    flat = data.x.reshape(*data.x.shape[:2], -1)
    features = np.concatenate([thumbnails(data.x), flat.mean(2), flat.std(2)], axis=1)
    forest = RandomForestClassifier(200, random_state=0).fit(features[train], data.y[train])
    return forest.score(features[test], data.y[test])


@pytest.mark.parametrize("kind", KINDS)
def test_learnable_but_not_trivial(kind: str) -> None:
    n_classes, trivial = KINDS[kind]
    found = accuracy(standin(kind))
    assert 0.4 + 0.6 / n_classes < found <= trivial


@pytest.mark.parametrize("kind", KINDS)
def test_shape_balance_and_marks(kind: str) -> None:
    data = standin(kind, n=60)
    assert data.x.dtype == np.uint8 and data.x.shape[0] == 80 and data.synthetic
    assert data.x.min() < 60 and data.x.max() > 180
    for part in (data.folds[0][0], data.folds[0][2]):
        counts = np.bincount(data.y[part])
        assert counts.max() - counts.min() <= 1
    codes = {finding.code for finding in audit(data)}
    assert {"no_duplicates", "near_duplicates_uncertain", "patients_disjoint"} <= codes
    assert "near_duplicates" not in codes
    assert data.notes[0].startswith("SYNTHETIC")


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_decides_everything(kind: str) -> None:
    first, same, other = (standin(kind, seed, n=24) for seed in (3, 3, 4))
    assert np.array_equal(first.x, same.x) and np.array_equal(first.y, same.y)
    assert not np.array_equal(first.x, other.x)


def test_folds_divide_all_images() -> None:
    data = standin("ultrasound", n=30, folds=5)
    assert [len(test) for _, _, test in data.folds] == [8] * 5


def test_too_few_images_are_refused() -> None:
    with pytest.raises(InputError, match="No stand-in with 8 classes, 6 training"):
        standin("tissue", n=6)


def test_adapters_give_stand_ins_of_the_size_asked_for() -> None:
    for module, shape in ((chest_xray, (3, 96, 96)), (covid_ct, (1, 224, 224))):
        data = module.adapt({"n_train": 12, "n_test": 6}, "standin", {}, seed=1)
        assert data.x.shape == (18, *shape) and data.class_names == module.CLASSES
        assert [len(part) for part in data.folds[0]] == [12, 0, 6] and data.synthetic
    two = {"classes": ["mucosa", "adipose"], "n_train": 16, "n_test": 8}
    assert kather.adapt(two, "standin", {}, seed=1).x.shape == (24, 3, 96, 96)
    union = {"releases": ["busi", "busis"], "n_train": 12, "n_test": 8}
    data = breast_ultrasound.adapt(union, "standin", {}, seed=1)
    assert data.x.shape == (20, 3, 224, 224) and len(data.folds) == 5
