"""Plans and prepares volumes by nnU-Net (Isensee et al. 2021), for its 2-D network.

``nnunetv2`` 2.8.1 looks at all cases of a data set (their spacing, size and range), plans patches,
batches and the network, and brings each case to one spacing and range. What it makes is written as
:mod:`medrobust.data.prepared.slices` describes. Its own files would be pickles beside arrays;
none are written here, since ``run_case`` hands a prepared case over.

What of it was seen to matter (nnunetv2 2.8.1, its source):

* folders come from the environment, and are looked up when they are used;
* the number of threads that the planner sets comes from ``nnUNet_n_proc_DA``, which 0 breaks
  (``static_estimate_VRAM_usage``);
* the fingerprint starts processes by ``spawn``, which would run a job's script anew in each; here
  they are threads of this one.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np

from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.core.logs import Progress
from medrobust.data.prepared.slices import FOLDER, PLANS, SLICES
from medrobust.data.prepared.volumes import VolumeDataset, image_name, label_name, load_volumes
from medrobust.models.nnunet import CONFIGURATION

#: What plans, augments, builds and evaluates beside the packages of every job.
PACKAGES = ("batchgeneratorsv2", "dynamic-network-architectures", "monai", "nnunetv2")
#: Findings of the audit that nnU-Net would stumble over, or read in its own way.
REFUSED = ("volume_grid", "volume_voxel_size", "volume_position")


def plan_slices(data: str | Path, threads: int = 1) -> None:
    """Plans and prepares a data set, and writes the folder :data:`FOLDER` in it.

    Args:
        data: folder of a prepared set of volumes.
        threads: cases that are looked at side by side.

    Raises:
        InputError: nnU-Net is not installed, or headers contradict themselves.
    """
    require_nnunet()
    volumes = load_volumes(data)
    refuse_contradictions(volumes)
    folder = Path(data) / FOLDER
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="nnunet_") as scratch, _told_folders(volumes, scratch):
        plans = _planned(volumes, threads)
        tensors = _prepared(volumes, plans)
    io.write_json(folder / PLANS, plans)
    io.write_tensors(folder / SLICES, tensors)


def require_nnunet() -> None:
    """Raises an InputError where nnU-Net is not installed."""
    import importlib.util

    if importlib.util.find_spec("nnunetv2") is None:
        raise InputError(
            "Segmentation needs nnU-Net, which is not installed here.",
            where="package nnunetv2",
            remedy="`pip install -r requirements-segmentation.txt`, or run Snakemake with "
            "`--use-conda` (docs/segmentation.md).",
        )


def refuse_contradictions(volumes: VolumeDataset) -> None:
    """Raises an InputError where a header says two things of a volume, or mask and image differ.

    nnU-Net would go by one of them without a word.
    """
    found = [one for one in volumes.card.get("audit", []) if one.get("code") in REFUSED]
    if found:
        raise InputError(
            f"Headers of {volumes.card['name']} contradict themselves: {found[0]['text']}",
            where=str(volumes.folder / "card.json"),
            remedy="correct the files, or leave these cases out, and prepare the data set again.",
        )


@contextlib.contextmanager
def _told_folders(volumes: VolumeDataset, scratch: str) -> Iterator[None]:
    told = {
        "nnUNet_raw": str(volumes.raw.parent.resolve()),
        "nnUNet_preprocessed": f"{scratch}/preprocessed",
        "nnUNet_results": f"{scratch}/results",
        "nnUNet_n_proc_DA": "1",
    }
    for name in ("nnUNet_preprocessed", "nnUNet_results"):
        Path(told[name]).mkdir()
    with mock.patch.dict(os.environ, told):
        yield


def _planned(volumes: VolumeDataset, threads: int) -> dict[str, Any]:
    """Returns what nnU-Net plans for a data set, all configurations."""
    from nnunetv2.experiment_planning.dataset_fingerprint import fingerprint_extractor
    from nnunetv2.experiment_planning.plan_and_preprocess_api import (
        extract_fingerprint_dataset,
        plan_experiment_dataset,
    )

    number = int(volumes.raw.name.removeprefix("Dataset").split("_")[0])
    in_threads = SimpleNamespace(get_context=lambda _: SimpleNamespace(Pool=ThreadPool))
    with mock.patch.object(fingerprint_extractor, "multiprocessing", in_threads):
        extract_fingerprint_dataset(
            number, num_processes=threads, verbose=False, show_progress_bar=False
        )
    plans, _ = plan_experiment_dataset(number)
    return _plain(plans)


def _prepared(volumes: VolumeDataset, plans: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Returns the arrays of all cases by their names in the file of slices."""
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    manager = PlansManager(dict(plans))
    configuration = manager.get_configuration(CONFIGURATION)
    preprocessor = configuration.preprocessor_class(verbose=False)
    channels = range(len(volumes.card["channels"]))
    told = io.read_json(volumes.raw / "dataset.json")
    progress = Progress("preparing slices", len(volumes.cases), unit="cases")
    tensors: dict[str, np.ndarray] = {}
    for done, case in enumerate(volumes.cases, start=1):
        image, mask, _ = preprocessor.run_case(
            [str(volumes.raw / "imagesTr" / image_name(case, channel)) for channel in channels],
            str(volumes.raw / "labelsTr" / label_name(case)),
            manager,
            configuration,
            told,
        )
        tensors[f"image/{case}"] = np.ascontiguousarray(image, dtype=np.float32)
        tensors[f"mask/{case}"] = np.ascontiguousarray(mask[0], dtype=np.int8)
        progress.update(done, case)
    return tensors


def _plain(value: Any) -> Any:
    """Returns plans as plain values: nnU-Net leaves NumPy's among them."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return value.item()
    return value
