"""PGD and CW point by point: of two classes they follow one sign, so few things can differ.

The gradient of the cross-entropy is a positive multiple of the gradient of the margin
``z_other - z_label``, and raising the loss of one class is lowering that of the other. So steps by
the sign of PGD, of CW (the margin loss), targeted or not, are the same steps; CW with kappa 0 stops
where a point is misclassified. Print has PGD with 20 steps of .001 and CW with 10: without a random
start CW then ends where PGD was after half of its way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medrobust.core.errors import InputError
from medrobust.evaluation.outcomes import levels_of, read_outcomes
from medrobust.reporting.artefacts import NOT_RUN, Panel, number
from medrobust.reporting.binary_results import NO_ATTACK, BinaryResults, read_binary_results
from medrobust.reporting.binary_tables import write_binary_table
from medrobust.reporting.request import Entry, Request
from medrobust.reporting.rows import plain, with_synthetic_mark
from medrobust.studies.mirst.catalogue import COMPARED, PRINTED_ATTACKS, VARIANTS

if TYPE_CHECKING:
    import pandas as pd

TITLE = "PGD and CW, point by point"
_NAMES = {**PRINTED_ATTACKS, **VARIANTS}
#: ``only_first``, ``only_second``: points that this attack broke and the other did not;
#: ``largest_change``: largest difference of the malignant class's probability after the two.
COLUMNS = (
    *("dataset", "model", "first", "second", "apart_by", "status", "points", "only_first"),
    *("only_second", "largest_change", "first_f1", "second_f1", "scale", "protocol", "source"),
)
_WHOLE = ("points", "only_first", "only_second")
_CAPTION = (
    "Points that are classified correctly without attack, of all folds and trainings. Attacks that "
    "take the same steps break the same points and leave the same probabilities; what is left of a "
    "difference is rounding, where two logits are so far apart that the cross-entropy has no "
    "gradient, or a sign that rounding turned. In print CW leaves MIRST less F1 than PGD "
    "(.512 and .544, Table 2; Table 1 alike), and with drop-max more (.734 and .586): the "
    "second is what half as many steps do, the first would need the second half of PGD's way to "
    "lead back, or a start, a loss or a bound that the text does not name."
)


@dataclass(frozen=True)
class Pair:
    """Two attacks on the points of one training that both have, classified correctly without.

    Attributes:
        broken: bool ``[2, n]``, by either.
        probability: float64 ``[2, n]``, of the positive class.
    """

    broken: np.ndarray
    probability: np.ndarray


def draw_attacks(request: Request) -> list[Path]:
    """Writes the comparison of attacks that differ in one thing each.

    Raises:
        InputError: a file is missing, wrong or without probabilities, or a data set has more than
            two classes.
    """
    results = read_binary_results(request)
    frame = comparison_rows(request, results)
    return write_binary_table(
        request,
        results,
        frame,
        title=TITLE,
        caption=_CAPTION,
        notes=["F1: mean over folds. Tables 1 to 3 have its interval for the printed attacks."],
        panels=[
            panel
            for dataset in results.datasets()
            for panel in _panels(frame[frame["dataset"] == dataset], results, dataset)
        ],
    )


def comparison_rows(request: Request, results: BinaryResults) -> pd.DataFrame:
    """Returns a row for each data set, model and pair of :data:`COMPARED`, with :data:`COLUMNS`."""
    import pandas as pd

    rows = [
        _row(request, results, dataset, model, pair)
        for dataset in results.datasets()
        for model in results.models(dataset)
        for pair in COMPARED
    ]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    numbers = ("largest_change", "first_f1", "second_f1")
    return frame.astype(dict.fromkeys(_WHOLE, "Int64") | dict.fromkeys(numbers, "float64"))


def _row(
    request: Request,
    results: BinaryResults,
    dataset: str,
    model: str,
    compared: tuple[str, str, str],
) -> dict[str, Any]:
    first, second, apart_by = compared
    row = {
        **dict.fromkeys(COLUMNS),
        "dataset": dataset,
        "model": model,
        "first": _NAMES[first],
        "second": _NAMES[second],
        "apart_by": apart_by,
        "status": request.context.status_without_results(dataset, model),
        "scale": request.context.scale,
        "protocol": request.context.protocol,
        "source": "",
    }
    entries = [one for one in request.entries if (one.dataset, one.model) == (dataset, model)]
    pairs = list(_pairs(entries, first, second, results.positive))
    if not pairs:
        return row
    broken = np.concatenate([pair.broken for pair in pairs], axis=1)
    change = np.concatenate([np.abs(np.diff(pair.probability, axis=0)[0]) for pair in pairs])
    return row | {
        "status": "reproduced",
        "points": broken.shape[1],
        "only_first": int((broken[0] & ~broken[1]).sum()),
        "only_second": int((broken[1] & ~broken[0]).sum()),
        "largest_change": float(change.max(initial=0.0)),
        "first_f1": _f1(results, dataset, model, first),
        "second_f1": _f1(results, dataset, model, second),
        "source": results.robust.sources[dataset],
    }


def _f1(results: BinaryResults, dataset: str, model: str, attack: str) -> float | None:
    levels = [level for name, level in results.attacked_levels(dataset) if name == attack]
    estimate = results.estimate((dataset, model, attack), levels[0], "F1")
    return estimate.value if estimate else None


def _pairs(entries: Sequence[Entry], first: str, second: str, positive: int) -> Iterator[Pair]:
    """Yields two attacks on each training that both were run on, at the one radius they have."""
    for entry in entries:
        files = [entry.probabilities.get(attack, "") for attack in (first, second)]
        if not all(files):
            continue
        tables = [_correct(file) for file in files]
        levels = [levels_of(table) for table in tables]
        if levels[0] != levels[1] or len(levels[0]) != 1:
            raise InputError(
                f"{_NAMES[first]} and {_NAMES[second]} are at radii {', '.join(levels[0])} and "
                f"{', '.join(levels[1])}: they can be compared at one and the same alone.",
                where=", ".join(files),
                remedy="give the attacks of the study one epsilon.",
            )
        level = levels[0][0]
        both = tables[0].index.intersection(tables[1].index)
        yield Pair(
            np.stack([table.loc[both, level].to_numpy(bool) for table in tables]),
            np.stack([table.loc[both, f"probability_{positive} at {level}"] for table in tables]),
        )


def _correct(file: str) -> pd.DataFrame:
    """Returns the outcomes of points that are classified correctly without attack."""
    outcomes = read_outcomes(file)
    if outcomes is None or "label" not in outcomes:
        raise InputError(
            "There are no probabilities of the attacked points.",
            where=file,
            remedy="set `keep_probabilities: true` in the study, and run the attack again.",
        )
    return outcomes[outcomes["correct"]].set_index("point_id")


# --- printing ---------------------------------------------------------------------------


def _panels(frame: pd.DataFrame, results: BinaryResults, dataset: str) -> list[Panel]:
    """Returns two panels of a data set: pairs over all models, and F1 by model and attack."""
    title = with_synthetic_mark(dataset, set(frame["source"]))
    return [
        Panel(_pair_cells(frame), title=f"Pairs of attacks, all models, {title}"),
        Panel(_f1_cells(results, dataset), title=f"F1, {title}"),
    ]


def _pair_cells(frame: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    rows = []
    for (first, second, apart_by), part in frame.groupby(
        ["first", "second", "apart_by"], sort=False
    ):
        ran = part[part["status"] == "reproduced"]
        told = [NOT_RUN] * 4
        if len(ran):
            counts = [f"{int(ran[name].sum()):,}" for name in _WHOLE]
            told = [*counts, f"{ran['largest_change'].max():.2g}"]
        names = ("points", "broken by the first alone", "by the second alone")
        cells = dict(zip((*names, "largest change of probability"), told, strict=True))
        rows.append({"first": first, "second": second, "apart by": apart_by, **cells})
    return pd.DataFrame(rows)


def _f1_cells(results: BinaryResults, dataset: str) -> pd.DataFrame:
    import pandas as pd

    attacks = [name for name, _ in results.attacked_levels(dataset) if name != NO_ATTACK]
    # Those of print first, each with its kin.
    order = [name for name in _NAMES if name in attacks]
    rows = [
        {"model": model}
        | {_NAMES[name]: number(_f1(results, dataset, model, name), 3, NOT_RUN) for name in order}
        for model in results.models(dataset)
    ]
    return pd.DataFrame(plain(pd.DataFrame(rows)))
