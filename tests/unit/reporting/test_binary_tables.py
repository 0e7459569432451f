"""Tables of a binary classifier over five folds, on made records whose numbers are known."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.evaluation import binary
from medrobust.evaluation.folds import paired_estimate, resampled_t_interval
from medrobust.evaluation.outcomes import outcomes_of
from medrobust.evaluation.tally import make_tally
from medrobust.reporting.artefacts import NOT_RUN, FailedTraining, RunContext
from medrobust.reporting.binary_results import read_binary_results
from medrobust.reporting.binary_tables import draw_binary_metrics, draw_binary_scores
from medrobust.reporting.comparison import NOT_RUN as NO_VERDICT
from medrobust.reporting.comparison import OUTSIDE, WITHIN, build_comparison
from medrobust.reporting.request import Entry, Request
from sklearn import metrics

from tests.unit.attack_records import clean_table, level_records

CONTEXT = RunContext("mine", "laptop", "code", "laptop-code", "c", "h", {}, "none", 3, "snakemake")
EPSILON = 5 / 255
ATTACKS = {
    "fgsm": {"name": "pgd", "num_steps": 1, "step_share": 1.0, "epsilon": EPSILON},
    "pgd20": {"name": "pgd", "num_steps": 20, "step_size": 0.001, "epsilon": EPSILON},
}
N, FOLDS, MODELS = 60, 5, ("RST", "MIRST")
FAILED = FailedTraining("BUS", "RST", 0, 2, "loss not finite in epoch 3")


def made(model: str, fold: int, replicate: int = 0):
    """Returns labels, and the probability of class 1 of each point without and under attack."""
    random = np.random.default_rng([MODELS.index(model), fold, replicate])
    y = (np.arange(N) % 5 < 2).astype(int)
    clean = np.clip(0.5 + (y - 0.5) * 0.5 + 0.25 * random.standard_normal(N), 0, 1)
    towards = np.where(y == 1, -1, 1)
    found = {"none": clean}
    for attack, size in (("fgsm", 0.15), ("pgd20", 0.3)):
        moved = np.clip(clean + towards * size * random.random(N), 0, 1)
        found[attack] = np.where((clean > 0.5) == y, moved, clean)  # wrong points are not attacked
    return y, found


def label(probability: np.ndarray) -> np.ndarray:
    return (probability > 0.5).astype(int)


def with_probability(frame: pd.DataFrame, probability: np.ndarray) -> pd.DataFrame:
    return frame.assign(probability_0=1 - probability, probability_1=probability)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Results that no test changes."""
    return tmp_path_factory.mktemp("results")


def entry_of(folder, model: str, fold: int, replicate: int = 0, source: str = "kaggle") -> Entry:
    """Returns the results of a training; they are made where they are not there yet."""
    stem = folder / f"{model}{fold}{replicate}"
    if not stem.with_suffix(".json").is_file():
        make_results(stem, model, fold, replicate)
    tallies = {attack: f"{stem}{attack}.csv" for attack in ATTACKS}
    probabilities = {attack: f"{stem}{attack}.parquet" for attack in ATTACKS}
    return Entry(
        "BUS", model, source, replicate, fold=fold, tallies=tallies, probabilities=probabilities,
        summary=str(stem.with_suffix(".json")),
    )  # fmt: skip


def make_results(stem, model: str, fold: int, replicate: int) -> None:
    y, found = made(model, fold, replicate)
    clean = with_probability(clean_table(y, label(found["none"])), found["none"])
    for attack in ATTACKS:
        records = level_records(clean, {EPSILON: label(found[attack])})
        records = with_probability(records, found[attack])
        io.write_table(f"{stem}{attack}.csv", make_tally(clean, records))
        io.write_table(f"{stem}{attack}.parquet", outcomes_of(records, clean))
    right = int((label(found["none"]) == y).sum())
    facts = {"n_train": 240, "n_test": N, "ensemble_accuracy": right / N}
    stem.with_suffix(".json").write_text(json.dumps(facts), encoding="utf-8")


