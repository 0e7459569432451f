"""An attack that could not work is no robustness: steps without a gradient are counted and told."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from medrobust.attacks import (
    LARGEST_LOST_SHARE,
    lost_steps_text,
    pgd,
    run_attack,
    spsa,
    uniform_noise,
)
from medrobust.attacks.engine import slots
from medrobust.attacks.engine.spec import HopSkipJumpSpec
from medrobust.core.errors import InputError
from medrobust.evaluation.outcomes import FILE, broken_by_other, outcomes_of
from medrobust.evaluation.records import (
    LATER,
    SCHEMA,
    read_records,
    records_from_result,
    save_records,
)
from medrobust.evaluation.tally import LATER as TALLY_LATER
from medrobust.evaluation.tally import SCHEMA as TALLY_SCHEMA
from medrobust.evaluation.tally import make_tally, read_tally
from medrobust.reporting.artefacts import full_caption
from medrobust.reporting.attack_checks import warnings_of
from medrobust.reporting.request import Entry
from medrobust.runtime.journal import Journal

from tests.gradient_models import LinearLogits, seeds_for
from tests.unit.attack_records import clean_table, level_records
from tests.unit.nsr_files import CONTEXT

D, EPSILON = 20, 0.2
BOX = {"clip_min": 0.0, "clip_max": 1.0}
X = np.random.default_rng(1).uniform(0.3, 0.7, (24, D)).astype(np.float32)


class Steep(LinearLogits):
    """Logits of +-scale w.x / 2 with the cross-entropy's slope as float32 has it."""

    def __init__(self, scale: float) -> None:
        super().__init__(D)
        w = self.w[0] - self.w[0].mean()
        w /= np.linalg.norm(w)
        self.normal, self.w, self.b = w, scale / 2 * np.stack([-w, w]), np.zeros(2)

    def loss_gradients(self, x, y, loss):
        logits, slopes = super().loss_gradients(x, y, loss)
        if loss == "cross_entropy":
            shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
            odds = shifted / shifted.sum(axis=1, keepdims=True)
            at_logits = odds - np.eye(2, dtype=np.float32)[y]
            slopes = (at_logits @ self.w.astype(np.float32)).astype(np.float32)
        return logits, slopes

    def exact(self) -> float:
        """Returns the share of points that no perturbation of size EPSILON moves across."""
        return float((np.abs(X @ self.normal) > EPSILON * np.abs(self.normal).sum()).mean())


def attacked(model, y=None, **options):
    spec = pgd.Spec(epsilon=EPSILON, num_steps=20, step_size=0.02, **options, **BOX)
    y = model.predict(X) if y is None else y
    result = run_attack("pgd", model, X, y, spec, seeds_for(len(X), 1))
    return records_from_result(model, X, y, np.arange(len(X)), result, spec, (0, 1)), result


def test_logits_times_ten_thousand(caplog):
    """Cross-entropy in float32 has no slope, the margin has: the record tells the two apart."""
    gentle, _ = attacked(Steep(1.0))
    assert not caplog.messages
    assert (gentle["steps_without_gradient"] == 0).all()
    model = Steep(1e4)
    exact = model.exact()
    assert 1 - gentle["success"].mean() == pytest.approx(exact) and exact < 0.5
    blind, _ = attacked(model)
    assert "pgd: the gradient was 0 or not finite at" in caplog.messages[-1]
    assert 1 - blind["success"].mean() > exact + 0.3
    failed = blind[~blind["success"]]
    assert (failed["steps_without_gradient"] == failed["iterations"]).all()
    assert (failed["iterations"] == 20).all()
    margin, _ = attacked(model, loss="margin")
    assert 1 - margin["success"].mean() == pytest.approx(exact)
    assert (margin["steps_without_gradient"] == 0).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_not_finite_counts(norm, bad):
    class Broken(Steep):
        def loss_gradients(self, x, y, loss):
            logits, slopes = super().loss_gradients(x, y, loss)
            slopes[y == 1, 3] = bad
            return logits, slopes

    model = Broken(1.0)
    records, _ = attacked(model, norm=norm)
    lost = records["steps_without_gradient"] == records["iterations"]
    assert lost[records["label"] == 1].all() and 0 < (records["label"] == 1).mean() < 1
    assert (records.loc[records["label"] == 0, "steps_without_gradient"] == 0).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_which_slopes_count(dtype):
    tiny = np.finfo(np.float32).smallest_subnormal
    rows = np.zeros((9, 3), dtype=dtype)
    rows[1], rows[2], rows[3] = -0.0, [0, tiny, 0], [0, -tiny, 0]
    rows[4], rows[5], rows[6] = [1, np.nan, 1], [np.inf, 1, 1], [1, 1, -np.inf]
    rows[7], rows[8] = np.finfo(np.float32).max, np.nan
    active = np.ones(9, dtype=bool)
    active[8] = False
    counts = np.full(9, 5)
    slots._count_unusable(active, rows, counts)
    assert (counts - 5).tolist() == [1, 1, 0, 0, 1, 1, 1, 0, 0]


