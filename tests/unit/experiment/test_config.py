"""Configuration: every wrong setting stops with file, key, what is allowed and the nearest name."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from medrobust.core.errors import InputError
from medrobust.experiment.config import (
    SCALES,
    Config,
    _choose_protocol,
    _overlay,
    resolve,
)

#: Data sets of images of signnet.
IMAGES = {"chest_xray", "kather"}


def overriding(**study) -> dict:
    return {"overrides": {"signnet": study}}


def test_defaults_are_the_papers_amounts(root):
    study = resolve({}, root).studies["signnet"]
    options = study.attacks["hopskipjump"].options
    assert (options["restarts"], options["max_iter"], options["init_size"]) == (10, 100, 1000)
    assert study.models["mlp"].members == study.models["random_forest"].members == 100
    assert study.datasets["mitbih"].points == 21
    assert resolve({}, root).run == "paper-code"


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("protocol", ["code", "text"])
def test_every_scale_and_protocol_resolves(root, scale, protocol):
    resolved = resolve({"scale": scale, "protocol": protocol, "include_extras": True}, root)
    study = resolved.studies["signnet"]
    assert resolved.run == f"{scale}-{protocol}"
    assert study.models["mlp"].vote == {"code": "soft", "text": "majority"}[protocol]
    ptbdb = {"code": "ptbdb", "text": "ptbdb_8020"}[protocol]
    signals = {"mitbih", ptbdb, "mitbih_ns", "mitbih_patient"}
    more = {"chest_xray_patient", "chest_xray_unique", "kather_slide"}
    assert set(study.datasets) == signals | IMAGES | more


def test_extras_are_left_out_unless_asked_for(root):
    assert set(resolve({}, root).studies["signnet"].datasets) == {"mitbih", "ptbdb"} | IMAGES


@pytest.mark.parametrize(("protocol", "name"), [("code", "ptbdb"), ("text", "ptbdb_8020")])
def test_the_protocol_chooses_the_division_of_ptbd(root, protocol, name):
    study = resolve({"protocol": protocol}, root).studies["signnet"]
    use = study.datasets[name]
    assert (use.published_name, use.points) == ("PTBD", 37)
    assert set(study.datasets) == {"mitbih", name} | IMAGES
    left_out = overriding(datasets={name: {"extra": True}}) | {"protocol": protocol}
    assert set(resolve(left_out, root).studies["signnet"].datasets) == {"mitbih"} | IMAGES


def test_two_data_sets_cannot_stand_for_one_of_the_paper(root):
    both = overriding(datasets={"ptbdb_8020": {"protocol": "code"}})
    with pytest.raises(InputError, match=r"ptbdb and ptbdb_8020 both stand for 'PTBD'"):
        resolve(both, root)
    of_text = resolve(both | {"protocol": "text"}, root).studies["signnet"]
    assert set(of_text.datasets) == {"mitbih"} | IMAGES


WRONG = [
    ({"scael": "paper"}, ["config/config.yaml", "scael", "Did you mean 'scale'"]),
    ({"scale": "papr"}, ["key scale", "'paper'", "Did you mean 'paper'"]),
    ({"seed": -1}, ["key seed", "greater than or equal to 0"]),
    ({"seed": "1"}, ["key seed", "valid integer"]),
    ({"sources": {"mitbih": "standin"}}, ["sources.mitbih", "allowed: kaggle, physionet"]),
    ({"studies": ["signet"]}, ["key studies: signet", "Did you mean 'signnet'"]),
    ({"studies": []}, ["key studies"]),
    ({"sources": {"mitbi": "kaggle"}}, ["key sources", "Did you mean 'mitbih'"]),
    ({"sources": {"mitbih": "kagle"}}, ["sources.mitbih", "Did you mean 'kaggle'"]),
    ({"overrides": {"signet": {}}}, ["overrides", "Did you mean 'signnet'"]),
    (overriding(model={}), ["overrides.signnet.model", "Did you mean 'models'"]),
    (
        overriding(models={"mlp": {"architecture": {"name": "mpl"}}}),
        ["Unknown architecture 'mpl'", "Did you mean 'mlp'", "models.mlp.architecture.name"],
    ),
    (
        overriding(models={"mlp": {"method": {"name": "bagged_trees"}}}),
        ["models.mlp.method", "unknown key"],
    ),
    (
        overriding(attacks={"hopskipjump": {"options": {"max_iter": -3}}}),
        ["attacks.hopskipjump.options.max_iter", "greater than or equal to 1"],
    ),
    (
        overriding(models={"mlp": {"method": {"learning_rate": -0.1}}}),
        ["models.mlp.method.learning_rate", "greater than 0"],
    ),
    (
        overriding(models={"mlp": {"method": {"learning_rate": "fast"}}}),
        ["models.mlp.method.learning_rate", "number"],
    ),
    (overriding(cohort={"models": ["mlpp"]}), ["cohort.models", "Did you mean 'mlp'"]),
    (
        overriding(datasets={"mitbih": {"points": 30000}}),
        ["datasets.mitbih.points", "21892", "ask for at most"],
    ),
    (overriding(attacks={"hopskipjump": {"points_per_job": 0}}), ["points_per_job"]),
    (overriding(attacks={"hopskipjump": {"points_per_job": {"mlp": 0}}}), ["points_per_job"]),
    (
        overriding(attacks={"hopskipjump": {"points_per_job": {"mpl": 9}}}),
        ["attacks.hopskipjump.points_per_job", "Did you mean 'mlp'"],
    ),
]


@pytest.mark.parametrize(("values", "says"), WRONG, ids=[str(i) for i in range(len(WRONG))])
def test_a_wrong_setting_says_where_and_what_is_allowed(root, values, says):
    with pytest.raises(InputError) as caught:
        resolve(values, root)
    for part in says:
        assert part in str(caught.value)


def test_a_method_that_cannot_train_the_architecture_is_refused(root):
    forest = {"architecture": {"name": "forest"}}
    values = overriding(models={"mlp": forest})
    with pytest.raises(InputError, match="unknown key 'hidden_units'"):
        resolve(values, root)
    resolved = resolve({}, root)
    model = resolved.studies["signnet"].models["mlp"]
    from medrobust.experiment.config import model_specs

    with pytest.raises(InputError, match="cannot train the architecture 'forest'"):
        model_specs(model.model_copy(update={"architecture": {"name": "forest"}}))


@pytest.fixture
def project(tmp_path, root) -> Path:
    shutil.copytree(root / "config", tmp_path / "config")
    shutil.copytree(root / "resources/checksums", tmp_path / "resources/checksums")
    return tmp_path


def test_a_scale_may_change_numbers_only(project):
    file = project / "config/scales/laptop.yaml"
    values = yaml.safe_load(file.read_text())
    values["studies"]["signnet"]["models"]["mlp"] = {"vote": "majority"}
    file.write_text(yaml.safe_dump(values))
    with pytest.raises(InputError, match=r"numbers only; found 'majority'(?s:.*)models\.mlp\.vote"):
        resolve({"scale": "laptop"}, project)


@pytest.mark.parametrize(("protocol", "number"), [("code", 7), ("text", 9)])
def test_a_scale_may_have_a_number_for_each_protocol(project, protocol, number):
    file = project / "config/scales/laptop.yaml"
    values = yaml.safe_load(file.read_text())
    values["studies"]["signnet"]["models"]["mlp"] = {"members": {"code": 7, "text": 9}}
    file.write_text(yaml.safe_dump(values))
    found = resolve({"scale": "laptop", "protocol": protocol}, project)
    assert found.studies["signnet"].models["mlp"].members == number


def test_broken_yaml_names_the_file(project):
    (project / "config/studies/signnet.yaml").write_text("title: [")
    with pytest.raises(InputError, match=r"not valid YAML(?s:.*)signnet\.yaml"):
        resolve({}, project)


def test_settings_of_the_command_line_are_read_as_yaml_reads_them(root):
    """Snakemake hands over text inside mappings, and "true" as text."""
    points = {"signnet": {"datasets": {"mitbih": {"points": "5"}}}}
    resolved = resolve({"include_extras": "true", "raw_dir": "null", "overrides": points}, root)
    assert resolved.config.include_extras is True and resolved.config.raw_dir is None
    assert resolved.studies["signnet"].datasets["mitbih"].points == 5
    rate = {"signnet": {"models": {"mlp": {"method": {"learning_rate": "1e-4"}}}}}
    study = resolve({"overrides": rate}, root).studies["signnet"]
    assert study.models["mlp"].method["learning_rate"] == 1e-4


def test_another_seed_or_thread_count_goes_to_a_run_of_its_own(root):
    runs = {
        resolve(v, root).run for v in ({}, {"seed": 1}, {"compute_threads": 2}, {"device": "cpu"})
    }
    assert len(runs) == 3 and "paper-code" in runs


def test_more_points_than_the_stand_in_holds(root):
    values = {"scale": "smoke"} | overriding(datasets={"mitbih": {"points": 401}})
    with pytest.raises(InputError, match="its test split has 400"):
        resolve(values, root)


def test_overrides_go_to_a_run_of_their_own(root):
    one = resolve(overriding(datasets={"mitbih": {"points": 5}}), root)
    two = resolve(overriding(datasets={"mitbih": {"points": 6}}), root)
    assert one.run != two.run and one.run.startswith("paper-code-")
    assert one.studies["signnet"].datasets["mitbih"].points == 5


trees = st.recursive(
    st.integers(), lambda t: st.dictionaries(st.sampled_from("abcd"), t, max_size=3), max_leaves=8
)


@given(trees, st.sampled_from(["code", "text"]))
@settings(max_examples=50)
def test_protocols_are_chosen_at_any_depth(tree, protocol):
    wrapped = {"x": {"y": {"code": tree, "text": 7}}}
    expected = tree if protocol == "code" else 7
    assert _choose_protocol(wrapped, protocol) == {"x": {"y": expected}}


def test_an_overlay_leaves_its_base_alone():
    base = {"a": {"b": 1, "c": 2}}
    assert _overlay(base, {"a": {"b": 9}}, "here", numbers_only=True) == {"a": {"b": 9, "c": 2}}
    assert base == {"a": {"b": 1, "c": 2}}


def test_the_config_file_holds_every_key_with_its_default(root):
    values = yaml.safe_load((root / "config/config.yaml").read_text())
    assert Config(**values) == Config()
    assert set(values) == set(Config.model_fields)


def test_extras_can_be_run_by_name_and_parts_left_out(root):
    def names(**values):
        study = resolve(values, root).studies["signnet"]
        return set(study.datasets), set(study.models)

    datasets, models = names()
    assert "mitbih_ns" not in datasets and "ptbdb" in datasets
    chosen, more = names(include_extras=["mitbih_ns", "scd01_binary"], leave_out="ptbdb")
    assert chosen == (datasets | {"mitbih_ns"}) - {"ptbdb"}
    assert more == models | {"scd01_binary"}
    # Nothing else depends on it: the run keeps its name.
    assert resolve({"leave_out": ["ptbdb"]}, root).run == resolve({}, root).run


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"leave_out": ["ptbd"]}, "Did you mean 'ptbdb'"),
        ({"include_extras": ["mitbih_n"]}, "Did you mean 'mitbih_ns'"),
        ({"also_prepare": "moon"}, "Did you mean 'moons'"),
        ({"leave_out": ["busis"]}, "Unknown data set, model or attack 'busis'"),
        ({"leave_out": "mlp"}, "'mlp' of signnet chooses the points"),
        ({"leave_out": ["ptbdb", "mitbih", *IMAGES]}, "No data set of signnet is left"),
    ],
)
def test_a_selection_that_cannot_be_is_refused(root, values, message):
    with pytest.raises(InputError, match=message):
        resolve(values, root)
