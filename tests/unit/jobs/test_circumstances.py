"""What jobs read from the configuration because it changes no result of theirs on a CPU."""

from __future__ import annotations

import pytest
from medrobust.jobs import arguments_of, circumstances_of


@pytest.mark.parametrize(
    ("settings", "device"),
    [
        ({}, "auto"),
        ({"device": "cuda"}, "cuda"),
        ({"device": None, "allow_tf32": False}, "auto"),
        ({"device": "cuda", "allow_tf32": True}, "cuda+tf32"),
        ({"allow_tf32": "true"}, "auto+tf32"),  # as Snakemake hands it over
        ({"device": "cpu", "allow_tf32": "True"}, "cpu"),
    ],
)
def test_a_device_says_whether_tf32_is_allowed(settings, device):
    def job(*, device: str) -> None: ...

    assert arguments_of(job, {}, circumstances_of(settings)) == {"device": device}
