"""What exists: architectures, training methods, attacks and adapters, each one module.

An entry names the module that holds everything about it. The module (but an adapter's) exposes
``Spec``, its settings class, and imports torch, ART and the like only inside functions, so that
reading the configuration stays cheap. docs/extending.md shows how to add one.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from medrobust.core.schema import Settings, checked, unknown_name

ARCHITECTURES: dict[str, str] = {
    "mlp": "medrobust.models.mlp",
    "bnn": "medrobust.models.binary_mlp",
    "cnn1d": "medrobust.models.cnn1d",
    "forest": "medrobust.models.forest",
    "relu_mlp": "medrobust.models.relu_mlp",
    "kachuee_cnn": "medrobust.models.kachuee_cnn",
    "layer_norm_mlp": "medrobust.models.layer_norm_mlp",
    "instance_norm_cnn": "medrobust.models.instance_norm_cnn",
    "resnet18": "medrobust.models.resnet18",
    "sign_network": "medrobust.models.sign_network",
}

METHODS: dict[str, str] = {
    "sgd_cross_entropy": "medrobust.training.sgd_cross_entropy",
    "adam_cross_entropy": "medrobust.training.adam_cross_entropy",
    "bagged_trees": "medrobust.training.bagged_trees",
    "scd": "medrobust.training.scd",
    "composed_loss": "medrobust.training.composed_loss",
    "adversarial_training": "medrobust.training.adversarial_training",
    "trades": "medrobust.training.trades",
    "mma": "medrobust.training.mma",
    "ima": "medrobust.training.ima",
    "ddn_training": "medrobust.training.ddn_training",
}

#: Methods that hand back a margin of each training point.
MARGINS = frozenset({"ima", "mma"})

ATTACKS: dict[str, str] = {
    "hopskipjump": "medrobust.attacks.hopskipjump",
    "pgd": "medrobust.attacks.pgd",
    "spsa": "medrobust.attacks.spsa",
    "uniform_noise": "medrobust.attacks.uniform_noise",
}

#: Readers of raw data, by the name that config/datasets.yaml uses.
ADAPTERS: dict[str, str] = {
    "breast_ultrasound": "medrobust.data.sets.breast_ultrasound",
    "chest_xray": "medrobust.data.sets.chest_xray",
    "covid_ct": "medrobust.data.sets.covid_ct",
    "kather": "medrobust.data.sets.kather",
    "fashion_mnist": "medrobust.data.sets.fashion_mnist",
    "mitbih": "medrobust.data.sets.mitbih",
    "moons": "medrobust.data.sets.moons",
    "msd": "medrobust.data.sets.msd",
    "ptbdb": "medrobust.data.sets.ptbdb",
    "svhn": "medrobust.data.sets.svhn",
}

_KINDS: dict[str, dict[str, str]] = {
    "architecture": ARCHITECTURES,
    "method": METHODS,
    "attack": ATTACKS,
    "adapter": ADAPTERS,
}


def module_of(kind: str, name: str, *, where: str = "medrobust/core/registry.py") -> ModuleType:
    """Imports and returns the module of an architecture, method, attack or adapter.

    Args:
        kind: "architecture", "method", "attack" or "adapter".
        name: a registered name.
        where: where the name stands, for the message.

    Raises:
        InputError: there is no such name.
    """
    names = _KINDS[kind]
    if name not in names:
        raise unknown_name(kind, name, names, where=where)
    return importlib.import_module(names[name])


def parse_spec(kind: str, values: Mapping[str, Any], *, file: str, prefix: str) -> Settings:
    """Returns the settings of an architecture, method or attack, chosen by ``values["name"]``.

    Raises:
        InputError: the name is missing or unknown, or an option is wrong.
    """
    names = _KINDS[kind]
    name = values.get("name")
    if name not in names:
        raise unknown_name(kind, name, names, where=f"{file}, key {prefix}.name")
    spec: type[Settings] = module_of(kind, str(name)).Spec
    options = {key: value for key, value in values.items() if key != "name"}
    return checked(spec, options, file=file, prefix=prefix)
