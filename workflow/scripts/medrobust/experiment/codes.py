"""Which code each job depends on, as the hash ``code=`` that its rule carries.

What is chosen by name (an architecture, a method, an attack, an adapter) is named here beside the
job, because no walk through the code can see it: the object that its module ends with, and so what
the object refers to.
"""

from __future__ import annotations

from medrobust.core.io import sha256_of_json
from medrobust.core.registry import object_of
from medrobust.data.registry import DatasetEntry
from medrobust.experiment.codehash import code_hash
from medrobust.experiment.config import Model
from medrobust.models.contract import architecture_of


def training_code(model: Model) -> str:
    """Returns the hash of the code that training a model depends on."""
    return code_hash(
        "medrobust.jobs.train:train_members",
        object_of("architecture", model.architecture["name"]),
        object_of("method", model.method["name"]),
    )


def prediction_code(model: Model) -> str:
    """Returns the hash of the code that a trained model's predictions depend on."""
    return code_hash(
        "medrobust.jobs.evaluate:evaluate_clean",
        object_of("architecture", model.architecture["name"]),
    )


def attack_code(model: Model, attack: str) -> str:
    """Returns the hash of the code that attacking a model depends on."""
    return code_hash(
        "medrobust.jobs.attack:attack_chunk",
        object_of("attack", attack),
        object_of("architecture", model.architecture["name"]),
    )


def slicing_code() -> str:
    """Returns the hash of the code that slices of volumes depend on."""
    return code_hash("medrobust.jobs.segmentation:slice_volumes")


def pixel_training_code(model: Model) -> str:
    """Returns the hash of the code that training a network of pixels depends on."""
    return code_hash(
        "medrobust.jobs.segmentation:train_pixels",
        object_of("architecture", model.architecture["name"]),
        object_of("method", model.method["name"]),
    )


def pixel_attack_code(model: Model, attack: str) -> str:
    """Returns the hash of the code that attacking a network of pixels depends on."""
    return code_hash(
        "medrobust.jobs.segmentation:attack_pixels",
        object_of("attack", attack),
        object_of("architecture", model.architecture["name"]),
    )


def plane_code(model: Model, job: str) -> str:
    """Returns the hash of the code that a job on the plane depends on, a map or a trace."""
    return code_hash(
        f"medrobust.jobs.plane:{job}",
        object_of("architecture", model.architecture["name"]),
        object_of("method", model.method["name"]),
    )


def residual_code(model: Model) -> str:
    """Returns the hash of the code that residual maps of a model depend on.

    The functions that only these maps ask of an architecture are left out of the hash of its
    object, and named here.
    """
    architecture = architecture_of(model.architecture["name"])
    of_maps = (architecture.first_pooling, architecture.pooled_features)
    return code_hash(
        "medrobust.jobs.residuals:map_residuals",
        object_of("architecture", model.architecture["name"]),
        *(f"{function.__module__}:{function.__name__}" for function in of_maps),
    )


#: What writes the data sets of each form.
PREPARED_BY = {
    "arrays": "medrobust.data.prepared.prepare:prepare",
    "volumes": "medrobust.data.prepared.prepare_volumes:prepare_volumes",
}


#: How a card reads and looks changes no array.
SHOWN_OF_DATA = ("cards", "previews", "volume_previews", "audit", "volume_audit", "raw_files")


def preparation_code(entry: DatasetEntry) -> str:
    """Returns the hash of the code that preparing a data set depends on."""
    # How files were fetched changes none either.
    without = [
        *(f"medrobust.data.prepared.{name}" for name in SHOWN_OF_DATA),
        "medrobust.data.fetching.fetch",
    ]
    return code_hash(PREPARED_BY[entry.form], object_of("adapter", entry.adapter), without=without)


def dataset_definition(entry: DatasetEntry) -> str:
    """Returns the hash of what defines a data set's arrays in the registry."""
    fields = {"adapter", "options", "classes", "shape", "input_range", "counts"}
    return sha256_of_json(entry.model_dump(mode="json", include=fields))[:16]
