"""What the study nsr (Ma and Liang 2020) draws, and from what."""

from __future__ import annotations

from medrobust.reporting.catalogue import Artefact, StudyParts

_HERE = "medrobust.studies.nsr"

#: Attack as printed, its name in the study, and for each network the paper's figure.
_ATTACKS = (
    ("20-PGD", "pgd20", (4, 5)),
    ("100-PGD", "pgd100", (1, 2)),
    ("SPSA", "spsa", (6, 7)),
)
_NETWORKS = (("MLP", "relu_mlp"), ("CNN", "kachuee_cnn"))


def _artefacts() -> dict[str, Artefact]:
    tables: dict[str, Artefact] = {}
    figures: dict[int, Artefact] = {}
    for printed, attack, numbers in _ATTACKS:
        for (network, architecture), figure in zip(_NETWORKS, numbers, strict=True):
            shown = {"attacks": (attack,), "architectures": (architecture,)}
            for metric in ("ACC", "PREC"):
                number = len(tables) + 1
                tables[f"table{number}"] = Artefact(
                    f"Table {number}",
                    f"{metric} {network} {printed}",
                    f"{_HERE}.tables:draw_table",
                    "table",
                    ("tallies",),
                    **shown,
                    alias=f"nsr_tab{number}",
                    settings={"number": number},
                )
            figures[figure] = Artefact(
                f"Figure {figure}",
                f"accuracy and precision, {printed} on {network}",
                f"{_HERE}.figures:draw_curves",
                "figure",
                ("tallies",),
                caption="curves",
                **shown,
                alias=f"nsr_fig{figure}",
                settings={"number": figure},
            )
    figures[3] = Artefact(
        "Figure 3",
        "why w along x is robust",
        f"{_HERE}.figures:build_geometry",
        "figure",
        (),
        caption="drawing",
        alias="nsr_fig3",
    )
    figures[8] = Artefact(
        "Figure 8",
        "one heartbeat at all noise levels",
        f"{_HERE}.figures:build_beat",
        "figure",
        ("attack_arrays",),
        caption="heartbeat",
        attacks=("beat",),
        alias="nsr_fig8",
    )
    return {
        **tables,
        **{f"figure{number}": figures[number] for number in sorted(figures)},
        "matrix": Artefact(
            "Matrix",
            "all published numbers against this run",
            f"{_HERE}.figures:build_matrix",
            "figure",
            ("tallies",),
            caption="matrix",
            attacks=("pgd20", "pgd100", "spsa"),
        ),
        "reading": Artefact(
            "Reading",
            "rankings, and is anything masked",
            f"{_HERE}.reading:build_reading",
            "table",
            ("tallies",),
            caption="reading",
            attacks=("pgd20", "pgd100", "spsa", "noise"),
        ),
        "claims": Artefact(
            "Claims",
            "what the paper says, and what this run says",
            f"{_HERE}.claims:build_nsr_claims",
            "claims",
            ("summary", "tallies"),
            attacks=("pgd20", "pgd100", "spsa"),
            alias="nsr_claims",
        ),
    }


PARTS = StudyParts(artefacts=_artefacts(), remark=f"{_HERE}.results:remark", front="figure1")
