"""What is in a prepared data set, and what a reader of its results must know.

Counts, range, NaN, constant rows, duplicates within and across splits (exact ones, and images that
look alike), and patients on both sides of a split. All vectorised: 109,446 x 187 values take about
a second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from medrobust.core.words import counted
from medrobust.data.prepared.near_duplicates import (
    ENOUGH_IMAGES,
    SIMILAR,
    comparable,
    duplicate_groups,
    least_of_few,
    near_pairs,
)
from medrobust.data.prepared.splits import SPLIT_TITLES, SPLITS
from medrobust.data.prepared.store import Prepared

_ROWS_SHOWN = 10


@dataclass(frozen=True)
class AuditFinding:
    """One thing that the audit of a data set found out.

    Attributes:
        code: short name, stable for tests.
        level: "info", "warning" (limits what results mean) or "error" (must not be used).
        text: one sentence.
        count: how many rows, pairs or patients it concerns.
        rows: the first few row numbers.
    """

    code: str
    level: str
    text: str
    count: int = 0
    rows: tuple[int, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Returns the finding as plain JSON values."""
        return asdict(self) | {"rows": list(self.rows)}


def audit(data: Prepared) -> list[AuditFinding]:
    """Examines a prepared data set and returns its findings, errors first."""
    findings = [*_values(data), *_balance(data), *_duplicates(data), *_near_duplicates(data)]
    findings += _file_modes(data)
    counts = [class_counts(data.y, data.class_names, fold) for fold in data.folds]
    findings += absent_classes(counts, data.class_names, "row")
    for number, fold in enumerate(data.folds if data.of_patients else ()):
        findings += _patients(data, fold, number)
    order = {"error": 0, "warning": 1, "info": 2}
    return sorted(findings, key=lambda finding: order[finding.level])


def class_counts(
    y: np.ndarray, class_names: Sequence[str], fold: Sequence[np.ndarray]
) -> dict[str, dict[str, int]]:
    """Returns split -> class -> number of rows, with the split ``all``; empty splits left out."""
    parts = {
        **{name: y[rows] for name, rows in zip(SPLITS, fold, strict=True) if len(rows)},
        "all": y,
    }
    return {
        split: dict(
            zip(class_names, np.bincount(part, minlength=len(class_names)).tolist(), strict=True)
        )
        for split, part in parts.items()
    }


def _finding(code: str, level: str, text: str, rows: np.ndarray) -> AuditFinding:
    first = tuple(int(row) for row in rows.ravel()[:_ROWS_SHOWN])
    return AuditFinding(code, level, text, len(rows), first)


def _values(data: Prepared) -> list[AuditFinding]:
    low, high = data.input_range if data.x.dtype.kind == "f" else (0, 255)
    flat = data.x.reshape(len(data.x), -1)
    smallest, largest = flat.min(axis=1), flat.max(axis=1)
    # NaN makes minimum and maximum NaN; infinities show in them.
    bad = np.flatnonzero(~(np.isfinite(smallest) & np.isfinite(largest)))
    outside = np.flatnonzero((smallest < low) | (largest > high))
    constant = np.flatnonzero(smallest == largest)
    findings = []
    if len(bad):
        text = f"{counted(len(bad), 'row holds', 'rows hold')} values that are not finite."
        findings.append(_finding("not_finite", "error", text, bad))
    if len(outside):
        text = (
            f"{counted(len(outside), 'row holds', 'rows hold')} values outside [{low:g}, {high:g}]."
        )
        findings.append(_finding("out_of_range", "error", text, outside))
    if len(constant):
        text = f"{counted(len(constant), 'row is', 'rows are')} constant."
        findings.append(_finding("constant", "warning", text, constant))
    return findings


def _balance(data: Prepared) -> list[AuditFinding]:
    count = np.bincount(data.y, minlength=len(data.class_names))
    share = count / max(len(data.y), 1)
    findings = []
    empty = [name for name, n in zip(data.class_names, count, strict=True) if n == 0]
    if empty:
        text = f"No row of class {', '.join(empty)}."
        findings.append(AuditFinding("empty_class", "warning", text, len(empty)))
    if share.max() > 0.5 and len(count) > 1:
        name = data.class_names[int(share.argmax())]
        text = (
            f"Class {name} holds {share.max():.1%} of the rows: always answering {name} is that "
            f"accurate. The smallest class has {share.min():.1%}."
        )
        findings.append(AuditFinding("imbalance", "info", text, int(count.max())))
    return findings


def absent_classes(
    counts: Sequence[Mapping[str, Mapping[str, int]]], class_names: Sequence[str], of: str
) -> list[AuditFinding]:
    """Returns a warning for each split and class that has none.

    Args:
        counts: per fold, split -> class -> number; splits without rows are left out, and classes
            that are in no split are told otherwise.
        class_names: name of each label.
        of: what is counted, such as "row".
    """
    findings = []
    for number, parts in enumerate(counts):
        whole = parts["all"]
        for split, found in parts.items():
            for name in class_names:
                if whole[name] and not found[name]:
                    text = (
                        f"Fold {number}, {SPLIT_TITLES[split]}: no {of} of class {name}, of which "
                        f"there are {whole[name]:,}. Nothing can be said of this class there."
                    )
                    findings.append(AuditFinding("class_not_in_split", "warning", text, 1))
    return findings


