"""The real hippocampus files: read, divided and laid out for nnU-Net."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from medrobust.data.fetching.fetch import locate_or_fetch
from medrobust.data.prepared.prepare_volumes import prepare_volumes
from medrobust.data.prepared.volumes import load_volumes
from medrobust.data.registry import load_registry

pytestmark = pytest.mark.real


def test_hippocampus(real_data: Path, tmp_path: Path) -> None:
    if not (real_data / "msd/Task04_Hippocampus").is_dir():
        pytest.skip("MEDROBUST_REAL_DATA has no msd/Task04_Hippocampus")
    entry = load_registry()["msd_hippocampus"]
    manifest = locate_or_fetch(entry, "official", [real_data], tmp_path, allow_subset=True)
    facts = {"class_names": entry.classes, "shape": entry.shape, "official": entry.counts.official}
    arguments = (entry.name, entry.adapter, entry.options, "official", manifest, tmp_path, 1, facts)
    card = prepare_volumes(*arguments, allow_subset=True)
    codes = {finding["code"]: finding for finding in card["audit"]}
    assert not {"volume_grid", "empty_masks", "class_absent", "duplicates"} & codes.keys()
    data = load_volumes(tmp_path)
    for row in (0, len(data.cases) - 1):
        image, mask = data.image(row), data.label(row)
        assert image.shape == (1, *mask.shape) and set(np.unique(mask)) == {0, 1, 2}
        assert abs(image.mean()) < 1e-4 and abs(image.std() - 1) < 1e-3
    if len(data.cases) == 200:
        assert "112 and 1.7043e+06" in codes["intensities"]["text"]
        assert (card["source"], len(data.test_index)) == ("subset", 27)
