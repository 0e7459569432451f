"""Small records in the form of the PTB Diagnostic ECG Database, for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np

REASONS = {"normal": "Healthy control", "abnormal": "Myocardial infarction"}


def heart(beats: np.ndarray, n: int) -> np.ndarray:
    """A curve with an R wave at every beat and a T wave 250 ms later, 1000 samples per second."""
    time = np.arange(n)[:, None]
    signal = 1000 * np.exp(-0.5 * ((time - beats) / 12.0) ** 2)
    signal += 300 * np.exp(-0.5 * ((time - beats - 250) / 40.0) ** 2)
    return np.rint(signal.sum(axis=1)).astype(np.int64)


def write_record(
    folder: Path, stem: str, reason: str, *, seconds: int = 30, period: int = 800
) -> dict[str, Path]:
    """Writes a record as the database has them: 16 bit, Frank leads in a file of their own.

    Lead II has the beats, leads I and III noise; the ``.xyz`` file is not written, as it is not
    read.

    Args:
        folder: where the patient's folder lies.
        stem: ``patient<n>/<record>``.
        reason: for admission.
        seconds: length.
        period: milliseconds from beat to beat; the first is at 0.4 s.

    Returns:
        Path of the header and of the signal file by their official names.
    """
    name = stem.split("/")[1]
    random = np.random.default_rng(len(stem) + seconds)
    n = seconds * 1000
    signal = random.integers(-30, 30, (n, 3))
    signal[:, 1] = heart(np.arange(400, n, period), n)
    lines = [f"{name} 4 1000 {n}"]
    for column, lead in enumerate(("i", "ii", "iii")):
        total = (int(signal[:, column].sum()) + 32768) % 65536 - 32768
        lines.append(f"{name}.dat 16 2000 16 0 {signal[0, column]} {total} 0 {lead}")
    lines.append(f"{name}.xyz 16 2000 16 0 0 0 0 vx")
    lines += ["# age: 50", "# Diagnose:", f"# Reason for admission: {reason}", "# Smoker: no"]
    (folder / stem).parent.mkdir(parents=True, exist_ok=True)
    (folder / f"{stem}.hea").write_text("\n".join(lines) + "\n")
    (folder / f"{stem}.dat").write_bytes(signal.astype("<i2").tobytes())
    return {f"{stem}{s}": folder / f"{stem}{s}" for s in (".hea", ".dat")}
