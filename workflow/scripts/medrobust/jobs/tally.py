"""The job that counts what an attack at several levels did."""

from __future__ import annotations

from collections.abc import Sequence


def tally_attack(
    *,
    predictions: str,
    chunks: Sequence[str],
    timings: Sequence[str],
    out: str,
    made_with: str,
    outcomes: str | None = None,
    subset_per_class: int | None = None,
) -> None:
    """Counts clean predictions and attack records by level, class and prediction.

    Where the training failed, the table has its columns and no rows.

    Args:
        predictions: ``clean.parquet`` of the model (every test point).
        chunks: files of the attack's records.
        timings: the timing files beside them.
        out: CSV file to write (:mod:`medrobust.evaluation.tally`).
        made_with: JSON file to write: on what the attacks ran, each combination once.
        outcomes: parquet file to write: which points were broken, and the probabilities of their
            classes where a study keeps them (:mod:`medrobust.evaluation.outcomes`); None: nobody
            will compare attacks.
        subset_per_class: marks the first so many test points of each class, so that attacks on
            all points can be read on those of an attack on a few; None marks none.

    Raises:
        InputError: a file is missing, or the two do not fit together.
    """
    from pathlib import Path

    import pandas as pd

    from medrobust.core import io
    from medrobust.core.errors import InputError
    from medrobust.evaluation.outcomes import outcomes_of
    from medrobust.evaluation.records import read_records
    from medrobust.evaluation.tally import make_tally, no_tally
    from medrobust.jobs.shared import machines

    if not Path(predictions).is_file():
        raise InputError("These clean predictions do not exist.", where=predictions)
    clean = io.read_table(predictions)
    if "prediction" in clean and clean["prediction"].isna().any():
        io.write_json(made_with, machines(timings))
        if outcomes is not None:
            io.write_table(outcomes, pd.DataFrame({"point_id": [], "correct": []}))
        io.write_table(out, no_tally())
        return
    try:
        records = read_records(chunks)
        table = make_tally(clean, records, subset_per_class)
    except InputError as error:
        raise InputError(error.what, where=error.where or chunks[0], remedy=error.remedy) from error
    io.write_json(made_with, machines(timings))
    if outcomes is not None:
        io.write_table(outcomes, outcomes_of(records, clean))
    io.write_table(out, table)
