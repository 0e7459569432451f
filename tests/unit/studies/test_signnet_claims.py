"""The sign-network paper's sentences about ECG, on results made to settle them."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.reporting import claims as judging
from medrobust.reporting.artefacts import RunContext
from medrobust.reporting.comparison import read_published
from medrobust.reporting.request import Entry, Request
from medrobust.studies.signnet import claim_evidence
from medrobust.studies.signnet import claims as signnet_claims
from medrobust.studies.signnet import tables as signnet
from medrobust.studies.signnet.claim_evidence import SignnetResults
from medrobust.studies.signnet.results import IMAGES, SIGNALS

from tests.unit.attack_files import write_records
from tests.unit.drawing import draw

CONTEXT = RunContext("signnet", "paper", "code", "paper-code", "c", "h", {}, "none", 3, "snakemake")
MODELS = SIGNALS.models
SPLIT = {"SCD01": 0.91, "SCDCE": 0.93, "BNN": 0.80, "MLP": 0.96, "CNN": 0.99, "RandomForest": 0.97}
PRINTED = {
    "SCD01": 0.35,
    "SCDCE": 0.39,
    "BNN": 0.24,
    "MLP": 0.15,
    "CNN": 0.22,
    "RandomForest": 0.27,
}


@pytest.fixture(scope="module")
def published(root):
    return read_published(root / "resources/published/signnet.csv", "signnet")


def around(mean, seed, n=21, spread=0.02):
    """Returns n positive values of exactly this mean."""
    noise = np.random.default_rng(seed).normal(0, spread, n)
    return mean + noise - noise.mean()


def results(published, levels=PRINTED, accuracies=SPLIT, datasets=("MIT-BIH",), **more):
    """Returns results whose mean distances and accuracies are these, in every data set."""
    values = {}
    for dataset in datasets:
        for seed, model in enumerate(levels):
            one = pd.Series(around(levels[model], seed + 10 * len(dataset)))
            values["l2_final_iterate", dataset, model] = one
            values["l2", dataset, model] = one / 1.1
            correct = np.arange(2000) < round(2000 * accuracies[model])
            order = np.random.default_rng(seed).permutation(2000)
            values["correct", dataset, model] = pd.Series(correct[order].astype(float))
            added = 30.0 if model.startswith("SCD") else 3.0
            values["spikes", dataset, model] = pd.Series(around(added, seed, spread=2))
            values["first_spike", dataset, model] = pd.Series(around(0.8, seed))
    numbers = claim_evidence.averages(published)
    keys = zip(numbers["table"], numbers["dataset"], numbers["method"], strict=True)
    found = SignnetResults(
        values=values | more.pop("values", {}),
        sizes=dict.fromkeys(datasets, (87554, 21892)),
        sources=dict.fromkeys(datasets, "kaggle"),
        replicates=dict.fromkeys(datasets, 1),
        published=dict(zip(keys, numbers["value"], strict=True)),
        seed=1,
    )
    return dataclasses.replace(found, **more)


def judge(published, found, datasets=None, only=()):
    frame = judging.judge_claims(
        [one for one in signnet_claims.claims(published) if not only or one.name in only],
        found,
        dict.fromkeys(datasets or ["MIT-BIH"], "kaggle"),
        CONTEXT,
        signnet.remark,
    )
    return frame.set_index(["claim", "dataset"])


def verdict(published, found, name, dataset="MIT-BIH"):
    return judge(published, found, only=[name])["verdict"][name, dataset]


# --- the sentences ---


def test_quotes_are_short_and_claims_have_their_own_names(published):
    made = signnet_claims.claims(published)
    assert len({one.name for one in made}) == len(made) == 28
    for one in made:
        assert 3 <= len(one.quote.split()) <= 30
        assert one.quote == " ".join(one.quote.split())
        assert one.tested.endswith(".") and not one.where.endswith(".")
        assert set(one.datasets) <= {*IMAGES.datasets, *SIGNALS.datasets, "combined"}
        assert "combined" not in one.datasets[:1] or one.combines


# By hand from Tables III and IV.
IN_PRINT = {
    ("cnn_leads_in_accuracy", "PTBD"): "holds",
    ("cnn_leads_in_accuracy", "MIT-BIH"): "holds",
    ("sign_network_highest", "PTBD"): "holds",  # .18 against .14
    ("sign_network_highest", "MIT-BIH"): "holds",  # .35, .39 against .27
    ("sign_network_highest", "combined"): "holds",  # .27 against .21
    ("scdce_leads_on_mitbih", "MIT-BIH"): "holds",  # .39 against .35
    ("bnn_next_best_on_mitbih", "MIT-BIH"): "does not hold",  # .24 below .35 and .27
    ("scdce_almost_twice_bnn", "MIT-BIH"): "holds",  # .39 / .24 = 1.63
    ("abstract_sign_network_greater", "PTBD"): "holds",
    ("introduction_sign_networks_higher", "PTBD"): "does not hold",  # SCDCE .10, BNN .14
    ("introduction_sign_networks_higher", "MIT-BIH"): "holds",
    ("introduction_sign_networks_higher", "all of them"): "does not hold",
    ("conclusion_sign_networks_greater", "PTBD"): "does not hold",
    ("others_not_far_behind", "PTBD"): "",  # the bound itself is the printed one
    ("figure2_more_spikes", "MIT-BIH"): "",
}


def test_the_papers_own_numbers(published):
    frame = judge(published, results(published))
    assert {key: frame["in_print"][key] for key in IN_PRINT} == IN_PRINT


def test_equal_printed_numbers_cannot_tell(published):
    # SCDCE and the CNN are both .10 on PTBD: one may be above the other by rounding alone.
    found = claim_evidence.printed_above(published, "IV", "PTBD", "SCDCE", "CNN")
    assert judging.verdict_of(found) == "cannot tell"


# --- distances ---


def test_results_as_printed_give_the_verdicts_of_print(published):
    frame = judge(published, results(published))
    part = frame.xs("MIT-BIH", level="dataset")
    told = part[part["in_print"] != ""]
    assert told["verdict"].tolist() == told["in_print"].tolist()
    assert part["n"].dropna().eq(21).any()
    assert part["verdict"]["others_not_far_behind"] == "does not hold"  # SCD01: 8 points
    # PTBD is not there, so nothing holds on both.
    assert frame["verdict"]["sign_network_highest", "PTBD"] == "cannot tell"
    assert frame["verdict"]["sign_network_highest", "combined"] == "cannot tell"
    assert frame["verdict"]["sign_network_highest", "all of them"] == "cannot tell"
    assert "PTBD is not part" in frame["reason"]["sign_network_highest", "combined"]


@pytest.mark.parametrize(
    "changed, name, expected",
    [
        ({"BNN": 0.6}, "scdce_leads_on_mitbih", "does not hold"),
        ({"BNN": 0.6}, "sign_network_highest", "does not hold"),
        ({"BNN": 0.6}, "abstract_sign_network_greater", "does not hold"),
        ({"BNN": 0.6}, "scdce_almost_twice_bnn", "does not hold"),
        ({"BNN": 0.6}, "bnn_next_best_on_mitbih", "does not hold"),  # it leads
        # One sign network above all is enough for the singular, not for the plural.
        ({"SCD01": 0.1}, "sign_network_highest", "holds"),
        ({"SCD01": 0.1}, "introduction_sign_networks_higher", "does not hold"),
        ({"SCDCE": 0.1}, "sign_network_highest", "holds"),
        ({"SCDCE": 0.1}, "scdce_leads_on_mitbih", "does not hold"),
        ({"BNN": 0.37}, "bnn_next_best_on_mitbih", "holds"),
        ({"BNN": 0.37}, "sign_network_highest", "holds"),
        ({"BNN": 0.22}, "scdce_almost_twice_bnn", "holds"),  # 1.77
        ({"BNN": 0.18}, "scdce_almost_twice_bnn", "does not hold"),  # 2.17: more than twice
        ({"BNN": 0.26}, "scdce_almost_twice_bnn", "cannot tell"),  # 1.50
    ],
)
def test_what_settles_a_claim_about_distances(published, changed, name, expected):
    found = results(published, PRINTED | changed)
    assert verdict(published, found, name) == expected


def test_models_that_are_not_apart_cannot_be_told_apart(published):
    near = np.random.default_rng(9)
    base = near.lognormal(-1, 0.5, 21)
    values = {
        ("l2_final_iterate", "MIT-BIH", model): pd.Series(base * near.lognormal(0, 0.3, 21))
        for model in MODELS
    }
    found = results(published, values=values)
    for name in ("sign_network_highest", "scdce_leads_on_mitbih", "bnn_next_best_on_mitbih"):
        assert verdict(published, found, name) == "cannot tell"
    reason = judge(published, found)["reason"]["scdce_leads_on_mitbih", "MIT-BIH"]
    assert "open: SCDCE above" in reason


def test_another_verdict_at_the_boundary_is_told(published):
    values = {("l2", "MIT-BIH", "BNN"): pd.Series(around(0.6, 5))}
    frame = judge(published, results(published, values=values))
    row = frame.loc[("scdce_leads_on_mitbih", "MIT-BIH")]
    assert row["verdict"] == "holds"
    assert "by the distances at the boundary: does not hold" in row["reason"]
    ratio = frame.loc[("scdce_almost_twice_bnn", "MIT-BIH")]
    assert "by the distances at the boundary: does not hold" in ratio["reason"]
    assert "boundary" not in frame["reason"]["cnn_leads_in_accuracy", "MIT-BIH"]


def test_missing_models_and_other_points(published):
    found = results(published)
    without = {key: one for key, one in found.values.items() if key[2] != "BNN"}
    reasons = judge(published, dataclasses.replace(found, values=without))["reason"]
    text = reasons["scdce_leads_on_mitbih", "MIT-BIH"]
    assert "open: SCDCE above BNN (BNN on MIT-BIH is not part of this run)" in text
    shifted = found.values["l2_final_iterate", "MIT-BIH", "BNN"].rename(lambda point: point + 1)
    values = {("l2_final_iterate", "MIT-BIH", "BNN"): shifted}
    frame = judge(published, results(published, values=values))
    row = frame.loc[("scdce_leads_on_mitbih", "MIT-BIH")]
    assert row["verdict"] == "cannot tell" and "attacked on different points" in row["reason"]


def test_censored_distances_cannot_tell(published):
    one = pd.Series(around(0.39, 1))
    one[3] = np.inf
    found = results(published, values={("l2_final_iterate", "MIT-BIH", "SCDCE"): one})
    frame = judge(published, found)
    row = frame.loc[("scdce_leads_on_mitbih", "MIT-BIH")]
    assert row["verdict"] == "cannot tell" and "1 of 21 points have no" in row["reason"]
    assert frame["verdict"]["scdce_almost_twice_bnn", "MIT-BIH"] == "cannot tell"
    # SCD01 is above all the same, which is enough for the singular.
    assert frame["verdict"]["sign_network_highest", "MIT-BIH"] == "holds"


def test_the_combined_average_weighs_data_sets_alike(published):
    both = ("PTBD", "MIT-BIH")
    found = results(published, datasets=both)
    low = {
        ("l2_final_iterate", "PTBD", model): pd.Series(around(level, 3, n=37))
        for model, level in {**dict.fromkeys(MODELS, 0.1), "BNN": 0.3}.items()
    }
    found = results(published, datasets=both, values=low)
    frame = judge(published, found, both)
    # SCDCE (.1 + .39) / 2 = .245 against BNN (.3 + .24) / 2 = .27.
    row = frame.loc[("sign_network_highest", "combined")]
    assert "SCDCE above BNN: −0.025 [" in row["figures"]
    assert row["verdict"] == "does not hold" and row["n"] == 58
    assert frame["verdict"]["sign_network_highest", "PTBD"] == "does not hold"
    assert frame["verdict"]["sign_network_highest", "MIT-BIH"] == "holds"
    assert frame["verdict"]["sign_network_highest", "all of them"] == "does not hold"
    whole = judge(published, results(published, datasets=both), both)
    assert whole["verdict"]["sign_network_highest", "all of them"] == "holds"


# --- accuracy ---


def test_accuracy_claims(published):
    better = {**SPLIT, "SCD01": 0.97, "SCDCE": 0.97, "MLP": 0.98}
    frame = judge(published, results(published, accuracies=better))
    # MIT-BIH prints a largest gap of 99.9 - 96.4 = 3.5 points; here it is 2.
    row = frame.loc[("others_not_far_behind", "MIT-BIH")]
    assert row["verdict"] == "holds" and row["n"] == 2000
    assert "MLP at most 3.5 points behind the CNN: 1.00 [" in row["figures"]
    assert "BNN" not in row["figures"]
    assert frame["verdict"]["cnn_leads_in_accuracy", "MIT-BIH"] == "holds"
    beaten = results(published, accuracies={**better, "SCDCE": 0.999})
    assert verdict(published, beaten, "cnn_leads_in_accuracy") == "does not hold"
    level = results(published, accuracies={**better, "RandomForest": 0.989})
    assert verdict(published, level, "cnn_leads_in_accuracy") == "cannot tell"
    assert claim_evidence.printed_gap(
        level.published, SIGNALS, "PTBD", "CNN", signnet_claims.NOT_FAR_BEHIND
    ) == pytest.approx(8.5)


# --- Figure 2 ---


def test_figure2_claims(published):
    def told(**levels):
        values = {}
        for seed, model in enumerate(MODELS):
            added = levels.get(model, 30.0 if model.startswith("SCD") else 3.0)
            values["spikes", "MIT-BIH", model] = pd.Series(around(added, seed, spread=2))
        share = levels.get("share", 0.8)
        values["first_spike", "MIT-BIH", "RandomForest"] = pd.Series(around(share, 1))
        names = ("figure2_more_spikes", "figure2_others_similar", "figure2_forest_one_spike")
        frame = judge(published, results(published, values=values), only=names)
        return [frame["verdict"][name, "MIT-BIH"] for name in names]

    assert told() == ["holds", "holds", "holds"]
    assert told(SCD01=-4.0)[0] == "does not hold"
    assert told(SCD01=0.0)[0] == "cannot tell"
    assert told(BNN=50.0)[1] == "does not hold"
    assert told(share=0.3)[2] == "does not hold"
    assert told(share=0.5)[2] == "cannot tell"


# --- the rest ---


def test_claims_that_no_number_settles_and_those_of_arithmetic(published):
    frame = judge(published, results(published))
    for name in ("first_robust_model", "classes_of_highest_accuracy"):
        assert frame["verdict"][name, ""] == "cannot tell" and frame["reason"][name, ""]
    split = frame.loc[("ptbd_split_80_20", "")]
    assert split["verdict"] == "does not hold" and "are 90.0 %" in split["figures"]
    assert frame["verdict"]["mitbih_sizes", "MIT-BIH"] == "holds"
    fewer = results(published, sizes={"MIT-BIH": (87554, 21891)})
    assert verdict(published, fewer, "mitbih_sizes") == "does not hold"
    cut = results(published, sizes={"MIT-BIH": (9, 9)}, sources={"MIT-BIH": "subset"})
    assert verdict(published, cut, "mitbih_sizes") == "cannot tell"


# --- from files ---


def entry(folder, model, boundary, *, dataset="MIT-BIH", source="kaggle", replicate=0, wrong=()):
    """Writes a model's results: 40 of 50 test points right, one spike added to each heartbeat."""
    stem = folder / f"{dataset}-{model}-{replicate}"
    n = len(boundary)
    io.write_json(f"{stem}.json", {"n_train": 87554, "n_test": 21892})
    clean = pd.DataFrame({"point_id": np.arange(50), "label": 0, "prediction": np.arange(50) >= 40})
    io.write_table(f"{stem}-clean.parquet", clean.astype({"prediction": "int64"}))
    records = write_records(
        f"{stem}.parquet", boundary, 1.1 * np.asarray(boundary), points=np.arange(n), wrong=wrong
    )
    x = np.tile(np.linspace(0, 1, 187, dtype=np.float32), (n, 1))
    found = x.copy()
    found[:, 20] += 0.3
    found[:, 120:122] += 0.1
    found[~np.isfinite(boundary).any(axis=1)] = np.nan
    arrays = {"point_id": np.arange(n), "x": x, "x_adv": found, "x_final_iterate": found}
    io.write_tensors(f"{stem}.safetensors", arrays)
    return Entry(
        dataset,
        model,
        source,
        replicate,
        summary=f"{stem}.json",
        predictions=f"{stem}-clean.parquet",
        records=[records],
        arrays=[f"{stem}.safetensors"],
    )


