"""Jobs that evaluate trained models on clean test points and choose the points to attack."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.core.logs import logger
from medrobust.core.seeds import generator
from medrobust.evaluation.given_starts import NO_START, choose_start
from medrobust.models.blocks import stated_block
from medrobust.models.contract import architecture_of
from medrobust.models.failures import failure_in
from medrobust.runtime.devices import choose_device, fix_threads, gpu_slot

if TYPE_CHECKING:
    import pandas as pd


def evaluate_clean(
    *,
    data: str,
    members: Sequence[str],
    predictions: str,
    summary: str,
    model: Mapping[str, Any],
    device: str,
    compute_threads: int,
    fold: int = 0,
) -> None:
    """Predicts every test point with all members of a model, and counts on validation points.

    Args:
        data: folder of the data set.
        fold: number of its split.
        members: safetensors files of the model's training jobs.
        predictions: parquet file to write: ``point_id`` (row of ``x.npy``), ``label``,
            ``prediction`` of the ensemble (null where its training failed) and, with
            ``keep_probabilities``, ``probability_<k>`` of each class.
        summary: JSON file to write: accuracy of the ensemble and of its members on test points,
            of the ensemble on validation points (null where there are none), and the SHA-256 of
            the files of arrays and members (``made_from``), by which attacks know them. Where the
            training failed, there is a text ``failed``, and all accuracies are null.
        model: ``architecture``, ``vote`` and, where asked for, ``keep_probabilities``.
        device: "auto", "cpu" or "cuda".
        compute_threads: threads of the numerical libraries.
    """
    fix_threads(compute_threads)
    import pandas as pd

    from medrobust.data.prepared.store import load_dataset
    from medrobust.evaluation.probabilities import class_probabilities, probability_columns
    from medrobust.jobs.shared import load_ensemble

    dataset = load_dataset(data, fold)
    sizes = {
        "n_train": len(dataset.y_train),
        "n_val": len(dataset.val_index),
        "n_test": len(dataset.y_test),
    }
    made_from = dataset.hashes() | {Path(f).name: io.sha256_of_file(f) for f in members}
    known = {"point_id": dataset.test_index, "label": dataset.y_test}
    if failed := failure_in(members):
        logger.warning("training failed: %s; nothing is evaluated", failed)
        nothing = pd.array([pd.NA] * len(dataset.y_test), dtype="Int64")
        io.write_table(predictions, pd.DataFrame(known | {"prediction": nothing}))
        accuracies = dict.fromkeys(("validation_accuracy", "ensemble_accuracy"))
        accuracies |= dict.fromkeys(("member_accuracy_mean", "member_accuracy_std"))
        facts = {"failed": failed, **sizes, **accuracies, "vote": model["vote"]}
        io.write_json(summary, facts | {"made_from": made_from})
        return
    architecture = architecture_of(model["architecture"]["name"])
    kind = choose_device(device, architecture.uses_gpu)
    with gpu_slot(kind) as chosen:
        ensemble = load_ensemble(members, model, dataset, chosen)
        labels, member_labels = ensemble.all_predictions(dataset.x_test)
        probabilities: dict[str, np.ndarray] = {}
        if model.get("keep_probabilities"):
            columns = probability_columns(dataset.n_classes)
            found = class_probabilities(ensemble, dataset.x_test).T
            probabilities = dict(zip(columns, found, strict=True))
        validation = None
        if len(dataset.val_index):
            validation = float((ensemble.predict(dataset.x_val) == dataset.y_val).mean())
    truth = dataset.y_test
    member_accuracy = (member_labels == truth).mean(axis=1)
    io.write_table(predictions, pd.DataFrame(known | {"prediction": labels} | probabilities))
    spread = float(member_accuracy.std(ddof=1)) if len(member_accuracy) > 1 else None
    io.write_json(
        summary,
        {
            **sizes,
            "validation_accuracy": validation,
            "ensemble_accuracy": float((labels == truth).mean()),
            "member_accuracy_mean": float(member_accuracy.mean()),
            "member_accuracy_std": spread,
            "members": len(member_accuracy),
            "vote": model["vote"],
            "majority_class_share": float(np.bincount(truth).max() / len(truth)),
            "made_from": made_from,
            **({} if kind == "cpu" else {"device": kind, **stated_block(architecture, kind)}),
        },
    )


def join_margins(*, extras: Sequence[str], out: str) -> None:
    """Joins what the training jobs of a model say of the margins of its training points.

    Args:
        extras: safetensors files of the jobs: ``margin`` float32 ``[members, n]``, ``point_id`` and
            ``label`` int32 ``[n]``.
        out: safetensors file to write, with the same arrays, the members of all jobs in turn.

    Raises:
        InputError: a file holds no margins, or the jobs saw other points.
    """
    parts = [io.read_tensors(file) for file in extras]
    for file, part in zip(extras, parts, strict=True):
        missing = {"margin", "point_id", "label"} - set(part)
        if missing or any((part[n] != parts[0][n]).any() for n in ("point_id", "label")):
            raise InputError(
                "This file holds no margins of the points that the other members were trained on.",
                where=file,
                remedy="train the model again: delete the file and run the same command.",
            )
    margin = np.concatenate([part["margin"] for part in parts])
    io.write_tensors(out, {**parts[0], "margin": margin})


def choose_cohort(
    *,
    predictions: Sequence[str],
    models: Sequence[str],
    cohort: str,
    points: int,
    select: str,
    names: Sequence[object],
    seed: int,
    fixed_starts: bool = False,
) -> None:
    """Chooses the test points to attack, in a seeded order, and a start for each.

    A start is the first point in that order, of another label, that all these models classify
    correctly: an attack that begins at a given point (``start: fixed``) uses it for every model. If
    there is none, see :func:`medrobust.evaluation.given_starts.choose_start`. Models whose
    training failed have no say.

    Args:
        predictions: predictions of each model (:func:`evaluate_clean`).
        models: their names.
        cohort: CSV file to write: ``position, point_id, label, start_id`` (-1: there is no start).
        points: how many.
        select: "all_correct" (points that all these models classify correctly) or "random".
        names: names of the piece of work for its seed.
        seed: root seed.
        fixed_starts: whether an attack begins at these starts.

    Raises:
        InputError: there are fewer such points than asked for, or an attack needs a start where
            no point is one for any model; it says how the models disagree.
    """
    import pandas as pd

    first, answers = _answers(predictions, models)
    labels = first["label"].to_numpy(np.int64)
    predicted = np.array(list(answers.values()), dtype=np.int64).reshape(-1, len(first))
    correct = (predicted == labels).all(axis=0)
    eligible = correct if select == "all_correct" else np.ones_like(correct)
    order = generator(seed, "cohort", *names).permutation(len(first))
    chosen = order[eligible[order]][:points]
    if len(chosen) < points:
        dataset = str(names[1]).split("@")[0]
        rule = (
            "that all of them classify correctly"
            if select == "all_correct"
            else "in the test split"
        )
        raise InputError(
            f"{points} points are asked for, but there are only {int(eligible.sum())} of "
            f"{len(first)} test points {rule} (models: {', '.join(models)})."
            f"{_disagreement(answers, labels) if select == 'all_correct' else ''}",
            where=f"config/studies/{names[0]}.yaml, key datasets.{dataset}.points",
            remedy="ask for fewer points, or set `cohort: {select: random}`.",
        )
    rows = first.iloc[chosen]
    starts = {
        int(label): choose_start(labels, predicted, order, int(label))
        for label in rows["label"].unique()
    }
    if fixed_starts:
        _check_starts(starts, answers, str(names[1]))
    ids = first["point_id"].to_numpy()
    io.write_table(
        cohort,
        pd.DataFrame(
            {
                "position": np.arange(points),
                "point_id": rows["point_id"].to_numpy(),
                "label": rows["label"].to_numpy(),
                "start_id": [
                    NO_START if (row := starts[label]) == NO_START else ids[row]
                    for label in rows["label"]
                ],
            }
        ),
    )


def draw_points(
    *,
    predictions: Sequence[str],
    models: Sequence[str],
    drawn: str,
    points: int,
    names: Sequence[object],
    seed: int,
) -> None:
    """Draws test points to attack, whatever the models say of them, and a start for each.

    Args:
        predictions, models, seed: as in :func:`choose_cohort`, which also says what starts are.
        drawn: CSV file to write, of the same columns as a cohort.
        points: how many; all, where there are fewer.
        names: names of the piece of work for its seed, the attack among them.
    """
    choose_cohort(
        predictions=predictions,
        models=models,
        cohort=drawn,
        points=min(points, len(io.read_table(predictions[0]))),
        select="random",
        names=names,
        seed=seed,
    )


def select_points(
    *,
    data: str,
    out: str,
    split: str,
    points_per_class: int | None,
    points: int | None,
    fold: int = 0,
) -> None:
    """Lists the points of a split that an attack takes, in the order of the data set.

    Args:
        data: folder of the data set.
        fold: number of its split.
        out: CSV file to write, of the same columns as a cohort: ``position, point_id, label,
            start_id`` (-1: attacks on a split have no given starts).
        split: "test" or "val".
        points_per_class: the first so many of each class (all, where it has fewer); None: all.
        points: of these the first so many; None: all.

    Raises:
        InputError: the split holds no points.
    """
    import pandas as pd

    from medrobust.data.prepared.store import load_dataset

    dataset = load_dataset(data, fold)
    rows = dataset.test_index if split == "test" else dataset.val_index
    if not len(rows):
        raise InputError(f"The data set has no {split} points to attack.", where=data)
    labels = np.asarray(dataset.y[rows])
    if points_per_class is not None:
        firsts = [np.flatnonzero(labels == c)[:points_per_class] for c in np.unique(labels)]
        kept = np.sort(np.concatenate(firsts))
        rows, labels = rows[kept], labels[kept]
    rows, labels = rows[:points], labels[:points]
    columns = {"position": np.arange(len(rows)), "point_id": rows, "label": labels}
    io.write_table(out, pd.DataFrame(columns | {"start_id": -1}))


def _answers(
    predictions: Sequence[str], models: Sequence[str]
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Returns the table of the first model, and of each model that was trained its predictions."""
    tables = [io.read_table(file) for file in predictions]
    answers = {}
    for table, model in zip(tables, models, strict=True):
        if table["prediction"].isna().any():
            logger.warning("the points are chosen without %s: its training failed", model)
        else:
            answers[model] = table["prediction"].to_numpy(np.int64)
    return tables[0], answers


