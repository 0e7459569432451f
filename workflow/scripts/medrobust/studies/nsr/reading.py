"""One page on the results of nsr: rankings, is loss2 best, can the attacks be trusted.

* **Rankings.** Kendall's tau (tau-b, which allows for ties) between the nine methods' order here
  and in print, for each attack, network and noise level. Rounding makes ties in print.
* **Is loss2 best?** How often its number is above those of all others among the bootstrap draws,
  whose methods are independent. With one training of each model this says what other test points
  could change, not what another training could.
* **Checks.** What makes an attack's numbers suspect (after Athalye et al. 2018 and Carlini et al.
  2019): more steps that reach less, accuracy that rises with the noise level, a black-box attack
  or random noise that does better than gradients, accuracy that stays at a large level. Each gives
  "ok", "look" with the reason, or "not run".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medrobust.evaluation.tally import ATTACK, EACH_RUN, WORST_CASE
from medrobust.reporting import artefacts
from medrobust.reporting.artefacts import NOT_RUN, Panel, number
from medrobust.reporting.request import Request
from medrobust.reporting.rows import level_text, plain, signed, with_synthetic_mark
from medrobust.studies.nsr.results import (
    DATASET,
    LEVELS,
    METHODS,
    METRICS,
    NETWORKS,
    NOISE,
    NOISE_LEVELS,
    PRINTED_ATTACKS,
    NsrResults,
    Printed,
    budget_text,
    model_name,
    read_printed,
    read_results,
    remark,
    sample_text,
    split_name,
)

if TYPE_CHECKING:
    import pandas as pd

#: A difference of accuracies below this is no reason to look (a point of a hundred).
TOLERANCE = 0.01
#: SPSA may leave this much less accuracy than PGD before gradients are suspect.
SPSA_TOLERANCE = 0.02
#: 100 steps may leave this much less accuracy than 20 before 20 are called too few.
STEPS_TOLERANCE = 0.05
#: Accuracy at the largest noise level above this is no longer "near 0".
NEAR_ZERO = 0.1
#: Share of the test points that may be fooled at a level but not at a larger one.
NON_MONOTONE_SHARE = 0.01
#: Fewest methods whose order is compared.
FEWEST_RANKED = 3
OK, LOOK = "ok", "look"
COLUMNS = (
    "kind",
    "attack",
    "network",
    "method",
    "metric",
    "epsilon",
    "quantity",
    "value",
    "published",
    "flag",
    "words",
    "scale",
    "protocol",
    "source",
)


# --- rankings ---------------------------------------------------------------------------


def kendall_tau(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Returns tau-b of two rankings of the same things; None if all of one are tied."""
    from scipy.stats import kendalltau

    tau = float(kendalltau(first, second, variant="b").statistic)
    return None if np.isnan(tau) else tau


def rank_of(values: dict[str, float], name: str) -> int:
    """Returns the place of ``name``, 1 for the largest; equal values share the better place."""
    return 1 + sum(value > values[name] for value in values.values())


def best_share(draws: dict[str, np.ndarray], name: str) -> float:
    """Returns the share of draws in which ``name`` lies strictly above all others."""
    others = np.max([one for key, one in draws.items() if key != name], axis=0)
    return float((draws[name] > others).mean())


def _rankings(results: NsrResults, printed: Printed) -> Iterator[dict[str, Any]]:
    for attack in PRINTED_ATTACKS:
        for network in NETWORKS:
            for metric in METRICS:
                for epsilon in LEVELS:
                    place = {
                        "attack": attack,
                        "network": network,
                        "metric": metric,
                        "epsilon": epsilon,
                    }
                    yield from _ranking(results, printed, place)


