"""What the study mirst (Sun et al. 2022) draws, and from what.

Print calls several of its models RST and MIRST: each table says which of the study's it has under
which name (:data:`PRINTED`).
"""

from __future__ import annotations

from medrobust.reporting.catalogue import Artefact, StudyParts

_HERE = "medrobust.studies.mirst"
_BINARY = "medrobust.reporting"

#: Number of the table -> label of a model in the study -> its name in the published numbers.
PRINTED = {
    "1": {
        "baseline (ImageNet)": "Baseline(ImageNet-CE)",
        "RST (ImageNet)": "RST",
        "MIRST (ImageNet)": "MIRST",
    },
    "2": {
        "baseline": "Baseline(SimCLR)",
        "GR": "GR",
        "AT": "AT",
        "LLR": "LLR",
        "TRADES": "TRADES",
        "RST": "RST",
        "MIRST": "MIRST",
    },
    "3": {
        "RST": "RST w/o DM",
        "RST with drop-max": "RST w/ DM",
        "MIRST": "MIRST w/o DM",
        "MIRST with drop-max": "MIRST w/ DM",
    },
}
#: Attack of the study -> its name in print.
PRINTED_ATTACKS = {"fgsm": "FGSM", "pgd20": "PGD20", "cw10": "CW10"}
METRICS = ("F1", "sensitivity")
#: Attacks that differ from a printed one in loss, aim, steps, stop or start -> names in tables.
VARIANTS = {
    "pgd10": "PGD10",
    "pgd10_targeted": "PGD10, targeted",
    "cw10_on": "CW10, no stop",
    "cw20": "CW20",
    "pgd10_start": "PGD10, random start",
    "pgd20_start": "PGD20, random start",
    "cw10_start": "CW10, random start",
}
#: Which attacks are compared point by point, and what tells the two apart.
COMPARED = (
    ("pgd10", "pgd10_targeted", "the aim: away from the label, towards the other class"),
    ("pgd10", "cw10_on", "the loss: cross-entropy, margin"),
    ("pgd10", "cw10", "the loss, and CW stops where a point is misclassified"),
    ("pgd20", "cw20", "the same at 20 steps"),
    ("pgd20", "cw10", "as in print: 20 steps, 10 steps"),
    ("pgd10", "pgd10_start", "a random start"),
    ("pgd20", "pgd20_start", "a random start"),
    ("cw10", "cw10_start", "a random start"),
)
_DEFENCES = ("baseline", "GR", "AT", "LLR", "TRADES", "RST", "MIRST")
_GAINS = (
    *((f"{name} with drop-max", name) for name in _DEFENCES),
    ("MIRST", "RST"),
    ("MIRST with drop-max", "RST with drop-max"),
    ("MIRST (ImageNet)", "RST (ImageNet)"),
    *((name, "baseline") for name in _DEFENCES[1:]),
)
_CHOICES = (
    *(
        (f"MIRST, {choice}", "MIRST")
        for choice in (
            "instances 4 to 1",
            "instances 10, 8, 5, 3",
            "instances 4, 6, 8, 10",
            "steps of .001",
            "random start",
        )
    ),
    ("GR, squared norm", "GR"),
)
_MAPS = ("baseline", "RST", "MIRST")


def _printed_table(number: str, title: str) -> Artefact:
    models = PRINTED[number]
    return Artefact(
        f"Table {number}",
        title,
        f"{_BINARY}.binary_tables:draw_binary_metrics",
        "table",
        ("tallies", "summary"),
        caption="binary_metrics",
        attacks=tuple(PRINTED_ATTACKS),
        models=tuple(models),
        classes=2,
        alias=f"mirst_tab{number}",
        settings={
            "title": f"Table {number}. {title}",
            "metrics": METRICS,
            "table": number,
            "methods": models,
            "attacks": PRINTED_ATTACKS,
        },
    )