def entries_of(folder, folds=range(FOLDS), **more) -> list[Entry]:
    return [entry_of(folder, model, fold, **more) for model in MODELS for fold in folds]


def request_of(folder, entries, *, published="", failed=(), name="table") -> Request:
    return Request(
        entries=entries, published=published, out_stem=str(folder / name),
        context=replace(CONTEXT, failed=tuple(failed)), attack=ATTACKS["fgsm"], attacks=ATTACKS,
        class_names=["benign", "malignant"],
    )  # fmt: skip


def drawn(folder, entries, draw=draw_binary_metrics, *, published="", failed=(), **how):
    """Draws a table; returns its CSV."""
    request = request_of(folder, entries, published=published, failed=failed)
    assert all(file.is_file() for file in draw(request, **how))
    text = dict.fromkeys(("epsilon", "table", "attack", "norm"), str)
    return pd.read_csv(folder / "table.csv", dtype=text, keep_default_na=False, na_values=[""])


def text_of(folder) -> str:
    return (folder / "table.md").read_text(encoding="utf-8")


def of(frame, method, metric, attack):
    (row,) = frame[
        (frame["method"] == method) & (frame["metric"] == metric) & (frame["attack"] == attack)
    ].to_dict("records")
    return row


SKLEARN = {
    "F1": metrics.f1_score,
    "sensitivity": metrics.recall_score,
    "precision": metrics.precision_score,
    "specificity": lambda y, p: metrics.recall_score(y, p, pos_label=0),
    "AUC": metrics.roc_auc_score,
    "Brier score": metrics.brier_score_loss,
}


def values_of(metric, model, attack, folds=range(FOLDS)) -> list[float]:
    found = []
    for fold in folds:
        y, probability = made(model, fold)
        shown = probability[attack]
        found.append(SKLEARN[metric](y, shown if metric in binary.SCORES else label(shown)))
    return found


def test_numbers_are_means_over_folds_of_scikit_learns(tmp_path, shared):
    frame = drawn(tmp_path, entries_of(shared))
    for metric, model in itertools.product(binary.RATES, MODELS):
        for attack in ("none", *ATTACKS):
            row, values = of(frame, model, metric, attack), values_of(metric, model, attack)
            assert row["reproduced"] == pytest.approx(np.mean(values))
            assert row["sd"] == pytest.approx(np.std(values, ddof=1))
            low, high = resampled_t_interval(values, 60 / 240)
            assert row["ci_low"] <= max(0, low) + 1e-9 and min(1, high) - 1e-9 <= row["ci_high"]
            assert (row["n"], row["folds"], row["replicates"]) == (FOLDS * N, FOLDS, 1)
            assert row["status"] == "reproduced" and row["folds_failed"] == 0
    assert set(frame["interval"]) == {
        "corrected resampled t over 5 folds, at least as wide as over points"
    }


def test_scores_come_from_the_probabilities_of_the_last_rows(tmp_path, shared):
    frame = drawn(tmp_path, entries_of(shared), draw_binary_scores)
    for metric, attack in itertools.product(("AUC", "Brier score"), ("none", *ATTACKS)):
        row, values = of(frame, "RST", metric, attack), values_of(metric, "RST", attack)
        assert row["reproduced"] == pytest.approx(np.mean(values))
        expected = resampled_t_interval(values, 0.25)
        assert (row["ci_low"], row["ci_high"]) == pytest.approx(expected)
    for metric, worse in (("AUC", -1), ("Brier score", 1)):
        clean, attacked = (of(frame, "RST", metric, a)["reproduced"] for a in ("none", "pgd20"))
        assert worse * (attacked - clean) > 0
    assert "Probabilities are those of the last row" in text_of(tmp_path)
    assert "10 bins of equal width" in text_of(tmp_path)


