"""How attacks are divided into jobs: of about an hour, in few jobs, few in all."""

from __future__ import annotations

import dataclasses
import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from medrobust.attacks.contract import attack_of
from medrobust.experiment import costs
from medrobust.experiment.config import Attack, Model
from medrobust.experiment.costs import (
    attack_unit_seconds,
    chunk_size,
    queries_per_point,
    query_seconds,
    training_unit_seconds,
)
from medrobust.experiment.plan import make_plan
from medrobust.experiment.sources import build_graph

MODELS = ("sign_network", "mlp", "bnn", "cnn1d", "forest")


def model_of(architecture):
    return Model(
        label="M", architecture={"name": architecture}, method={"name": "not asked for here"}
    )


@given(st.integers(1, 100_000), st.sampled_from(MODELS), st.integers(1, 100), st.integers(1, 300))
def test_automatic_jobs_take_about_an_hour_or_are_64(points, architecture, members, restarts):
    attack = Attack(name="hopskipjump", options={"restarts": restarts})
    model = model_of(architecture)
    size = chunk_size(attack, model, members, points)
    seconds = size * query_seconds(attack, model, members) * queries_per_point(attack)
    assert -(-points // size) <= 64
    # The nearest power of two is at most a factor of 2 ** 0.5 away.
    if size > 1 and -(-points // size) < 32:
        assert 3600 / 2**0.51 <= seconds <= 3600 * 2**0.51


def test_members_that_are_asked_one_by_one_count_one_by_one():
    attack = Attack(name="hopskipjump")
    one, ten = (query_seconds(attack, model_of("cnn1d"), members) for members in (1, 10))
    assert ten == pytest.approx(10 * one)
    assert query_seconds(attack, model_of("mlp"), 10) == query_seconds(attack, model_of("mlp"), 1)


def test_a_cost_that_is_stated_a_little_anew_divides_nothing_anew(monkeypatch):
    """Finished attacks would run again."""
    attack, model = Attack(name="hopskipjump"), model_of("mlp")
    before, stated = chunk_size(attack, model, 1, 10_000), attack_of("hopskipjump")
    for factor in (0.9, 1.1):
        seconds = {"mlp": factor * stated.unit_seconds["mlp"]}
        anew = dataclasses.replace(stated, unit_seconds=seconds)
        monkeypatch.setattr(costs, "attack_of", lambda name, anew=anew: anew)
        assert chunk_size(attack, model, 1, 10_000) == before


def test_points_per_job_by_architecture():
    attack = Attack(name="hopskipjump", points_per_job={"mlp": 3})
    assert chunk_size(attack, model_of("mlp"), 1, 100) == 3
    automatic = chunk_size(Attack(name="hopskipjump"), model_of("bnn"), 1, 100)
    assert chunk_size(attack, model_of("bnn"), 1, 100) == automatic > 3
    assert chunk_size(Attack(name="hopskipjump", points_per_job=7), model_of("bnn"), 1, 100) == 7


def test_every_level_of_a_grid_counts_with_its_own_queries():
    options = {"num_steps": 100, "step_share": 0.05}
    grid = {"epsilon": [0, 5, 15]}
    attack = Attack(name="pixel_pgd", select="test", options=options, grid=grid)
    assert queries_per_point(attack) == 1 + 100 + 100


def test_few_jobs_at_the_amounts_of_the_papers(root):
    """Snakemake takes milliseconds for each: benchmarks/bench_dry_run.py."""
    many = {"signnet": {"datasets": {"mitbih": {"points": 10_000}}}}
    plans = make_plan(build_graph({"overrides": many}, root))
    assert {"signnet", "nsr", "ima", "ima_segmentation", "mirst"} == {p.study for p in plans}
    assert sum(plan.jobs for plan in plans) <= 2_400
    graph = build_graph({}, root)
    jobs = [
        graph.chunks("signnet", "ptbdb", model, "hopskipjump")
        for model in graph.attacked_models("signnet", "hopskipjump", "ptbdb")
    ]
    # 37 points: one job each of five models, 19 of the convolutional networks.
    assert sorted(map(len, jobs)) == [1, 1, 1, 1, 1, 19]


def test_larger_points_cost_more_and_what_was_measured_counts_for_its_size():
    stated = attack_of("hopskipjump")
    of = functools.partial(attack_unit_seconds, "hopskipjump", "mlp")
    further = stated.value_seconds["mlp"]
    assert of() == of(values=187) == of(values=2) == stated.unit_seconds["mlp"]
    assert of(values=1187) == pytest.approx(of() + 1000 * further)
    measured = {"attack:hopskipjump:mlp:1187": 7.0}
    assert of(measured, values=1187) == 7.0
    assert of(measured, values=187) == stated.unit_seconds["mlp"]
    attack, model = Attack(name="hopskipjump"), model_of("mlp")
    images = chunk_size(attack, model, 1, 10_000, values=27_648)
    assert images < chunk_size(attack, model, 1, 10_000)
    plain, larger = (training_unit_seconds("scd", "sign_network", values=n) for n in (187, 27_648))
    assert larger > 2 * plain


def test_a_training_on_larger_images_costs_more_where_the_architecture_says_by_how_much():
    # Measured, one step of a batch of 8: 1.95 s of 224 pixels a side, .54 of 96, .41 of 64.
    for side, seconds in ((224, 1.95), (96, 0.54), (64, 0.41)):
        stated = 8 * training_unit_seconds("multi_instance", "resnet50", values=3 * side**2)
        assert stated == pytest.approx(seconds, rel=0.15), side
    small, large = (training_unit_seconds("trades", "resnet18", values=v) for v in (187, 150_528))
    assert small == large