def _disagreement(answers: Mapping[str, np.ndarray], labels: np.ndarray) -> str:
    """Returns how many points each model classifies correctly, and which two share the fewest."""
    right = {model: predicted == labels for model, predicted in answers.items()}
    alone = ", ".join(f"{model} {int(ok.sum())}" for model, ok in right.items())
    text = f" Classified correctly by each: {alone}."
    pairs = list(itertools.combinations(right, 2))
    if not pairs:
        return text
    one, other = min(pairs, key=lambda pair: int((right[pair[0]] & right[pair[1]]).sum()))
    both = int((right[one] & right[other]).sum())
    return f"{text} {one} and {other} disagree the most: both are right on {both}."


def _check_starts(
    starts: Mapping[int, int], answers: Mapping[str, np.ndarray], dataset: str
) -> None:
    """Refuses classes of points without a start, and tells which models take one of their own."""
    for label, row in starts.items():
        if row == NO_START:
            raise InputError(
                f"No test point of {dataset} can be the start of an attack on points of class "
                f"{label}: {', '.join(answers)} call all of them {label}.",
                where="attacks, option start: fixed",
                remedy="train these models longer, or set the attack's option `start: outward`.",
            )
        others = [model for model, predicted in answers.items() if predicted[row] == label]
        if others:
            logger.warning(
                "no test point is a start for points of class %d for all models; %s will begin at "
                "starts of their own, the others at one point",
                label,
                ", ".join(others),
            )