def test_a_row_for_each_attack_and_a_column_for_each_model(tmp_path, shared):
    drawn(tmp_path, entries_of(shared, source="standin"))
    text = text_of(tmp_path)
    assert "| attack | RST | MIRST |" in text and "\n| no attack | 0." in text
    assert [line.split(" |")[0] for line in text.splitlines() if line.startswith("| ")][:4] == [
        "| attack", "| no attack", "| fgsm", "| pgd20",
    ]  # fmt: skip
    assert text.count("| attack |") == 4 and "F1, BUS (SYNTHETIC)" in text
    assert "The positive class is class 1 (malignant)" in text
    assert "Nadeau and Bengio 2003" in text and "not other hospitals" in text
    assert "5 folds, in turn of 60 test points" in text


PRINT = [
    "study,table,dataset,method,metric,attack,norm,epsilon,value,source",
    "mine,1,BUS,RST,F1,none,Linf,,0.757,paper",
    "mine,1,BUS,RST,F1,PGD20,Linf,5/255,0.012,paper",
    "mine,1,BUS,MI-RST,F1,PGD20,Linf,5/255,0.516,paper",
    "mine,1,BUS,GR,F1,PGD20,Linf,5/255,0.000,paper",
    "mine,1,BUS,LLR,F1,PGD20,Linf,5/255,0.100,paper",
    "mine,2,BUS,RST,F1,PGD20,Linf,5/255,0.425,paper",
    "mine,1,BUS,RST,loss,PGD20,Linf,5/255,0.425,paper",
]
SETTINGS = {
    "table": "1",
    "methods": {"RST": "RST", "MIRST": "MI-RST", "LLR as run": "LLR"},
    "attacks": {"fgsm": "FGSM", "pgd20": "PGD20"},
    "metrics": ("F1", "sensitivity"),
}


def printed(folder) -> str:
    (folder / "print.csv").write_text("\n".join(PRINT), encoding="utf-8")
    return str(folder / "print.csv")


def test_published_numbers_stand_beside_those_of_the_run(tmp_path, shared):
    failed = [replace(FAILED, model="LLR as run", fold=fold) for fold in range(FOLDS)]
    published = printed(tmp_path)
    frame = drawn(tmp_path, entries_of(shared), published=published, failed=failed, **SETTINGS)
    row = of(frame, "RST", "F1", "PGD20")
    assert (row["table"], row["published"], row["epsilon"]) == ("1", 0.012, "5/255")
    assert row["difference"] == pytest.approx(row["reproduced"] - 0.012)
    clean = of(frame, "RST", "F1", "none")
    assert (clean["published"], clean["norm"]) == (0.757, "Linf") and pd.isna(clean["epsilon"])
    assert of(frame, "MI-RST", "F1", "PGD20")["published"] == 0.516
    # Not printed: the noise level of the run.
    own = of(frame, "RST", "sensitivity", "PGD20")
    assert (own["origin"], own["epsilon"]) == ("added", "0.01960784314")
    assert pd.isna(own["published"]) and own["norm"] == "Linf"
    gone = of(frame, "GR", "F1", "PGD20")
    assert gone["status"] == NOT_RUN and gone["published"] == 0 and pd.isna(gone["reproduced"])
    llr = of(frame, "LLR", "F1", "PGD20")
    assert llr["status"] == "training failed (loss not finite in epoch 3)"
    text = text_of(tmp_path)
    assert "RST: here \\[95 %\\] | RST: published" in text and "training failed |" in text
    assert "| not run | 0.000 |" in text  # under PGD alone there is a published number of GR
    (clean_line,) = [s for s in text.splitlines() if s.startswith("| no attack") and "0.757" in s]
    assert clean_line.endswith("| training failed | – | not run | – |")
    tables = [tmp_path / "table.csv"]
    made_of = build_comparison(
        "mine", published, tables, tmp_path / "compared", CONTEXT, {"BUS": "kaggle"}
    )
    verdicts = dict(zip(zip(made_of["artefact"], made_of["row"], made_of["column"], strict=True),
                        made_of["verdict"], strict=True))  # fmt: skip
    assert len(verdicts) == 7 and list(made_of["verdict"]).count(NO_VERDICT) == 4
    assert [made_of["verdict"][k] for k in (1, 2)] == [OUTSIDE, WITHIN]


