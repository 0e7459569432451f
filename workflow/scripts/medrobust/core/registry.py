"""What exists: architectures, training methods, attacks and adapters, each one module.

A name stands for the module that holds everything about it. The module ends with one object
(:mod:`medrobust.core.contract`), called ``ARCHITECTURE``, ``METHOD``, ``ATTACK`` or ``ADAPTER``,
and imports torch, ART and the like only inside functions, so that reading the configuration stays
cheap. docs/extending.md shows how to add one.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any, TypeVar

from medrobust.core.contract import Contract
from medrobust.core.errors import InputError
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
    "batch_norm_resnet18": "medrobust.models.batch_norm_resnet18",
    "resnet50": "medrobust.models.resnet50",
    "lenet": "medrobust.models.lenet",
    "sign_network": "medrobust.models.sign_network",
    "nnunet": "medrobust.models.nnunet",
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
    "multi_instance": "medrobust.training.multi_instance",
    "gradient_regularization": "medrobust.training.gradient_regularization",
    "local_linearity": "medrobust.training.local_linearity",
    "simclr": "medrobust.training.simclr",
    "segmentation": "medrobust.training.segmentation",
    "segmentation_adversarial": "medrobust.training.segmentation_adversarial",
    "segmentation_ima": "medrobust.training.segmentation_ima",
}

ATTACKS: dict[str, str] = {
    "hopskipjump": "medrobust.attacks.hopskipjump",
    "pgd": "medrobust.attacks.pgd",
    "spsa": "medrobust.attacks.spsa",
    "uniform_noise": "medrobust.attacks.uniform_noise",
    "pixel_pgd": "medrobust.attacks.pixel_pgd",
}

#: Readers of raw data, by the name that config/datasets.yaml uses.
ADAPTERS: dict[str, str] = {
    "breast_ultrasound": "medrobust.data.sets.breast_ultrasound",
    "chest_xray": "medrobust.data.sets.chest_xray",
    "covid_ct": "medrobust.data.sets.covid_ct",
    "csv_table": "medrobust.data.sets.csv_table",
    "kather": "medrobust.data.sets.kather",
    "fashion_mnist": "medrobust.data.sets.fashion_mnist",
    "image_folders": "medrobust.data.sets.image_folders",
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

HERE = "medrobust/core/registry.py"

AnyContract = TypeVar("AnyContract", bound=Contract)


def entry_of(
    kind: str, name: str, contract: type[AnyContract] = Contract, *, where: str = HERE
) -> AnyContract:
    """Returns the object that a registered module ends with.

    Args:
        kind: "architecture", "method", "attack" or "adapter".
        name: a registered name.
        contract: the class that the object must be of.
        where: where the name stands, for the message.

    Raises:
        InputError: there is no such name, or its module has no such object.
    """
    found = vars(module_of(kind, name, where=where)).get(kind.upper())
    if not isinstance(found, contract):
        wanted = contract.__name__ if contract is not Contract else kind.capitalize()
        there = "" if found is None else f", but {kind.upper()} is {found!r}"
        raise InputError(
            f"The module of the {kind} {name!r} must end with an object of the class {wanted}"
            f"{there}.",
            where=_KINDS[kind][name],
            remedy=f"end the module with `{kind.upper()} = {wanted}(...)`: docs/extending.md.",
        )
    return found


def object_of(kind: str, name: str) -> str:
    """Returns where the object of a registered module stands: ``module:NAME``.

    Raises:
        KeyError: there is no such name.
    """
    return f"{_KINDS[kind][name]}:{kind.upper()}"


def module_of(kind: str, name: str, *, where: str = HERE) -> ModuleType:
    """Imports and returns the module of an architecture, method, attack or adapter.

    Args:
        kind: "architecture", "method", "attack" or "adapter".
        name: a registered name.
        where: where the name stands, for the message.

    Raises:
        InputError: there is no such name, or what its module states does not fit together.
    """
    names = _KINDS[kind]
    if name not in names:
        raise unknown_name(kind, name, names, where=where)
    try:
        return importlib.import_module(names[name])
    except InputError as error:
        place = error.where or names[name]
        raise InputError(error.what, where=place, remedy=error.remedy) from None


def parse_spec(kind: str, values: Mapping[str, Any], *, file: str, prefix: str) -> Settings:
    """Returns the settings of an architecture, method or attack, chosen by ``values["name"]``.

    Raises:
        InputError: the name is missing or unknown, or an option is wrong.
    """
    names = _KINDS[kind]
    name = values.get("name")
    if name not in names:
        raise unknown_name(kind, name, names, where=f"{file}, key {prefix}.name")
    options = {key: value for key, value in values.items() if key != "name"}
    return checked(entry_of(kind, str(name)).spec, options, file=file, prefix=prefix)
