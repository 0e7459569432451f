"""What tests of segmentation share."""

from __future__ import annotations

import importlib.util

import pytest

needs_nnunet = pytest.mark.skipif(
    importlib.util.find_spec("nnunetv2") is None, reason="nnunetv2 is not installed"
)