def test_a_rounded_radius_is_that_of_print(tmp_path, shared):
    """0.0196 in a study is 5/255 in print; 6/255 is another attack."""
    entries = entries_of(shared, folds=[0, 1])
    others = [line.replace("5/255", "0.0196").replace("mine,2", "mine,1") for line in PRINT[:3]]
    others.append(PRINT[3].replace("5/255", "6/255"))
    (tmp_path / "print.csv").write_text("\n".join(others), encoding="utf-8")
    frame = drawn(tmp_path, entries, published=str(tmp_path / "print.csv"), **SETTINGS)
    assert of(frame, "RST", "F1", "PGD20")["published"] == 0.012
    rows = frame[(frame["method"] == "MI-RST") & (frame["attack"] == "PGD20")]
    assert set(rows[rows["metric"] == "F1"]["status"]) == {"reproduced", NOT_RUN}


def test_a_failed_fold_is_told_and_not_averaged_away(tmp_path, shared):
    entries = [e for e in entries_of(shared) if (e.model, e.fold) != ("RST", 2)]
    published = printed(tmp_path)
    frame = drawn(tmp_path, entries, failed=[FAILED], published=published, **SETTINGS)
    row, left = of(frame, "RST", "F1", "PGD20"), [0, 1, 3, 4]
    assert row["reproduced"] == pytest.approx(np.mean(values_of("F1", "RST", "pgd20", left)))
    assert (row["folds"], row["folds_failed"], row["n"]) == (4, 1, 4 * N)
    told = "training failed in fold 2 (loss not finite in epoch 3)"
    assert row["status"] == f"4 of 5 folds: {told}"
    assert of(frame, "MI-RST", "F1", "PGD20")["status"] == "reproduced"
    text = text_of(tmp_path)
    assert "\\] (4 of 5 folds) |" in text and "5 folds, in turn of 60 test points" in text
    assert f"Means of the folds that are left, not of all: RST on BUS: {told}." in text
    compared = build_comparison(
        "mine", published, [tmp_path / "table.csv"], tmp_path / "c", CONTEXT, {"BUS": "kaggle"}
    )
    reasons = dict(zip(compared["row"] + compared["column"], compared["reason"], strict=True))
    assert sum(f"4 of 5 folds: {told}" in reason for reason in reasons.values()) == 2
    # One of several trainings of a fold: the fold is there, and the failure is told.
    entries = entries_of(shared) + [entry_of(shared, "RST", fold, 1) for fold in range(FOLDS)]
    frame = drawn(tmp_path, entries, failed=[replace(FAILED, replicate=2)])
    row = of(frame, "RST", "F1", "pgd20")
    assert (row["folds"], row["folds_failed"], row["replicates"]) == (5, 0, 2)
    assert "training failed in fold 2, replicate 2 (loss" in text_of(tmp_path)


def test_what_is_not_defined_says_so(tmp_path):
    """A model that calls nothing positive in one fold has no mean precision."""
    entries = entries_of(tmp_path, folds=[0, 1])
    y, _ = made("RST", 1)
    clean = clean_table(y, np.zeros(N, dtype=int))
    records = level_records(clean, {EPSILON: np.zeros(N, dtype=int)})
    for file in entries[1].tallies.values():
        io.write_table(file, make_tally(clean, records))
    frame = drawn(tmp_path, entries)
    row = of(frame, "RST", "precision", "pgd20")
    why = "precision is not defined (fold 1: no point is called positive)"
    assert pd.isna(row["reproduced"]) and row["status"] == row["interval"] == why
    assert of(frame, "RST", "F1", "pgd20")["reproduced"] > 0
    assert "| not defined |" in text_of(tmp_path)


