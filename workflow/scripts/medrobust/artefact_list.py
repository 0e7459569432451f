"""What can be drawn of each study: its tables, figures and lists, and what each is drawn from.

The configuration checks names against this list, the experiment graph places the files, and one
generic rule per artefact (workflow/rules/artefacts.smk) draws them. How a thing is drawn stands in
``medrobust.studies.<study>``, ``BUILDERS``. Nothing heavy is imported here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Need = Literal[
    "summary",
    "predictions",
    "records",
    "arrays",
    "tallies",
    "attack_arrays",
    "margins",
    "plane",
    "search",
]


@dataclass(frozen=True)
class Artefact:
    """A table, figure or list.

    Attributes:
        label: its name in print or in the report, such as "Table III".
        what: what it shows, in a few words.
        kind: folder and file types it gets; "claims" are neither table nor figure.
        needs: the results it is drawn from, fields of :class:`medrobust.studies.Entry`.
        caption: file name of its caption in workflow/report, without suffix.
        attacks: the attacks whose results it shows, by their names in the study; empty: all.
        architectures: registered names of the architectures whose models it shows; empty: all.
        datasets: registered names of the data sets that it shows; empty: all.
        models: names of the models that it shows, as in print; empty: all.
        first_cell: it shows the first data set and replicate only, and gets the cohort's file.
        alias: a short name to ask for, such as ``signnet_fig2``; empty for none.
    """

    label: str
    what: str
    kind: Literal["table", "figure", "claims"]
    needs: tuple[Need, ...]
    caption: str = ""
    attacks: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    first_cell: bool = False
    alias: str = ""

    @property
    def caption_file(self) -> str:
        """The caption's file name without suffix."""
        return self.caption or self.kind


def _table(label: str, what: str, *needs: Need, **more: str) -> Artefact:
    return Artefact(label, what, "table", needs, **more)


_SIGNNET = {
    "table3": _table("Table III", "accuracy on ECG", "summary", alias="signnet_tab3"),
    "table4": _table("Table IV", "L2 distance on ECG", "records", alias="signnet_tab4"),
    "figure2": Artefact(
        "Figure 2",
        "adversarial ECG",
        "figure",
        ("records", "arrays"),
        first_cell=True,
        alias="signnet_fig2",
    ),
    "convergence": Artefact(
        "Convergence", "distance against queries", "figure", ("arrays",), caption="convergence"
    ),
    "effort": _table(
        "Effort", "gain of restarts and iterations", "records", "arrays", caption="effort"
    ),
    "paired": _table(
        "Paired comparison", "sign networks against others", "records", caption="paired"
    ),
    "claims": Artefact(
        "Claims",
        "what the paper says, and what this run says",
        "claims",
        ("summary", "predictions", "records", "arrays"),
        alias="signnet_claims",
    ),
}

#: Attack as printed, its name in the study, and for each network the paper's figure.
_NSR_ATTACKS = (
    ("20-PGD", "pgd20", (4, 5)),
    ("100-PGD", "pgd100", (1, 2)),
    ("SPSA", "spsa", (6, 7)),
)
_NSR_NETWORKS = (("MLP", "relu_mlp"), ("CNN", "kachuee_cnn"))


def _nsr() -> dict[str, Artefact]:
    tables: dict[str, Artefact] = {}
    figures: dict[int, Artefact] = {}
    for printed, attack, numbers in _NSR_ATTACKS:
        for (network, architecture), figure in zip(_NSR_NETWORKS, numbers, strict=True):
            shown = {"attacks": (attack,), "architectures": (architecture,)}
            for metric in ("ACC", "PREC"):
                number = len(tables) + 1
                tables[f"table{number}"] = Artefact(
                    f"Table {number}",
                    f"{metric} {network} {printed}",
                    "table",
                    ("tallies",),
                    **shown,
                    alias=f"nsr_tab{number}",
                )
            figures[figure] = Artefact(
                f"Figure {figure}",
                f"accuracy and precision, {printed} on {network}",
                "figure",
                ("tallies",),
                caption="curves",
                **shown,
                alias=f"nsr_fig{figure}",
            )
    figures[3] = Artefact(
        "Figure 3", "why w along x is robust", "figure", (), caption="drawing", alias="nsr_fig3"
    )
    figures[8] = Artefact(
        "Figure 8",
        "one heartbeat at all noise levels",
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
            "figure",
            ("tallies",),
            caption="matrix",
            attacks=("pgd20", "pgd100", "spsa"),
        ),
        "reading": Artefact(
            "Reading",
            "rankings, and is anything masked",
            "table",
            ("tallies",),
            caption="reading",
            attacks=("pgd20", "pgd100", "spsa", "noise"),
        ),
        "claims": Artefact(
            "Claims",
            "what the paper says, and what this run says",
            "claims",
            ("summary", "tallies"),
            attacks=("pgd20", "pgd100", "spsa"),
            alias="nsr_claims",
        ),
    }


