"""What the study signnet (Yang et al. 2020) draws, and from what."""

from __future__ import annotations

from medrobust.reporting.catalogue import Artefact, StudyParts

_HERE = "medrobust.studies.signnet"

PARTS = StudyParts(
    artefacts={
        "table3": Artefact(
            "Table III",
            "accuracy on ECG",
            f"{_HERE}.tables:draw_table3",
            "table",
            ("summary",),
            alias="signnet_tab3",
        ),
        "table4": Artefact(
            "Table IV",
            "L2 distance on ECG",
            f"{_HERE}.tables:draw_table4",
            "table",
            ("records",),
            alias="signnet_tab4",
        ),
        "figure2": Artefact(
            "Figure 2",
            "adversarial ECG",
            f"{_HERE}.figure2:draw_figure2",
            "figure",
            ("records", "arrays"),
            first_cell=True,
            alias="signnet_fig2",
        ),
        "convergence": Artefact(
            "Convergence",
            "distance against queries",
            f"{_HERE}.effort:draw_convergence",
            "figure",
            ("arrays",),
            caption="convergence",
        ),
        "effort": Artefact(
            "Effort",
            "gain of restarts and iterations",
            f"{_HERE}.effort:draw_effort",
            "table",
            ("records", "arrays"),
            caption="effort",
        ),
        "paired": Artefact(
            "Paired comparison",
            "sign networks against others",
            f"{_HERE}.paired:draw_paired",
            "table",
            ("records",),
            caption="paired",
        ),
        "claims": Artefact(
            "Claims",
            "what the paper says, and what this run says",
            f"{_HERE}.claims:draw_claims",
            "claims",
            ("summary", "predictions", "records", "arrays"),
            alias="signnet_claims",
        ),
    },
    remark=f"{_HERE}.results:remark",
    printed_averages=f"{_HERE}.tables:build_printed_averages",
    front="figure2",
)
