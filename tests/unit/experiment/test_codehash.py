"""The code hash: what changes it, what does not, and that it follows names."""

from __future__ import annotations

import ast
import re
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from medrobust.core.registry import ADAPTERS, ARCHITECTURES, ATTACKS, METHODS, object_of
from medrobust.data.registry import load_registry
from medrobust.experiment import codehash, codes
from medrobust.experiment.config import Model


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the package to edit."""
    copy = tmp_path / "medrobust"
    shutil.copytree(codehash.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(codehash, "PACKAGE", copy)
    codehash.forget()
    yield copy
    codehash.forget()


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Returns a function that writes modules of an own small package and forgets the old ones."""
    folder = tmp_path / "medrobust"
    monkeypatch.setattr(codehash, "PACKAGE", folder)

    def write(**modules: str) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        for name, text in {"__init__": "", **modules}.items():
            file = folder / f"{name.replace('__in__', '/')}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            if file.parent != folder:
                (file.parent / "__init__.py").touch()
        codehash.forget()

    yield write
    codehash.forget()


def hash_after_edit(package, module, edit, of):
    codehash.forget()
    before = codehash.code_hash(of)
    file = package / module
    text = file.read_text()
    changed = edit(text)
    assert changed != text
    file.write_text(changed)
    codehash.forget()
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


def test_what_is_imported_counts_and_the_rest_does_not(package):
    of = "medrobust.training.sgd_cross_entropy"
    loop = lambda t: t.replace("stale + 1", "stale + 2")  # noqa: E731
    before, after = hash_after_edit(package, "training/engine/loop.py", loop, of)
    assert before != after
    edit = lambda t: t + "\nADDED = 1\n"  # noqa: E731
    for module in ("training/engine/loop.py", "training/bagged_trees.py", "core/io.py"):
        before, after = hash_after_edit(package, module, edit, of)
        assert before == after, module


def move_module(package, old, new):
    """Moves a module and mends every import of it, as a person would."""
    source, target = (package / f"{name.replace('.', '/')}.py" for name in (old, new))
    target.parent.mkdir(parents=True, exist_ok=True)
    (target.parent / "__init__.py").touch()
    source.rename(target)
    (old_package, leaf), new_package = old.rsplit(".", 1), new.rsplit(".", 1)[0]
    together = re.compile(rf"( *)from medrobust\.{re.escape(old_package)} import (.*\b{leaf}\b.*)")

    def apart(found: re.Match[str]) -> str:
        space, names = found[1], found[2].split(", ")
        rest = ", ".join(name for name in names if name != leaf)
        own = f"{space}from medrobust.{new_package} import {leaf}"
        return f"{space}from medrobust.{old_package} import {rest}\n{own}" if rest else own

    for file in package.rglob("*.py"):
        text = file.read_text()
        moved = together.sub(apart, text.replace(f"medrobust.{old}", f"medrobust.{new}"))
        if moved != text:
            file.write_text(moved)


def test_a_moved_module_changes_no_hash(package):
    entries = [
        "medrobust.jobs.train:train_members",
        "medrobust.jobs.attack:attack_chunk",
        *(m for kind in (ARCHITECTURES, METHODS, ATTACKS) for m in kind.values()),
    ]
    before = {entry: codehash.code_hash(entry) for entry in entries}
    assert len(set(before.values())) == len(entries)
    for old, new in (
        ("training.engine.loop", "elsewhere.deep.epochs"),
        ("models.engine.traced", "elsewhere.traced"),
        ("attacks.engine.queries", "elsewhere.queries"),
        ("evaluation.records", "elsewhere.rows"),
    ):
        move_module(package, old, new)
    codehash.forget()
    assert codehash.reached("medrobust.attacks.pgd") & {"medrobust.elsewhere.queries"}
    assert {entry: codehash.code_hash(entry) for entry in entries} == before


def test_a_registered_module_may_move_too(package):
    before = codehash.code_hash("medrobust.models.mlp")
    move_module(package, "models.mlp", "models.deep.perceptron")
    codehash.forget()
    assert codehash.code_hash("medrobust.models.deep.perceptron") == before


BASE = {
    "tools": "import numpy as np\nSTEP = 2\n\ndef double(x):\n    return np.abs(x) * STEP\n",
    "work": "from medrobust.tools import double\n\ndef run(x):\n    return double(x) + 1\n",
}


def hashed(write, **modules):
    write(**modules)
    return codehash.code_hash("medrobust.work:run")


