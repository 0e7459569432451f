"""Attack records: one row per (point, epsilon, loss, restart), from a fresh forward pass.

docs/results.md describes the columns. What a record says is checked against the
stored float32 array, never taken from the attack. Conventions:

* a clean point that the model misclassifies has success true and distance 0;
* a failed attack is censored: success false and no distances (null), never 0, never dropped;
* epsilon and loss are null for boundary attacks, which have neither.

Where a study keeps probabilities, ``probability_<k>`` is that of class k at the adversarial point
(:mod:`medrobust.evaluation.probabilities`): at the last row of a run that failed, and at the clean
point where that is misclassified.

Distances are computed in float64 from the stored float32 arrays, in the units of x. Null is
NaN in float columns and ``pandas.NA`` in the others. Wall-clock times are not in the record,
so that equal results are equal files; they go to a JSON file beside it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.evaluation.probabilities import (
    check_probabilities,
    class_probabilities,
    probability_columns,
)
from medrobust.models.engine.answers import checked_labels

if TYPE_CHECKING:
    from medrobust.attacks import AttackResult, LabelModel
    from medrobust.core.schema import Settings

KEY = ("point_id", "epsilon", "loss", "restart")
DISTANCES = ("l1", "l2", "linf", "l2_final_iterate")
_BLOCK_VALUES = 1_000_000

#: Column names of a record, in order, with their pandas types.
SCHEMA: dict[str, str] = {
    "point_id": "int64",
    "epsilon": "float64",
    "loss": "string",
    "restart": "int64",
    "label": "int64",
    "clean_prediction": "int64",
    "adversarial_prediction": "Int64",
    "success": "bool",
    "l1": "float64",
    "l2": "float64",
    "linf": "float64",
    "l2_final_iterate": "float64",
    "queries": "int64",
    "gradient_evaluations": "int64",
    "iterations": "int64",
    "seed": "int64",
    "init_ok": "bool",
    "box_violation": "bool",
}
#: Columns behind these that older records lack; null then, and where an attack has no such thing.
LATER: dict[str, str] = {
    "steps_without_gradient": "Int64",
    "start_id": "Int64",
    "start_shared": "boolean",
    "target": "Int64",
}
#: Of these, columns that a file has only where they say something: of attacks from given starts,
#: and of targeted ones.
_IF_GIVEN = ("start_id", "start_shared", "target")
_TYPES = SCHEMA | LATER


def records_from_result(
    model: LabelModel,
    x: np.ndarray,
    y: np.ndarray,
    point_ids: np.ndarray,
    result: AttackResult,
    spec: Settings,
    input_range: tuple[float, float],
    *,
    probabilities: bool = False,
) -> pd.DataFrame:
    """Returns the records of an attack, from a fresh forward pass on its stored arrays.

    Args:
        model: the model that was attacked.
        x: float32 ``[n, *shape]``, the clean points.
        y: integer ``[n]``, the true labels.
        point_ids: integer ``[n]``, all different: rows of the prepared data set.
        result: what the attack returned for ``x``.
        spec: the attack's settings; its ``epsilon`` and ``loss``, where it has them, go into
            the record.
        input_range: smallest and largest valid input, in the units of x; an adversarial point
            outside (compared in float32) is a box violation.
        probabilities: whether to add those of the classes, of an ensemble.

    Returns:
        The columns of ``SCHEMA`` and ``LATER``, n * restarts rows sorted by the key; with
        ``probabilities`` one more for each class, null where the attack left no row.
        ``l2_final_iterate`` is null also where the last iterate is not adversarial, which no
        distance can excuse.

    Raises:
        InputError: ids repeat or shapes disagree.
    """
    n, restarts = result.seeds.shape
    ids = np.asarray(point_ids)
    _check_points(x, y, ids, result)
    label = np.repeat(np.asarray(y, dtype=np.int64), restarts)
    clean = np.repeat(checked_labels(model.predict(x), n, model.n_classes), restarts)
    wrong = clean != label
    origin = np.repeat(x, restarts, axis=0)
    x_adv = _adversarial(origin, result.x_adv, wrong)
    iterate = _adversarial(origin, result.x_final_iterate, wrong)
    predicted = _predict_finite(model, x_adv)
    success = (predicted >= 0) & (predicted != label)
    iterate_label = _predict_finite(model, iterate)
    iterate_success = success & (iterate_label >= 0) & (iterate_label != label)
    distances = _distances(origin, x_adv, success)
    columns = {
        "point_id": np.repeat(ids, restarts),
        "epsilon": getattr(spec, "epsilon", None),
        "loss": getattr(spec, "loss", None),
        "restart": np.tile(np.arange(restarts), n),
        "label": label,
        "clean_prediction": clean,
        "adversarial_prediction": pd.array(predicted, dtype="Int64"),
        "success": success,
        **distances,
        "l2_final_iterate": _distances(origin, iterate, iterate_success)["l2"],
        "queries": result.queries.ravel(),
        "gradient_evaluations": result.gradient_evaluations.ravel(),
        "iterations": result.iterations.ravel(),
        "seed": result.seeds.ravel(),
        "init_ok": result.init_ok.ravel(),
        "box_violation": _outside(x_adv, input_range),
        "steps_without_gradient": pd.array(result.steps_without_gradient.ravel(), dtype="Int64"),
        **dict.fromkeys(_IF_GIVEN, pd.NA),
        "target": pd.array(np.where(wrong, -1, result.targets.ravel()), dtype="Int64"),
    }
    frame = pd.DataFrame(columns, index=pd.RangeIndex(n * restarts))
    frame.loc[predicted < 0, "adversarial_prediction"] = pd.NA
    for name in ("steps_without_gradient", "target"):
        frame.loc[frame[name] < 0, name] = pd.NA
    frame = frame.astype(_TYPES)[list(_TYPES)]
    if probabilities:
        frame = frame.join(_probabilities(model, x_adv, predicted >= 0))
    return _sorted(frame)


def targeted_success(records: pd.DataFrame) -> pd.Series:
    """Returns whether each run of a targeted attack reached its target.

    With two classes this is ``success``; with more, a run may end in a class that is neither.

    Args:
        records: as :func:`read_records` or :func:`records_from_result` return them.

    Returns:
        "boolean": null where a run had no target, or the clean point is misclassified.
    """
    reached = (records["adversarial_prediction"] == records["target"]).astype("boolean")
    return reached.fillna(False).mask(records["target"].isna())


def no_records() -> pd.DataFrame:
    """Returns the columns of records without rows, of a model whose training failed."""
    return pd.DataFrame(columns=list(_TYPES)).astype(_TYPES)


def save_chunk(
    path_parquet: str | os.PathLike[str],
    path_arrays: str | os.PathLike[str],
    *,
    records: pd.DataFrame,
    x: np.ndarray,
    point_ids: np.ndarray,
    result: AttackResult,
    path_timing: str | os.PathLike[str] | None = None,
    timing: Mapping[str, Any] | None = None,
) -> None:
    """Writes the records of a chunk of points and the arrays that figures need.

    Args:
        path_parquet: where the records go.
        path_arrays: safetensors: ``point_id`` int64 ``[n]`` in ascending order,
            ``best_restart`` int64 ``[n]`` (smallest l2, the first of equals; -1 where all
            failed), and float32 ``[n, *shape]``: ``x``, ``x_adv`` and ``x_final_iterate`` of
            that restart (NaN where all failed). Where the attack keeps traces,
            ``trace_queries`` int64, ``trace_boundary`` and ``trace_iterate`` float32
            ``[n, restarts, iterations + 1]`` (:class:`medrobust.attacks.Traces`).
        records: from :func:`records_from_result` for the same points.
        x, point_ids, result: as given there.
        path_timing, timing: JSON file for wall-clock times, and its content; never part of the
            records.

    Raises:
        InputError: the records are not valid, or not of these points.
    """
    records = _checked(records, where="the records to be saved")
    order = np.argsort(point_ids, kind="stable")
    best = _best_restarts(records)
    if not np.array_equal(best.index.to_numpy(), np.asarray(point_ids)[order]):
        raise InputError("The records to be saved are not those of the points given with them.")
    wrong = records.groupby("point_id")["clean_prediction"].first() != (
        records.groupby("point_id")["label"].first()
    )
    arrays = _best_arrays(x[order], order, best.to_numpy(), wrong.to_numpy(), result)
    if (traces := result.traces) is not None:
        for name in ("queries", "boundary", "iterate"):
            arrays[f"trace_{name}"] = getattr(traces, name)[order]
    io.write_tensors(
        path_arrays,
        {"point_id": best.index.to_numpy(np.int64), "best_restart": best.to_numpy(), **arrays},
    )
    if path_timing is not None:
        io.write_json(path_timing, dict(timing or {}))
    # Last: a chunk counts as done when its records are there.
    _write(path_parquet, records)


def save_records(path: str | os.PathLike[str], records: pd.DataFrame) -> None:
    """Writes records of several epsilons or losses as parquet, sorted by the key.

    Raises:
        InputError: the records are not valid.
    """
    _write(path, _sorted(_checked(records, where="the records to be saved")))


def _write(path: str | os.PathLike[str], records: pd.DataFrame) -> None:
    nothing = [name for name in _IF_GIVEN if records[name].isna().all()]
    io.write_table(path, records.drop(columns=nothing))


def read_records(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
) -> pd.DataFrame:
    """Reads one or more files of records (parquet or CSV) into one frame, sorted by the key.

    Raises:
        InputError: a file is missing or unreadable, a column is missing, unknown or of a wrong
            type, a key occurs twice, or a record contradicts itself.
    """
    files = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    if not files:
        raise InputError("No files of attack records were given.")
    frames = [_read_one(Path(file)) for file in files]
    frame = pd.concat(frames, ignore_index=True)
    _refuse_duplicates(frame, where=", ".join(str(file) for file in files))
    return _sorted(frame)


def minimum_over_restarts(records: pd.DataFrame) -> pd.DataFrame:
    """Reduces records to one row per point (and epsilon and loss, where the attack has them).

    Args:
        records: the columns of ``SCHEMA``.

    Returns:
        ``point_id, epsilon, loss, label, clean_prediction, success`` (any restart succeeded),
        ``l1, l2, linf, l2_final_iterate`` (each the smallest of its own over the restarts that
        succeeded; null if none did), ``best_restart`` (Int64: of the smallest l2, the first of
        equals; null if all failed), ``restarts``, ``failed_restarts`` and ``queries`` (the
        sum), sorted by (point_id, epsilon, loss).
    """
    group = ["point_id", "epsilon", "loss"]
    grouped = records.groupby(group, dropna=False, sort=False)
    table = grouped.agg(
        label=("label", "first"),
        clean_prediction=("clean_prediction", "first"),
        success=("success", "any"),
        **{name: (name, "min") for name in DISTANCES},
        restarts=("restart", "size"),
        successes=("success", "sum"),
        queries=("queries", "sum"),
    ).reset_index()
    table["failed_restarts"] = table["restarts"] - table.pop("successes")
    best = records[records["success"]].sort_values(["l2", "restart"], kind="stable")
    best = best.drop_duplicates(group)[[*group, "restart"]]
    best = best.rename(columns={"restart": "best_restart"})
    table = table.merge(best, on=group, how="left").astype({"best_restart": "Int64"})
    columns = [*group, "label", "clean_prediction", "success", *DISTANCES, "best_restart"]
    table = table[[*columns, "restarts", "failed_restarts", "queries"]]
    return table.sort_values(group, kind="stable", ignore_index=True)


def _check_points(x: np.ndarray, y: np.ndarray, ids: np.ndarray, result: AttackResult) -> None:
    n, restarts = result.seeds.shape
    expected = (n, restarts, *x.shape[1:])
    if x.shape[0] != n or result.x_adv.shape != expected or np.shape(y) != (n,):
        raise InputError(
            f"The attack's result has shape {result.x_adv.shape}, which does not fit the points "
            f"of shape {x.shape} and labels of shape {np.shape(y)}."
        )
    if ids.shape != (n,) or not np.issubdtype(ids.dtype, np.integer):
        raise InputError(f"The point ids must be {n} integers, found {ids.dtype} {ids.shape}.")
    if len(np.unique(ids)) != n:
        raise InputError("The point ids repeat; each point of a chunk needs its own.")
    if x.dtype != np.float32 or not np.isfinite(x).all():
        raise InputError(
            f"The clean points must be finite float32 numbers (found {x.dtype}, or NaN among them)."
        )


def _adversarial(origin: np.ndarray, found: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """Returns the found points as float32 rows, or the clean point where the model is wrong."""
    rows = found.reshape(origin.shape).astype(np.float32)
    rows[wrong] = origin[wrong]
    return rows


def _predict_finite(model: LabelModel, rows: np.ndarray) -> np.ndarray:
    """Returns the label of each row, -1 where a row is not finite (the attack failed)."""
    finite = np.isfinite(rows).reshape(len(rows), -1).all(axis=1)
    labels = np.full(len(rows), -1, dtype=np.int64)
    if finite.any():
        answer = model.predict(rows[finite])
        labels[finite] = checked_labels(answer, int(finite.sum()), model.n_classes)
    return labels


def _probabilities(model: Any, rows: np.ndarray, finite: np.ndarray) -> pd.DataFrame:
    """Returns ``probability_<k>`` of rows, null where they are not finite."""
    found = np.full((len(rows), model.n_classes), np.nan)
    if finite.any():
        found[finite] = class_probabilities(model, rows[finite])
    return pd.DataFrame(found, columns=probability_columns(model.n_classes))


def _distances(origin: np.ndarray, rows: np.ndarray, valid: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the l1, l2 and linf distances in float64, NaN where not ``valid``."""
    distances = {name: np.full(len(rows), np.nan) for name in ("l1", "l2", "linf")}
    chosen = np.flatnonzero(valid)
    # In blocks: one float64 copy of a chunk of images is gigabytes.
    size = max(1, _BLOCK_VALUES // max(1, rows[:1].size))
    for begin in range(0, len(chosen), size):
        part = chosen[begin : begin + size]
        step = rows[part].astype(np.float64) - origin[part].astype(np.float64)
        step = np.abs(step).reshape(len(part), -1)
        distances["l1"][part] = step.sum(axis=1)
        distances["l2"][part] = np.sqrt(np.square(step).sum(axis=1))
        distances["linf"][part] = step.max(axis=1)
    return distances


def _outside(rows: np.ndarray, input_range: tuple[float, float]) -> np.ndarray:
    low, high = (np.float32(end) for end in input_range)
    with np.errstate(invalid="ignore"):
        return ((rows < low) | (rows > high)).reshape(len(rows), -1).any(axis=1)


def _best_restarts(records: pd.DataFrame) -> pd.Series:
    """Returns the restart of the smallest l2 by point id, -1 where all failed."""
    if records.duplicated(["point_id", "restart"]).any():
        raise InputError(
            "The records to be saved hold several epsilons or losses; save one chunk for each."
        )
    table = minimum_over_restarts(records).set_index("point_id")
    return table["best_restart"].fillna(-1).astype("int64")


def _best_arrays(
    x: np.ndarray, order: np.ndarray, best: np.ndarray, wrong: np.ndarray, result: AttackResult
) -> dict[str, np.ndarray]:
    """Returns the arrays of each point's best restart; the point itself where it is wrong."""
    arrays = {"x": x}
    for name in ("x_adv", "x_final_iterate"):
        rows = getattr(result, name)[order, np.maximum(best, 0)].astype(np.float32)
        rows[best < 0] = np.nan
        rows[wrong] = x[wrong]
        arrays[name] = rows
    return arrays


def _sorted(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.sort_values(list(KEY), kind="stable", ignore_index=True)


def _read_one(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise InputError("This file of attack records does not exist.", where=str(path))
    try:
        frame = io.read_table(path)
    except (ValueError, OSError) as error:
        raise InputError(
            f"This file of attack records cannot be read ({error}).",
            where=str(path),
            remedy="delete it and run the same command again.",
        ) from error
    return _checked(frame, where=str(path))


def _checked(frame: pd.DataFrame, *, where: str) -> pd.DataFrame:
    """Returns the frame in the types of ``SCHEMA`` if it is valid.

    Raises:
        InputError: see :func:`read_records`.
    """
    missing = [name for name in SCHEMA if name not in frame.columns]
    of_classes = check_probabilities(frame, where=where)
    unknown = [name for name in frame.columns if name not in {*_TYPES, *of_classes}]
    if missing or unknown:
        parts = [f"missing: {', '.join(missing)}"] if missing else []
        parts += [f"unknown: {', '.join(map(str, unknown))}"] if unknown else []
        raise InputError(
            f"These attack records have the wrong columns ({'; '.join(parts)}).",
            where=where,
            remedy="run the attack again with this version of medrobust.",
        )
    older = {name: pd.Series(pd.NA, index=frame.index, dtype=kind) for name, kind in LATER.items()}
    typed = {name: _typed(frame.get(name, older.get(name)), name, where) for name in _TYPES}
    frame = pd.DataFrame(typed | {name: frame[name] for name in of_classes})
    _refuse_duplicates(frame, where=where)
    for reason, rows in _contradictions(frame).items():
        if rows.any():
            first = frame.loc[rows, ["point_id", "restart"]].iloc[0]
            raise InputError(
                f"{int(rows.sum())} attack record(s) contradict themselves: {reason} (first: "
                f"point {first['point_id']}, restart {first['restart']}).",
                where=where,
                remedy="run the attack again.",
            )
    return frame


def _typed(column: pd.Series, name: str, where: str) -> pd.Series:
    """Returns a column in its type, refusing any conversion that would change a value."""
    wanted = _TYPES[name]
    if column.empty:
        return column.astype(wanted)
    kind = "empty" if column.isna().all() else column.dtype.kind
    allowed = {
        "float64": "fiu", "int64": "iu", "Int64": "iuf", "bool": "b", "boolean": "b",
        "string": "OTU",
    }  # fmt: skip
    text = wanted == "string" and pd.api.types.is_string_dtype(column.dtype)
    nullable = wanted in ("float64", "Int64", "boolean", "string")
    ok = text or (nullable if kind == "empty" else kind in allowed[wanted])
    if ok and (nullable or not column.isna().any()):
        try:
            return column.astype(wanted)
        except (TypeError, ValueError):
            pass
    raise InputError(
        f"The column {name!r} of these attack records is of type {column.dtype} or holds null; "
        f"expected {wanted}.",
        where=where,
        remedy="run the attack again with this version of medrobust.",
    )


def _refuse_duplicates(frame: pd.DataFrame, *, where: str) -> None:
    repeated = frame.duplicated(list(KEY))
    if repeated.any():
        first = frame.loc[repeated, list(KEY)].iloc[0]
        raise InputError(
            f"{int(repeated.sum())} attack record(s) occur twice (first: point "
            f"{first['point_id']}, epsilon {first['epsilon']}, loss {first['loss']}, restart "
            f"{first['restart']}).",
            where=where,
            remedy="remove stale chunk files, or do not name a file twice.",
        )


def _contradictions(frame: pd.DataFrame) -> dict[str, pd.Series]:
    """Returns, for each rule that records must keep, the rows that break it."""
    success, l1, l2, linf = frame["success"], frame["l1"], frame["l2"], frame["linf"]
    present = frame[["l1", "l2", "linf"]].notna()
    wrong = frame["clean_prediction"] != frame["label"]
    predicted = frame["adversarial_prediction"]
    flipped = (predicted != frame["label"]).fillna(False).astype(bool)
    slack = 1 + 1e-9
    finite = frame[list(DISTANCES)].isin([np.inf, -np.inf])
    counts = frame[["queries", "gradient_evaluations", "iterations", "seed"]]
    return {
        "a success without a distance": success & ~present.all(axis=1),
        "a failure with a distance": ~success & frame[list(DISTANCES)].notna().any(axis=1),
        "success and the adversarial prediction disagree": success != flipped,
        "a misclassified clean point that is no success at distance 0": wrong
        & ~(success & (l2 == 0) & (l1 == 0) & (linf == 0)),
        "a correctly classified point with an adversarial example at distance 0": ~wrong
        & success
        & (l2 == 0),
        "a success without an adversarial start": success & ~frame["init_ok"] & ~wrong,
        "a distance is negative or infinite": (frame[list(DISTANCES)] < 0).any(axis=1)
        | finite.any(axis=1),
        "linf <= l2 <= l1 does not hold": success & ((linf > l2 * slack) | (l2 > l1 * slack)),
        "a count is negative": (counts < 0).any(axis=1),
        "more steps without a gradient than steps": (
            (frame["steps_without_gradient"] < 0)
            | (frame["steps_without_gradient"] > frame["iterations"])
        )
        .fillna(False)
        .astype(bool),
    }
