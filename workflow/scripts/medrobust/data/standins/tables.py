"""Generated stand-ins of tables: evidence of nothing.

A class is a smooth curve over the columns; a row is that of its class with noise, in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medrobust.core.seeds import generator
from medrobust.data.prepared.store import Prepared


def table_standin(
    n_train: int, n_test: int, classes: Sequence[str], length: int, *, seed: int
) -> Prepared:
    """Returns a generated table.

    Args:
        n_train, n_test: numbers of training and test rows.
        classes: name of each label; labels are as evenly spread as can be.
        length: values of a row.
        seed: root seed.

    Returns:
        x float32 ``[n_train + n_test, length]`` in [0, 1], training rows first.
    """
    import pandas as pd

    random = generator(seed, "standin", "table", *classes, length, n_train, n_test)
    y = np.concatenate([random.permutation(np.arange(n) % len(classes)) for n in (n_train, n_test)])
    place = np.linspace(0, 2 * np.pi, length)
    speed = random.uniform(0.5, 2, (len(classes), 1))
    phase = random.uniform(0, 2 * np.pi, (len(classes), 1))
    curves = 0.5 + 0.2 * np.sin(speed * place + phase)
    x = np.clip(curves[y] + random.normal(0, 0.15, (len(y), length)), 0, 1)
    rows = np.arange(len(y))
    return Prepared(
        x=x.astype(np.float32),
        y=y.astype(np.int64),
        ids=pd.DataFrame({"row_id": rows, "file": "generated", "position": rows + 1}),
        folds=[(rows[:n_train], np.empty(0, np.int64), rows[n_train:])],
        class_names=tuple(classes),
        input_range=(0.0, 1.0),
        synthetic=True,
        complete=True,
        notes=("SYNTHETIC: smooth curves with noise.",),
    )
