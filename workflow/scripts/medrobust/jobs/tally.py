"""The job that counts what an attack at several levels did."""

from __future__ import annotations


def tally_attack(
    *, predictions: str, records: str, out: str, subset_per_class: int | None = None
) -> None:
    """Counts clean predictions and attack records by level, class and prediction.

    Args:
        predictions: ``clean.parquet`` of the model (every test point).
        records: the attack's records.
        out: CSV file to write (:mod:`medrobust.evaluation.tally`).
        subset_per_class: marks the first so many test points of each class, so that attacks on
            all points can be read on those of an attack on a few; None marks none.

    Raises:
        InputError: a file is missing, or the two do not fit together.
    """
    from pathlib import Path

    from medrobust import io
    from medrobust.errors import InputError
    from medrobust.evaluation.records import read_records
    from medrobust.evaluation.tally import make_tally

    if not Path(predictions).is_file():
        raise InputError("These clean predictions do not exist.", where=predictions)
    try:
        table = make_tally(io.read_table(predictions), read_records(records), subset_per_class)
    except InputError as error:
        raise InputError(error.what, where=error.where or records, remedy=error.remedy) from error
    io.write_table(out, table)