def test_spsa_counts_estimates_that_are_flat():
    class Flat(LinearLogits):
        def logits(self, x):
            return np.round(super().logits(x) / 100) + np.float32([1, 0])

        def predict(self, x):
            return self.logits(x).argmax(axis=1)

    model = Flat(D)
    spec = spsa.Spec(epsilon=EPSILON, num_steps=3, directions=8, **BOX)
    y = model.predict(X)
    result = run_attack("spsa", model, X, y, spec, seeds_for(len(X), 1))
    assert (result.steps_without_gradient == 3).all() and (result.iterations == 3).all()
    sound = LinearLogits(D)
    result = run_attack("spsa", sound, X, sound.predict(X), spec, seeds_for(len(X), 1))
    assert (result.steps_without_gradient == 0).all()


def test_attacks_without_gradients_have_no_such_number():
    model = LinearLogits(D)
    y = model.predict(X)
    for name, spec in (
        ("uniform_noise", uniform_noise.Spec(epsilon=EPSILON, restarts=2, **BOX)),
        (
            "hopskipjump",
            HopSkipJumpSpec(restarts=1, max_iter=2, max_eval=20, init_eval=10, **BOX),
        ),
    ):
        result = run_attack(name, model, X, y, spec, seeds_for(len(X), spec.restarts))
        records = records_from_result(model, X, y, np.arange(len(X)), result, spec, (0, 1))
        assert records["steps_without_gradient"].isna().all()


def test_the_count_survives_a_journal(tmp_path, monkeypatch):
    monkeypatch.setattr("medrobust.attacks.engine.ledger._JOURNAL_SECONDS", -1.0)
    model = Steep(1e4)
    y = model.predict(X)
    spec = pgd.Spec(epsilon=EPSILON, num_steps=20, step_size=0.02, **BOX)
    with Journal(tmp_path / "j", "key") as journal:
        first = run_attack("pgd", model, X, y, spec, seeds_for(len(X), 1), journal=journal)
    with Journal(tmp_path / "j", "key") as journal:
        model.passed = 0
        again = run_attack("pgd", model, X, y, spec, seeds_for(len(X), 1), journal=journal)
    assert model.passed == 0 and first.steps_without_gradient.any()
    assert (first.steps_without_gradient == again.steps_without_gradient).all()


def test_older_records_without_the_column_are_read(tmp_path):
    records, _ = attacked(Steep(1e4))
    assert list(records.columns) == [*SCHEMA, *LATER]
    records[list(SCHEMA)].to_parquet(tmp_path / "old.parquet")
    old = read_records(tmp_path / "old.parquet")
    assert old["steps_without_gradient"].isna().all()
    pd.testing.assert_frame_equal(old[list(SCHEMA)], records[list(SCHEMA)])
    save_records(tmp_path / "new.parquet", records)
    pd.testing.assert_frame_equal(read_records(tmp_path / "new.parquet"), records)
    wrong = records.assign(steps_without_gradient=records["iterations"] + 1)
    with pytest.raises(InputError, match="more steps without a gradient than steps"):
        save_records(tmp_path / "wrong.parquet", wrong.astype(LATER))


# --- what is told -----------------------------------------------------------------------

LABELS = np.arange(30) % 3
CLEAN = clean_table(LABELS, np.where(np.arange(30) < 27, LABELS, (LABELS + 1) % 3))
LEVELS = (0.05, 0.1)


COUNTED = {"steps_without_gradient": LATER["steps_without_gradient"]}


def records_with(lost, broken=(), **more) -> pd.DataFrame:
    """Returns records of 7 steps each, ``lost`` of them without a gradient."""
    found = {e: np.where(np.isin(np.arange(30), broken), (LABELS + 1) % 3, LABELS) for e in LEVELS}
    return level_records(CLEAN, found, **more).assign(steps_without_gradient=lost).astype(COUNTED)


