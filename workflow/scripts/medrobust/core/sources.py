"""Labels of where data came from, as they stand in paths and captions."""

from __future__ import annotations

#: Where data came from, and how a caption says it.
SOURCES = {
    "kaggle": "Kaggle release",
    "physionet": "PhysioNet records",
    "official": "official release",
    "generated": "generated as in the paper",
    "subset": "SUBSET of the release",
    "standin": "SYNTHETIC stand-in",
}
