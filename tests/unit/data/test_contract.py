"""What holds for every registered adapter, and for each data set that is made with it."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import numpy as np
import pytest
from medrobust.core.errors import InputError
from medrobust.core.registry import ADAPTERS, entry_of
from medrobust.data.contract import Adapter, adapter_of
from medrobust.data.prepared.store import Prepared
from medrobust.data.prepared.volumes import VolumeSet
from medrobust.data.registry import STANDIN, load_registry

from tests import registered

#: Data of a user's own, which no registry has.
OWN = {
    "own_table": {
        "adapter": "csv_table",
        "classes": ["ill", "well"],
        "shape": [12],
        "options": {"file": "table.csv", "label": "state"},
    },
    "own_images": {"adapter": "image_folders", "classes": ["ill", "well"], "shape": [3, 16, 16]},
}
REGISTRY = load_registry(entries=OWN)
ARRAYS = [name for name, entry in REGISTRY.items() if entry.form == "arrays"]
VOLUMES = [name for name, entry in REGISTRY.items() if entry.form == "volumes"]
every = pytest.mark.parametrize("name", ADAPTERS)
#: Sizes of stand-ins, as a scale gives them.
SMALL = {"n_train": 100, "n_test": 40}


def standin(name: str, seed: int = 1, **changes: object) -> Prepared | VolumeSet:
    entry = REGISTRY[name]
    options = entry.options | (SMALL if entry.form == "arrays" else {}) | changes
    processes = {"processes": 1} if entry.form == "arrays" else {}
    adapt = adapter_of(entry.adapter, entry.form).adapt
    return adapt(options, STANDIN, {}, seed=seed, allow_subset=False, **processes)


made = functools.cache(standin)


@every
def test_each_adapter_serves_a_data_set_of_its_form(name):
    adapter = entry_of("adapter", name, Adapter)
    served = [entry for entry in REGISTRY.values() if entry.adapter == name]
    assert served and {entry.form for entry in served} == {adapter.form}


@every
def test_the_docstring_cites_its_source(name):
    assert registered.cites("adapter", name)


@pytest.mark.parametrize("name", ARRAYS)
def test_a_standin_has_the_form_that_the_registry_states(name):
    entry, data = REGISTRY[name], made(name)
    n = len(data.y)
    assert list(data.x.shape) == [n, *entry.shape] and data.x.dtype in (np.float32, np.uint8)
    assert data.y.shape == (n,) and data.y.dtype == np.int64
    assert list(data.class_names) == entry.classes and len(data.ids) == n
    assert set(np.unique(data.y)) == set(range(len(entry.classes)))
    assert list(data.input_range) == entry.input_range
    if data.x.dtype == np.float32:
        assert entry.input_range[0] <= data.x.min() <= data.x.max() <= entry.input_range[1]
    assert data.complete and data.synthetic


@pytest.mark.parametrize("name", ARRAYS)
def test_the_splits_of_a_standin_do_not_overlap(name):
    entry, data = REGISTRY[name], made(name)
    assert len(data.folds) == entry.folds
    for fold in data.folds:
        rows = np.concatenate(fold)
        assert len(np.unique(rows)) == len(rows) and len(fold[0]) and len(fold[2])
        assert rows.min() >= 0 and rows.max() < len(data.y)
    if entry.folds > 1:
        tested = np.concatenate([fold[2] for fold in data.folds])
        assert sorted(tested) == list(range(len(data.y)))


@pytest.mark.parametrize("name", ARRAYS)
def test_the_seed_of_a_standin_decides_every_byte(name):
    data, again, other = made(name), standin(name), standin(name, seed=2)
    assert data.x.tobytes() == again.x.tobytes() and data.y.tobytes() == again.y.tobytes()
    assert data.ids.equals(again.ids)
    for one, same in zip(data.folds, again.folds, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert data.x.tobytes() != other.x.tobytes()


@pytest.mark.parametrize("name", VOLUMES)
def test_standins_of_volumes_are_cases_in_one_split(name):
    entry, data = REGISTRY[name], made(name)
    rows = np.concatenate(data.fold)
    assert sorted(rows) == list(range(len(data.cases))) and data.synthetic and data.complete
    assert list(data.class_names) == entry.classes and len(data.channels) == entry.shape[0]
    assert [case.name for case in data.cases] == [case.name for case in standin(name).cases]


@every
def test_options_that_are_not_there_are_refused(name):
    dataset = next(key for key, entry in REGISTRY.items() if entry.adapter == name)
    known = sorted(entry_of("adapter", name, Adapter).spec.model_fields)[0]
    for changes in ({"not_an_option": 1}, {known + "s": 1}):
        with pytest.raises(InputError, match="unknown key") as caught:
            standin(dataset, **changes)
        assert "config/datasets.yaml" in str(caught.value)
    with pytest.raises(InputError, match=rf"options.*\.{known}"):
        standin(dataset, **{known: object()})


def test_the_example_of_the_documentation_is_an_adapter(root):
    text = (Path(root) / "docs/data.md").read_text(encoding="utf-8")
    (code,) = re.findall(r'^```python\n("""Signals in two CSV files.*?)^```$', text, re.M | re.S)
    names: dict = {"__name__": "two_files"}
    exec(compile(code, "docs/data.md", "exec"), names)
    adapter = names["ADAPTER"]
    assert isinstance(adapter, Adapter)
    options = {"classes": ["regular", "irregular"], "length": 40, **SMALL}
    data = adapter.adapt(options, STANDIN, {}, seed=1, allow_subset=False, processes=1)
    assert data.x.shape == (140, 40) and data.x.dtype == np.float32 and data.synthetic
