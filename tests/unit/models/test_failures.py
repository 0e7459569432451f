"""Members whose training ended without numbers: who says so, and that nothing is asked of them."""

from __future__ import annotations

import numpy as np
import pytest
from medrobust.core import io
from medrobust.core.errors import InputError, NotFiniteError
from medrobust.models import failures
from medrobust.models.ensembles import Ensemble

X = np.random.default_rng(0).random((10, 3)).astype(np.float32)


def ensemble(scores, vote="soft", kind="logits", n_classes=2) -> Ensemble:
    """Returns members that give ``scores [M, n_classes]`` to every point."""
    return Ensemble(
        lambda x: np.repeat(np.float32(scores)[:, None], len(x), axis=1),
        kind=kind, vote=vote, input_shape=(3,), n_classes=n_classes, input_range=(0.0, 1.0),
    )  # fmt: skip


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("vote", "kind"),
    [("soft", "logits"), ("majority", "logits"), ("soft", "probabilities"), ("majority", "votes")],
)
def test_one_member_of_ten_without_numbers_decides_nothing(bad, vote, kind):
    scores = np.tile([0.0, 1.0], (10, 1))
    sound = ensemble(scores, vote, kind)
    assert (sound.predict(X) == 1).all()
    scores[7, 0] = bad
    broken = ensemble(scores, vote, kind)
    for ask in (
        broken.predict,
        broken.all_predictions,
        broken.member_scores,
        broken.member_predictions,
        broken.mean_probabilities,
        broken.votes,
    ):
        with pytest.raises(NotFiniteError, match=r"1 of 10 members .* first: member 7") as caught:
            ask(X)
        assert caught.value.members == (7,)


def test_padding_is_not_an_answer():
    """What a model says of the zeros that fill a block up is nobody's score."""
    model = Ensemble(
        lambda x: np.stack([np.ones(len(x)), 1 / x.sum(axis=1)], axis=1)[None].astype(np.float32),
        kind="logits", vote="soft", input_shape=(3,), n_classes=2, input_range=(0.0, 1.0),
    )  # fmt: skip
    with np.errstate(divide="ignore"):
        assert (model.predict(X) == (1 / X.sum(axis=1) > 1)).all()


def test_scores_of_more_classes_than_there_are_are_refused():
    """Their label could be 2 of 2."""
    with pytest.raises(InputError, match=r"shape \(1, 10, 3\).*expected \(members, 10, 2\)"):
        ensemble([[0.0, 1.0, 2.0]]).predict(X)


def test_what_failed_of_trained_members():
    weights = np.ones((4, 2, 2), dtype=np.float32)
    weights[2, 0, 1] = np.inf
    history = [
        {"epochs": 5, "loss": 0.5},
        {"epochs": 3, "loss": None},
        {"epochs": 5, "loss": 0.5},
        {"nodes": 7},
    ]
    count = {"steps": np.arange(4)}
    found = failures.failures_of([10, 11, 12, 13], {"w": weights} | count, history)
    assert found == {11: "loss not finite in epoch 3", 12: "weights not finite after epoch 5"}
    assert failures.failures_of([10], {"w": weights[:1]}, history[:1]) == {}
    forest = {"offset": np.array([0, 3, 7]), "threshold": np.array([0.0, 1, np.nan, 1, 1, 1, 1])}
    both = failures.failures_of([0, 1], forest, [{"nodes": 3}, {"nodes": 4}])
    assert both == {0: "weights not finite", 1: "weights not finite"}


@pytest.mark.parametrize(
    ("found", "text"),
    [
        ([{}, {}], ""),
        ([{0: "loss not finite in epoch 3"}], "loss not finite in epoch 3"),
        ([{}, {7: "a"}], "member 7: a"),
        ([{3: "a"}, {7: "a"}], "members 3, 7: a"),
        ([{3: "a"}, {7: "b"}], "members 3, 7: the first: a"),
        ([{2: "a", 10: "a"}, {11: "a", 12: "a", 13: "a"}], "members 2, 10, 11 and 2 more: a"),
    ],
)
def test_files_of_members_tell_what_failed(tmp_path, found, text):
    arrays = {"w": np.ones((2, 3), dtype=np.float32)}
    files = [str(tmp_path / f"{i}.safetensors") for i in range(len(found))]
    for file, happened in zip(files, found, strict=True):
        io.write_tensors(file, arrays, failures.metadata_of(happened))
    assert failures.failure_in(files) == text
    plain = tmp_path / "plain.safetensors"
    io.write_tensors(plain, arrays)
    for file, happened in zip(files, found, strict=True):
        same = plain.read_bytes() == (tmp_path / file).read_bytes()
        assert same == (not happened), "files of sound members keep their bytes"


def test_a_damaged_file_is_told(tmp_path):
    path = tmp_path / "m.safetensors"
    path.write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{}")
    with pytest.raises(InputError, match="not a complete safetensors file"):
        failures.failure_in([str(path)])
