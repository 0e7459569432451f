"""What holds for all that gives every pixel a class: networks, trainings, attacks.

Points have their own: tests/unit/models/test_contract.py and its kin.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from medrobust.attacks.contract import attack_of
from medrobust.attacks.engine.pixel_network import PixelNetwork
from medrobust.core.errors import InputError
from medrobust.core.registry import ARCHITECTURES, ATTACKS, METHODS, module_of, parse_spec
from medrobust.core.schema import Settings
from medrobust.data.prepared.slices import SliceSet
from medrobust.data.standins.slices import plans, slice_set
from medrobust.models.contract import architecture_of
from medrobust.models.engine.pixel_losses import at_resolutions
from medrobust.training import planned_passes, trains_on_gpu
from medrobust.training.contract import method_of
from medrobust.training.engine.slice_descent import SliceWork
from medrobust.training.engine.work import Trained

from tests import registered
from tests.unit.slice_files import needs_nnunet

CHANNELS, CLASSES, PATCHES = 2, 4, 3
#: Settings of each architecture, of patches that are not square, and smaller than planned.
NETWORKS: dict[str, dict[str, Any]] = {"nnunet": {"patch_size": [12, 8]}}
TRAINING = {"batch_size": 3, "max_epochs": 1, "batches_per_epoch": 2}
TRAININGS: dict[str, dict[str, Any]] = {
    "segmentation": {"learning_rate": 0.02, **TRAINING},
    "segmentation_adversarial": {"epsilon": 1.5, "steps": 1, **TRAINING},
    "segmentation_ima": {
        "margin_step": 0.5, "largest_margin": 3.0, "steps": 1, "bisections": 1, **TRAINING,
    },
}  # fmt: skip
#: Of steps so long that a level which saw another would end elsewhere.
ATTACKED: dict[str, dict[str, Any]] = {
    "pixel_pgd": {"epsilon": 1.5, "num_steps": 3, "step_share": 0.5}
}
LEVELS = (0.0, 0.5, 3.0)

#: Kind, names, examples, of all that is here.
KINDS: dict[str, tuple[Mapping[str, str], dict[str, dict[str, Any]]]] = {
    "architecture": (ARCHITECTURES, NETWORKS),
    "method": (METHODS, TRAININGS),
    "attack": (ATTACKS, ATTACKED),
}
OF_PIXELS = [
    (kind, n) for kind, (known, _) in KINDS.items() for n in known if n in registered.PIXELS
]


def names(kind: str) -> list[str]:
    return [name for one, name in OF_PIXELS if one == kind]


every = pytest.mark.parametrize(("kind", "name"), OF_PIXELS)
every_architecture = pytest.mark.parametrize("name", names("architecture"))
every_method = pytest.mark.parametrize("name", names("method"))
every_attack = pytest.mark.parametrize("name", names("attack"))


def spec_of(kind: str, name: str, **changes: Any) -> Settings:
    values = {"name": name, **KINDS[kind][1][name], **changes}
    return parse_spec(kind, values, file="in the test", prefix=kind)


@every
def test_there_is_an_example(kind, name):
    assert name in KINDS[kind][1] and isinstance(spec_of(kind, name), Settings)


@every
def test_the_docstring_cites_its_source(kind, name):
    assert registered.cites(kind, name)


def test_what_answers_pixels_says_so():
    """And nothing else does: what is named here is what contracts of points leave out."""
    said = {name for name in ARCHITECTURES if architecture_of(name).of_pixels}
    said |= {name for name in METHODS if method_of(name).architectures & said}
    said |= {name for name in ATTACKS if attack_of(name).of_pixels}
    assert said == registered.PIXELS
    for name in names("method"):
        assert method_of(name).architectures <= set(names("architecture"))


# Settings.

REFUSED = [
    ("architecture", "nnunet", {"patch_size": 16}, "key architecture.patch_size"),
    ("architecture", "nnunet", {"patch_size": [16]}, "at least 2 items"),
    ("architecture", "nnunet", {"patch_size": [16, 16, 16]}, "at most 2 items"),
    ("architecture", "nnunet", {"patch_size": [16, 16.5]}, "key architecture.patch_size.1: .*16.5"),
    *(
        ("method", name, {key: value}, f"key method.{key}: .*found {value!r}")
        for name in names("method")
        for key, value in (
            ("learning_rate", 0), ("batch_size", 0), ("batch_size", 2.5), ("max_epochs", 0),
            ("batches_per_epoch", 0), ("batches_per_epoch", "2"), ("learning_rate", float("nan")),
        )
    ),
    *(
        ("method", name, {key: value}, f"key method.{key}: .*found {value!r}")
        for name, changes in {
            "segmentation_adversarial": {
                "epsilon": 0, "steps": 0, "reach": -1.0, "clean_weight": 1.5,
            },
            "segmentation_ima": {
                "margin_step": 0, "largest_margin": -1, "threshold": 2, "beta": -0.5, "steps": 0,
                "reach": 0, "bisections": 0,
            },
        }.items()
        for key, value in changes.items()
    ),
    ("method", "segmentation_ima", {"margin_step": 4.0}, "margin_step is larger than largest_mar"),
    *(
        ("attack", "pixel_pgd", {key: value}, f"key attack.{key}: .*found {value!r}")
        for key, value in (
            ("epsilon", -1), ("epsilon", "1"), ("epsilon", float("nan")), ("num_steps", 0),
            ("num_steps", 2.0), ("step_share", 0), ("batch_size", 0), ("norm", "linf"),
            ("clip_min", 0.0), ("clip_max", 1.0),
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "name", "changes", "said"), REFUSED)
def test_settings_of_a_wrong_type_or_range_are_refused(kind, name, changes, said):
    with pytest.raises(InputError, match=f"in the test, {said}" if "key" in said else said):
        spec_of(kind, name, **changes)


@every
def test_settings_that_are_not_there_are_refused(kind, name):
    known = next(iter(KINDS[kind][1][name]))
    for changes, said in (
        ({"not_a_setting": 1}, "unknown key 'not_a_setting'"),
        ({known + "s": 1}, f"Did you mean '{known}'"),
    ):
        with pytest.raises(InputError, match=rf"in the test, key {kind}\.") as caught:
            spec_of(kind, name, **changes)
        assert said in str(caught.value)


@pytest.mark.parametrize(
    ("sides", "strides", "smallest"),
    [
        ([18, 16], None, 4),
        ([16, 2], None, 4),
        ([15, 15], None, 4),
        ([16, 8], [[1, 1], [2, 4], [2, 4]], 16),
        ([12, 16], [[2, 1], [2, 1], [2, 1]], 8),
    ],
)
@every_architecture
def test_patches_that_do_not_fit_are_refused(name, sides, strides, smallest):
    module, known = module_of("architecture", name), planned()
    if strides is not None:
        known["configurations"]["2d"]["architecture"]["arch_kwargs"]["strides"] = strides
    with pytest.raises(InputError, match=f"{sides[0]} x {sides[1]} pixels.*{smallest}") as caught:
        module.patch_size(spec_of("architecture", name, patch_size=sides), known)
    assert caught.value.where == "key architecture.patch_size" and "null" in caught.value.remedy
    fitting = [-(-side // smallest) * smallest for side in sides]
    assert module.patch_size(spec_of("architecture", name, patch_size=fitting), known) == (
        *fitting,
    )


@every_architecture
def test_patches_are_as_planned_unless_their_size_is_given(name):
    patch_size = module_of("architecture", name).patch_size
    assert patch_size(spec_of("architecture", name, patch_size=None), planned()) == (16, 24)
    assert patch_size(spec_of("architecture", name, patch_size=[8, 32]), planned()) == (8, 32)


# Networks.


def planned() -> dict[str, Any]:
    return plans((16, 24), features=(4, 5, 6), convolutions=2)


def shape_of(name: str) -> tuple[int, int]:
    return module_of("architecture", name).patch_size(spec_of("architecture", name), planned())


def arrays_of(name: str, seed: int) -> dict[str, np.ndarray]:
    module = architecture_of(name).build(planned(), CHANNELS, CLASSES, seed)
    return module_of("architecture", name).arrays_of(module)


@functools.cache
def network(name: str, seed: int = 5) -> PixelNetwork:
    """Returns a network as jobs have it, with first values."""
    module = architecture_of(name).build(planned(), CHANNELS, CLASSES, seed)
    fast = module_of("architecture", name).fast(module.eval().requires_grad_(False))
    return PixelNetwork(fast, (CHANNELS, *shape_of(name)))


def patches(name: str, n: int = PATCHES, seed: int = 2) -> torch.Tensor:
    values = CHANNELS * shape_of(name)[0] * shape_of(name)[1]
    return torch.randn((n, values), generator=torch.Generator().manual_seed(seed))


@needs_nnunet
@every_architecture
def test_first_values_are_float32_and_hang_on_their_seed_alone(name):
    first = arrays_of(name, 5)
    torch.manual_seed(99)
    state = torch.get_rng_state()
    again, other = arrays_of(name, 5), arrays_of(name, 6)
    assert torch.equal(torch.get_rng_state(), state)
    assert list(first) == list(again) == list(other)
    for key, value in first.items():
        assert value.dtype == other[key].dtype == np.float32 and np.isfinite(value).all()
        assert value.shape == other[key].shape and value.tobytes() == again[key].tobytes()
    drawn = {key for key, value in first.items() if value.std()}
    assert drawn and all((first[key] != other[key]).any() for key in drawn)


@needs_nnunet
@every_architecture
def test_logits_have_the_shape_of_each_resolution_and_labels_that_of_the_patch(name):
    own, x, (height, width) = network(name), patches(name), shape_of(name)
    with torch.inference_mode():
        outputs = own.logits(x)
    assert [tuple(output.shape) for output in outputs] == [
        (PATCHES, CLASSES, height, width),
        (PATCHES, CLASSES, height // 2, width // 2),
    ]
    assert all(o.dtype == torch.float32 and o.isfinite().all() for o in outputs)
    labels = own.labels(x)
    assert labels.dtype == torch.int64 and labels.shape == (PATCHES, height, width)
    assert labels.equal(outputs[0].argmax(dim=1)) and len(labels.unique()) > 1
    assert set(labels.unique().tolist()) <= set(range(CLASSES))


@needs_nnunet
@every_architecture
def test_a_patch_does_not_see_the_others_of_its_batch(name):
    own, x, others = network(name), patches(name), patches(name, seed=3)
    with torch.inference_mode():
        logits, labels = own.logits(x), own.labels(x)
        assert [o.numpy().tobytes() for o in own.logits(x)] == [o.numpy().tobytes() for o in logits]
        for row in range(PATCHES):
            mixed = others.clone()
            mixed[row] = x[row]
            assert own.labels(mixed)[row].equal(labels[row])
            assert not own.labels(mixed)[row - 1].equal(labels[row - 1])
            assert own.labels(x[row : row + 1])[0].equal(labels[row])
            for found, alone, known in zip(
                own.logits(mixed), own.logits(x[row : row + 1]), logits, strict=True
            ):
                torch.testing.assert_close(found[row], known[row], rtol=0, atol=1e-5)
                torch.testing.assert_close(alone[0], known[row], rtol=0, atol=1e-5)


@needs_nnunet
@every_architecture
def test_kept_arrays_make_the_same_network(name):
    entry, module = architecture_of(name), module_of("architecture", name)
    other = entry.build(planned(), CHANNELS, CLASSES, 6).eval()
    copied = PixelNetwork(module.fast(module.with_arrays(other, arrays_of(name, 5))), (
        CHANNELS, *shape_of(name)
    ))  # fmt: skip
    assert not network(name, 6).labels(patches(name)).equal(network(name).labels(patches(name)))
    assert copied.labels(patches(name)).equal(network(name).labels(patches(name)))


# Trainings.


@functools.cache
def slices() -> SliceSet:
    return slice_set(cases=4, slices=3, planned=plans((16, 24), features=(4, 5, 6)), seed=4)


def train(name: str, seed: int) -> Trained:
    (architecture,) = method_of(name).architectures
    work = SliceWork(slices(), [2], [seed])
    own = spec_of("architecture", architecture)
    return method_of(name).train(spec_of("method", name), architecture, own, work)


@functools.cache
def trained(name: str) -> Trained:
    return train(name, 21)


def bytes_of(found: Trained) -> dict[str, bytes]:
    return {key: v.tobytes() for key, v in (found.parameters | found.extras).items()}


@needs_nnunet
@every_method
def test_trained_arrays_are_those_of_the_architecture(name):
    found, (architecture,) = trained(name), method_of(name).architectures
    first = architecture_of(architecture).build(slices().plans, 1, 3, 1)
    arrays = module_of("architecture", architecture).arrays_of(first)
    assert {k: (v.shape, v.dtype) for k, v in found.parameters.items()} == {
        k: (v.shape, np.float32) for k, v in arrays.items()
    }
    assert all(np.isfinite(value).all() for value in found.parameters.values())
    (history,) = found.history
    assert history["member"] == 2 and history["epochs"] == 1 and np.isfinite(history["loss"])


@needs_nnunet
@every_method
def test_margins_are_kept_where_the_method_says_so(name):
    found = trained(name).extras
    assert set(found) == ({"margin"} if method_of(name).keeps_margins else set())
    for margins in found.values():
        assert margins.shape == (1, slices().first[-1]) and margins.dtype == np.float32


@needs_nnunet
@every_method
def test_a_training_depends_on_its_seed_alone(name):
    """Not on what the global generators were at, and it leaves the slices as they are."""
    found, before = trained(name), [image.tobytes() for image in slices().images]
    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(3)
    again, other = train(name, 21), train(name, 22)
    assert bytes_of(again) == bytes_of(found) and again.history == found.history
    drawn = {key for key, value in found.parameters.items() if value.ndim == 4}
    assert drawn and all(bytes_of(other)[key] != bytes_of(found)[key] for key in drawn)
    assert [image.tobytes() for image in slices().images] == before


@every_method
def test_the_plan_knows_its_passes(name):
    values = {"name": name, **TRAININGS[name]}
    passes = planned_passes(values, CLASSES, 40)
    assert passes >= values["max_epochs"]
    assert planned_passes(values | {"max_epochs": 3}, CLASSES, 40) == 3 * passes
    for architecture in method_of(name).architectures:
        both = method_of(name).uses_gpu and architecture_of(architecture).uses_gpu
        assert trains_on_gpu(architecture, name) == both


# Attacks.


def attacked(
    name: str, levels=LEVELS, x: torch.Tensor | None = None, seeds=None, **changes: Any
) -> torch.Tensor:
    """Returns what an attack makes of patches of a network, at each level."""
    own = network("nnunet")
    x = patches("nnunet") if x is None else x
    with torch.inference_mode():
        shapes = [tuple(output.shape[2:]) for output in own.logits(x[:1])]
    draws = torch.Generator().manual_seed(8)
    target = torch.randint(CLASSES, (PATCHES, *shapes[0]), generator=draws)[: len(x)]
    specs = [spec_of("attack", name, epsilon=level, **changes) for level in levels]
    seeds = seeds_of(levels) if seeds is None else seeds
    return attack_of(name).attack(own, x, at_resolutions(target, shapes), specs, seeds)


def seeds_of(levels) -> list[list[int]]:
    return [[int(100 * level) + row for row in range(PATCHES)] for level in levels]


@functools.cache
def noisy(name: str) -> torch.Tensor:
    return attacked(name)


@needs_nnunet
@every_attack
def test_noisy_patches_have_their_shape_and_lie_in_their_balls(name):
    found, x = noisy(name), patches("nnunet")
    assert found.shape == (len(LEVELS), *x.shape) and found.dtype == torch.float32
    assert found.isfinite().all() and found[0].equal(x)
    lengths = (found.double() - x.double()).norm(dim=2)
    for level, own in zip(LEVELS, lengths, strict=True):
        assert (own <= level * (1 + 1e-5)).all() and (own > 0).all() == (level > 0)


@needs_nnunet
@every_attack
def test_equal_seeds_give_equal_bytes(name):
    torch.manual_seed(7)
    found, x = attacked(name), patches("nnunet")
    assert found.numpy().tobytes() == noisy(name).numpy().tobytes()
    assert x.equal(patches("nnunet"))
    other = attacked(name, seeds=[[s + 50 for s in level] for level in seeds_of(LEVELS)])
    assert other[0].equal(found[0])
    assert all((other[k, row] != found[k, row]).any() for k in (1, 2) for row in range(PATCHES))


@needs_nnunet
@every_attack
def test_a_level_finds_what_it_finds_without_the_others(name):
    for k, level in enumerate(LEVELS):
        (alone,) = attacked(name, [level], seeds=[seeds_of(LEVELS)[k]])
        torch.testing.assert_close(alone, noisy(name)[k], rtol=0, atol=1e-3)


@needs_nnunet
@every_attack
def test_a_start_depends_on_its_patch_and_seed_alone(name):
    """Not on the other patches of the batch, nor on its place there; steps of no length show it."""
    short, x = {"num_steps": 1, "step_share": 1e-12}, patches("nnunet")
    (together,) = attacked(name, [3.0], seeds=[[4, 5, 6]], **short)
    (alone,) = attacked(name, [3.0], x=x[1:2], seeds=[[5]], **short)
    (elsewhere,) = attacked(name, [3.0], x=x[[2, 1, 0]], seeds=[[9, 5, 9]], **short)
    for found in (alone[0], elsewhere[1]):
        torch.testing.assert_close(found, together[1], rtol=0, atol=1e-6)
    assert not torch.allclose(elsewhere[0], together[2], atol=0.1)
    same = elsewhere[0] - x[2], elsewhere[2] - x[0]  # of one seed
    torch.testing.assert_close(*same, rtol=0, atol=1e-6)


@every_attack
def test_the_seed_of_a_start_is_of_its_work_slice_and_level(name):
    start_seed = module_of("attack", name).start_seed
    known = start_seed(1, ["study", 0], 3, 5.0)
    assert known == start_seed(1, ["study", 0], 3, 5)
    others = [(2, ["study", 0], 3, 5), (1, ["study", 1], 3, 5), (1, ["study", 0], 4, 5)]
    others += [(1, ["study", 0], 3, 15), (1, ["study", 0], 3, 0.5)]
    assert len({known, *(start_seed(*other) for other in others)}) == 6


@every_attack
def test_the_plan_knows_its_gradients(name):
    for steps in (1, 20):
        assert spec_of("attack", name, num_steps=steps).expected_queries() == steps
