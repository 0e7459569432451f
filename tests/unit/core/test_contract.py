"""What a registered module must state, and what is refused: typing errors above all."""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import os
import subprocess
import sys
from pathlib import Path

import medrobust
import pytest
from medrobust.attacks.contract import Attack, attack_of
from medrobust.core.errors import InputError
from medrobust.core.registry import (
    ADAPTERS,
    ARCHITECTURES,
    ATTACKS,
    METHODS,
    entry_of,
    module_of,
    parse_spec,
)
from medrobust.core.schema import Settings
from medrobust.data.contract import Adapter, adapter_of
from medrobust.models import forest, mlp, relu_mlp, resnet50
from medrobust.models.contract import Architecture, architecture_of
from medrobust.training import ima
from medrobust.training.contract import Method, method_of

EVERYTHING = [
    (kind, name)
    for kind, names in (
        ("architecture", ARCHITECTURES),
        ("method", METHODS),
        ("attack", ATTACKS),
        ("adapter", ADAPTERS),
    )
    for name in names
]
CLASSES = {"architecture": Architecture, "method": Method, "attack": Attack, "adapter": Adapter}


@pytest.mark.parametrize(("kind", "name"), EVERYTHING)
def test_every_registered_module_ends_with_its_object(kind, name):
    entry = entry_of(kind, name, CLASSES[kind])
    last = list(vars(module_of(kind, name)))[-1]
    assert last == kind.upper() and issubclass(entry.spec, Settings)
    with pytest.raises(dataclasses.FrozenInstanceError):
        entry.spec = Settings


def test_reading_what_modules_state_is_cheap():
    program = (
        "import sys\nfrom medrobust.core.registry import entry_of\n"
        f"for kind, name in {EVERYTHING}:\n    entry_of(kind, name)\n"
        "print(sorted({'art', 'torch', 'pandas', 'sklearn', 'scipy', 'numba'} & set(sys.modules)))"
    )
    library = Path(medrobust.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(library)},
    )  # fmt: skip
    assert done.stdout.strip() == "[]"


_NUMBERS = itertools.count()  # Python imports a module of one name once


@pytest.fixture
def third_party(tmp_path, monkeypatch):
    """Returns a function that registers a module of this text under the name "own"."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def register(kind: str, text: str) -> None:
        module = f"own_{kind}_{next(_NUMBERS)}"
        (tmp_path / f"{module}.py").write_text(text)
        names = {"architecture": ARCHITECTURES, "method": METHODS, "attack": ATTACKS}[kind]
        monkeypatch.setitem(names, "own", module)
        importlib.invalidate_caches()

    return register


HEAD = """
from medrobust.core.schema import Settings
from medrobust.models.contract import Architecture

class Spec(Settings):
    \"\"\"Settings.\"\"\"

def function(*arguments):
    return arguments