@pytest.mark.parametrize(
    "modules",
    [
        pytest.param(
            {
                "tools": "STEP = 2\n",
                "work": "import numpy\nfrom medrobust.tools import STEP\n\n"
                "def double(x):\n    return numpy.abs(x) * STEP\n\n"
                "def run(x):\n    return double(x) + 1\n",
            },
            id="a definition moves to another module",
        ),
        pytest.param(
            {
                "tools": BASE["tools"].replace("double", "twice").replace("STEP", "FACTOR"),
                "work": BASE["work"].replace("double", "twice"),
            },
            id="definitions get other names",
        ),
        pytest.param(
            {
                "tools": BASE["tools"],
                "work": "def run(x: int) -> int:\n    'Says nothing.'\n"
                "    from medrobust import tools\n\n    return tools.double(x) + 1\n",
            },
            id="imported inside the function, as a module, with hints",
        ),
        pytest.param(
            {"tools": BASE["tools"] + "\ndef other():\n    return run\n", "work": BASE["work"]},
            id="a neighbour that is not used",
        ),
        pytest.param(
            {
                "tools": "from medrobust.inner import double\n",
                "inner": BASE["tools"],
                "work": BASE["work"],
            },
            id="handed on by another module",
        ),
        pytest.param(
            {
                "tools": BASE["tools"],
                "work": "from typing import TYPE_CHECKING\n" + BASE["work"] + "\n"
                "if TYPE_CHECKING:\n    from medrobust.nowhere import Thing\n",
            },
            id="imports for type checkers",
        ),
    ],
)
def test_where_code_lies_and_what_it_is_called_does_not_count(small, modules):
    assert hashed(small, **modules) == hashed(small, **BASE)


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("tools", "STEP = 2", "STEP = 3"),
        ("tools", "np.abs", "np.sign"),
        ("tools", "import numpy as np", "import torch as np"),
        ("tools", "import numpy as np\n", "import numpy as np\nnp.seterr(all='raise')\n"),
        ("tools", "def double", "@profile\ndef double"),
        ("tools", "def double(x)", "def double(x, y=1)"),
        ("work", "double(x) + 1", "double(double(x)) + 1"),
        ("work", "return", "yield"),
    ],
)
def test_what_code_does_counts(small, module, old, new):
    assert old in BASE[module]
    changed = {**BASE, module: BASE[module].replace(old, new)}
    assert hashed(small, **changed) != hashed(small, **BASE)


def test_decorators_of_neutral_modules_do_not_count(small):
    devices = "def in_halves(*places):\n    return lambda f: f\n"
    runtime = {"runtime__in__devices": devices, **BASE}
    plain = hashed(small, **runtime)
    for place in ("import in_halves\n\n@in_halves(0)", "import in_halves as h\n\n@h"):
        text = BASE["tools"].replace(
            "def double", f"from medrobust.runtime.devices {place}\ndef double"
        )
        assert hashed(small, **runtime | {"tools": text}) == plain
    # Of other modules they count, and so does a call that is no decorator.
    other = "from medrobust.other import in_halves\n\n@in_halves(0)\ndef double"
    text = BASE["tools"].replace("def double", other)
    assert hashed(small, **runtime | {"tools": text, "other": devices}) != plain
    called = BASE["work"].replace("return ", "return in_halves(0) or ")
    text = "from medrobust.runtime.devices import in_halves\n" + called
    assert hashed(small, **runtime | {"work": text}) != plain


def test_fields_of_a_class_count_with_their_types(small):
    text = "class Spec:\n    steps: {}\n\ndef run():\n    return Spec\n"
    assert hashed(small, work=text.format("int")) != hashed(small, work=text.format("float"))


def test_two_functions_that_swap_their_places_are_told_apart(small):
    text = "def a():\n    return 1\n\ndef b():\n    return 2\n\ndef run():\n    return {} - {}\n"
    assert hashed(small, work=text.format("a()", "b()")) != hashed(
        small, work=text.format("b()", "a()")
    )


@settings(max_examples=25, deadline=None)
@given(st.permutations(["a", "b", "c", "run"]))
def test_the_order_of_definitions_does_not_count(order):
    bodies = {"a": "return b(1)", "b": "return c(a)", "c": "return b", "run": "return a() or c(0)"}
    text = "\n\n".join(f"def {name}(x=0):\n    {bodies[name]}" for name in order)
    with pytest.MonkeyPatch.context() as patch:
        found = _hash_of_text(text, patch)
        plain = _hash_of_text(
            "\n\n".join(f"def {name}(x=0):\n    {body}" for name, body in bodies.items()), patch
        )
    assert found == plain