def test_results_are_read_point_by_point(tmp_path, published):
    boundary = np.array([[0.3, 0.2], [np.nan, 0.4], [np.nan, np.nan], [0.5, 0.6]])
    made = entry(tmp_path, "SCD01", boundary)
    found = claim_evidence.read_results([made], published, seed=1)
    assert found.of("l2", "MIT-BIH", "SCD01").tolist() == [0.2, 0.4, np.inf, 0.5]
    printed = found.of("l2_final_iterate", "MIT-BIH", "SCD01").tolist()
    assert printed == pytest.approx([0.22, 0.44, np.inf, 0.55])
    assert found.of("correct", "MIT-BIH", "SCD01").mean() == 0.8
    added = found.of("spikes", "MIT-BIH", "SCD01").tolist()
    # Each bump on a rising line has a maximum, and a minimum behind it.
    assert added[:2] == [4.0, 4.0] and np.isnan(added[2])
    share = found.of("first_spike", "MIT-BIH", "SCD01")
    assert share[0] == pytest.approx(0.09 / 0.11, rel=1e-4) and np.isnan(share[2])
    assert found.sizes == {"MIT-BIH": (87554, 21892)} and found.replicates == {"MIT-BIH": 1}
    assert found.of("l2", "MIT-BIH", "MLP") is None
    assert tuple(found.points("l2", name, SIGNALS) for name in ("MIT-BIH", "combined")) == (4, None)


