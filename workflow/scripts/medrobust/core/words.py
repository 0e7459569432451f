"""Numbers in sentences."""

from __future__ import annotations

import re

_COUNTED = (
    "annotations|cases|columns|features|files|folds|groups|heartbeats|images|masks|pairs|patients|"
    "pictures|points|records|rows|scans|slides|tiles|values|volumes"
)
_ONE_OF_MANY = re.compile(rf"(?<![\d.,])1 ({_COUNTED})\b")


def counted(number: int, one: str, many: str) -> str:
    """Returns a number with what it counts: ``1 row``, ``2,000 rows``."""
    return f"{number:,} {one if number == 1 else many}"


def in_singular(text: str) -> str:
    """Returns a text that counts in the plural, with the singular after every 1."""
    return _ONE_OF_MANY.sub(lambda match: f"1 {match[1].removesuffix('s')}", text)
