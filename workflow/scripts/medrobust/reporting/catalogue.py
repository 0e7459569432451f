"""What a study can draw: the contract between a study's catalogue and the experiment graph.

A study with tables or figures of its own has ``medrobust/studies/<study>/catalogue.py`` with a
:class:`StudyParts` named ``PARTS``. The configuration checks names against it, the experiment graph
places the files, and one generic rule per artefact (workflow/rules/artefacts.smk) draws them. A
catalogue imports nothing heavy: what draws is named and imported when it is asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Need = Literal[
    "summary",
    "predictions",
    "records",
    "arrays",
    "tallies",
    "probabilities",
    "attack_records",
    "attack_arrays",
    "kept_records",
    "residuals",
    "margins",
    "plane",
    "search",
    "pixel_records",
    "pixel_arrays",
]

PointKind = Literal["signals", "images"]


def point_kind(shape: Sequence[int]) -> PointKind:
    """Returns what points of a shape are: signals ``(d,)``, or images ``(channels, h, w)``."""
    return "images" if len(shape) > 1 else "signals"


@dataclass(frozen=True)
class Artefact:
    """A table, figure or list.

    Attributes:
        label: its name in print or in the report, such as "Table III".
        what: what it shows, in a few words.
        draw: the function that draws it, ``module:function``, imported when it is drawn: it takes a
            :class:`medrobust.reporting.request.Request` and ``settings``, and writes the files.
        kind: folder and file types it gets; "claims" are neither table nor figure.
        needs: the results it is drawn from, fields of :class:`medrobust.reporting.request.Entry`.
        caption: file name of its caption in workflow/report, without suffix.
        attacks: the attacks whose results it shows, by their names in the study; empty: all.
        architectures: registered names of the architectures whose models it shows; empty: all.
        datasets: registered names of the data sets that it shows; empty: all.
        points: the kind of points that it shows, "signals" of one axis or "images" of three; empty:
            all.
        classes: the number of classes of the data sets that it shows; 0: any.
        models: names of the models that it shows, as in print; empty: all.
        first_cell: it shows the first of these data sets and replicates only, and gets the cohort's
            file.
        alias: a short name to ask for, such as ``signnet_fig2``; empty for none.
        settings: further arguments of ``draw``.
    """

    label: str
    what: str
    draw: str
    kind: Literal["table", "figure", "claims"]
    needs: tuple[Need, ...]
    caption: str = ""
    attacks: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    points: PointKind | Literal[""] = ""
    classes: int = 0
    models: tuple[str, ...] = ()
    first_cell: bool = False
    alias: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def caption_file(self) -> str:
        """The caption's file name without suffix."""
        return self.caption or self.kind


@dataclass(frozen=True)
class StudyParts:
    """What only one paper has.

    Attributes:
        artefacts: by name, in the order of the paper.
        remark: the function (``module:function``) of a data set as printed and its source that
            returns what the comparison tells of data that are not the paper's; empty for none. See
            :data:`medrobust.reporting.comparison.Remark`.
        printed_averages: the function that writes which averages of the paper do not follow from
            the terms printed beside them; empty where it prints none.
        published_study: the study under which its numbers stand in the published file, of which
            its tables then have a part; empty: its own name, and all.
        front: name of the figure that a report shows first; empty: any.
    """

    artefacts: Mapping[str, Artefact]
    remark: str = ""
    printed_averages: str = ""
    published_study: str = ""
    front: str = ""


def function_of(place: str) -> Any:
    """Returns the function at ``module:function``; only now is the module imported."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)