def test_a_difference_is_taken_fold_by_fold(tmp_path, shared):
    results = read_binary_results(request_of(tmp_path, entries_of(shared)))
    keys = [("BUS", model, "pgd20") for model in MODELS]
    found = results.difference(*keys, EPSILON, "F1")
    values = [values_of("F1", model, "pgd20") for model in MODELS]
    expected = paired_estimate(*values, test_per_train=0.25, n=FOLDS * N)
    assert found.value == pytest.approx(expected.value) and found.n == expected.n
    assert (found.ci_low, found.ci_high) == pytest.approx((expected.ci_low, expected.ci_high))
    # Of the folds that both have.
    some = [e for e in entries_of(shared) if (e.model, e.fold) != ("RST", 2)]
    results = read_binary_results(request_of(tmp_path, some, failed=[FAILED]))
    assert results.difference(*keys, EPSILON, "F1").folds == 4
    assert results.difference(keys[0], ("BUS", "GR", "pgd20"), EPSILON, "F1") is None


def test_fewer_points_to_train_on_make_intervals_wider(tmp_path, shared):
    entries = entries_of(shared)
    few = [replace(entry, training_points=60) for entry in entries]
    whole, cut = (read_binary_results(request_of(tmp_path, each)) for each in (entries, few))
    key = ("BUS", "RST", "pgd20")
    assert (whole.test_per_train[key[:2]], cut.test_per_train[key[:2]]) == (0.25, 1.0)
    widths = [
        found.ci_high - found.ci_low
        for found in (one.estimate(key, EPSILON, "F1") for one in (whole, cut))
    ]
    assert widths[1] > 1.2 * widths[0]


def test_several_levels_have_rows_of_their_own(tmp_path):
    entry = entry_of(tmp_path, "RST", 0)
    y, found = made("RST", 0)
    clean = clean_table(y, label(found["none"]))
    levels = {0.1: label(found["fgsm"]), 0.2: label(found["pgd20"])}
    io.write_table(entry.tallies["fgsm"], make_tally(clean, level_records(clean, levels)))
    frame = drawn(tmp_path, [replace(entry, tallies={"fgsm": entry.tallies["fgsm"]})])
    rows = frame[(frame["metric"] == "F1") & (frame["attack"] == "fgsm")]
    assert list(rows["epsilon"]) == ["0.1", "0.2"]
    assert "| attack | ε | RST |" in text_of(tmp_path) and "| no attack | 0 |" in text_of(tmp_path)
    # One training of one fold: over its points.
    assert set(frame["interval"]) == {"one training, over points alone (Agresti-Coull)"}


def test_what_cannot_be_shown_is_refused(tmp_path):
    entries = entries_of(tmp_path, folds=[0])
    without = [replace(entry, probabilities=entry.tallies) for entry in entries]
    for entry in entries:
        for file in entry.probabilities.values():
            table = io.read_table(file)
            io.write_table(file, table[["point_id", "correct"]])
    with pytest.raises(InputError, match="no probabilities") as error:
        drawn(tmp_path, entries, draw_binary_scores)
    assert "keep_probabilities: true" in error.value.remedy
    assert len(without) == 2
    y = np.arange(N) % 3
    clean = clean_table(y, y)
    io.write_table(
        entries[0].tallies["fgsm"], make_tally(clean, level_records(clean, {EPSILON: y}))
    )
    with pytest.raises(InputError, match="more than two classes"):
        drawn(tmp_path, [replace(entries[0], tallies={"fgsm": entries[0].tallies["fgsm"]})])
    (tmp_path / "RST00.json").write_text('{"n_test": 60, "ensemble_accuracy": 0.5}')
    with pytest.raises(InputError, match="n_train"):
        drawn(tmp_path, [*entries_of(tmp_path, folds=[1]), entries[0]])