def _hash_of_text(text, patch):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "medrobust"
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "work.py").write_text(text)
        patch.setattr(codehash, "PACKAGE", package)
        codehash.forget()
        found = codehash.code_hash("medrobust.work:run")
    codehash.forget()
    return found


#: Each kind of registered module, and functions that its object is asked for, of which each module
#: has one of its own.
KINDS = {
    "architecture": (ARCHITECTURES, ("member_scores", "initial_parameters", "build")),
    "method": (METHODS, ("train",)),
    "attack": (ATTACKS, ("attack",)),
    "adapter": (ADAPTERS, ("adapt",)),
}


def hashes_of(kind):
    codehash.forget()
    return {name: codehash.code_hash(object_of(kind, name)) for name in KINDS[kind][0]}


@pytest.fixture(scope="module")
def original():
    """The hashes of all objects of the library as it is, by kind and name."""
    return {kind: hashes_of(kind) for kind in KINDS}


def file_of(package, module):
    return package.joinpath(*module.split(".")[1:]).with_suffix(".py")


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, (names, _) in KINDS.items() for name in names]
)
def test_an_edit_of_what_an_object_refers_to_changes_its_hash_and_no_other(
    original, package, kind, name
):
    names, functions = KINDS[kind]
    before = original[kind]
    file = file_of(package, names[name])
    tree = ast.parse(file.read_text())
    own = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    edited = next(own[function] for function in functions if function in own)
    edited.body.insert(1, ast.parse("edited = 1").body[0])
    file.write_text(ast.unparse(tree))
    after = hashes_of(kind)
    assert [other for other in names if after[other] != before[other]] == [name]


@pytest.mark.parametrize(
    ("kind", "name", "old", "new"),
    [
        ("architecture", "cnn1d", "gradient_block=64", "gradient_block=32"),
        ("architecture", "resnet18", "    label_block=4,\n", ""),
        ("architecture", "bnn", "has_gradients=False", "has_gradients=True"),
        ("architecture", "relu_mlp", "    backpropagate=backpropagate,\n", ""),
        ("architecture", "mlp", 'scores="logits"', 'scores="probabilities"'),
        ("method", "scd", "uses_gpu=False", "uses_gpu=True"),
    ],
)
def test_a_field_that_shapes_results_counts(original, package, kind, name, old, new):
    before, text = original[kind], file_of(package, KINDS[kind][0][name]).read_text()
    assert text.count(old) == 1
    file_of(package, KINDS[kind][0][name]).write_text(text.replace(old, new))
    after = hashes_of(kind)
    assert [other for other in after if after[other] != before[other]] == [name]


@pytest.mark.parametrize(
    ("kind", "name", "old", "new"),
    [
        ("architecture", "resnet18", "step_seconds=0.13", "step_seconds=0.14"),
        ("architecture", "resnet50", "    pooled_features=batch_normed.pooled_features,\n", ""),
        ("method", "scd", "return spec.iterations *", "return 2 * spec.iterations *"),
        ("method", "scd", "    passes=passes,\n", ""),
        ("method", "ima", "keeps_margins=True", "keeps_margins=False"),
        ("method", "ima", "    search_can_be_traced=True,\n", ""),
        ("method", "adam_cross_entropy", '"bnn": 1.1e-6', '"bnn": 1.2e-6'),
        ("method", "adam_cross_entropy", 'frozenset({"mlp", "bnn"', 'frozenset({"bnn"'),
        ("attack", "spsa", '"cnn1d": 2.2e-4', '"cnn1d": 2.3e-4'),
    ],
)
def test_what_is_for_the_plan_or_for_drawing_alone_does_not_count(
    original, package, kind, name, old, new
):
    before, text = original[kind], file_of(package, KINDS[kind][0][name]).read_text()
    assert text.count(old) == 1
    file_of(package, KINDS[kind][0][name]).write_text(text.replace(old, new))
    assert hashes_of(kind) == before


