"""Every network, method and attack on a device that is not there: nothing mixed, few waits."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from medrobust.attacks import run_attack
from medrobust.attacks.engine.lockstep import Setting
from medrobust.attacks.engine.queries import Queries
from medrobust.attacks.engine.tensor_normals import normals_of
from medrobust.core.registry import ARCHITECTURES, ATTACKS, METHODS, parse_spec
from medrobust.models import blocks, ensembles
from medrobust.models.contract import architecture_of
from medrobust.models.ensembles import build_ensemble
from medrobust.training import trains_on_gpu
from medrobust.training.contract import method_of
from medrobust.training.engine.work import Work

from tests.registered import of_points
from tests.unit.marked_device import CUDA, is_marked, pretended

CLASSES = 3
SIGNAL, IMAGE = (32,), (1, 9, 9)
CONVOLUTIONS = [{"channels": 4, "kernel": 3, "padding": 1}, {"channels": 4, "kernel": 3}]
BOTTLENECKS = {"stages": [4, 4], "blocks": [1, 1], "mean": [0.4], "deviation": [0.3]}
BOTTLENECKS |= {"pooling": "drop_max"}

#: Each architecture that uses a GPU: its settings, small, and the shape of its points.
NETWORKS = {
    "mlp": ({"hidden_units": 4}, SIGNAL),
    "bnn": ({"hidden_units": 4}, SIGNAL),
    "cnn1d": ({"dense_units": 4}, SIGNAL),
    "relu_mlp": ({"hidden_layers": 2, "hidden_units": 4}, SIGNAL),
    "kachuee_cnn": ({"channels": 2, "blocks": 2, "dense_units": 4}, SIGNAL),
    "layer_norm_mlp": ({"hidden_units": [4, 4]}, SIGNAL),
    "instance_norm_cnn": ({"convolutions": CONVOLUTIONS}, IMAGE),
    "resnet18": ({"stages": [4, 4]}, IMAGE),
    "batch_norm_resnet18": ({"stages": [4, 4]}, IMAGE),
    "resnet50": (BOTTLENECKS, IMAGE),
    "lenet": ({}, IMAGE),
    "sign_network": ({"hidden_units": 4}, SIGNAL),
}
SEARCH = {"epsilon": 0.2, "steps": 3}
COMPOSED = {
    "loss": "cross_entropy",
    "adversarial_weight": 0.5,
    "adversary": {"epsilon": 0.1, "steps": 2},
    "margin": "windowed",
    "r1_weight": 0.1,
    "r2_weight": 0.1,
    "jacobian_weight": 0.1,
    "l1_decay": 0.01,
    "l2_decay": 0.01,
    "class_balanced": True,
}
#: Each method that uses a GPU: its settings but for epochs, and batches of 8 points.
TRAININGS = {
    "sgd_cross_entropy": {"learning_rate": 0.01, "l2_penalty": 0.1},
    "adam_cross_entropy": {"learning_rate": 0.01},
    "composed_loss": COMPOSED,
    "adversarial_training": SEARCH,
    "trades": SEARCH,
    "mma": {"largest_margin": 0.3, "least_radius": 0.05, "steps": 3, "bisections": 2},
    "ima": {"margin_step": 0.05, "largest_margin": 0.3, "steps": 3, "bisections": 2},
    "ddn_training": {"epsilon": 0.3, "steps": 3},
    "multi_instance": {**SEARCH, "instances": [3, 1], "weights": [0.6, 0.4]},
    "gradient_regularization": {},
    "local_linearity": SEARCH,
    "simclr": {"projection": 4},
}
#: Each attack, small.
# fmt: off
ATTACKED = {
    "pgd": {"epsilon": 0.1, "num_steps": 3},
    "spsa": {"epsilon": 0.1, "num_steps": 2, "directions": 4},
    "uniform_noise": {"epsilon": 0.1, "restarts": 2},
    "hopskipjump": {
        "max_iter": 1, "max_eval": 10, "init_eval": 5, "init_size": 10, "restarts": 1,
        "projection_tolerance": 0.01,
    },
}
# fmt: on

DIFFERENTIABLE = {
    name: architecture_of(name).forward is not None and architecture_of(name).has_gradients
    for name in NETWORKS
}
PAIRS = [
    (method, architecture)
    for method in of_points(METHODS)
    for architecture in sorted(method_of(method).architectures)
    if trains_on_gpu(architecture, method)
]


#: Rows of a block on the pretended device, which computes no faster than a CPU.
ROWS = 16


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    of_device = blocks.label_block
    monkeypatch.setattr(
        blocks, "label_block", lambda a, device: ROWS if "cuda" in device else of_device(a, device)
    )


def parsed(kind, name, settings):
    return parse_spec(kind, {"name": name, **settings}, file="test", prefix=kind)


def network(name):
    settings, shape = NETWORKS[name]
    return parsed("architecture", name, settings), shape


def points(shape, n=16):
    random = np.random.default_rng(7)
    y = np.arange(n) % CLASSES
    x = random.uniform(0, 1, (n, *shape)) * 0.2 + 0.25 * y.reshape(-1, *[1] * len(shape))
    return x.astype(np.float32), y


def train(method, architecture, device, *, n=16, epochs=1, members=2, **changes):
    """Trains members on ``n`` points in batches of 8."""
    settings = {"max_epochs": epochs, "batch_size": 8, **TRAININGS[method], **changes}
    if architecture in ("relu_mlp", "kachuee_cnn") and method == "composed_loss":
        settings = {"normalise_kernels": True, "revive_kernels": True, **settings}
    spec, shape = network(architecture)
    x, y = points(shape, n)
    work = Work(
        x=x, y=y, n_classes=CLASSES, members=list(range(members)), seeds=[11, 12, 13][:members],
        device=device, input_range=(0.0, 1.0),
    )  # fmt: skip
    return method_of(method).train(parsed("method", method, settings), architecture, spec, work)


def starts(architecture, members):
    """Returns the first values of members; of sign networks, which have none, normal draws."""
    spec, shape = network(architecture)
    first = architecture_of(architecture).initial_parameters
    if first is not None:
        return first(spec, shape, CLASSES, list(range(members)))
    size, random = (members, CLASSES, spec.hidden_units), np.random.default_rng(3)
    shapes = {
        "hidden_weights": (*size, *shape), "hidden_bias": size, "output_weights": size,
        "output_bias": size[:2],
    }  # fmt: skip
    return {n: random.standard_normal(s).astype(np.float32) for n, s in shapes.items()}


@functools.cache
def ensemble(architecture, device, *, vote="soft", members=2):
    spec, shape = network(architecture)
    parameters = starts(architecture, members)
    return build_ensemble(
        architecture, spec, [parameters], vote=vote, input_shape=shape, n_classes=CLASSES,
        input_range=(0.0, 1.0), device=device,
    )  # fmt: skip


def on_device(architecture, **options):
    """Returns the ensemble on the device; within ``pretended``."""
    ensemble.cache_clear()
    return ensemble(architecture, "cuda:0", **options)


def attack(name, model, shape, **changes):
    settings = {"clip_min": 0.0, "clip_max": 1.0, **ATTACKED[name], **changes}
    spec = parsed("attack", name, settings)
    x, _ = points(shape, 2)
    y = model.predict(x)  # points that are classified correctly are attacked
    seeds = np.arange(2 * spec.restarts).reshape(2, -1)
    return run_attack(name, model, x, y, spec, seeds)


def test_the_cases_are_all_that_are_registered():
    networks = of_points(ARCHITECTURES)
    assert set(NETWORKS) == {n for n in networks if architecture_of(n).uses_gpu}
    assert set(TRAININGS) == {method for method, _ in PAIRS}
    assert set(ATTACKED) == set(of_points(ATTACKS))


# The device itself: that it refuses what CUDA refuses, and counts.


def test_the_device_refuses_to_mix():
    with pretended() as seen:
        there = torch.ones(3).to("cuda:0")
        assert there.device == CUDA and is_marked(there + 1) and is_marked(there[0])
        assert (seen.to_device, seen.waits) == (1, 1)
        with pytest.raises(RuntimeError, match="same device"):
            there + torch.ones(3)
        with pytest.raises(RuntimeError, match="same device"):
            torch.cat([torch.ones(3), there])
        with pytest.raises(RuntimeError, match="indexed by one of cuda:0"):
            torch.ones(3)[there.long()]
        with pytest.raises(TypeError, match="cuda:0"):
            there.numpy()
        with pytest.raises(TypeError, match="cuda:0"):
            np.asarray(there)
        with pytest.raises(RuntimeError, match="generator"):
            torch.empty_like(there).uniform_(generator=torch.Generator())
        with pytest.raises(RuntimeError, match="generator"):
            torch.empty(3).uniform_(generator=torch.Generator("cuda:0"))
        torch.empty_like(there).uniform_(generator=torch.Generator("cuda:0"))
        assert is_marked(torch.zeros(2, device="cuda:0")) and not is_marked(torch.zeros(2))
        assert is_marked(there * torch.tensor(2.0))  # single values may lie on the host
        assert not is_marked(there.cpu()) and there.cpu().numpy().tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    "read",
    [
        lambda t: t.sum().item(), lambda t: bool(t.any()), lambda t: float(t[0]),
        lambda t: t.tolist(), lambda t: t.nonzero(), lambda t: t[t > 0], lambda t: t.cpu(),
        lambda t: torch.where(t > 0), lambda t: t.to("cpu"), lambda t: torch.equal(t, t),
        lambda t: t[torch.tensor([0, 1])],
        lambda t: t.copy_(torch.zeros(3)),
    ],
)  # fmt: skip
def test_the_device_counts_what_waits(read):
    with pretended() as seen:
        there = torch.zeros(3, device="cuda:0")
        assert seen.waits == 0
        read(there)
        assert seen.waits == 1


def test_what_does_not_wait_is_not_counted():
    with pretended() as seen:
        there = torch.zeros(3, device="cuda:0")
        there[there > 0] = 1.0
        there.sum().clamp_(min=1)
        there.argmax()
        torch.where(there > 0, there, 1.0).masked_fill_(there == 0, 2.0)
    assert seen.waits == 0


# Networks.


@pytest.mark.parametrize("architecture", NETWORKS)
def test_networks_answer_the_same_on_the_device(architecture):
    _, shape = network(architecture)
    x, y = points(shape, 2 * ROWS + 3)
    for vote, members in (("soft", 2), ("majority", 2), ("majority", 1)):
        here = ensemble(architecture, "cpu", vote=vote, members=members)
        with pretended() as seen:
            there = on_device(architecture, vote=vote, members=members)
            loaded = seen.waits
            np.testing.assert_array_equal(there.all_predictions(x)[1], here.all_predictions(x)[1])
            # Three blocks go there, labels come back: joined, and of the members.
            assert seen.waits - loaded == 3 + 2
            if there.has_gradients:
                for loss in ("cross_entropy", "margin"):
                    found, expected = (m.loss_gradients(x, y, loss) for m in (there, here))
                    for one, other in zip(found, expected, strict=True):
                        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
                np.testing.assert_allclose(there.logits(x), here.logits(x), rtol=1e-4, atol=1e-6)


# Training.


@pytest.mark.parametrize(("method", "architecture"), PAIRS)
def test_methods_train_on_the_device(method, architecture):
    with pretended():
        there = train(method, architecture, "cuda:0")
    here = train(method, architecture, "cpu")
    for name, value in there.parameters.items():
        assert type(value) is np.ndarray and np.isfinite(value).all()
        # The same steps by other functions: optimisers and epochs written out for the CPU.
        np.testing.assert_allclose(value, here.parameters[name], rtol=1e-3, atol=2e-4, err_msg=name)


# Attacks.


@pytest.mark.parametrize(
    ("name", "architecture"),
    [
        (name, architecture)
        for name in ATTACKED
        for architecture in NETWORKS
        if name not in ("pgd", "spsa") or DIFFERENTIABLE[architecture]
    ],
)
def test_attacks_work_on_the_device(name, architecture, monkeypatch):
    _, shape = network(architecture)
    if name == "hopskipjump":  # its draws on tensors are not those on arrays
        monkeypatch.setattr(ensembles, "KEPT_ON", {"cpu", "cuda"})
        monkeypatch.setattr(blocks, "label_block", lambda *_: ROWS)
        expected = attack(name, ensemble.__wrapped__(architecture, "cpu"), shape)
    else:
        expected = attack(name, ensemble(architecture, "cpu"), shape)
    with pretended():
        found = attack(name, on_device(architecture), shape)
    np.testing.assert_array_equal(found.queries, expected.queries)
    np.testing.assert_allclose(found.x_adv, expected.x_adv, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("target", ["next", "least_likely"])
@pytest.mark.parametrize("confidence", [0.0, 0.02])
def test_targets_and_confidence_work_on_the_device(target, confidence):
    _, shape = network("relu_mlp")
    options = {"target": target, "confidence": confidence, "num_steps": 40, "epsilon": 0.5}
    expected = attack("pgd", ensemble("relu_mlp", "cpu"), shape, **options)
    with pretended() as seen:
        model = on_device("relu_mlp")
        found = attack("pgd", model, shape, **options)
        waits = seen.waits
        attack("pgd", model, shape, **options, restarts=2)
    np.testing.assert_array_equal(found.targets, expected.targets)
    np.testing.assert_array_equal(found.iterations, expected.iterations)
    np.testing.assert_allclose(found.x_adv, expected.x_adv, rtol=1e-3, atol=1e-4)
    # Runs side by side wait together: once for each step, as untargeted ones.
    assert seen.waits - waits < 2 * found.iterations.max() + 30


# Waits. Those of a step are the difference of two runs, one of which takes more steps.

#: Waits for each batch, at most, with searches of eight steps. These read once, after five, which
#: rows are finished; mma and ima, which rows are right before it and which it found after it.
WAITS_PER_BATCH = {
    "sgd_cross_entropy": 0,
    "adam_cross_entropy": 0,
    "composed_loss": 0,
    "ddn_training": 0,
    "adversarial_training": 1,
    "trades": 1,
    "multi_instance": 1,
    "gradient_regularization": 0,
    "local_linearity": 0,
    "simclr": 14,  # the numbers that kornia drew for its augmentations
    "mma": 3,
    "ima": 3,
}
#: Waits for each step of all runs of an attack: none, or, where a run ends as soon as its label
#: changes, one for the rows that may have another label; SPSA, which does not know, asks for all
#: labels, two copies.
WAITS_PER_STEP = {("pgd", False): 0, ("spsa", False): 0, ("pgd", True): 1, ("spsa", True): 2}


def waits_of(work):
    with pretended() as seen:
        work()
    return seen


@pytest.mark.parametrize(("method", "architecture"), PAIRS)
def test_a_batch_waits_seldom(method, architecture):
    # Kernels that nothing moved are looked for after 1, 2, 4, ... batches of an epoch.
    kept = {"revive_kernels": False} if method == "composed_loss" else {}
    # Searches of 8 steps, so with one look on the way.
    kept |= {"steps": 8} if "steps" in TRAININGS[method] else {}
    few, many = (
        waits_of(lambda n=n: train(method, architecture, "cuda:0", n=n, members=1, **kept))
        for n in (16, 48)
    )
    each = (many.waits - few.waits) / 4
    assert each <= WAITS_PER_BATCH[method], many.places - few.places


@pytest.mark.parametrize(("name", "early_stop"), WAITS_PER_STEP)
@pytest.mark.parametrize("architecture", ["relu_mlp", "mlp", "instance_norm_cnn"])
def test_a_step_of_an_attack_waits_seldom(name, early_stop, architecture):
    _, shape = network(architecture)
    with pretended() as seen:
        model = on_device(architecture)
        waits = []
        for steps in (2, 6):
            before = seen.waits
            found = attack(name, model, shape, num_steps=steps, early_stop=early_stop, epsilon=1e-6)
            waits.append(seen.waits - before)
            assert (found.iterations == steps).all()  # nobody ended before
    assert (waits[1] - waits[0]) / 4 == WAITS_PER_STEP[name, early_stop], (waits, seen.places)


@pytest.mark.parametrize("count", [3, 100])
def test_an_estimate_of_hopskipjump_waits_as_often_however_many_rows_it_asks_about(count):
    """Centres, radii and numbers go there, sums come back."""
    _, shape = network("relu_mlp")
    with pretended() as seen:
        model = on_device("relu_mlp")
        x, y = points(shape, 2)
        queries = Queries(model, 2, 1024)
        queries.goal = y
        setting = Setting(x, queries, 2, np.float32(0), np.float32(1))
        normals = normals_of(model, setting, [1, 2], 1024)
        before = seen.waits
        normals.estimate(x, np.full(2, 0.1), np.full(2, count), 0)
    assert seen.waits - before == 4, seen.places
    assert queries.counts.tolist() == [count, count]