def _duplicates(data: Prepared) -> list[AuditFinding]:
    groups = duplicate_groups(data.x)
    if not groups:
        text = "No two rows are equal."
        return [AuditFinding("no_duplicates", "info", text)]
    extra = sum(len(group) - 1 for group in groups)
    rows = np.concatenate(groups)
    repeat = counted(extra, "row repeats", "rows repeat")
    text = f"{repeat} another row exactly ({counted(len(groups), 'group', 'groups')})."
    findings = [_finding("duplicates", "warning", text, rows)]
    conflicting = [group for group in groups if len(set(data.y[group].tolist())) > 1]
    if conflicting:
        has = counted(len(conflicting), "group of equal rows has", "groups of equal rows have")
        text = f"{has} different labels."
        findings.append(
            _finding("duplicate_labels_differ", "warning", text, np.concatenate(conflicting))
        )
    for number, fold in enumerate(data.folds):
        split = np.full(len(data.y), -1)
        for code, part in enumerate(fold):
            split[part] = code
        crossing = [group for group in groups if len(set(split[group].tolist())) > 1]
        if crossing:
            lies = counted(len(crossing), "group of equal rows lies", "groups of equal rows lie")
            text = f"Fold {number}: {lies} in several splits."
            findings.append(
                _finding("duplicates_across_splits", "warning", text, np.concatenate(crossing))
            )
    return findings


def _near_duplicates(data: Prepared) -> list[AuditFinding]:
    if not comparable(data.x):
        return []
    least = least_of_few(len(data.x))
    candidates = near_pairs(data.x, least)
    pairs = candidates if least == SIMILAR else near_pairs(data.x)
    uncertain = _uncertain(len(data.x), least, candidates, len(pairs))
    if not len(pairs):
        alone = AuditFinding("no_near_duplicates", "info", "No two images look alike.")
        return uncertain or [alone]
    text = (
        f"Pairs of images that look alike (thumbnails correlate by {SIMILAR:g} or more; equal ones "
        f"included): {len(pairs):,}."
    )
    findings = [*uncertain, _finding("near_duplicates", "warning", text, pairs)]
    conflicting = pairs[data.y[pairs[:, 0]] != data.y[pairs[:, 1]]]
    if len(conflicting):
        has = counted(len(conflicting), "has", "have")
        text = f"Of the pairs that look alike, {has} different labels."
        findings.append(_finding("near_duplicate_labels_differ", "warning", text, conflicting))
    for number, fold in enumerate(data.folds):
        split = np.full(len(data.y), -1)
        for code, part in enumerate(fold):
            split[part] = code
        crossing = pairs[split[pairs[:, 0]] != split[pairs[:, 1]]]
        if len(crossing):
            one, many = "pair that looks alike lies", "pairs that look alike lie"
            text = f"Fold {number}: {counted(len(crossing), one, many)} in several splits."
            findings.append(_finding("near_duplicates_across_splits", "warning", text, crossing))
    return findings


def _uncertain(n: int, least: float, candidates: np.ndarray, found: int) -> list[AuditFinding]:
    """Returns a finding if there are too few images to tell which look alike."""
    if n >= ENOUGH_IMAGES:
        return []
    more = len(candidates) - found
    text = (
        f"Whether two images look alike cannot be told for certain of {n} (from {ENOUGH_IMAGES} on "
        f"it can): {more:,} {'more ' if found else ''}{'pair' if more == 1 else 'pairs'} may, "
        f"whose thumbnails correlate by {max(least, 0):.2f} or more."
    )
    return [_finding("near_duplicates_uncertain", "warning", text, candidates)]


def _file_modes(data: Prepared) -> list[AuditFinding]:
    """Tells whether the files' colour modes give the classes away."""
    if "mode" not in data.ids.columns:
        return []
    mode = data.ids["mode"].astype(str).to_numpy()
    count = [np.bincount(data.y[mode == name], minlength=1) for name in sorted(set(mode))]
    correct = sum(int(part.max()) for part in count)
    if correct <= np.bincount(data.y).max():
        return []
    text = (
        f"Guessing the class by the colour mode of the raw file would be right for "
        f"{correct / len(data.y):.1%} of the rows. The arrays have one mode for all; a program "
        "that reads the files themselves must see to that."
    )
    return [AuditFinding("file_modes_tell_classes", "info", text, correct)]


def _patients(data: Prepared, fold: Sequence[np.ndarray], number: int) -> list[AuditFinding]:
    patient = _patient_of_row(data)
    if patient is None:
        text = "The source does not tell which patient a row comes from."
        return [AuditFinding("patients_unknown", "info", text)] if number == 0 else []
    in_train, in_test = set(patient[fold[0]].tolist()), set(patient[fold[2]].tolist())
    both = in_train & in_test
    if not both:
        text = (
            f"Fold {number}: no patient is in both training "
            f"({counted(len(in_train), 'patient', 'patients')}) and test ({len(in_test)})."
        )
        return [AuditFinding("patients_disjoint", "info", text)]
    whose = "all" if both == in_test else str(len(both))
    text = (
        f"Fold {number}: {whose} of the {counted(len(in_test), 'test patient', 'test patients')} "
        f"{'is' if whose == '1' else 'are'} also in training. Test "
        "accuracy tells how well a model knows these patients, not how it does on new ones."
    )
    return [AuditFinding("patients_shared", "warning", text, len(both))]


def _patient_of_row(data: Prepared) -> np.ndarray | None:
    if "patient" not in data.ids.columns:
        return None
    patient = data.ids["patient"].fillna("").astype(str).to_numpy()
    return patient if (patient != "").all() else None
