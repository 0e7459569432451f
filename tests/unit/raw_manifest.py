"""What ``fetch`` records of files, for tests that prepare without fetching."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medrobust.core.io import sha256_of_file


def manifest_of(files: Mapping[str, Path]) -> dict[str, Any]:
    """Returns the manifest of raw files by name, with their true sizes and SHA-256."""
    return {
        "files": [
            {
                "name": name,
                "path": str(path),
                "bytes": path.stat().st_size,
                "sha256": sha256_of_file(path),
            }
            for name, path in files.items()
        ]
    }