def test_residual_maps_alone_depend_on_what_only_they_ask_of_an_architecture(package):
    model = model_of("resnet50", "adam_cross_entropy")
    of = {
        "maps": codes.residual_code,
        "training": codes.training_code,
        "predictions": codes.prediction_code,
        "attack": lambda own: codes.attack_code(own, "pgd"),
    }
    before = {name: code(model) for name, code in of.items()}
    file, known = package / "models/engine/batch_normed.py", set()
    text = file.read_text()
    for old, new in (
        ("return spec.network().stem.pooling", "return spec.network().stem.pooling or None"),
        ("return residual.pooled(stem, relu(maps))", "return residual.pooled(stem, maps)"),
    ):
        assert text.count(old) == 1
        file.write_text(text.replace(old, new))
        codehash.forget()
        after = {name: code(model) for name, code in of.items()}
        assert {name for name in of if after[name] != before[name]} == {"maps"}
        known.add(after["maps"])
    assert len(known) == 2


def test_a_job_depends_on_the_objects_that_it_is_given(package):
    """The walk cannot see what a job chooses by name: whoever asks names the objects too."""
    job = "medrobust.jobs.train:train_members"
    with_ima, with_mma = (codehash.code_hash(job, object_of("method", m)) for m in ("ima", "mma"))
    assert with_ima != with_mma
    assert "medrobust.training.ima" not in codehash.reached(job)
    assert "medrobust.training.ima" in codehash.reached(job, object_of("method", "ima"))


def model_of(architecture, method):
    return Model(label="M", architecture={"name": architecture}, method={"name": method})


def test_each_job_has_the_hash_of_what_it_is_given_by_name():
    ima, mma = model_of("resnet18", "ima"), model_of("resnet18", "mma")
    other = model_of("layer_norm_mlp", "ima")
    assert len({codes.training_code(model) for model in (ima, mma, other)}) == 3
    assert codes.prediction_code(ima) == codes.prediction_code(mma) != codes.prediction_code(other)
    assert codes.attack_code(ima, "pgd") == codes.attack_code(mma, "pgd")
    three = [(ima, "pgd"), (ima, "spsa"), (other, "pgd")]
    assert len({codes.attack_code(model, attack) for model, attack in three}) == 3
    registry = load_registry()
    used = {codes.preparation_code(registry[name]) for name in ("mitbih", "ptbdb", "moons")}
    assert len(used) == 3
    assert codes.preparation_code(registry["mitbih"]) == codes.preparation_code(
        registry["mitbih_ns"]
    )


def test_unknown_entries_are_refused(small):
    small(**BASE)
    with pytest.raises(ModuleNotFoundError):
        codehash.code_hash("medrobust.wrok")
    with pytest.raises(AttributeError, match="rnu"):
        codehash.code_hash("medrobust.work:rnu")


def test_each_neutral_module_exists():
    for name in codehash.NEUTRAL:
        assert codehash._file(name), name


def test_neutral_modules_and_those_left_out_do_not_count(package):
    of = "medrobust.jobs.train:train_members"
    assert not codehash.reached(of) & codehash.NEUTRAL
    seeds = codehash.code_hash(of, without=("medrobust.core.seeds",))
    assert seeds != codehash.code_hash(of)
    (package / "core" / "seeds.py").write_text(
        (package / "core" / "seeds.py").read_text().replace("little", "big")
    )
    codehash.forget()
    assert codehash.code_hash(of, without=("medrobust.core.seeds",)) == seeds


def test_the_closure_of_every_registered_module_holds_itself():
    for module in [*ARCHITECTURES.values(), *METHODS.values(), *ATTACKS.values()]:
        assert module in codehash.reached(module)
    assert "medrobust.core.seeds" in codehash.reached("medrobust.training.sgd_cross_entropy")


def test_attacks_do_not_depend_on_training():
    assert not any("training" in name for name in codehash.reached(*ATTACKS.values()))


def test_hashes_are_kept_until_a_file_differs(small):
    changed = {**BASE, "tools": BASE["tools"].replace("STEP = 2", "STEP = 3")}
    before = hashed(small, **BASE)
    kept = codehash._kept_file()
    assert before in kept.read_text()
    codehash.forget()
    kept.write_text(kept.read_text().replace(before, "0" * 16))
    assert codehash.code_hash("medrobust.work:run") == "0" * 16  # it is read, not found again
    assert hashed(small, **changed) not in (before, "0" * 16)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"state": 1, "hashes": []}', "null"])
def test_a_file_of_hashes_that_is_not_ours_is_no_reason_to_stop(small, text):
    before = hashed(small, **BASE)
    codehash._kept_file().write_text(text)
    codehash.forget()
    assert codehash.code_hash("medrobust.work:run") == before
