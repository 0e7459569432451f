"""What the study signnet (Yang et al. 2020) draws, and from what."""

from __future__ import annotations

from medrobust.reporting.catalogue import Artefact, Need, PointKind, StudyParts

_HERE = "medrobust.studies.signnet"


def _table(number: str, what: str, points: PointKind, need: Need, draw: str) -> Artefact:
    """Returns one of the paper's four tables: two on images, and the same two on ECG."""
    return Artefact(
        f"Table {number}",
        what,
        f"{_HERE}.tables:draw_{draw}",
        "table",
        (need,),
        points=points,
        alias=f"signnet_tab{('I', 'II', 'III', 'IV').index(number) + 1}",
        settings={"table": number},
    )


def _figure1(label: str, what: str, dataset: str, alias: str = "") -> Artefact:
    """Returns the paper's Figure 1, or the same of another data set."""
    return Artefact(
        label,
        what,
        f"{_HERE}.figure1:draw_figure1",
        "figure",
        ("records", "arrays"),
        caption="attacked_image",
        datasets=(dataset,),
        first_cell=True,
        alias=alias,
        settings={"label": label},
    )


PARTS = StudyParts(
    artefacts={
        "table1": _table("I", "accuracy on images", "images", "summary", "accuracy"),
        "table2": _table("II", "L2 distance on images", "images", "records", "distances"),
        "figure1": _figure1("Figure 1", "adversarial histology", "kather", alias="signnet_fig1"),
        "figure1_xray": _figure1("Figure 1 on X-rays", "adversarial chest X-ray", "chest_xray"),
        "image_differences": Artefact(
            "Image differences",
            "what adversarial images look like",
            f"{_HERE}.image_differences:draw_image_differences",
            "table",
            ("records", "arrays"),
            caption="image_differences",
            points="images",
        ),
        "extended": Artefact(
            "Extended cohort",
            "what five images can say",
            f"{_HERE}.extended:draw_extended",
            "table",
            ("records",),
            caption="extended",
            attacks=("extended",),
            points="images",
        ),
        "table3": _table("III", "accuracy on ECG", "signals", "summary", "accuracy"),
        "table4": _table("IV", "L2 distance on ECG", "signals", "records", "distances"),
        "figure2": Artefact(
            "Figure 2",
            "adversarial ECG",
            f"{_HERE}.figure2:draw_figure2",
            "figure",
            ("records", "arrays"),
            points="signals",
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
