"""Tables, figure and claims of mirst, on made results."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.evaluation.folds import resampled_t_interval
from medrobust.reporting.artefacts import NOT_RUN, FailedTraining
from medrobust.reporting.catalogue import function_of
from medrobust.reporting.claims import CANNOT_TELL, DOES_NOT_HOLD, HOLDS
from medrobust.reporting.comparison import read_published
from medrobust.reporting.request import Entry
from medrobust.studies.mirst import attacks, claims, figures, together
from medrobust.studies.mirst.catalogue import ARTEFACTS, PRINTED

from tests.unit.attack_records import clean_table, level_records
from tests.unit.mirst_files import (
    CONTEXT,
    EPSILON,
    FOLDS,
    N,
    Y,
    drawn,
    request_of,
    right_first,
    text_of,
    training,
)

PUBLISHED = str(Path(__file__).parents[3] / "resources/published/mirst.csv")
ATTACKS = ("fgsm", "pgd20", "cw10")
LABELS = list(dict.fromkeys(name for models in PRINTED.values() for name in models))
WITH_RESULTS = [name for name in LABELS if name != "LLR"]
LLR_FAILED = [FailedTraining("BUSI+BUSIS", "LLR", 0, fold, "NaN") for fold in range(FOLDS)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Results that are read alone: those of several tests are the same."""
    return tmp_path_factory.mktemp("results")


def study(folder, *, robust=None, random_init=False, dataset="BUSI+BUSIS", source="official"):
    """Returns the results of all models of print; by default all alike."""
    robust = robust or dict.fromkeys(WITH_RESULTS, (0.9, 0.6))
    return [
        training(
            folder, dataset, model, fold, right_first(shares[0], fold, number),
            {a: right_first(shares[1], fold, 50 + number) for a in ATTACKS},
            source=source, random_init=random_init,
        )
        for number, (model, shares) in enumerate(robust.items()) for fold in range(FOLDS)
    ]  # fmt: skip


def shown_claims(folder, entries, **how):
    request = request_of(folder, entries, ATTACKS, published=PUBLISHED, **how)
    claims.build_mirst_claims(request)
    frame = pd.read_csv(f"{request.out_stem}.csv", keep_default_na=False)
    return frame.groupby("claim", sort=False).last()


# --- tables in print --------------------------------------------------------------------


def test_every_printed_number_has_a_place_in_a_table(tmp_path, made):
    entries = study(made)
    told = []
    for name in ("table1", "table2", "table3"):
        artefact = ARTEFACTS[name]
        own = [one for one in entries if one.model in artefact.models]
        request = request_of(
            tmp_path, own, ATTACKS, published=PUBLISHED, failed=LLR_FAILED, name=name
        )
        function_of(artefact.draw)(request, **artefact.settings)
        told.append(drawn(request))
    frame = pd.concat(told)
    known = frame[frame["published"].notna()]
    assert len(known) == 104 == len(read_published(PUBLISHED, "mirst"))
    assert known["reproduced"].notna().all()
    llr = frame[frame["method"] == "LLR"]
    assert len(llr) == 8 and all("training failed (NaN)" in one for one in llr["status"])


def test_columns_stand_as_in_print_whatever_was_run(tmp_path, made):
    entries = study(made, robust={"MIRST": (0.9, 0.6)})
    request = request_of(tmp_path, entries, ATTACKS, published=PUBLISHED, name="table3")
    function_of(ARTEFACTS["table3"].draw)(request, **ARTEFACTS["table3"].settings)
    (heads,) = {line for line in text_of(request).splitlines() if line.startswith("| attack |")}
    places = [heads.index(f"| {name}: here") for name in PRINTED["3"].values()]
    assert places == sorted(places)


# --- claims -----------------------------------------------------------------------------


def test_print_agrees_with_itself_where_it_does(tmp_path, made):
    frame = shown_claims(tmp_path, study(made))
    with_print = frame[frame["in_print"] != ""]["in_print"]
    assert len(with_print) == 12 and set(with_print) == {HOLDS}


def test_differences_decide_the_claims(tmp_path, made):
    robust = dict.fromkeys(WITH_RESULTS, (0.9, 0.3))
    robust |= {"RST with drop-max": (0.9, 0.95), "MIRST with drop-max": (0.6, 0.1)}
    frame = shown_claims(tmp_path, study(made, robust=robust), failed=LLR_FAILED)
    verdicts = frame["verdict"]
    assert verdicts["drop_max_improves_rst"] == HOLDS
    assert verdicts["drop_max_improves_mirst"] == DOES_NOT_HOLD
    assert verdicts["drop_max_not_for_clean_mirst"] == HOLDS
    assert verdicts["attacks_reduce_baseline_to_zero"] == DOES_NOT_HOLD
    assert verdicts["llr_does_not_converge"] == HOLDS
    # 300 points of two classes are not the paper's 1,190.
    assert verdicts["data_set_sizes"] == DOES_NOT_HOLD
    assert "180 benign and 120 malignant" in frame["figures"]["data_set_sizes"]