"""


@pytest.mark.parametrize("field", ["label_blcok=4", "LABEL_BLOCK=4", "members_appart=True"])
def test_a_misspelt_field_is_refused_at_import(third_party, field):
    third_party(
        "architecture",
        HEAD + "ARCHITECTURE = Architecture(spec=Spec, scores='votes', uses_gpu=False, "
        f"concatenate=function, member_scores=function, {field})\n",
    )
    with pytest.raises(TypeError, match=field.split("=")[0]):
        architecture_of("own")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HEAD, "must end with an object of the class Architecture."),
        (HEAD + "ARCHITECTURE = 3\n", "but ARCHITECTURE is 3"),
        (HEAD + "ARCHITETCURE = Architecture\n", "must end with an object"),
    ],
)
def test_a_module_without_its_object_is_refused(third_party, text, said):
    third_party("architecture", text)
    for ask in (
        lambda: architecture_of("own"),
        lambda: parse_spec("architecture", {"name": "own"}, file="f", prefix="p"),
    ):
        with pytest.raises(InputError) as caught:
            ask()
        assert said.split(",")[0] in str(caught.value) and "ARCHITECTURE = " in str(caught.value)
        assert "own_architecture_" in caught.value.where


def test_an_object_of_another_kind_is_refused(third_party):
    third_party("method", "from medrobust.models.mlp import ARCHITECTURE as METHOD\n")
    with pytest.raises(InputError, match="class Method, but METHOD is Architecture"):
        method_of("own")


def test_fields_that_do_not_fit_name_the_module(third_party):
    third_party(
        "architecture",
        HEAD + "ARCHITECTURE = Architecture(spec=Spec, scores='votes', uses_gpu=False, "
        "concatenate=function, member_scores=function, forward=function)\n",
    )
    with pytest.raises(InputError, match="come together") as caught:
        architecture_of("own")
    assert "own_architecture_" in caught.value.where and "extending.md" in caught.value.remedy


@pytest.mark.parametrize(
    ("of", "changes", "said"),
    [
        (mlp.ARCHITECTURE, {"spec": dict}, "spec must be a class of settings"),
        (mlp.ARCHITECTURE, {"scores": "logit"}, "scores must be one of"),
        (mlp.ARCHITECTURE, {"member_scores": None}, "member_scores must be a function"),
        (mlp.ARCHITECTURE, {"after_step": 3}, "after_step must be a function"),
        (mlp.ARCHITECTURE, {"forward": None, "momentum_epoch": None}, "come together"),
        (mlp.ARCHITECTURE, {"initial_parameters": None}, "without initial_parameters, forward"),
        (relu_mlp.ARCHITECTURE, {"pull_back": None}, "without pull_back"),
        (
            relu_mlp.ARCHITECTURE,
            {"logits": None, "logits_and_pattern": None, "pull_back": None},
            "backpropagate needs logits",
        ),
        (resnet50.ARCHITECTURE, {"training_logits": None}, "need training_logits"),
        (resnet50.ARCHITECTURE, {"untrained": frozenset()}, "training_logits needs untrained"),
        (resnet50.ARCHITECTURE, {"training_logits": 3}, "training_logits must be a function"),
        (forest.ARCHITECTURE, {"training_logits": print}, "training_logits needs logits"),
        (resnet50.ARCHITECTURE, {"first_pooling": None}, "without first_pooling"),
        (mlp.ARCHITECTURE, {"first_pooling": print}, "without pooled_features"),
        (resnet50.ARCHITECTURE, {"pooled_features": 3}, "pooled_features must be a function"),
        (forest.ARCHITECTURE, {"after_step": print}, "after_step needs forward"),
        (forest.ARCHITECTURE, {"untrained": frozenset({"w"})}, "untrained needs forward"),
        (forest.ARCHITECTURE, {"members_apart": True}, "members_apart needs forward"),
        (forest.ARCHITECTURE, {"gradient_block": 4}, "gradient_block needs forward"),
        (forest.ARCHITECTURE, {"has_gradients": False}, "needs a forward that has none"),
        (mlp.ARCHITECTURE, {"label_block": 0}, "label_block must be at least 1"),
        (mlp.ARCHITECTURE, {"step_seconds": 0.0}, "seconds must be above 0"),
        (resnet50.ARCHITECTURE, {"step_seconds": None}, "adds to step_seconds"),
        (resnet50.ARCHITECTURE, {"step_value_seconds": -1.0}, "seconds must be above 0"),
        (ima.METHOD, {"architectures": frozenset()}, "must name what it can train"),
        (ima.METHOD, {"architectures": frozenset({"resnet19"})}, "Did you mean 'resnet18'"),
        (ima.METHOD, {"train": None}, "train must be a function"),
        (ima.METHOD, {"passes": 3}, "passes must be a function"),
        (ima.METHOD, {"keeps_margins": False}, "needs keeps_margins"),
        (ima.METHOD, {"unit_seconds": {"mlp": 1.0}}, "must be of its architectures"),
        (ima.METHOD, {"unit_seconds": {"resnet18": -1.0}}, "seconds must be above 0"),
        (attack_of("pgd"), {"attack": "pgd"}, "attack must be a function"),
        (attack_of("pgd"), {"spec": mlp.Spec}, "its settings must have clip_min"),
        (attack_of("pgd"), {"unit_seconds": {"resnet": 1.0}}, "Did you mean 'resnet18'"),
        (adapter_of("moons", "arrays"), {"form": "volume"}, "form must be one of"),
        (adapter_of("moons", "arrays"), {"adapt": None}, "adapt must be a function"),
    ],
)
def test_fields_that_do_not_fit_together_are_refused(of, changes, said):
    with pytest.raises(InputError) as caught:
        dataclasses.replace(of, **changes)
    assert said in str(caught.value)


def test_an_attack_whose_settings_foresee_no_queries_is_refused():
    class Spec(Settings):
        clip_min: float | None = None
        clip_max: float | None = None

    with pytest.raises(InputError, match="expected_queries"):
        Attack(spec=Spec, attack=print)


def test_an_adapter_of_another_form_is_refused():
    with pytest.raises(InputError, match="makes volumes, but the data set is said to be arrays"):
        adapter_of("msd", "arrays")
    with pytest.raises(InputError, match="makes arrays"):
        adapter_of("moons", "volumes")
    with pytest.raises(InputError, match="Did you mean 'moons'"):
        adapter_of("mons", "arrays")
