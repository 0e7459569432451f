"""Splits: exact sizes, disjoint patients, files that survive or complain."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from medrobust.core.errors import InputError
from medrobust.data.prepared import splits
from medrobust.data.sets import mitbih

RELEASE = np.repeat(np.arange(5), list(mitbih.OFFICIAL_ROWS.values()))


def test_the_official_sizes_add_up_to_the_release() -> None:
    total = np.add(splits.MITBIH_OFFICIAL_TRAIN, splits.MITBIH_OFFICIAL_TEST).tolist()
    assert total == list(mitbih.OFFICIAL_ROWS.values())


def test_a_rebuilt_release_is_split_in_exactly_the_official_sizes() -> None:
    y = np.random.default_rng(0).permutation(RELEASE)
    train, test, notes = splits.official_size_split(y, seed=7)
    assert np.bincount(y[train]).tolist() == [72471, 2223, 5788, 641, 6431]
    assert np.bincount(y[test]).tolist() == [18118, 556, 1448, 162, 1608]
    assert np.array_equal(np.sort(np.concatenate([train, test])), np.arange(len(y)))
    assert "exactly the official number" in notes[0]
    again = splits.official_size_split(y, seed=7)[1]
    other = splits.official_size_split(y, seed=8)[1]
    assert np.array_equal(test, again) and not np.array_equal(test, other)
    # Another draw shares about a fifth of its rows.
    assert abs(len(np.intersect1d(test, other)) / len(test) - 0.2) < 0.02


def test_a_subset_is_split_in_the_official_share() -> None:
    y = RELEASE[::10]
    _, test, notes = splits.official_size_split(y, seed=7)
    share = np.bincount(y[test]) / np.bincount(y)
    assert np.abs(share - 0.2).max() < 0.01 and "official share" in notes[0]


@settings(deadline=None, max_examples=40)
@given(
    y=st.lists(st.integers(0, 3), min_size=1, max_size=60),
    seed=st.integers(0, 2**31),
    data=st.data(),
)
def test_stratified_split_draws_what_is_asked(y: list[int], seed: int, data: st.DataObject) -> None:
    labels = np.array(y)
    have = np.bincount(labels, minlength=4)
    wanted = {c: data.draw(st.integers(0, int(n))) for c, n in enumerate(have)}
    train, test = splits.stratified_split(labels, wanted, seed=seed, name="t")
    assert np.bincount(labels[test], minlength=4).tolist() == list(wanted.values())
    assert sorted([*train, *test]) == list(range(len(y)))
    # A class's membership does not depend on the presence of the others.
    only = np.flatnonzero(labels == 0)
    alone = splits.stratified_split(labels[only], {0: wanted[0]}, seed=seed, name="t")[1]
    assert np.array_equal(only[alone], test[labels[test] == 0])


def test_stratified_split_refuses_to_draw_more_than_there_is() -> None:
    with pytest.raises(InputError, match="Class 1 has 1 rows; 2 test rows"):
        splits.stratified_split(np.array([0, 0, 1]), {1: 2}, seed=1, name="t")


def test_patient_split_covers_every_record_once_and_no_patient_twice() -> None:
    train, test = set(splits.PATIENT_TRAIN), set(splits.PATIENT_TEST)
    assert not train & test and train | test == set(mitbih.RECORDS)
    patients = [{mitbih.SAME_PATIENT.get(r, r) for r in side} for side in (train, test)]
    assert not patients[0] & patients[1]
    assert len(splits.DE_CHAZAL_DS1) == len(splits.DE_CHAZAL_DS2) == 22
    assert not set(splits.DE_CHAZAL_DS1) & set(splits.DE_CHAZAL_DS2)
    # Apart from paced records, the test set is within de Chazal's.
    assert test - set(splits.DE_CHAZAL_DS2) == {"102", "217"}


def test_patient_split_needs_records() -> None:
    train, test, _ = splits.patient_split(["100", "101", "201", "202", "100"])
    assert train.tolist() == [1, 2, 3] and test.tolist() == [0, 4]
    for records in (["100", ""], ["100", None], [float("nan")]):
        with pytest.raises(InputError, match="split by patient"):
            splits.patient_split(records)
    with pytest.raises(InputError, match="'999' is not in"):
        splits.patient_split(["100", "999"])


@settings(deadline=None, max_examples=30)
@given(code=st.lists(st.integers(0, 2), min_size=2, max_size=40))
def test_a_split_file_returns_what_was_written(
    code: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    parts = [np.flatnonzero(np.array([0, *code, 2]) == c) for c in range(3)]
    path = tmp_path_factory.mktemp("split") / "split_fold0.csv"
    splits.write_split(path, *[part[::-1] for part in parts])
    found = splits.read_split(path, len(code) + 2)
    for part, again in zip(parts, found, strict=True):
        assert again.dtype == np.int64 and np.array_equal(part, again)
    assert path.read_text().startswith("index,split\n0,train\n")


def test_write_split_refuses_overlap_and_empty_parts(tmp_path: Path) -> None:
    path = tmp_path / "split_fold0.csv"
    with pytest.raises(InputError, match="more than once"):
        splits.write_split(path, [0, 1], [], [1, 2])
    with pytest.raises(InputError, match="must not be empty"):
        splits.write_split(path, [0, 1], [2], [])
    assert not path.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "it is missing"),
        ("", "cannot be used"),
        ("index,split\n0,train\n1,test\n", "it has 2 rows, the data set 3"),
        ("index,split\n0,train\n1,test\n5,test\n", "it names row 5, but there are 3 rows"),
        ("index,split\n0,train\n1,tset\n2,test\n", "splits one of"),
        ("index,split\n0,train\n1,test\n2,\n", "without gaps"),
        ("index,split\n0,train\n1,test\n1.5,test\n", "whole numbers"),
        ("index,split\n0,train\n1,test\n1,test\n", "more than once"),
        ("row,split\n0,train\n1,test\n2,test\n", "columns index and split"),
    ],
)
def test_a_damaged_split_file(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "split_fold0.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=message):
        splits.read_split(path, 3)
