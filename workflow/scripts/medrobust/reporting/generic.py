"""Artefacts that every study can name, whether or not it has a folder in ``medrobust/studies``.

They show whatever models, data sets and attacks a study has, from the results that the jobs write
for all of them. Nothing heavy is imported here.
"""

from __future__ import annotations

from collections.abc import Mapping

from medrobust.reporting.catalogue import Artefact

_HERE = "medrobust.reporting"

#: By name, in the order in which a study that names no artefacts gets them: but for those of a
#: number of classes, which are to be named.
GENERIC: Mapping[str, Artefact] = {
    "accuracy": Artefact(
        "Accuracy",
        "accuracy without attack",
        f"{_HERE}.generic_tables:draw_accuracy",
        "table",
        ("summary",),
        caption="accuracy",
    ),
    "robust_accuracy": Artefact(
        "Robust accuracy",
        "accuracy under attack, by noise level",
        f"{_HERE}.generic_tables:draw_robust_accuracy",
        "table",
        ("tallies",),
        caption="robust_accuracy",
    ),
    "robust_curves": Artefact(
        "Robust accuracy, curves",
        "accuracy under attack, by noise level, as curves",
        f"{_HERE}.generic_curves:draw_robust_curves",
        "figure",
        ("tallies",),
        caption="robust_accuracy",
    ),
    "distances": Artefact(
        "Distances",
        "distance to the nearest adversarial example",
        f"{_HERE}.generic_tables:draw_distances",
        "table",
        ("attack_records",),
        caption="distances",
    ),
    "binary_metrics": Artefact(
        "Binary metrics",
        "F1, sensitivity, specificity and precision under attack",
        f"{_HERE}.binary_tables:draw_binary_metrics",
        "table",
        ("tallies", "summary"),
        caption="binary_metrics",
        classes=2,
    ),
    "binary_scores": Artefact(
        "Binary scores",
        "ranking and calibration under attack",
        f"{_HERE}.binary_tables:draw_binary_scores",
        "table",
        ("tallies", "summary", "probabilities"),
        caption="binary_scores",
        classes=2,
    ),
    "claims": Artefact(
        "Claims",
        "sentences of the study's file, tested on this run",
        f"{_HERE}.generic_claims:draw_claims",
        "claims",
        ("summary", "tallies", "attack_records"),
        caption="stated_claims",
    ),
}
