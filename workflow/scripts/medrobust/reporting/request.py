"""What is handed to the function that draws a table or figure: the results, and the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medrobust.reporting.artefacts import RunContext


@dataclass(frozen=True)
class Entry:
    """Results of one model on one data set.

    Attributes:
        dataset: name of the data set as in the published numbers, or its registered name.
        model: name of the model as in the published numbers, or its label.
        source: where the data came from.
        replicate: number of the replicate.
        fold: number of the fold of the data set; each has a test set of its own.
        summary: ``clean.json``.
        predictions: ``clean.parquet``.
        records: files of attack records.
        arrays: the arrays beside them.
        tallies: name of an attack on a split to its ``tally.csv``.
        probabilities: name of an attack on a split to its ``outcomes.parquet``, of a study that
            keeps probabilities.
        attack_records: name of an attack without a radius to its ``records.parquet``.
        attack_arrays: name of an attack on a split that keeps arrays to its ``arrays.safetensors``.
        kept_records: name of such an attack to its ``records.parquet``.
        residuals: name of an attack on a split that keeps arrays to its
            ``residuals.safetensors``, of networks that have a first pooling; see
            :func:`medrobust.jobs.residuals.map_residuals`.
        margins: ``margins.safetensors``, of models whose training estimates margins.
        plane: ``plane.safetensors``, of models of two-dimensional data.
        search: ``search.safetensors``, of models of two-dimensional data trained by ``ima``.
        pixel_records: name of an attack on segmentation to its ``slices.parquet``.
        pixel_arrays: name of such an attack that keeps slices to its ``slices.safetensors``.
        state: ``clean.json``, of segmentation ``slices.json``, which tells whether the training
            failed; "": it did not.
        training_points: at most so many training points were drawn; None: all were used.
        random_init: whether it began at random values although the study names weights that others
            trained.
        points: what its points are (:func:`medrobust.reporting.catalogue.point_kind`).
        epochs: that the model was trained for, at most; None where training has none.
    """

    dataset: str
    model: str
    source: str
    replicate: int
    summary: str = ""
    predictions: str = ""
    records: Sequence[str] = ()
    arrays: Sequence[str] = ()
    tallies: Mapping[str, str] = field(default_factory=dict)
    probabilities: Mapping[str, str] = field(default_factory=dict)
    attack_records: Mapping[str, str] = field(default_factory=dict)
    attack_arrays: Mapping[str, str] = field(default_factory=dict)
    kept_records: Mapping[str, str] = field(default_factory=dict)
    residuals: Mapping[str, str] = field(default_factory=dict)
    margins: str = ""
    plane: str = ""
    search: str = ""
    pixel_records: Mapping[str, str] = field(default_factory=dict)
    pixel_arrays: Mapping[str, str] = field(default_factory=dict)
    state: str = ""
    fold: int = 0
    training_points: int | None = None
    epochs: int | None = None
    points: str = ""
    random_init: bool = False


@dataclass(frozen=True)
class Request:
    """What a builder needs to make one artefact.

    Attributes:
        entries: the results there are, without those of trainings that failed.
        published: file of the published numbers.
        out_stem: path of the artefact without suffix.
        context: the run.
        attack: name and settings of the attack; those of data sets and models with other ones
            under :data:`medrobust.reporting.artefacts.OTHERS`.
        cohort: file of the attacked points, in their seeded order (empty if not needed).
        class_names: names of the classes of the (first) data set.
        cohort_rule: which points were attacked, in words.
        attacks: every attack of the study by its name there: registered ``name``, options,
            ``grid`` (setting to its values) and ``points_per_class`` (None: all points).
        claims: the sentences of the study's file by their names: fields of
            :class:`medrobust.reporting.generic_claims.Stated` but ``name`` and ``norm``, ``attack``
            None for none.
    """

    entries: Sequence[Entry]
    published: str
    out_stem: str
    context: RunContext
    attack: Mapping[str, Any]
    cohort: str = ""
    class_names: Sequence[str] = ()
    cohort_rule: str = ""
    attacks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    claims: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