def test_an_f1_of_zero_is_met_by_zero_alone(tmp_path, made):
    robust = dict.fromkeys(WITH_RESULTS, (0.9, 0.6))
    entries = [one for one in study(made, robust=robust) if one.model != "baseline (ImageNet)"]
    none = np.zeros(N, dtype=bool)
    entries += [
        training(
            tmp_path, "BUSI+BUSIS", "baseline (ImageNet)", fold, right_first(0.9, fold),
            dict.fromkeys(ATTACKS, none),
        )
        for fold in range(FOLDS)
    ]  # fmt: skip
    assert shown_claims(tmp_path, entries)["verdict"]["attacks_reduce_baseline_to_zero"] == HOLDS


def test_models_that_began_at_random_tell_nothing_but_their_numbers(tmp_path, made):
    robust = dict.fromkeys(WITH_RESULTS, (0.9, 0.3)) | {"RST with drop-max": (0.9, 0.95)}
    frame = shown_claims(tmp_path, study(made, robust=robust, random_init=True))
    judged = frame.drop("data_set_sizes")
    assert set(judged["verdict"]) == {CANNOT_TELL}
    assert "RANDOM INIT" in frame["reason"]["drop_max_improves_rst"]
    assert (
        "RST with drop-max above RST (F1, FGSM): difference +"
        in (frame["figures"]["drop_max_improves_rst"])
    )


def test_the_same_difference_in_every_fold_is_no_test_however_they_began(tmp_path, made):
    none = dict.fromkeys(ATTACKS, np.zeros(N, dtype=bool))
    entries = [
        training(
            tmp_path, "BUSI+BUSIS", model, fold, right_first(0.9, fold), none, random_init=True
        )
        for model in ("RST", "RST with drop-max") for fold in range(FOLDS)
    ]  # fmt: skip
    frame = shown_claims(tmp_path, entries)
    reason = frame["reason"]["drop_max_improves_rst"]
    assert "the same difference in every fold is no test" in reason
    assert "RANDOM INIT" not in reason


def test_one_release_alone_is_judged_as_such_and_stand_ins_never(tmp_path, made):
    frame = shown_claims(tmp_path, study(made, dataset="busi"))
    assert "one of its two releases" in frame["reason"]["drop_max_improves_rst"]
    assert frame["verdict"]["data_set_sizes"] == CANNOT_TELL
    synthetic = shown_claims(tmp_path, study(made, source="standin"))
    assert set(synthetic["verdict"]) == {CANNOT_TELL}


def test_what_was_not_run_cannot_be_told(tmp_path, made):
    entries = [one for one in study(made) if one.model == "RST"]
    frame = shown_claims(tmp_path, entries)
    assert "not part of this run" in frame["reason"]["drop_max_improves_rst"]
    assert frame["reason"]["llr_does_not_converge"].startswith("LLR is not part of this run")


# --- attacks ----------------------------------------------------------------------------


def probability(right: np.ndarray, shift: float) -> np.ndarray:
    return np.where(right, Y, 1 - Y) * 0.6 + 0.2 + shift


def test_attacks_are_compared_point_by_point(tmp_path):
    clean = np.arange(N) < 50
    ten = np.arange(N) % 3 == 0  # still right
    twenty = ten & (np.arange(N) > 20)
    entry = training(
        tmp_path, "busi", "RST", 0, clean,
        {
            "pgd10": (ten, probability(ten, 0.0)),
            "cw10_on": (ten, probability(ten, 0.001)),
            "pgd20": (twenty, probability(twenty, 0.0)),
            "cw10": (ten, probability(ten, 0.0)),
        },
    )  # fmt: skip
    request = request_of(tmp_path, [entry], ["pgd10", "cw10_on", "pgd20", "cw10"])
    attacks.draw_attacks(request)
    frame = drawn(request).set_index(["first", "second"])
    same = frame.loc[("PGD10", "CW10, no stop")]
    assert (same["points"], same["only_first"], same["only_second"]) == (50, 0, 0)
    assert same["largest_change"] == pytest.approx(0.001)
    apart = frame.loc[("PGD20", "CW10")]
    assert apart["only_first"] == (clean & ten & ~twenty).sum() and apart["only_second"] == 0
    assert apart["largest_change"] == pytest.approx(0.6)
    assert frame.loc[("PGD20", "CW20")]["status"] == NOT_RUN
    assert "broken by the first alone" in text_of(request)