def _differences(label: str, what: str, alias: str, settings: dict) -> Artefact:
    return Artefact(
        label,
        what,
        f"{_BINARY}.binary_differences:draw_binary_differences",
        "table",
        ("tallies", "summary"),
        caption="binary_metrics",
        attacks=tuple(PRINTED_ATTACKS),
        models=tuple(dict.fromkeys(name for pair in settings["pairs"] for name in pair)),
        classes=2,
        alias=alias,
        settings={**settings, "metrics": METRICS, "attacks": PRINTED_ATTACKS},
    )


ARTEFACTS = {
    "table1": _printed_table("1", "Weights of ImageNet with labels"),
    "table2": _printed_table("2", "Weights of ImageNet by SimCLR"),
    "table3": _printed_table("3", "With and without drop-max"),
    "figure1": Artefact(
        "Figure 1",
        "one image and what each attack makes of it",
        f"{_HERE}.figures:build_figure1",
        "figure",
        ("attack_arrays", "kept_records"),
        caption="perturbations",
        attacks=("image_fgsm", "image_pgd20", "image_cw10"),
        first_cell=True,
        alias="mirst_fig1",
    ),
    "figure2": Artefact(
        "Figure 2",
        "what max-pooling and drop-max let through",
        f"{_HERE}.figures:build_figure2",
        "figure",
        ("residuals",),
        caption="residual_maps",
        attacks=("maps",),
        first_cell=True,
        alias="mirst_fig2",
    ),
    "metrics": Artefact(
        "All models",
        "every training with and without drop-max, all rates",
        f"{_BINARY}.binary_tables:draw_binary_metrics",
        "table",
        ("tallies", "summary"),
        caption="binary_metrics",
        attacks=tuple(PRINTED_ATTACKS),
        classes=2,
        settings={"title": "All models", "attacks": PRINTED_ATTACKS},
    ),
    "scores": Artefact(
        "Scores",
        "ranking and calibration under attack",
        f"{_BINARY}.binary_tables:draw_binary_scores",
        "table",
        ("tallies", "summary", "probabilities"),
        caption="binary_scores",
        attacks=tuple(PRINTED_ATTACKS),
        classes=2,
        settings={"attacks": PRINTED_ATTACKS},
    ),
    "gains": _differences(
        "Gains",
        "what drop-max, several instances and each defence change",
        "mirst_gains",
        {
            "title": "What drop-max, several instances and each defence change",
            "caption": "Models are alike but for what is compared: the first pooling, the training "
            "loss.",
            "pairs": _GAINS,
        },
    ),
    "choices": _differences(
        "Choices",
        "how much matters what the paper leaves open",
        "mirst_choices",
        {
            "title": "How much matters what the paper leaves open",
            "caption": "One choice changed at a time, against the default of this project.",
            "pairs": _CHOICES,
        },
    ),
    "attacks": Artefact(
        "Attacks",
        "PGD and CW, point by point",
        f"{_HERE}.attacks:draw_attacks",
        "table",
        ("tallies", "summary", "probabilities"),
        caption="compared_attacks",
        attacks=("pgd20", "cw10", *VARIANTS),
        classes=2,
        alias="mirst_attacks",
    ),
    "folds": Artefact(
        "Folds",
        "what images that look alike do across folds",
        f"{_HERE}.together:draw_folds",
        "table",
        ("tallies", "summary"),
        caption="binary_metrics",
        attacks=tuple(PRINTED_ATTACKS),
        classes=2,
        alias="mirst_folds",
    ),
    "claims": Artefact(
        "Claims",
        "what the paper says, and what this run says",
        f"{_HERE}.claims:build_mirst_claims",
        "claims",
        ("tallies", "summary"),
        attacks=tuple(PRINTED_ATTACKS),
        classes=2,
        alias="mirst_claims",
    ),
}

PARTS = StudyParts(artefacts=ARTEFACTS, remark=f"{_HERE}.claims:remark", front="figure1")
