"""Segmentation: scores and intervals by hand, tables with all printed numbers, claims, pictures."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.evaluation import segmentation
from medrobust.reporting.artefacts import RunContext
from medrobust.reporting.claims import verdict_of
from medrobust.reporting.request import Entry, Request
from medrobust.studies.ima_segmentation import claims, figures, results, tables
from medrobust.studies.ima_segmentation.catalogue import PARTS, SCORES, TASKS, task_of

ROOT = Path(__file__).resolve().parents[3]
PRINTED = str(ROOT / "resources/published/ima.csv")
TASK = task_of("MSD-D4-Hippocampus")
LEVELS = (0.0, 1.0, 5.0, 10.0, 15.0)


def records(quality: float, cases: int = 12, slices: int = 5, seed: int = 0) -> pd.DataFrame:
    """Returns records whose Dice falls with the level, from about ``quality``."""
    rng, rows = np.random.default_rng(seed), []
    for case in range(cases):
        for place in range(slices):
            for level in LEVELS:
                for kind in (1, 2):
                    size = int(rng.integers(80, 120))
                    share = quality * (1 - level / 20) + rng.normal(0, 0.03)
                    hit = int(size * np.clip(share, 0, 1))
                    known = {"case": f"{case:03d}", "slice": place, "number": case * slices + place}
                    counts = {
                        "tp": hit,
                        "fp": size - hit,
                        "fn": size - hit,
                        "hd95": 1.5,
                        "l2": level,
                    }
                    rows.append(known | {"class": kind, "epsilon": level} | counts)
    return pd.DataFrame(rows)


def arrays() -> dict[str, np.ndarray]:
    target = np.zeros((2, 8, 8), dtype=np.uint8)
    target[:, 2:6, 2:6] = 1
    target[:, 3:5, 3:5] = 2
    labels = np.repeat(target[:, None], len(LEVELS), axis=1)
    labels[:, 2:] = 0
    noisy = np.random.default_rng(0).normal(size=(2, len(LEVELS), 1, 8, 8)).astype(np.float32)
    return {
        "number": np.array([3, 9]), "image": noisy[:, 0], "target": target,
        "noisy": noisy, "labels": labels, "epsilon": np.array(LEVELS),
    }  # fmt: skip


def request(folder: Path, qualities: dict[str, float], name: str = "out", **changes) -> Request:
    entries = []
    for model, quality in qualities.items():
        file, kept = folder / f"{model}.parquet", folder / f"{model}.safetensors"
        io.write_table(file, records(quality, **changes))
        io.write_tensors(kept, arrays())
        entries.append(
            Entry(
                TASK.dataset,
                model,
                "official",
                0,
                pixel_records={TASK.attack: str(file)},
                pixel_arrays={TASK.attack: str(kept)},
            )
        )
    return Request(
        entries, PRINTED, str(folder / name), context(), {},
        attacks={TASK.attack: {"name": "pixel_pgd", "num_steps": 100, "grid": {"epsilon": LEVELS}}},
    )  # fmt: skip


def context() -> RunContext:
    command = "snakemake ima_segmentation"
    return RunContext(
        "ima_segmentation", "laptop", "code", "laptop-code", "c", "h", {}, "none", 1, command
    )


MODELS = {"nnUnet": 0.9, "adv1": 0.88, "adv5": 0.85, "adv15": 0.75, "IMA15": 0.86}


def test_scores_equal_those_of_the_records(tmp_path):
    found = results.read_results(request(tmp_path, {"nnUnet": 0.8}))
    frame = records(0.8)
    for level in LEVELS:
        (tvdi,), (adi,) = (found.values(TASK.dataset, "nnUnet", s, level) for s in SCORES)
        assert tvdi == pytest.approx(segmentation.total_dice(frame).loc[level].mean())
        assert adi == pytest.approx(segmentation.slice_dice(frame)[level].mean())


def test_intervals_are_those_of_a_bootstrap_of_cases_drawn_anew(tmp_path):
    found = results.read_results(request(tmp_path, {"nnUnet": 0.8}))
    frame = records(0.8)
    own = frame[frame["epsilon"] == 5.0]
    by_case = dict(iter(own.groupby("case")))
    rng, draws = np.random.default_rng(5), {score: [] for score in SCORES}
    for _ in range(400):
        drawn = [by_case[case] for case in rng.choice(list(by_case), len(by_case))]
        # The same case twice is two cases.
        parts = [part.assign(number=part["number"] + 1000 * k) for k, part in enumerate(drawn)]
        joined = pd.concat(parts)
        draws["TVDI"].append(segmentation.total_dice(joined).loc[5.0].mean())
        draws["ADI"].append(segmentation.slice_dice(joined)[5.0].mean())
    for score in SCORES:
        one = found.estimate(TASK.dataset, "nnUnet", score, 5.0)
        low, high = np.quantile(draws[score], (0.025, 0.975))
        assert one.ci_low == pytest.approx(low, abs=0.002)
        assert one.ci_high == pytest.approx(high, abs=0.002)
        assert one.n == 60 and one.replicates == 1 and "cases" in one.basis


def test_several_trainings_are_shown_as_their_mean_and_said_so(tmp_path):
    one = request(tmp_path, {"nnUnet": 0.9, "IMA15": 0.3})
    both = [dataclasses.replace(e, model="nnUnet", replicate=k) for k, e in enumerate(one.entries)]
    panels = []
    for entries in (one.entries, both):
        asked = dataclasses.replace(one, entries=entries)
        tables.draw_classes(asked)
        html = (tmp_path / "out.html").read_text()
        figures.draw_scores(dataclasses.replace(asked, out_stem=str(tmp_path / "fig")),
                            dataset=TASK.dataset)  # fmt: skip
        said = (tmp_path / "fig.provenance.json").read_text()
        panels.append((tables.class_rows(results.read_results(asked)), html, said))
    (_, single, of_single), (rows, html, said) = panels
    assert "one training each" in single and "one training each" in of_single
    assert "means of 2 trainings each" in html and "means of 2 trainings each" in said
    clean = rows[(rows["class"] == 1) & (rows["epsilon"] == 0)]
    assert len(clean) == 2 and f"{clean['dice'].mean():.3f} (1.5)" in html
    assert all(f"{dice:.3f} (1.5)" not in html for dice in clean["dice"])


def test_few_cases_have_no_interval(tmp_path):
    found = results.read_results(request(tmp_path, {"nnUnet": 0.8}, cases=3))
    one = found.estimate(TASK.dataset, "nnUnet", "TVDI", 0.0)
    assert one.ci_low is None and "fewer than 10" in one.basis


def test_other_slices_are_refused(tmp_path):
    mixed = request(tmp_path, {"nnUnet": 0.8, "IMA15": 0.8})
    io.write_table(tmp_path / "IMA15.parquet", records(0.8, slices=4))
    with pytest.raises(InputError, match="other slices"):
        results.read_results(mixed)


def test_every_printed_number_has_its_place(tmp_path):
    printed = results.read_printed(PRINTED)
    assert len(printed.frame) == 130
    found = results.read_results(request(tmp_path, MODELS))
    placed = 0
    for task in TASKS:
        for score in SCORES:
            frame = tables.table_rows(found, printed, context(), task.dataset, score)
            own = frame[frame["published"].notna()]
            placed += len(own)
            expected = printed.values()
            for row in own.to_dict("records"):
                key = (row["dataset"], row["metric"], row["method"], row["epsilon"])
                assert row["published"] == expected[key]
    assert placed == 130


def test_tables_and_figures_are_written(tmp_path):
    one = request(tmp_path, MODELS)
    for name, artefact in PARTS.artefacts.items():
        if artefact.kind == "claims" or artefact.settings.get("dataset") not in (
            None,
            TASK.dataset,
        ):
            continue
        module, function = artefact.draw.rsplit(":", 1)
        draw = getattr({"figures": figures, "tables": tables}[module.rsplit(".", 1)[1]], function)
        files = draw(dataclasses.replace(one, out_stem=str(tmp_path / name)), **artefact.settings)
        assert all(file.is_file() for file in files)
    curve = pd.read_csv(tmp_path / "figure11.csv")
    assert set(curve["origin"]) == {"reproduced", "published"}
    outlines = pd.read_csv(tmp_path / "contours_hippocampus.csv")
    assert (outlines["number"] == 9).all()
    assert outlines.loc[outlines["epsilon"] == 0, "dice"].tolist() == pytest.approx([1.0] * 5)
    assert (outlines.loc[outlines["epsilon"] == 5, "dice"] == 0).all()


@pytest.mark.parametrize("task", TASKS, ids=[task.organ for task in TASKS])
def test_no_two_methods_of_a_figure_look_alike(task):
    published = Path(__file__).resolve().parents[3] / "resources/published/ima.csv"
    methods = results.read_printed(str(published)).methods(task.dataset)
    found = figures.method_styles(methods, task.ima)
    assert len(methods) == 5 == len({style["color"] for style in found.values()})
    assert len({style["marker"] for style in found.values()}) == 5
    radii = sorted((m for m in methods if m.startswith("adv")), key=lambda m: float(m[3:]))
    light = [sum(bytes.fromhex(found[m]["color"][1:])) for m in radii]
    assert light == sorted(light, reverse=True)  # darker with the radius


def test_what_was_not_run_says_so(tmp_path):
    one = dataclasses.replace(request(tmp_path, {}), entries=[])
    files = tables.draw_table(one, dataset=TASK.dataset, score="TVDI")
    frame = pd.read_csv(next(f for f in files if f.suffix == ".csv"))
    assert frame["reproduced"].isna().all() and (frame["status"] == "not run").all()
    assert figures.draw_outlines(one, dataset=TASK.dataset)[0].is_file()


def verdicts(tmp_path, qualities, **changes) -> dict[str, str]:
    claims.build_segmentation_claims(request(tmp_path, qualities, **changes))
    frame = pd.read_csv(tmp_path / "out.csv")
    own = frame[frame["dataset"] == TASK.dataset]
    return dict(zip(own["claim"], own["verdict"], strict=True))


def test_claims_on_print_hold_where_print_says_so():
    printed = results.read_printed(PRINTED)
    told = {}
    for claim in claims.claims(printed):
        told[claim.name] = verdict_of(claim.printed(claim.datasets[0]))
    assert len(told) == 13
    # Rounded numbers leave open whether .44 is above .44, and .80 "less than 80%".
    open_ones = {"ima_best_average_dice_on_heart", "adv15_costly_on_hippocampus"}
    assert {name for name, verdict in told.items() if verdict == "cannot tell"} == open_ones
    assert set(told.values()) == {"holds", "cannot tell"}


def test_an_order_is_told_with_enough_cases_and_not_with_few(tmp_path):
    many = verdicts(tmp_path, MODELS)
    few = verdicts(tmp_path, MODELS, cases=3)
    assert many["adv5_less_robust_on_hippocampus"] != few["adv5_less_robust_on_hippocampus"]
    assert few["adv5_less_robust_on_hippocampus"] == "cannot tell"


def test_a_rival_that_was_not_run_does_not_hide_what_the_others_tell(tmp_path):
    name = "ima_best_average_dice_on_hippocampus"
    without = {model: quality for model, quality in MODELS.items() if model != "adv1"}
    assert verdicts(tmp_path, without | {"nnUnet": 0.9, "IMA15": 0.91})[name] == "cannot tell"
    assert verdicts(tmp_path, without | {"IMA15": 0.6})[name] == "does not hold"