def test_attacks_at_other_radii_are_refused(tmp_path):
    entry = training(tmp_path, "busi", "RST", 0, np.ones(N, bool), {"pgd10": np.ones(N, bool)})
    table = clean_table(Y, Y)
    records = level_records(table, {0.1: Y})
    stem = tmp_path / "other"
    from medrobust.evaluation.outcomes import outcomes_of
    from medrobust.evaluation.tally import make_tally

    from tests.unit.mirst_files import with_probability

    table, records = with_probability(table, Y), with_probability(records, Y)
    io.write_table(f"{stem}.csv", make_tally(table, records))
    io.write_table(f"{stem}.parquet", outcomes_of(records, table))
    entry = replace(
        entry,
        tallies={**entry.tallies, "cw10": f"{stem}.csv"},
        probabilities={**entry.probabilities, "cw10": f"{stem}.parquet"},
    )
    with pytest.raises(InputError, match="one and the same alone"):
        attacks.draw_attacks(request_of(tmp_path, [entry], ["pgd10", "cw10"]))


# --- folds ------------------------------------------------------------------------------


def test_plain_folds_stand_beside_those_that_keep_images_together(tmp_path, made):
    plain = study(made, robust={"RST": (0.95, 0.6)}, dataset="busi_64")
    kept = study(made, robust={"RST": (0.7, 0.6)}, dataset="busi_64_together")
    request = request_of(tmp_path, [*plain, *kept], ATTACKS)
    together.draw_folds(request)
    frame = drawn(request)
    row = frame[(frame["metric"] == "sensitivity") & (frame["attack"] == "none")].iloc[0]
    values = [
        [(right_first(share, fold) & (Y == 1)).sum() / (Y == 1).sum() for fold in range(FOLDS)]
        for share in (0.95, 0.7)
    ]
    assert row["difference"] == pytest.approx(np.mean(values[0]) - np.mean(values[1]))
    halves = [np.diff(resampled_t_interval(one, N / 240))[0] / 2 for one in values]
    # At least as wide as both intervals over folds together.
    assert (row["ci_high"] - row["ci_low"]) / 2 >= np.hypot(*halves) - 1e-9
    alone = request_of(tmp_path, plain, ATTACKS, name="alone")
    together.draw_folds(alone)
    assert list(drawn(alone)["status"]) == [NOT_RUN]


# --- Figure 1 ---------------------------------------------------------------------------


def kept_entry(folder, found: dict[str, list[int]], labels, clean, ids=None) -> Entry:
    """Returns a model with kept images of 3 x 8 x 8 values."""
    labels, clean = np.array(labels), np.array(clean)
    ids = np.arange(len(labels)) if ids is None else np.array(ids)
    x = np.full((len(ids), 3, 8, 8), 0.5, dtype=np.float32)
    arrays, records = {}, {}
    for number, (attack, predictions) in enumerate(found.items()):
        path = folder / f"{attack}.safetensors"
        noisy = x[:, None] + np.float32(0.005 * (number + 1))
        io.write_tensors(
            # Without a grid the radius is in the records alone.
            path,
            {"point_id": ids, "x": x, "x_adv": noisy, "epsilon": np.array([np.nan])},
        )
        frame = level_records(clean_table(labels, clean, ids), {EPSILON: np.array(predictions)})
        io.write_table(folder / f"{attack}.parquet", frame)
        arrays[attack], records[attack] = str(path), str(folder / f"{attack}.parquet")
    return Entry("busi", "baseline", "official", 0, attack_arrays=arrays, kept_records=records)


FOUND = {"image_fgsm": [1, 1, 0], "image_pgd20": [1, 0, 0], "image_cw10": [1, 0, 0]}


def figure1(folder, entries):
    request = request_of(folder, entries, list(figures.ATTACKS), name="figure1")
    files = figures.build_figure1(request)
    assert all(file.is_file() for file in files)
    return drawn(request), io.read_json(f"{request.out_stem}.provenance.json")


def test_figure1_shows_a_malignant_image_that_the_attacks_bring_to_benign(tmp_path):
    entry = kept_entry(tmp_path, FOUND, [0, 1, 1], [0, 1, 1])
    frame, facts = figure1(tmp_path, [Entry("busi", "RST", "official", 0), entry])
    assert set(frame["point_id"]) == {2} and set(frame["prediction"]) == {0}
    assert list(frame["largest_change"]) == pytest.approx([0.005, 0.01, 0.015], rel=1e-4)
    assert "malignant" in facts["caption"] and facts["n"] == "1 test image"


