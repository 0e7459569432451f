"""What the study ima (Ma and Liang 2021) draws, and from what."""

from __future__ import annotations

from typing import Any

from medrobust.reporting.catalogue import Artefact, Need, StudyParts

_HERE = "medrobust.studies.ima"

#: Tables of ima: number, data set and norm in a few words, attack.
_TABLES = (
    ("8", "Moons", "pgd_moons"),
    ("9", "Fashion-MNIST, Linf", "pgd_fashion"),
    ("10", "Fashion-MNIST, L2", "pgd_fashion_l2"),
    ("11", "SVHN, Linf", "pgd_svhn"),
    ("12", "SVHN, L2", "pgd_svhn_l2"),
    ("13", "COVID-19 CT", "pgd_covid"),
    ("B1", "IMA's beta, Fashion-MNIST, L2", "pgd_fashion_l2"),
    ("B2", "IMA's beta, Fashion-MNIST, Linf", "pgd_fashion"),
    ("C4", "IMA's largest margin, Fashion-MNIST, L2", "pgd_fashion_l2"),
    ("C5", "IMA's largest margin, Fashion-MNIST, Linf", "pgd_fashion"),
    ("C6", "IMA's largest margin, SVHN, L2", "pgd_svhn_l2"),
    ("C7", "IMA's largest margin, SVHN, Linf", "pgd_svhn"),
)
#: Rows of the tables of settings of IMA, beside the model IMA itself; in L2 they are marked.
_SETTINGS = {
    "B": tuple(f"beta={beta:g}" for beta in (0.1, 0.3, 0.7, 0.9)),
    "C": tuple(f"emax={steps}dEps" for steps in (10, 20, 30, 40, 50)),
}
_PGD = tuple(dict.fromkeys(attack for *_, attack in _TABLES))
_NOISE = ("noise_covid", "noise_moons", "noise_fashion")


def _rows(number: str, attack: str) -> tuple[str, ...]:
    """Returns the models of a table of settings of IMA; of a main table none, which is all."""
    settings = _SETTINGS.get(number[0], ())
    mark = "L2:" if attack.endswith("_l2") else ""
    return tuple(f"{mark}{name}" for name in ("IMA", *settings)) if settings else ()


def _artefacts() -> dict[str, Artefact]:
    def figure(
        number: int, what: str, draw: str, *needs: Need, caption: str, **shown: Any
    ) -> Artefact:
        label, alias, draw = f"Figure {number}", f"ima_fig{number}", f"{_HERE}.{draw}"
        return Artefact(label, what, draw, "figure", needs, caption=caption, alias=alias, **shown)

    images, covid = ("ct_images",), ("covid_ct",)
    found = {
        "figure1": figure(
            1,
            "a CT image and its noise",
            "images:build_noisy_image",
            "attack_arrays",
            "records",
            caption="ct_images",
            attacks=images,
            datasets=covid,
        ),
        "figure2": figure(
            2, "search of a noisy point", "drawings:build_cases", "search", caption="search"
        ),
        "figure3": figure(
            3, "bisection to the boundary", "drawings:build_halving", "search", caption="search"
        ),
        "figure4": figure(
            4, "a margin that shrinks", "drawings:build_shrinking", "search", caption="search"
        ),
        "figure5": figure(
            5,
            "equilibrium of margins",
            "drawings:build_equilibrium",
            "search",
            caption="equilibrium",
        ),
        "figure6": figure(
            6,
            "Moons",
            "curves:build_moons",
            "summary",
            "tallies",
            "plane",
            caption="regions",
            attacks=("pgd_moons",),
        ),
        "figure7": figure(
            7,
            "Fashion-MNIST",
            "curves:draw_pair",
            "summary",
            "tallies",
            caption="robust_curves",
            attacks=("pgd_fashion", "pgd_fashion_l2"),
            settings={"number": 7},
        ),
        "figure8": figure(
            8,
            "SVHN",
            "curves:draw_pair",
            "summary",
            "tallies",
            caption="robust_curves",
            attacks=("pgd_svhn", "pgd_svhn_l2"),
            settings={"number": 8},
        ),
        "figure9": figure(
            9,
            "COVID-19 CT, accuracy and margins",
            "margins:build_covid",
            "summary",
            "tallies",
            "margins",
            caption="margins",
            attacks=("pgd_covid",),
            datasets=covid,
        ),
        # The text calls it Figure 10, a number that it gives to another one too.
        "panel": Artefact(
            "Noisy CT images",
            "one CT image at all noise levels",
            f"{_HERE}.images:build_levels",
            "figure",
            ("attack_arrays", "records"),
            caption="ct_images",
            attacks=images,
            datasets=covid,
            alias="ima_fig10",
        ),
    }
    for number, what, attack in _TABLES:
        found[f"table{number}"] = Artefact(
            f"Table {number}",
            what,
            f"{_HERE}.tables:draw_table",
            "table",
            ("summary", "tallies"),
            attacks=(attack,),
            models=_rows(number, attack),
            alias=f"ima_tab{number.lower()}",
            settings={"number": number},
        )
    return found | {
        "margins": Artefact(
            "Margins",
            "margins of training points, and the epsilon that they recommend",
            f"{_HERE}.margins:build_margins",
            "table",
            ("summary", "tallies", "margins"),
            caption="margins",
            attacks=_PGD,
        ),
        "noise": Artefact(
            "Noise",
            "uniform noise, and other numbers of the text",
            f"{_HERE}.noise:build_noise",
            "table",
            ("summary", "tallies"),
            caption="noise",
            attacks=(*_NOISE, "pgd_covid"),
        ),
        "exact": Artefact(
            "Exact",
            "what attacks miss in the plane",
            f"{_HERE}.exact:build_exact",
            "table",
            ("summary", "tallies", "plane"),
            caption="exact",
            attacks=("pgd_moons", "noise_moons"),
        ),
        "matrix": Artefact(
            "Matrix",
            "all published numbers on classification against this run",
            f"{_HERE}.matrix:build_matrix",
            "figure",
            ("summary", "tallies"),
            caption="matrix",
            attacks=_PGD,
        ),
        "claims": Artefact(
            "Claims",
            "what the paper says, and what this run says",
            f"{_HERE}.claims:build_ima_claims",
            "claims",
            ("summary", "tallies", "margins", "plane"),
            attacks=(*_PGD, "noise_covid"),
            alias="ima_claims",
        ),
    }


PARTS = StudyParts(artefacts=_artefacts(), remark=f"{_HERE}.results:remark", front="figure6")
