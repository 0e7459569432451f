"""The code hash: what changes it, what does not, and that it follows imports."""

from __future__ import annotations

import shutil

import pytest
from medrobust import codehash
from medrobust.registry import ARCHITECTURES, ATTACKS, METHODS


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the package to edit."""
    copy = tmp_path / "medrobust"
    shutil.copytree(codehash.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(codehash, "PACKAGE", copy)
    codehash._tree.cache_clear()
    yield copy
    codehash._tree.cache_clear()


def hash_after_edit(package, module, edit, of):
    before = codehash.code_hash(of)
    file = package / module
    text = file.read_text()
    changed = edit(text)
    assert changed != text
    file.write_text(changed)
    codehash._tree.cache_clear()
    return before, codehash.code_hash(of)


def test_comments_docstrings_and_layout_do_not_count(package):
    before, after = hash_after_edit(
        package,
        "models/mlp.py",
        lambda t: t.replace('"""Joins the members', '"""Joins all members').replace(
            "\n\n\ndef ", "\n\n\n# A comment.\ndef "
        ),
        of="medrobust.models.mlp",
    )
    assert before == after


def test_a_changed_number_counts(package):
    before, after = hash_after_edit(
        package,
        "models/mlp.py",
        lambda t: t.replace("gain = 2.0", "gain = 2.5"),
        of="medrobust.models.mlp",
    )
    assert before != after


def test_imported_modules_count_and_others_do_not(package):
    of = "medrobust.training.sgd_cross_entropy"
    edit = lambda t: t + "\nADDED = 1\n"  # noqa: E731
    before, after = hash_after_edit(package, "training/loop.py", edit, of)
    assert before != after
    before, after = hash_after_edit(package, "training/bagged_trees.py", edit, of)
    assert before == after
    before, after = hash_after_edit(package, "io.py", edit, of)
    assert before == after


def test_the_closure_of_every_registered_module_exists_and_holds_itself():
    for module in [*ARCHITECTURES.values(), *METHODS.values(), *ATTACKS.values()]:
        assert module in codehash.closure(module)
    assert "medrobust.seeds" in codehash.closure("medrobust.training.loop")


def test_attacks_do_not_depend_on_training():
    assert not any("training" in name for name in codehash.closure(*ATTACKS.values()))