def _ranking(
    results: NsrResults, printed: Printed, place: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    attack, network, metric, epsilon = place.values()
    names = [model_name(network, method) for method in METHODS]
    in_print = {name: printed[name, attack, metric, epsilon] for name in names}
    found = {name: results.value(name, attack, epsilon, metric) for name in names}
    ran = {name: value for name, value in found.items() if value is not None}
    common = [name for name in names if name in ran]
    row = {"kind": "ranking", **place}
    tau = None
    if len(common) >= FEWEST_RANKED:
        tau = kendall_tau([ran[n] for n in common], [in_print[n] for n in common])
    words = "" if len(common) == len(names) else f"{len(common)} of {len(names)} methods run"
    yield {**row, "quantity": "kendall tau", "value": tau, "words": words}
    loss2 = model_name(network, "loss2")
    share = rank = best = None
    if loss2 in ran and len(ran) > 1:
        draws = {name: results.draws(name, attack, epsilon, metric) for name in common}
        share, rank = best_share(draws, loss2), rank_of(ran, loss2)
        best = max(ran, key=ran.get)
    yield {
        **row,
        "method": "loss2",
        "quantity": "rank",
        "value": rank,
        "published": rank_of(in_print, loss2),
        "words": split_name(best)[1] if best else "",
    }
    yield {**row, "method": "loss2", "quantity": "share of draws in which best", "value": share}


# --- networks ---------------------------------------------------------------------------

Values = Callable[[str, str, float], "float | None"]
"""(model, attack, noise level) -> accuracy, None if it was not run."""


def _ours(results: NsrResults, reading: str = ATTACK) -> Values:
    return lambda model, attack, level: results.value(model, attack, level, "ACC", reading=reading)


def _theirs(printed: Printed) -> Values:
    return lambda model, attack, level: printed.get((model, attack, "ACC", level))


def _mean(values: Values, model: str, attack: str) -> float | None:
    found = [values(model, attack, level) for level in NOISE_LEVELS]
    return None if any(value is None for value in found) else float(np.mean(found))


def _gap(values: Values, method: str, attack: str) -> float | None:
    """Returns the CNN's minus the MLP's mean accuracy over the noise levels."""
    mlp, cnn = (_mean(values, model_name(network, method), attack) for network in NETWORKS)
    return None if mlp is None or cnn is None else cnn - mlp


def _networks(results: NsrResults, printed: Printed) -> Iterator[dict[str, Any]]:
    for attack in PRINTED_ATTACKS:
        for method in METHODS:
            yield {
                "kind": "networks",
                "attack": attack,
                "method": method,
                "metric": "ACC",
                "quantity": "CNN minus MLP, mean over noise levels",
                "value": _gap(_ours(results), method, attack),
                "published": _gap(_theirs(printed), method, attack),
            }


# --- checks -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Check:
    """One reason to trust, or not to trust, an attack's numbers.

    Attributes:
        name: short, for a column.
        means: what the number is, in words.
        measure: (accuracies, model) -> the number; None where it was not run.
        suspect: tells from the number whether to look.
        words: what a number that is suspect says.
    """

    name: str
    means: str
    measure: Callable[[Values, str], float | None]
    suspect: Callable[[float], bool]
    words: str


def _differences(values: Values, model: str, first: str, second: str) -> list[float] | None:
    """Returns first minus second at each noise level that both have, None if there is none."""
    pairs = [(values(model, first, e), values(model, second, e)) for e in NOISE_LEVELS]
    found = [a - b for a, b in pairs if a is not None and b is not None]
    return found or None


def _more_steps(values: Values, model: str) -> float | None:
    found = _differences(values, model, "pgd100", "pgd20")
    return None if found is None else max(found)


def _steps_needed(values: Values, model: str) -> float | None:
    found = _differences(values, model, "pgd20", "pgd100")
    return None if found is None else max(found)


def _black_box(values: Values, model: str) -> float | None:
    found = _differences(values, model, "spsa", "pgd100")
    return None if found is None else min(found)


def _random_noise(values: Values, model: str) -> float | None:
    found = _differences(values, model, NOISE, "pgd100")
    return None if found is None else min(found)


def _rise(values: Values, model: str) -> float | None:
    found = [values(model, "pgd100", level) for level in LEVELS]
    curve = [value for value in found if value is not None]
    return float(np.max(np.diff(curve))) if len(curve) > 1 else None


def _left_over(values: Values, model: str) -> float | None:
    return values(model, "pgd100", max(NOISE_LEVELS))


CHECKS = (
    Check(
        "100 steps against 20",
        "most by which 100-PGD leaves more accuracy than 20-PGD",
        _more_steps,
        lambda value: value > TOLERANCE,
        "more steps reach less: the attack does not converge",
    ),
    Check(
        "20 steps enough",
        "most by which 100-PGD leaves less accuracy than 20-PGD",
        _steps_needed,
        lambda value: value > STEPS_TOLERANCE,
        "20 steps are too few: read 100-PGD",
    ),
    Check(
        "SPSA against PGD",
        "least of SPSA's minus 100-PGD's accuracy, on the same points",
        _black_box,
        lambda value: value < -SPSA_TOLERANCE,
        "the black-box attack does better: the gradients may mislead",
    ),
    Check(
        "noise against PGD",
        "least of the accuracy under uniform noise minus 100-PGD's",
        _random_noise,
        lambda value: value < -TOLERANCE,
        "random noise does better than gradients",
    ),
    Check(
        "falls with ε",
        "largest rise of the accuracy under 100-PGD from a level to the next",
        _rise,
        lambda value: value > TOLERANCE,
        "accuracy rises with the noise level: read the worst case",
    ),
    Check(
        "near 0 at 0.3",
        "accuracy under 100-PGD at 0.3",
        _left_over,
        lambda value: value > NEAR_ZERO,
        "much is left at a level that hides the signal: the attack may be too weak",
    ),
)
NON_MONOTONE = "points lost again"


def _on_spsa_points(results: NsrResults, model: str) -> Values:
    """Returns accuracies for the check of SPSA: 100-PGD's on SPSA's points."""
    where = results.on_points_of(model, "pgd100", "spsa")

    def values(model: str, attack: str, level: float) -> float | None:
        if where is None:
            return None
        more = where if attack == "pgd100" else {}
        return results.value(model, attack, level, "ACC", **more)

    return values


def _checks(results: NsrResults, printed: Printed) -> Iterator[dict[str, Any]]:
    for network in NETWORKS:
        for method in METHODS:
            model = model_name(network, method)
            for check in CHECKS:
                black_box = check.measure is _black_box
                ours = _on_spsa_points(results, model) if black_box else _ours(results)
                value = check.measure(ours, model)
                suspect = value is not None and check.suspect(value)
                yield {
                    "kind": "check",
                    "network": network,
                    "method": method,
                    "metric": "ACC",
                    "quantity": check.name,
                    "value": value,
                    "published": check.measure(_theirs(printed), model),
                    "flag": NOT_RUN if value is None else LOOK if suspect else OK,
                    "words": check.words if suspect else "",
                }
            yield _lost_again(results, network, method)


def _lost_again(results: NsrResults, network: str, method: str) -> dict[str, Any]:
    """Returns the share of points that 100-PGD fools at a level but not at a larger one."""
    share = None
    for tally in results.of(DATASET, model_name(network, method), "pgd100"):
        rows = tally.rows(max(tally.levels), WORST_CASE)
        share = max(share or 0.0, float(rows["non_monotone"].sum() / rows["points"].sum()))
    suspect = share is not None and share > NON_MONOTONE_SHARE
    return {
        "kind": "check",
        "network": network,
        "method": method,
        "quantity": NON_MONOTONE,
        "value": share,
        "flag": NOT_RUN if share is None else LOOK if suspect else OK,
        "words": "an example within a small radius is lost at a larger one" if suspect else "",
    }


def _worst_case(results: NsrResults) -> Iterator[dict[str, Any]]:
    """Yields the most that accuracy falls if every level up to a level counts."""
    for attack in PRINTED_ATTACKS:
        for model in results.models[DATASET]:
            network, method = split_name(model)
            falls = [
                (results.value(model, attack, level, "ACC"), level)
                for level in results.levels(attack, DATASET)[1:]
                if results.cells(model, attack, level)
            ]
            worst = _ours(results, WORST_CASE)
            found = [(value - worst(model, attack, level), level) for value, level in falls]
            if found:
                most, level = max(found)
                yield {
                    "kind": "worst case",
                    "attack": attack,
                    "network": network,
                    "method": method,
                    "metric": "ACC",
                    "epsilon": level,
                    "quantity": "as attacked minus worst case, largest",
                    "value": most,
                }


def _noise_rows(results: NsrResults) -> Iterator[dict[str, Any]]:
    """Yields accuracy under uniform noise, the mean over draws and the worst of them."""
    for model in results.models[DATASET]:
        network, method = split_name(model)
        for level in results.levels(NOISE, DATASET)[1:]:
            for reading in (EACH_RUN, ATTACK):
                value = results.value(model, NOISE, level, "ACC", reading=reading)
                if value is not None:
                    yield {
                        "kind": "noise",
                        "attack": NOISE,
                        "network": network,
                        "method": method,
                        "metric": "ACC",
                        "epsilon": level,
                        "quantity": "mean over draws" if reading == EACH_RUN else "worst of draws",
                        "value": value,
                    }


# --- the page ---------------------------------------------------------------------------


def reading_rows(results: NsrResults, printed: Printed, request: Request) -> pd.DataFrame:
    """Returns everything that the page says as long rows, the columns :data:`COLUMNS`.

    Kinds: "ranking", "networks", "check", "worst case", "noise".
    """
    import pandas as pd

    rows = [
        *_rankings(results, printed),
        *_networks(results, printed),
        *_checks(results, printed),
        *_worst_case(results),
        *_noise_rows(results),
    ]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    ran = frame["value"].notna()
    frame["scale"], frame["protocol"] = request.context.scale, request.context.protocol
    frame["source"] = [results.sources.get(DATASET, "") if there else "" for there in ran]
    frame["epsilon"] = ["" if e is None or e != e else level_text(e) for e in frame["epsilon"]]
    for name in ("value", "published"):
        frame[name] = frame[name].astype("float64")
    for name in set(COLUMNS) - {"value", "published"}:
        frame[name] = [one if isinstance(one, str) else "" for one in frame[name]]
    return frame


def build_reading(request: Request) -> list[Path]:
    """Writes the page as a table with panels.

    Raises:
        InputError: a tally is missing or wrong.
    """
    results, printed = read_results(request), read_printed(request.published)
    frame = reading_rows(results, printed, request)
    attacks = [*PRINTED_ATTACKS, NOISE]
    sources = set(frame["source"])
    panels = [
        _tau_panel(frame, sources),
        _best_panel(frame, sources),
        _network_panel(frame, sources),
        _check_panel(frame, sources),
    ]
    return artefacts.write_table_artefact(
        request.out_stem,
        frame,
        title="Reading: rankings, loss2, networks, and whether to trust the attacks",
        caption=(
            "Rankings: Kendall's tau-b between the nine methods' order here and in print, 1 for "
            "equal orders. A flag is a reason to look, not a verdict; its thresholds stand in "
            "docs/nsr.md."
        ),
        context=request.context,
        sources=results.sources,
        n=sample_text(results, attacks),
        budget=budget_text(request, attacks),
        notes=_notes(frame, results),
        panels=panels,
        inputs=[request.published, *results.files],
    )


def _pivot(
    rows: pd.DataFrame, row: Sequence[str], column: str, cell: Callable[[dict], str]
) -> pd.DataFrame:
    """Returns text cells, rows and columns in the order in which they first appear."""
    import pandas as pd

    table: dict[tuple[str, ...], dict[str, str]] = {}
    for one in plain(rows):
        key = tuple(one[name] for name in row)
        table.setdefault(key, {})[one[column]] = cell(one)
    shown = [{**dict(zip(row, key, strict=True)), **cells} for key, cells in table.items()]
    return pd.DataFrame(shown).fillna("–")


def _named(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(attack=[PRINTED_ATTACKS.get(name, name) for name in frame["attack"]])


def _tau_panel(frame: pd.DataFrame, sources: set[str]) -> Panel:
    rows = _named(frame[frame["quantity"] == "kendall tau"])
    table = _pivot(rows, ("attack", "network", "metric"), "epsilon", _tau_text)
    heading = (
        "Kendall's tau between the order of the methods here and in print, by noise level (in "
        "brackets: how many methods were run, if not all)"
    )
    return Panel(table, title=with_synthetic_mark(heading, sources))


def _tau_text(one: dict[str, Any]) -> str:
    run = len(METHODS) if one["words"] == "" else int(one["words"].split()[0])
    if run < FEWEST_RANKED:
        return NOT_RUN
    return number(one["value"], 2) + ("" if run == len(METHODS) else f" ({run})")


def _best_panel(frame: pd.DataFrame, sources: set[str]) -> Panel:
    rows = _named(frame[frame["quantity"] == "rank"])
    shares = frame[frame["quantity"] == "share of draws in which best"]
    key = ("attack", "network", "metric", "epsilon")
    sure = {tuple(one[name] for name in key): one["value"] for one in plain(_named(shares))}

    def cell(one: dict[str, Any]) -> str:
        printed = f"[{one['published']:.0f}]"
        if one["value"] is None:
            return f"{NOT_RUN} {printed}"
        share = sure[tuple(one[name] for name in key)]
        best = "" if one["value"] == 1 else f", {one['words']}"
        return f"{one['value']:.0f} {printed}{best} ({percent(share)})"

    table = _pivot(rows, ("attack", "network", "metric"), "epsilon", cell)
    heading = (
        "Is loss2 best? Its rank here [in print], who is best if it is not (share of the bootstrap "
        "draws in which loss2 is)"
    )
    return Panel(table, title=with_synthetic_mark(heading, sources))


def percent(share: float) -> str:
    """Returns a share in percent; "<1 %" and ">99 %" where rounding would say never or always."""
    if 0 < share < 0.01:
        return "<1 %"
    if 0.99 < share < 1:
        return ">99 %"
    return f"{100 * share:.0f} %"


def _network_panel(frame: pd.DataFrame, sources: set[str]) -> Panel:
    rows = _named(frame[frame["kind"] == "networks"])

    def cell(one: dict[str, Any]) -> str:
        ours = NOT_RUN if one["value"] is None else signed(one["value"], 3)
        return f"{ours} [{signed(one['published'], 3)}]"

    table = _pivot(rows, ("method",), "attack", cell)
    heading = "The CNN's minus the MLP's accuracy, mean over the noise levels, here [in print]"
    return Panel(table, title=with_synthetic_mark(heading, sources))


def _check_panel(frame: pd.DataFrame, sources: set[str]) -> Panel:
    rows = frame[frame["kind"] == "check"]

    def cell(one: dict[str, Any]) -> str:
        if one["flag"] == NOT_RUN:
            return NOT_RUN
        share = one["quantity"] == NON_MONOTONE
        shown = f"{100 * one['value']:.1f} %" if share else signed(one["value"], 3)
        return f"{one['flag']} ({shown})"

    table = _pivot(rows, ("network", "method"), "quantity", cell)
    return Panel(table, title=with_synthetic_mark("Can the attacks be trusted?", sources))


def _notes_on_print(frame: pd.DataFrame) -> list[str]:
    """Returns what the checks say of the printed numbers."""
    notes = []
    for check in CHECKS:
        part = frame[(frame["quantity"] == check.name) & frame["published"].notna()]
        part = part[[check.suspect(value) for value in part["published"]]]
        if not part.empty:
            note = f"In print, {check.name}: {check.words}. {_models(part)}."
            other = " In print the two attacks are on different points."
            notes.append(note + (other if check.measure is _black_box else ""))
    return notes


def _models(rows: pd.DataFrame) -> str:
    return ", ".join(f"{n}:{m}" for n, m in zip(rows["network"], rows["method"], strict=True))


def _notes(frame: pd.DataFrame, results: NsrResults) -> list[str]:
    notes = [f"{check.name}: {check.means}." for check in CHECKS]
    notes.append(
        f"{NON_MONOTONE}: share of the test points that 100-PGD fools at a level but not at a "
        "larger one, which a larger radius cannot make impossible."
    )
    looks = frame[frame["flag"] == LOOK]
    for (quantity, words), part in looks.groupby(["quantity", "words"], sort=False):
        notes.append(f"Look ({quantity}): {words}. {_models(part)}.")
    notes += _notes_on_print(frame)
    if looks.empty and (frame["flag"] == OK).any():
        notes.append("No check asks for a look.")
    notes.append(
        "The shares are over test points: one training of each model, so what another training "
        "would change is not in them. Methods are resampled independently, which makes them less "
        "sure than they could be."
        if results.trainings(DATASET) == 1
        else "The shares are over test points and, from three trainings on, over trainings."
    )
    text = remark(DATASET, results.sources.get(DATASET, ""))
    return notes + ([f"{text[0].upper()}{text[1:]}."] if text else [])