#: Tables of ima: number, data set and norm in a few words, attack.
_IMA_TABLES = (
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
_IMA_SETTINGS = {
    "B": tuple(f"beta={beta:g}" for beta in (0.1, 0.3, 0.7, 0.9)),
    "C": tuple(f"emax={steps}dEps" for steps in (10, 20, 30, 40, 50)),
}
_IMA_PGD = tuple(dict.fromkeys(attack for *_, attack in _IMA_TABLES))
_IMA_NOISE = ("noise_covid", "noise_moons", "noise_fashion")


def _ima_rows(number: str, attack: str) -> tuple[str, ...]:
    """Returns the models of a table of settings of IMA; of a main table none, which is all."""
    settings = _IMA_SETTINGS.get(number[0], ())
    mark = "L2:" if attack.endswith("_l2") else ""
    return tuple(f"{mark}{name}" for name in ("IMA", *settings)) if settings else ()


def _ima() -> dict[str, Artefact]:
    def figure(
        number: int, what: str, *needs: Need, caption: str, **shown: tuple[str, ...]
    ) -> Artefact:
        label, alias = f"Figure {number}", f"ima_fig{number}"
        return Artefact(label, what, "figure", needs, caption=caption, alias=alias, **shown)

    images, covid = ("ct_images",), ("covid_ct",)
    found = {
        "figure1": figure(
            1,
            "a CT image and its noise",
            "attack_arrays",
            "records",
            caption="ct_images",
            attacks=images,
            datasets=covid,
        ),
        "figure2": figure(2, "search of a noisy point", "search", caption="search"),
        "figure3": figure(3, "bisection to the boundary", "search", caption="search"),
        "figure4": figure(4, "a margin that shrinks", "search", caption="search"),
        "figure5": figure(5, "equilibrium of margins", "search", caption="equilibrium"),
        "figure6": figure(
            6, "Moons", "summary", "tallies", "plane", caption="regions", attacks=("pgd_moons",)
        ),
        "figure7": figure(
            7,
            "Fashion-MNIST",
            "summary",
            "tallies",
            caption="robust_curves",
            attacks=("pgd_fashion", "pgd_fashion_l2"),
        ),
        "figure8": figure(
            8,
            "SVHN",
            "summary",
            "tallies",
            caption="robust_curves",
            attacks=("pgd_svhn", "pgd_svhn_l2"),
        ),
        "figure9": figure(
            9,
            "COVID-19 CT, accuracy and margins",
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
            "figure",
            ("attack_arrays", "records"),
            caption="ct_images",
            attacks=images,
            datasets=covid,
            alias="ima_fig10",
        ),
    }
    for number, what, attack in _IMA_TABLES:
        found[f"table{number}"] = Artefact(
            f"Table {number}",
            what,
            "table",
            ("summary", "tallies"),
            attacks=(attack,),
            models=_ima_rows(number, attack),
            alias=f"ima_tab{number.lower()}",
        )
    return found | {
        "margins": Artefact(
            "Margins",
            "margins of training points, and the epsilon that they recommend",
            "table",
            ("summary", "tallies", "margins"),
            caption="margins",
            attacks=_IMA_PGD,
        ),
        "noise": Artefact(
            "Noise",
            "uniform noise, and other numbers of the text",
            "table",
            ("summary", "tallies"),
            caption="noise",
            attacks=(*_IMA_NOISE, "pgd_covid"),
        ),
        "exact": Artefact(
            "Exact",
            "what attacks miss in the plane",
            "table",
            ("summary", "tallies", "plane"),
            caption="exact",
            attacks=("pgd_moons", "noise_moons"),
        ),
        "matrix": Artefact(
            "Matrix",
            "all published numbers on classification against this run",
            "figure",
            ("summary", "tallies"),
            caption="matrix",
            attacks=_IMA_PGD,
        ),
        "claims": Artefact(
            "Claims",
            "what the paper says, and what this run says",
            "claims",
            ("summary", "tallies", "margins", "plane"),
            attacks=(*_IMA_PGD, "noise_covid"),
            alias="ima_claims",
        ),
    }


ARTEFACTS: Mapping[str, Mapping[str, Artefact]] = {
    "signnet": _SIGNNET,
    "nsr": _nsr(),
    "ima": _ima(),
}
#: Studies whose papers print averages beside their terms, which are recomputed.
PRINTED_AVERAGES = frozenset({"signnet"})
