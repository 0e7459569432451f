"""What is in a set of volumes with masks: each case by itself, and all of them together."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medrobust.core.words import counted
from medrobust.data.formats.nifti_files import Volume
from medrobust.data.prepared.audit import AuditFinding, absent_classes
from medrobust.data.prepared.splits import Fold

_SHOWN = 10
_TOLERANCE = 1e-3
"""Millimetres by which two grids may differ: headers hold 32-bit numbers."""
_LARGEST_COSINE = 1e-4
"""Of two axes. SimpleITK 2.5.7, with which nnU-Net reads, opened files with a cosine of 0.0001, and
refused 0.0003 and more ("ITK only supports orthonormal direction cosines")."""


@dataclass(frozen=True)
class CaseFacts:
    """What was found in one case.

    Attributes:
        name: of the case.
        shape: of the image, (x, y, z).
        channels: of the image.
        spacing: size of a voxel along x, y, z in millimetres.
        orientation: direction of each axis.
        low, high: least and greatest value of the image.
        voxels: of each value of the mask, by class.
        digest: of the image's values.
        problems: what is wrong with it, keys of ``_TEXTS``.
    """

    name: str
    shape: tuple[int, ...]
    channels: int
    spacing: tuple[float, float, float]
    orientation: str
    low: float
    high: float
    voxels: tuple[int, ...]
    digest: str
    problems: tuple[str, ...]


def case_facts(
    name: str, image: Volume, label: Volume, *, channels: int, classes: int
) -> CaseFacts:
    """Examines one case; ``channels`` and ``classes`` are what it should have."""
    mask = label.data
    whole = bool((mask == np.round(mask)).all() and mask.min() >= 0 and mask.max() < classes)
    voxels = np.bincount(mask.astype(np.int64).ravel(), minlength=classes) if whole else []
    own_channels = image.data.shape[3] if image.data.ndim == 4 else 1
    checks = {
        "shape": mask.ndim == 3 and image.data.shape[:3] == mask.shape,
        "channels": own_channels == channels,
        "labels": whole,
        "grid": _same_grid(image, label),
        "axes": _at_right_angles(image) and _at_right_angles(label),
        "voxel_size": _one_voxel_size(image) and _one_voxel_size(label),
        "position": image.one_position and label.one_position,
    }
    values = np.ascontiguousarray(image.data)
    return CaseFacts(
        name=name,
        shape=tuple(image.data.shape[:3]),
        channels=own_channels,
        spacing=image.spacing,
        orientation=image.orientation,
        low=float(values.min()),
        high=float(values.max()),
        voxels=tuple(int(n) for n in voxels),
        digest=hashlib.sha256(repr(values.shape).encode() + values.tobytes()).hexdigest(),
        problems=tuple(check for check, passed in checks.items() if not passed),
    )


def _same_grid(image: Volume, label: Volume) -> bool:
    close = np.allclose(image.affine, label.affine, rtol=0, atol=_TOLERANCE)
    return bool(close and np.allclose(image.spacing, label.spacing, rtol=0, atol=_TOLERANCE))


def _at_right_angles(volume: Volume) -> bool:
    axes = volume.affine[:3, :3]
    lengths = np.linalg.norm(axes, axis=0)
    if not (lengths > 0).all():
        return False
    cosines = (axes / lengths).T @ (axes / lengths)
    return bool(np.abs(cosines - np.eye(3)).max() <= _LARGEST_COSINE)


def _one_voxel_size(volume: Volume) -> bool:
    """Tells whether ``pixdim``, which SimpleITK reads, and the affine state the same size."""
    lengths = np.linalg.norm(volume.affine[:3, :3], axis=0)
    return bool(np.allclose(lengths, volume.spacing, rtol=_TOLERANCE, atol=_TOLERANCE))


def audit_volumes(
    cases: Sequence[CaseFacts], class_names: Sequence[str], fold: Fold
) -> list[AuditFinding]:
    """Returns the findings about all cases, errors first; ``rows`` are row numbers of ids.csv."""
    findings = [
        *_problems(cases),
        *_empty_masks(cases, class_names),
        *_duplicates(cases, fold),
        *_variety(cases),
        *_class_volumes(cases, class_names),
        *absent_classes([case_counts(cases, class_names, fold)], class_names, "case"),
        AuditFinding(
            "patients_unknown", "info", "The release does not tell which patient a case is."
        ),
    ]
    order = {"error": 0, "warning": 1, "info": 2}
    return sorted(findings, key=lambda finding: order[finding.level])


def case_counts(
    cases: Sequence[CaseFacts], class_names: Sequence[str], fold: Fold
) -> dict[str, dict[str, int]]:
    """Returns split -> class -> cases that have it, and ``all`` -> cases; empty splits left out."""
    parts = {"train": fold[0], "val": fold[1], "test": fold[2], "all": np.arange(len(cases))}
    return {
        split: {
            **{
                name: sum(any(cases[row].voxels[k : k + 1]) for row in rows)
                for k, name in enumerate(class_names)
            },
            "all": len(rows),
        }
        for split, rows in parts.items()
        if len(rows)
    }


def _finding(code: str, level: str, text: str, rows: Sequence[int]) -> AuditFinding:
    return AuditFinding(code, level, text, len(rows), tuple(int(row) for row in rows[:_SHOWN]))


_TEXTS = {
    "shape": ("error", "image and mask differ in shape"),
    "channels": ("error", "the image has another number of channels than the release states"),
    "labels": ("error", "the mask has values that name no class"),
    "grid": ("warning", "image and mask differ in place or size of voxels"),
    "axes": (
        "error",
        "the axes are not at right angles: SimpleITK, with which nnU-Net reads, cannot open them",
    ),
    "voxel_size": (
        "warning",
        "the header states two sizes of a voxel, in pixdim and in its affine; nnU-Net and the "
        "volumes in millilitres here go by pixdim",
    ),
    "position": (
        "warning",
        "the header states two positions, in its qform and its sform; programs differ in which "
        "they read, and left may be right",
    ),
}


def _problems(cases: Sequence[CaseFacts]) -> list[AuditFinding]:
    findings = []
    for problem, (level, text) in _TEXTS.items():
        rows = [row for row, case in enumerate(cases) if problem in case.problems]
        if rows:
            sentence = (
                f"In {len(rows)} case{'s' * (len(rows) > 1)} {text}, such as {cases[rows[0]].name}."
            )
            findings.append(_finding(f"volume_{problem}", level, sentence, rows))
    return findings


def _empty_masks(cases: Sequence[CaseFacts], class_names: Sequence[str]) -> list[AuditFinding]:
    findings = []
    empty = [row for row, case in enumerate(cases) if case.voxels and not any(case.voxels[1:])]
    if empty:
        many = counted(len(empty), "mask is", "masks are")
        text = f"{many} empty, such as that of {cases[empty[0]].name}."
        findings.append(_finding("empty_masks", "warning", text, empty))
    for k, name in enumerate(class_names[1:], start=1):
        rows = [r for r, c in enumerate(cases) if c.voxels and c.voxels[k] == 0 and r not in empty]
        if rows:
            many = counted(len(rows), "mask has", "masks have")
            text = f"{many} no {name}, such as that of {cases[rows[0]].name}."
            findings.append(_finding("class_absent", "warning", text, rows))
    return findings


def _duplicates(cases: Sequence[CaseFacts], fold: Fold) -> list[AuditFinding]:
    rows_of = defaultdict(list)
    for row, case in enumerate(cases):
        rows_of[case.digest].append(row)
    groups = [rows for rows in rows_of.values() if len(rows) > 1]
    if not groups:
        return [AuditFinding("no_duplicates", "info", "No two images are equal.")]
    rows = [row for group in groups for row in group]
    many = counted(len(groups), "group of images is", "groups of images are")
    text = f"{many} equal, such as {cases[rows[0]].name}."
    findings = [_finding("duplicates", "warning", text, rows)]
    split = {int(row): code for code, part in enumerate(fold) for row in part}
    crossing = [group for group in groups if len({split[row] for row in group}) > 1]
    if crossing:
        many = counted(len(crossing), "group of equal images lies", "groups of equal images lie")
        text = f"{many} in several splits."
        rows = [row for group in crossing for row in group]
        findings.append(_finding("duplicates_across_splits", "warning", text, rows))
    return findings


def _variety(cases: Sequence[CaseFacts]) -> list[AuditFinding]:
    shapes = np.array([case.shape for case in cases])
    spacings = Counter(tuple(round(size, 3) for size in case.spacing) for case in cases)
    axes = Counter(case.orientation for case in cases)
    highs = [case.high for case in cases]
    text = (
        f"Shapes from {_times(shapes.min(axis=0))} to {_times(shapes.max(axis=0))}, median "
        f"{_times(np.median(shapes, axis=0))} voxels; {_many(spacings)} (most often "
        f"{_times(spacings.most_common(1)[0][0])} mm); axes "
        f"{', '.join(f'{name} ({n})' for name, n in axes.most_common())}."
    )
    findings = [AuditFinding("volume_geometry", "info", text)]
    if len(axes) > 1:
        text = "Axes point in different directions: a program must turn them, or read the header."
        findings.append(AuditFinding("orientations_differ", "warning", text, len(axes)))
    text = f"The greatest value of an image lies between {min(highs):,.6g} and {max(highs):,.6g}."
    if max(highs) > 10 * max(min(highs), 1e-12):
        text += " Scales differ, so each volume must be standardised by itself."
    findings.append(AuditFinding("intensities", "info", text))
    return findings


def _many(spacings: Counter) -> str:
    return "one size of voxel" if len(spacings) == 1 else f"{len(spacings)} sizes of voxels"


def _times(values: Sequence[float]) -> str:
    return " x ".join(f"{value:g}" for value in values)


def _class_volumes(cases: Sequence[CaseFacts], class_names: Sequence[str]) -> list[AuditFinding]:
    """Tells the median volume of each class, in millilitres, over the cases that have it."""
    medians = []
    for k, name in enumerate(class_names[1:], start=1):
        volumes = [
            case.voxels[k] * float(np.prod(case.spacing)) / 1000
            for case in cases
            if case.voxels and case.voxels[k]
        ]
        if volumes:
            medians.append(
                f"{name} {np.median(volumes):.3g} ({min(volumes):.3g} to {max(volumes):.3g})"
            )
    text = f"Median volume in millilitres: {'; '.join(medians)}."
    return [AuditFinding("class_volumes", "info", text)]
