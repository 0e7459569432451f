"""Chunks of an attack joined: the same bytes however points were divided into them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from medrobust.attacks import pgd, run_attack
from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.evaluation.records import records_from_result, save_chunk
from medrobust.jobs.attack import gather_records

from tests.gradient_models import LinearLogits

X = np.random.default_rng(4).random((6, 5)).astype(np.float32)
IDS = np.array([40, 7, 19, 3, 88, 21])
MODEL, SPEC = LinearLogits(5), pgd.Spec(epsilon=0.3, num_steps=2, clip_min=0.0, clip_max=1.0)


def gathered(folder, *parts) -> bytes:
    """Returns the joined arrays of chunks with these rows of X, in the cohort's order."""
    folder.mkdir()
    chunks, arrays, timings = (
        [str(folder / f"{k}.{end}") for k in range(len(parts))]
        for end in ("parquet", "safetensors", "json")
    )
    for k, part in enumerate(parts):
        x, y, ids = X[part], MODEL.predict(X[part]), IDS[part]
        result = run_attack("pgd", MODEL, x, y, SPEC, ids[:, None])
        records = records_from_result(MODEL, x, y, ids, result, SPEC, (0, 1))
        save_chunk(chunks[k], arrays[k], records=records, x=x, point_ids=ids, result=result)
        io.write_json(timings[k], {"device": "cpu", "hardware": "h", "versions": {}})
    gather_records(
        chunks=chunks, arrays=arrays, timings=timings, records=str(folder / "r.parquet"),
        joined_arrays=str(folder / "a.safetensors"), made_with=str(folder / "m.json"),
    )  # fmt: skip
    return (folder / "r.parquet").read_bytes() + (folder / "a.safetensors").read_bytes()


@pytest.mark.parametrize("parts", [([0, 1, 2], [3, 4, 5]), ([0], [1, 2, 3, 4], [5])])
def test_bytes_do_not_tell_the_chunks(tmp_path, parts):
    whole = gathered(tmp_path / "whole", [0, 1, 2, 3, 4, 5])
    assert gathered(tmp_path / "parts", *parts) == whole
    arrays = io.read_tensors(tmp_path / "parts" / "a.safetensors")
    assert arrays["point_id"].tolist() == sorted(IDS)
    np.testing.assert_array_equal(arrays["x"], X[np.argsort(IDS)])


@pytest.mark.parametrize("end", ["safetensors", "json"])
def test_a_lost_file_beside_the_records_is_told_with_what_to_do(tmp_path, end):
    """Snakemake sees the records alone."""
    gathered(tmp_path / "whole", [0, 1, 2], [3, 4, 5])
    files = {
        name: [str(tmp_path / "whole" / f"{k}.{suffix}") for k in range(2)]
        for name, suffix in (("chunks", "parquet"), ("arrays", "safetensors"), ("timings", "json"))
    }
    lost = tmp_path / "whole" / f"1.{end}"
    lost.unlink()
    out = {name: str(tmp_path / name) for name in ("records", "joined_arrays", "made_with")}
    with pytest.raises(InputError, match="lost") as error:
        gather_records(**files, **out)
    assert str(lost) in str(error.value)
    assert f"delete {tmp_path / 'whole' / '1.parquet'} too" in str(error.value)
    assert not any(path.exists() for path in map(Path, out.values()))
