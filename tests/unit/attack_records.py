"""Made records of attacks at several radii, as an attack with known outcomes would leave them."""

from __future__ import annotations

import numpy as np
import pandas as pd
from medrobust.evaluation.records import SCHEMA


def clean_table(labels, predictions, ids=None) -> pd.DataFrame:
    """Returns clean predictions as ``clean.parquet`` holds them."""
    ids = np.arange(len(labels)) if ids is None else ids
    return pd.DataFrame({"point_id": ids, "label": labels, "prediction": predictions})


def level_records(
    clean: pd.DataFrame,
    found: dict[float, np.ndarray],
    *,
    loss: str | None = "ce",
    restart: int = 0,
    queries: int = 10,
) -> pd.DataFrame:
    """Returns one record per point and radius.

    Args:
        clean: the attacked points (:func:`clean_table`).
        found: radius to the prediction at each point's adversarial example, the label where the
            attack failed; ignored where the model is wrong without attack.
        loss, restart: of the run.
        queries: spent on each point and radius.
    """
    label = clean["label"].to_numpy()
    wrong = clean["prediction"].to_numpy() != label
    frames = []
    for epsilon, prediction in found.items():
        prediction = np.where(wrong, clean["prediction"], prediction)
        success = prediction != label
        distance = np.where(wrong, 0.0, np.where(success, epsilon, np.nan))
        frames.append(
            pd.DataFrame(
                {
                    "point_id": clean["point_id"],
                    "epsilon": float(epsilon),
                    "loss": loss,
                    "restart": restart,
                    "label": label,
                    "clean_prediction": clean["prediction"],
                    "adversarial_prediction": prediction,
                    "success": success,
                    "l1": distance * 187,
                    "l2": distance * np.sqrt(187),
                    "linf": distance,
                    "l2_final_iterate": distance * np.sqrt(187),
                    "queries": queries,
                    "gradient_evaluations": np.where(wrong, 0, 7),
                    "iterations": 7,
                    "seed": 1,
                    "init_ok": True,
                    "box_violation": False,
                }
            )
        )
    return pd.concat(frames, ignore_index=True).astype(SCHEMA)