def test_figure1_of_a_model_that_stands_shows_that_too(tmp_path):
    stands = {attack: [0, 1, 1] for attack in figures.ATTACKS}
    frame, facts = figure1(tmp_path, [kept_entry(tmp_path, stands, [0, 1, 1], [0, 1, 1])])
    assert set(frame["point_id"]) == {1} and set(frame["prediction"]) == {1}
    assert "0 of 3 attacks" in facts["caption"]


def test_figure1_without_its_attacks_says_so_and_other_images_are_refused(tmp_path):
    frame, _ = figure1(tmp_path, [Entry("busi", "RST", "official", 0)])
    assert "not run" in frame["status"][0]
    entry = kept_entry(tmp_path, FOUND, [0, 1, 1], [0, 1, 1])
    (tmp_path / "b").mkdir()
    other = kept_entry(tmp_path / "b", FOUND, [0, 1, 1], [0, 1, 1], ids=[5, 6, 7])
    mixed = replace(
        entry,
        attack_arrays={**entry.attack_arrays, "image_cw10": other.attack_arrays["image_cw10"]},
        kept_records={**entry.kept_records, "image_cw10": other.kept_records["image_cw10"]},
    )
    with pytest.raises(InputError, match="different images"):
        figure1(tmp_path, [mixed])


# --- Figure 2 ---------------------------------------------------------------------------


def residual_entry(folder, model: str, own: str, factor: float) -> Entry:
    """Returns a model whose maps are known: image i differs by factor times (i + 1)."""
    size = factor * np.arange(1, 4, dtype=np.float32)
    arrays = {"point_id": np.array([4, 5, 6]), "label": np.array([0, 1, 1])}
    # The second image is misclassified without attack by a model of drop-max.
    arrays["linf"] = np.array([0.02, 0.0 if own == "drop_max" else 0.02, 0.02], np.float32)
    for pooling, share in (("max", 1.0), ("drop_max", 0.5)):
        maps = np.zeros((3, 4, 4), dtype=np.float32)
        maps[:, 1, 2] = 16 * share * size
        arrays |= {f"absolute_{pooling}": maps, f"change_{pooling}": np.float32(share) * size}
    path = folder / f"{model}.safetensors"
    io.write_tensors(path, arrays, {"own_pooling": own})
    return Entry("busi", model, "official", 0, residuals={"maps": str(path)})


def figure2(folder, entries):
    request = request_of(folder, entries, ["maps"], name="figure2")
    assert all(file.is_file() for file in figures.build_figure2(request))
    return drawn(request), io.read_json(f"{request.out_stem}.provenance.json")


def test_figure2_shows_both_poolings_of_each_model(tmp_path):
    entries = [
        residual_entry(tmp_path, "RST", "max", 0.1),
        residual_entry(tmp_path, "RST DM", "drop_max", 0.2),
    ]
    frame, facts = figure2(tmp_path, entries)
    assert len(frame) == 6 and set(frame[frame["shown"]]["point_id"]) == {6}
    assert dict(zip(frame["model"], frame["own_pooling"], strict=True)) == {
        "RST": "max", "RST DM": "drop_max"
    }  # fmt: skip
    of_rst = frame[frame["model"] == "RST"]
    assert list(of_rst["change_max"]) == pytest.approx([0.1, 0.2, 0.3])
    assert list(of_rst["change_drop_max"]) == pytest.approx([0.05, 0.1, 0.15])
    assert list(of_rst["residual_max"]) == pytest.approx([0.1, 0.2, 0.3])
    assert list(frame["attacked"]) == [True] * 4 + [False, True]
    assert "RST 0.200 and 0.100 (3); RST DM 0.400 and 0.200 (2)" in facts["caption"]


def test_figure2_without_results_says_so_and_wrong_files_are_refused(tmp_path):
    frame, _ = figure2(tmp_path, [Entry("busi", "RST", "official", 0)])
    assert "not run" in frame["status"][0]
    io.write_tensors(tmp_path / "failed.safetensors", {})
    failed = Entry(
        "busi", "RST", "official", 0, residuals={"maps": str(tmp_path / "failed.safetensors")}
    )
    assert "not run" in figure2(tmp_path, [failed])[0]["status"][0]
    io.write_tensors(tmp_path / "other.safetensors", {"x": np.zeros(3, np.float32)})
    other = replace(failed, residuals={"maps": str(tmp_path / "other.safetensors")})
    with pytest.raises(InputError, match="absolute_drop_max"):
        figure2(tmp_path, [other])


def test_what_is_told_of_the_data():
    assert "19" in claims.remark("BUSI+BUSIS", "official")
    assert claims.remark("busi", "kaggle") == "" == claims.remark("BUSI+BUSIS", "standin")
    assert CONTEXT.study == "mirst"