def test_a_tally_has_the_counts_where_there_are_any(tmp_path):
    for lost in (0, pd.NA):
        frame = make_tally(CLEAN, records_with(lost))
        assert list(frame.columns) == list(TALLY_SCHEMA)
    plain = make_tally(CLEAN, level_records(CLEAN, dict.fromkeys(LEVELS, LABELS)))
    pd.testing.assert_frame_equal(make_tally(CLEAN, records_with(0)), plain)
    frame = make_tally(CLEAN, records_with(3))
    assert list(frame.columns) == [*TALLY_SCHEMA, *TALLY_LATER]
    sums = frame[frame["reading"] == "attack"].groupby("epsilon")[list(TALLY_LATER)].sum()
    assert (sums["iterations"] == 30 * 7).all()
    assert (sums["steps_without_gradient"] == 30 * 3).all()
    frame.to_csv(tmp_path / "tally.csv", index=False)
    pd.testing.assert_frame_equal(read_tally(tmp_path / "tally.csv").frame, frame)
    plain.to_csv(tmp_path / "old.csv", index=False)
    pd.testing.assert_frame_equal(read_tally(tmp_path / "old.csv").frame, plain)


def entry(folder, **attacks) -> Entry:
    """Returns the results of a model under attacks with these records."""
    tallies = {}
    for name, records in attacks.items():
        place = folder / name
        place.mkdir()
        make_tally(CLEAN, records).to_csv(place / "tally.csv", index=False)
        outcomes_of(records).to_parquet(place / FILE)
        tallies[name] = str(place / "tally.csv")
    return Entry("Set", "ce", "kaggle", 0, tallies=tallies)


ATTACKS = {
    "pgd20": {"name": "pgd", "norm": "linf"},
    "pgd_l2": {"name": "pgd", "norm": "l2"},
    "noise": {"name": "uniform_noise"},
    "spsa": {"name": "spsa"},
}


def test_lost_steps_are_told_beyond_the_stated_share(tmp_path):
    (text,) = warnings_of([entry(tmp_path, pgd20=records_with(3))], ATTACKS)
    assert "at 42.9% of 420 steps of pgd20 on ce on Set" in text and text.startswith("WARNING")
    caption = full_caption(
        "Shown.", dataclasses.replace(CONTEXT, warnings=(text,)), {}, "30", "PGD"
    )
    assert text in caption
    assert warnings_of([entry(tmp_path / "..", sound=records_with(0))], ATTACKS) == ()
    assert lost_steps_text(1000, int(1000 * LARGEST_LOST_SHARE)) == ""
    assert lost_steps_text(1000, int(1000 * LARGEST_LOST_SHARE) + 1) == "1.1% of 1,000 steps"
    assert lost_steps_text(0, 0) == ""


@pytest.mark.parametrize("other", ["noise", "spsa"])
def test_points_that_pgd_did_not_break_are_told(tmp_path, other):
    found = entry(
        tmp_path,
        pgd20=records_with(0, broken=[1, 2, 3]),
        pgd_l2=records_with(0, broken=[4, 5]),
        **{other: records_with(pd.NA, broken=[2, 4, 28])},
    )
    # Point 28 is misclassified anyway; the attack in L2 is of another ball.
    (text,) = warnings_of([found], ATTACKS)
    assert text.startswith("LOOK") and f"{other}, 1 of 27 at 0.05 on ce on Set" in text
    without = dataclasses.replace(found, tallies={other: found.tallies[other]})
    assert warnings_of([without], ATTACKS) == ()


def test_nothing_is_told_where_pgd_broke_them_all_or_nobody_knows(tmp_path):
    found = entry(
        tmp_path, pgd20=records_with(0, broken=[1, 2]), noise=records_with(pd.NA, broken=[2])
    )
    assert warnings_of([found], ATTACKS) == ()
    (tmp_path / "pgd20" / FILE).unlink()
    assert warnings_of([found], ATTACKS) == ()


def test_points_broken_by_either_of_two_attacks_are_broken():
    one, two, noise = (
        outcomes_of(records_with(0, broken=broken)) for broken in ([1], [2], [1, 2, 3])
    )
    assert broken_by_other([one, two], noise) == {"0.05": (1, 27), "0.1": (1, 27)}
    assert broken_by_other([one], noise)["0.1"] == (2, 27)
    fewer = one[one["point_id"] < 3]
    assert broken_by_other([fewer], noise)["0.1"] == (1, 3)
