"""How long MIT-BIH heartbeats take: rebuilding from records, reading CSV files, preparing.

Each step stands beside a plain way of doing the same: a loop over beats, and the CSV readers
of pandas and NumPy. The CSV files are made here, in the format and size of Kaggle's.

    python benchmarks/bench_mitbih.py [--records FOLDER] [--rows 109446] [--repeat 3]

FOLDER holds the 48 PhysioNet records (``100.hea``, ``100.dat``, ``100.atr``, ...); without it
only the CSV readers and stand-ins are measured.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow" / "scripts"))

from medrobust.core.io import sha256_of_file
from medrobust.data.prepared.audit import audit
from medrobust.data.prepared.prepare import prepare
from medrobust.data.sets import mitbih
from medrobust.data.standins.ecg import ecg_standin


def measure(name: str, work: Callable[[], object], repeat: int) -> object:
    """Prints the best and the worst of ``repeat`` wall times; returns the last result."""
    seconds = []
    for _ in range(repeat):
        begin = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - begin)
    print(f"{name:58s} {min(seconds):8.2f} s  (worst {max(seconds):.2f} s)", flush=True)
    return result


def plain_rows(folder: Path) -> np.ndarray:
    """Rebuilds the rows with a loop over beats, as a short script would."""
    import wfdb

    rows = []
    for record in mitbih.RECORDS:
        signal = wfdb.rdrecord(str(folder / record), physical=False).d_signal[:, 0]
        annotation = wfdb.rdann(str(folder / record), "atr")
        at, symbols = annotation.sample, annotation.symbol
        beats = [i for i, symbol in enumerate(symbols) if symbol in mitbih.BEAT_CLASS][:-1]
        for i in beats:
            later = at[i + 2] if i + 2 < len(at) else 2 * at[i + 1] - at[i]
            piece = signal[at[i] : at[i + 1] + int(0.2 * (later - at[i + 1])) : 3].astype(float)
            piece = (piece - piece.min()) / (piece.max() - piece.min())
            rows.append(np.pad(piece, (0, mitbih.LENGTH))[: mitbih.LENGTH])
    return np.array(rows, dtype=np.float32)


def bench_records(folder: Path, repeat: int) -> None:
    """Rebuilding and preparing from the 48 records."""
    files = {
        path.name: path for path in folder.iterdir() if path.suffix in (".hea", ".dat", ".atr")
    }
    beats = measure(
        "48 records, rebuilt (medrobust)", lambda: mitbih.build_from_records(files), repeat
    )
    plain = measure("48 records, rebuilt (loop over beats)", lambda: plain_rows(folder), repeat)
    print(f"    the same rows: {np.array_equal(beats.x, plain)}")
    listed = [
        {
            "name": name,
            "path": str(path),
            "bytes": path.stat().st_size,
            "sha256": sha256_of_file(path),
        }
        for name, path in files.items()
    ]
    with tempfile.TemporaryDirectory() as out:
        measure(
            "48 records, prepared: arrays, split, audit, card, picture",
            lambda: prepare(
                "mitbih", "mitbih", {}, "physionet", {"files": listed}, Path(out), 1, {}
            ),
            repeat,
        )
    prepared = mitbih.adapt({}, "physionet", files, seed=1)
    measure("audit of 109,446 rows", lambda: audit(prepared), repeat)


def bench_csv(rows: int, repeat: int) -> None:
    """Reading files of Kaggle's format."""
    import pandas as pd

    block = ecg_standin(500, 500, mitbih.CLASSES, seed=1)
    lines = [
        ",".join(f"{value:.18e}" for value in [*row.astype(float), float(label)]) + "\n"
        for row, label in zip(block.x, block.y, strict=True)
    ]
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"mitbih_{part}.csv" for part in ("train", "test")]
        for path, n in zip(paths, (rows * 4 // 5, rows - rows * 4 // 5), strict=True):
            with open(path, "w") as file:
                for start in range(0, n, len(lines)):
                    file.writelines(lines[: n - start])
        measure(
            f"CSV, {rows:,} rows (medrobust, with all checks)",
            lambda: mitbih.read_kaggle_csv(*paths, allow_subset=True),
            repeat,
        )
        measure(
            f"CSV, {rows:,} rows (pandas, no checks)",
            lambda: [pd.read_csv(path, header=None, dtype=np.float32) for path in paths],
            repeat,
        )
        measure(
            f"CSV, {rows:,} rows (numpy.loadtxt, no checks)",
            lambda: [np.loadtxt(path, delimiter=",", dtype=np.float32) for path in paths],
            1,
        )


def main() -> None:
    """Runs the measurements asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=Path, help="folder of the PhysioNet records")
    parser.add_argument("--rows", type=int, default=109446, help="rows of the CSV files")
    parser.add_argument("--repeat", type=int, default=3, help="repetitions")
    options = parser.parse_args()
    if options.records:
        bench_records(options.records, options.repeat)
    bench_csv(options.rows, options.repeat)
    measure(
        "stand-in, 1,200 + 400 rows",
        lambda: ecg_standin(1200, 400, mitbih.CLASSES, seed=1),
        options.repeat,
    )


if __name__ == "__main__":
    main()