def test_replicates_are_averaged(tmp_path, published):
    made = [
        entry(tmp_path, "SCD01", [[0.2], [0.4]], replicate=0),
        entry(tmp_path, "SCD01", [[0.4], [0.8]], replicate=1),
        entry(tmp_path, "MLP", [[0.4], [0.8]]),
    ]
    found = claim_evidence.read_results(made, published, seed=1)
    assert found.of("l2", "MIT-BIH", "SCD01").tolist() == pytest.approx([0.3, 0.6])
    assert found.trainings("MIT-BIH", SIGNALS) == 1
    assert claim_evidence.read_results(made[:2], published, 1).trainings("MIT-BIH", SIGNALS) == 2


def request(tmp_path, root, entries, context=CONTEXT):
    return Request(
        entries=entries,
        published=str(root / "resources/published/signnet.csv"),
        out_stem=str(tmp_path / "claims"),
        context=context,
        attack={"name": "hopskipjump", "restarts": 2},
    )


def test_the_artefact_is_made_from_files(tmp_path, root):
    levels = {"SCD01": 0.35, "SCDCE": 0.5, "MLP": 0.2}
    entries = [
        entry(tmp_path, model, around(level, seed)[:, None])
        for seed, (model, level) in enumerate(levels.items())
    ]
    entries.append(entry(tmp_path, "SCD01", [[0.2]], dataset="mitbih_ns"))
    files = draw("signnet", "claims", request(tmp_path, root, entries))
    assert {file.name for file in files} == {
        f"claims.{suffix}" for suffix in ("csv", "html", "md", "provenance.json")
    }
    frame = pd.read_csv(tmp_path / "claims.csv", keep_default_na=False)
    assert list(frame.columns) == list(judging.COLUMNS)
    rows = frame.set_index(["claim", "dataset"])
    lead = rows.loc[("scdce_leads_on_mitbih", "MIT-BIH")]
    assert lead["verdict"] == "cannot tell" and "CNN on MIT-BIH is not part" in lead["reason"]
    assert "SCDCE above MLP: difference 0.330 [" in lead["figures"]
    assert "mitbih_ns" not in frame["dataset"].tolist()
    provenance = io.read_json(tmp_path / "claims.provenance.json")
    assert len(provenance["inputs"]) == 1 + 3 * 4
    assert "HopSkipJump (restarts 2)" in provenance["caption"]


def test_stand_ins_settle_nothing_but_arithmetic(tmp_path, root):
    entries = [
        entry(tmp_path, model, around(level, seed)[:, None], source="standin")
        for seed, (model, level) in enumerate(PRINTED.items())
    ]
    draw("signnet", "claims", request(tmp_path, root, entries))
    frame = pd.read_csv(tmp_path / "claims.csv", keep_default_na=False)
    told = frame[frame["verdict"] != "cannot tell"]
    assert told["claim"].tolist() == ["ptbd_split_80_20"]
    assert "SYNTHETIC" in (tmp_path / "claims.html").read_text()


def test_missing_files_are_named(tmp_path, published):
    made = entry(tmp_path, "SCD01", [[0.2]])
    for field, value in (("predictions", "none.parquet"), ("arrays", ["none.safetensors"])):
        with pytest.raises(InputError, match=r"do(es)? not exist"):
            claim_evidence.read_results([dataclasses.replace(made, **{field: value})], published, 1)
