"""Code blocks of the documentation, for tests that run them."""

from __future__ import annotations

import re
from pathlib import Path

EXTENDING = "docs/extending.md"


def blocks(root: Path, page: str = EXTENDING) -> list[tuple[str, str, str]]:
    """Returns (text before, language, content) of every code block of a page."""
    text = (root / page).read_text(encoding="utf-8")
    parts = re.split(r"^```(\w+)\n(.*?)^```$", text, flags=re.M | re.S)
    return list(zip(parts[0::3], parts[1::3], parts[2::3], strict=False))


def block_of(root: Path, name: str, language: str, page: str = EXTENDING) -> str:
    """Returns the block that the last paragraph before it introduces by ``name``."""
    found = [
        content
        for before, kind, content in blocks(root, page)
        if kind == language and name in before.strip().rsplit("\n\n", 1)[-1]
    ]
    assert len(found) == 1, f"{page} has {len(found)} {language} blocks of {name}"
    return found[0]
