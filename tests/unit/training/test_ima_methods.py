"""Robust training, of ima and mirst: epochs against plain PyTorch, margins, kills, all networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from medrobust.attacks.engine import gradient_ascent
from medrobust.core.errors import InputError
from medrobust.core.registry import parse_spec
from medrobust.core.seeds import derive_seed, generator
from medrobust.experiment import costs
from medrobust.models import instance_norm_cnn, layer_norm_mlp, resnet18, resnet50
from medrobust.models.contract import architecture_of
from medrobust.runtime.journal import Checkpoint
from medrobust.training import ima, planned_passes
from medrobust.training.contract import method_of
from medrobust.training.engine import loop
from medrobust.training.engine.work import Work
from sklearn.datasets import make_moons
from torch import nn
from torch.nn.functional import cross_entropy, kl_div

EVERYWHERE = (-np.inf, np.inf)
POINTS, BATCH, SWEEP, EPOCHS = 90, 32, 30, 2

SETTINGS = {
    "adv": {"name": "adversarial_training", "epsilon": 0.2},
    "adv l2": {"name": "adversarial_training", "epsilon": 0.2, "norm": "l2"},
    "rand": {"name": "adversarial_training", "epsilon": 0.2, "steps": 0, "clean_weight": 0.3},
    "trades": {"name": "trades", "epsilon": 0.2},
    "trades l2": {"name": "trades", "epsilon": 0.2, "norm": "l2", "beta": 2.0},
    "ddn": {"name": "ddn_training", "epsilon": 0.3, "steps": 30},
    "mma": {"name": "mma", "largest_margin": 0.3, "least_radius": 0.1},
    "mma l2": {"name": "mma", "largest_margin": 0.3, "least_radius": 0.1, "norm": "l2"},
    "ima": {"name": "ima", "margin_step": 0.12, "largest_margin": 0.3},
    "ima l2": {
        "name": "ima",
        "margin_step": 0.12,
        "largest_margin": 0.3,
        "norm": "l2",
        "beta": 0.3,
        "start": "full",
    },
    "mirst": {"name": "multi_instance", "epsilon": 0.2},
    "mirst l2": {"name": "multi_instance", "epsilon": 0.2, "norm": "l2", "random_start": True},
    "rst": {"name": "multi_instance", "epsilon": 0.2, "instances": [10], "weights": [1.0]},
    "madry": {
        "name": "multi_instance",
        "epsilon": 0.2,
        "instances": [10],
        "weights": [1.0],
        "clean_weight": 0.0,
        "random_start": True,
    },
    "gr": {"name": "gradient_regularization", "weight": 0.1},
    "gr squared": {
        "name": "gradient_regularization",
        "weight": 0.1,
        "penalty": "squared_norm",
    },
    "llr": {"name": "local_linearity", "epsilon": 0.2},
    "llr l2": {"name": "local_linearity", "epsilon": 0.2, "norm": "l2", "gradient_weight": 0.5},
}
each_method = pytest.mark.parametrize("name", SETTINGS)


def points(n: int = POINTS) -> tuple[np.ndarray, np.ndarray]:
    x, y = make_moons(n, noise=0.1, random_state=0)
    return x.astype(np.float32), y.astype(np.int64)


def made(name: str, **changes):
    small = {"batch_size": BATCH, "max_epochs": EPOCHS, "learning_rate": 0.003}
    if name.startswith("ima"):
        small["sweep_batch_size"] = SWEEP
    values = SETTINGS[name] | small | changes
    spec = parse_spec("method", values, file="test", prefix="method")
    return method_of(values["name"]), spec


def fewer_steps(name: str, steps: int) -> dict[str, object]:
    """Returns the changes that make a search shorter; of some methods there is none."""
    method = SETTINGS[name]["name"]
    if name == "rand" or method == "gradient_regularization":
        return {}
    if method == "multi_instance":
        instances = len(SETTINGS[name].get("instances", range(4)))
        return {"steps": steps, "instances": list(range(steps, steps - instances, -1))}
    return {"steps": steps}


#: The paper's weights hold the loss of these small problems down, and nothing is learnt.
LIGHT = {"local_linearity": {"linearity_weight": 0.5, "gradient_weight": 0.2}}


def train(name: str, seeds=(7,), checkpoint=None, n: int = POINTS, **changes):
    x, y = points(n)
    method, spec = made(name, **changes)
    numbers, seeds = list(range(len(seeds))), list(seeds)
    work = Work(x, y, 2, numbers, seeds, input_range=EVERYWHERE, checkpoint=checkpoint)
    return method.train(spec, "layer_norm_mlp", layer_norm_mlp.Spec(), work)


# Plain PyTorch: the same start, order and draws, and everything else as the papers say it.


def plain_network(arrays: dict[str, np.ndarray]) -> nn.Sequential:
    net = nn.Sequential(
        nn.Linear(2, 32), nn.LeakyReLU(),
        nn.Linear(32, 64), nn.LayerNorm(64), nn.LeakyReLU(),
        nn.Linear(64, 128), nn.LayerNorm(128), nn.LeakyReLU(),
        nn.Linear(128, 2),
    )  # fmt: skip
    linear = [layer for layer in net if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        for k, layer in enumerate(linear, start=1):
            layer.weight.copy_(torch.from_numpy(arrays[f"w{k}"][0]))
            layer.bias.copy_(torch.from_numpy(arrays[f"b{k}"][0]))
    return net


def noise(like, radius, norm, draws):
    found = torch.empty_like(like).uniform_(-1, 1, generator=draws) * radius[:, None]
    return within(found, radius, norm) if norm == "l2" else found


def within(away, radius, norm):
    if norm == "linf":
        return torch.max(torch.min(away, radius[:, None]), -radius[:, None])
    return away * (radius / away.norm(dim=1).clamp(min=1e-20)).clamp(max=1)[:, None]


def pgd(net, loss, x, start, radius, sizes, steps, norm):
    """Returns the start and every iterate."""
    path = [start]
    for _ in range(steps):
        at = path[-1].clone().requires_grad_()
        (slope,) = torch.autograd.grad(loss(net(at)), at)
        if norm == "linf":
            move = slope.sign()
        else:
            move = slope / slope.norm(dim=1, keepdim=True).clamp(min=1e-20)
        path.append(x + within(path[-1] + sizes[:, None] * move - x, radius, norm))
    return path


def of_labels(y):
    """The margin of the other class, which has the direction of the cross-entropy."""
    return lambda z: (z.gather(1, 1 - y[:, None]) - z.gather(1, y[:, None])).sum()


def plain_adversarial(net, x, y, rows, draws, spec, kept):
    radius = torch.full((len(x),), spec.epsilon)
    start = x + noise(x, radius, spec.norm, draws)
    if spec.steps:
        sizes = 4 * radius / spec.steps
        noisy = pgd(net, of_labels(y), x, start, radius, sizes, spec.steps, spec.norm)[-1]
    else:
        noisy = start
    share = spec.clean_weight
    return share * cross_entropy(net(x), y) + (1 - share) * cross_entropy(net(noisy), y)


def plain_trades(net, x, y, rows, draws, spec, kept):
    clean = net(x)
    start = x + 0.001 * torch.empty_like(x).normal_(generator=draws)
    radius = torch.full((len(x),), spec.epsilon)
    fixed = clean.detach().softmax(1)

    def divergence(z):
        return kl_div(z.log_softmax(1), fixed, reduction="sum")

    sizes = 4 * radius / spec.steps
    noisy = pgd(net, divergence, x, start, radius, sizes, spec.steps, spec.norm)[-1]
    robust = kl_div(net(noisy).log_softmax(1), clean.softmax(1), reduction="batchmean")
    return cross_entropy(clean, y) + spec.beta * robust


def plain_instances(net, x, y, rows, draws, spec, kept):
    radius = torch.full((len(x),), spec.epsilon)
    start = x + noise(x, radius, spec.norm, draws) if spec.random_start else x
    sizes = spec.reach * radius / spec.steps
    path = pgd(net, of_labels(y), x, start, radius, sizes, spec.steps, spec.norm)
    noisy = sum(
        weight * cross_entropy(net(path[step]), y)
        for step, weight in zip(spec.instances, spec.weights, strict=True)
    )
    return spec.clean_weight * cross_entropy(net(x), y) + spec.adversarial_weight * noisy


def plain_gradient_regularization(net, x, y, rows, draws, spec, kept):
    total = cross_entropy(net(x), y)
    for point, label in zip(x, y, strict=True):
        leaf = point[None].clone().requires_grad_()
        own = cross_entropy(net(leaf), label[None])
        (slope,) = torch.autograd.grad(own, leaf, create_graph=True)
        length = slope.norm() if spec.penalty == "norm" else slope.norm() ** 2
        total = total + spec.weight * length / len(x)
    return total


def plain_local_linearity(net, x, y, rows, draws, spec, kept):
    radius = torch.full((len(x),), spec.epsilon)
    leaf = x.clone().requires_grad_()
    own = cross_entropy(net(leaf), y, reduction="none")
    (slope,) = torch.autograd.grad(own.sum(), leaf, create_graph=True)
    at, sizes = x + noise(x, radius, spec.norm, draws), spec.reach * radius / spec.steps

    def unlike(at):
        far = cross_entropy(net(at), y, reduction="none")
        return (far - own.detach() - ((at - x) * slope.detach()).sum(1)).abs()

    for _ in range(spec.steps):
        there = at.clone().requires_grad_()
        (up,) = torch.autograd.grad(unlike(there).sum(), there)
        move = up.sign() if spec.norm == "linf" else up / up.norm(dim=1, keepdim=True)
        at = x + within(at + sizes[:, None] * move - x, radius, spec.norm)
    along = ((at - x) * slope).sum(1)
    far = cross_entropy(net(at), y, reduction="none")
    linearity = (far - own - along).abs()
    return (own + spec.linearity_weight * linearity + spec.gradient_weight * along.abs()).mean()


def plain_ddn(net, x, y, rows, draws, spec, kept):
    found = []
    for point, label in zip(x, y, strict=True):
        at, best, distance = point.clone(), None, min(spec.first_distance, spec.epsilon)
        for k in range(spec.steps + 1):
            leaf = at[None].clone().requires_grad_()
            z = net(leaf)
            wrong = z.argmax().item() != label.item()
            if wrong and (best is None or (at - point).norm() < (best - point).norm()):
                best = at
            if k == spec.steps:
                break
            (slope,) = torch.autograd.grad(of_labels(label[None])(z), leaf)
            alpha = 0.01 + 0.99 * (1 + np.cos(np.pi * k / spec.steps)) / 2
            away = at - point + alpha * slope[0] / slope.norm()
            distance *= 1 - spec.factor if wrong else 1 + spec.factor
            distance = min(distance, spec.epsilon)
            at = point + distance * away / away.norm()
        found.append(at if best is None else best)
    return cross_entropy(net(torch.stack(found)), y)


def plain_mma(net, x, y, rows, draws, spec, kept):
    clean = net(x)
    right = clean.argmax(1) == y
    own, label = x[right], y[right]
    bound = 1.05 * spec.largest_margin
    radius = kept[rows[right]].clamp(spec.least_radius, bound)
    start = own + noise(own, radius, spec.norm, draws)
    sizes = 2.5 * radius / 20
    away = pgd(net, of_labels(label), own, start, radius, sizes, 20, spec.norm)[-1] - own
    order = float("inf") if spec.norm == "linf" else 2
    margins, total = torch.zeros(len(x)), 0.0
    for i, j in enumerate(right.nonzero()[:, 0].tolist()):
        reach = torch.linalg.vector_norm(away[i], order)
        unit, low, high = away[i] / reach, torch.zeros(()), torch.tensor(bound)
        for _ in range(10):
            z = net((own[i] + reach * unit)[None])[0]
            if z[1 - label[i]] < z[label[i]]:
                low = reach
            else:
                high = reach
            reach = (low + high) / 2
        margins[j] = reach.detach()
        if reach < spec.largest_margin:
            there = (own[i] + reach.detach() * unit)[None]
            total = total + cross_entropy(net(there), label[i : i + 1])
    kept[rows] = margins
    total = total + cross_entropy(clean[~right], y[~right], reduction="sum")
    return (2 / 3 * total + 1 / 3 * cross_entropy(clean, y, reduction="sum")) / len(x)


def plain_bpgd(net, x, y, radius, start_radius, norm, draws):
    """Per point: the noisy point on the boundary, or None."""
    start = x + noise(x, start_radius, norm, draws)
    path = pgd(net, of_labels(y), x, start, radius, 4 * radius / 20, 20, norm)
    found = []
    for i in range(len(x)):
        right, wrong = x[i], None
        for at in path:
            if net(at[i][None]).argmax().item() != y[i].item():
                wrong = at[i]
                break
            right = at[i]
        for _ in range(10 if wrong is not None else 0):
            middle = (right + wrong) / 2
            if net(middle[None]).argmax().item() == y[i].item():
                right = middle
            else:
                wrong = middle
        found.append(None if wrong is None else middle)
    return found


def plain_ima(net, x, y, rows, draws, spec, kept):
    clean = net(x)
    right = clean.argmax(1) == y
    margins = kept[rows[right]]
    inner = margins
    if spec.start == "shrunk":
        inner = (margins - spec.margin_step).clamp(min=spec.margin_step)
    noisy = plain_bpgd(net, x[right], y[right], margins, inner, spec.norm, draws)
    total = (1 - spec.beta) * cross_entropy(clean, y, reduction="sum")
    for point, label in zip(noisy, y[right], strict=True):
        if point is not None:
            total = total + spec.beta * cross_entropy(net(point[None]), label[None])
    return total / len(x)


def plain_sweep(net, x, y, draws, spec, kept):
    """Algorithm 2 on some points; returns what happened to each."""
    right = net(x).argmax(1) == y
    margins = kept[right]
    inner = margins if spec.start == "full" else (margins - spec.margin_step).clamp(min=0)
    noisy = iter(plain_bpgd(net, x[right], y[right], margins, inner, spec.norm, draws))
    order = float("inf") if spec.norm == "linf" else 2
    cases = []
    for i in range(len(x)):
        point = next(noisy) if right[i] else None
        if not right[i]:
            kept[i] = spec.margin_step
        elif point is None:
            kept[i] += spec.margin_step
        else:
            kept[i] = min(kept[i], torch.linalg.vector_norm(point - x[i], order))
        cases.append("wrong" if not right[i] else "grown" if point is None else "found")
        kept[i] = kept[i].clamp(spec.margin_step, spec.largest_margin)
    return cases


PLAIN = {
    "adversarial_training": plain_adversarial,
    "trades": plain_trades,
    "multi_instance": plain_instances,
    "gradient_regularization": plain_gradient_regularization,
    "local_linearity": plain_local_linearity,
    "ddn_training": plain_ddn,
    "mma": plain_mma,
    "ima": plain_ima,
}


def plain_training(name: str, seed: int):
    """Returns network, margins, mean losses of the epochs, and what Algorithm 2 met."""
    x, y = (torch.from_numpy(array) for array in points())
    spec = made(name)[1]
    net = plain_network(layer_norm_mlp.initial_parameters(layer_norm_mlp.Spec(), (2,), 2, [seed]))
    optimizer = torch.optim.Adam(net.parameters(), lr=spec.learning_rate)
    first = {"ima": "margin_step", "mma": "least_radius"}.get(SETTINGS[name]["name"])
    kept = torch.full((POINTS,), getattr(spec, first)) if first else None
    draws, losses, cases, batches = torch.Generator(), [], [], -(-POINTS // BATCH)
    for epoch in range(EPOCHS):
        order = torch.from_numpy(generator(seed, "epoch", epoch).permutation(POINTS))
        total = 0.0
        for batch, rows in enumerate(order.split(BATCH)):
            draws.manual_seed(derive_seed(seed, "batch", epoch, batch))
            loss = PLAIN[SETTINGS[name]["name"]](net, x[rows], y[rows], rows, draws, spec, kept)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rows)
        losses.append(total / POINTS)
        for block, rows in enumerate(torch.arange(POINTS).split(SWEEP)):
            if name.startswith("ima"):
                draws.manual_seed(derive_seed(seed, "batch", epoch, batches + block))
                own = kept[rows]
                cases += plain_sweep(net, x[rows], y[rows], draws, spec, own)
                kept[rows] = own.detach()
    return net, kept, losses, cases


@each_method
@pytest.mark.parametrize("looks", [1, 5])
def test_epochs_equal_the_method_written_out_in_plain_pytorch(name, looks, monkeypatch):
    """Also where one looks as seldom as on a GPU which rows of a search are finished."""
    monkeypatch.setitem(gradient_ascent.LOOKS, "cpu", looks)
    trained = train(name)
    net, margins, losses, cases = plain_training(name, 7)
    assert trained.history[0]["loss"] == pytest.approx(losses[-1], rel=1e-3)
    layers = [layer for layer in net if isinstance(layer, nn.Linear)]
    start = layer_norm_mlp.initial_parameters(layer_norm_mlp.Spec(), (2,), 2, [7])
    for k, layer in enumerate(layers, start=1):
        found = trained.parameters[f"w{k}"][0]
        off = np.abs(found - layer.weight.detach().numpy())
        moved = np.abs(found - start[f"w{k}"][0])
        # Adam's first steps are the signs of gradients, some of them tiny.
        assert np.quantile(off, 0.98) < 0.02 * np.quantile(moved, 0.5)
    if margins is None:
        assert trained.extras == {}
        return
    off = np.abs(trained.extras["margin"][0] - margins.numpy())
    assert np.quantile(off, 0.97) < 1e-4 and len(np.unique(margins.numpy().round(4))) > 4
    if cases:
        assert min(cases.count(case) for case in ("wrong", "grown", "found")) > 5


@pytest.mark.parametrize(
    ("margin", "right", "distance", "expected"),
    [
        (0.15, False, np.inf, 0.01),  # called wrong: as at first
        (0.15, False, 0.05, 0.01),
        (0.15, True, np.inf, 0.16),  # nothing found: grown
        (0.15, True, 0.07, 0.07),  # found: shrunk to the distance
        (0.15, True, 0.1500004, 0.15),  # no further than the margin
        (0.295, True, np.inf, 0.3),  # bounds
        (0.15, True, 0.004, 0.01),
    ],
)
def test_margins_after_a_sweep_case_by_case(margin, right, distance, expected):
    values = (torch.tensor([v]) for v in (margin, right, distance))
    found = ima.updated_margins(*values, step=0.01, largest=0.3)
    assert found.item() == pytest.approx(expected, rel=1e-6)


def test_margins_neither_pass_their_bounds_nor_lose_points():
    margins = train("ima", max_epochs=4).extras["margin"]
    assert margins.shape == (1, POINTS) and margins.dtype == np.float32
    assert margins.min() == np.float32(0.12) and margins.max() == np.float32(0.3)


class _Killed(Exception):
    pass


def dies_after(checkpoint: Checkpoint, saves: int) -> None:
    save, done = checkpoint.save, []

    def save_then_die(*arguments):
        save(*arguments)
        done.append(None)
        if len(done) == saves:
            raise _Killed

    checkpoint.save = save_then_die


@pytest.mark.parametrize("name", ["adv", "ddn", "mma", "ima", "mirst l2", "gr", "llr"])
@pytest.mark.parametrize("saves", [1, 2, 4, 5, 6, 9])
def test_killed_training_resumes_with_the_same_bytes(tmp_path, monkeypatch, name, saves):
    """Within an epoch, within the sweep after it (of 3 batches and 3 more each), between epochs."""
    few = fewer_steps(name, 5)
    undisturbed = train(name, (7, 8), **few, max_epochs=4)
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    with Checkpoint(tmp_path / "c", "key") as checkpoint:
        dies_after(checkpoint, saves)
        with pytest.raises(_Killed):
            train(name, (7, 8), checkpoint, **few, max_epochs=4)
    with Checkpoint(tmp_path / "c", "key") as checkpoint:
        info = checkpoint.load()[1]
        pieces = 6 if name == "ima" else 3
        assert (info["epoch"], info["batch"]) == divmod(saves, pieces)
        resumed = train(name, (7, 8), checkpoint, **few, max_epochs=4)
    assert resumed.history == undisturbed.history
    for kind in ("parameters", "extras"):
        expected, found = getattr(undisturbed, kind), getattr(resumed, kind)
        assert set(expected) == set(found)
        assert all(found[key].tobytes() == expected[key].tobytes() for key in expected)


@pytest.mark.parametrize("name", ["trades", "mma", "ima"])
def test_a_member_depends_on_its_own_seed_only(name):
    together = train(name, (3, 4))
    for k, seed in enumerate((3, 4)):
        alone = train(name, (seed,))
        assert alone.history[0]["loss"] == together.history[k]["loss"]
        for kind in ("parameters", "extras"):
            for key, value in getattr(alone, kind).items():
                assert value[0].tobytes() == getattr(together, kind)[key][k].tobytes()
    assert not np.array_equal(together.parameters["w1"][0], together.parameters["w1"][1])


@each_method
def test_moons_are_learnt(name):
    changes = fewer_steps(name, 5) | LIGHT.get(SETTINGS[name]["name"], {})
    trained = train(name, n=320, max_epochs=12, learning_rate=0.01, **changes)
    x, y = make_moons(500, noise=0.1, random_state=1)
    member = {key: torch.from_numpy(value) for key, value in trained.parameters.items()}
    logits = layer_norm_mlp.forward(layer_norm_mlp.Spec(), member, torch.from_numpy(x).float())
    assert (logits[0].argmax(1).numpy() == y).mean() > 0.93
    assert set(trained.extras) == ({"margin"} if name[:3] in ("ima", "mma") else set())


CONVOLUTIONS = [
    {"channels": 6, "kernel": 5, "stride": 2, "padding": 2},
    {"channels": 8, "kernel": 5, "stride": 2, "padding": 2},
    {"channels": 10, "kernel": 8},
]
NETWORKS = {
    "instance_norm_cnn": instance_norm_cnn.Spec.model_validate({"convolutions": CONVOLUTIONS}),
    "resnet18": resnet18.Spec(stages=[4, 6]),
    "resnet50": resnet50.Spec(
        stages=[4, 6], blocks=[1, 1], pooling="drop_max", mean=[0.2], deviation=[0.2]
    ),
}


@each_method
@pytest.mark.parametrize("network", NETWORKS)
def test_images_of_three_classes_are_trained_on(name, network):
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    x = rng.uniform(0, 0.3, (60, 1, 32, 32))
    for row, label in zip(x, y, strict=True):
        row[0, 10 * label : 10 * label + 10] += 0.6
    x = x.astype(np.float32)
    # What is evaluated with running averages needs some batches until these have come about.
    epochs = 6 if architecture_of(network).untrained else 3
    small = {"batch_size": 12, "max_epochs": epochs, "learning_rate": 0.01}
    changes = fewer_steps(name, 4) | LIGHT.get(SETTINGS[name]["name"], {})
    # Few epochs for the loss of noisy points alone.
    changes |= {"epsilon": 0.05} if name in ("madry", "llr", "llr l2") else {}
    method, spec = made(name, **small, **changes)
    work = Work(x, y, 3, [0], [5], input_range=(0.0, 1.0))
    trained = method.train(spec, network, NETWORKS[network], work)
    member = {key: torch.from_numpy(value) for key, value in trained.parameters.items()}
    logits = architecture_of(network).forward(
        NETWORKS[network], member, torch.from_numpy(x).flatten(1)
    )
    assert (logits[0].argmax(1).numpy() == y).mean() > 0.9
    assert np.isfinite(trained.history[0]["loss"])
    assert all(np.array_equal(x_, x0) for x_, x0 in zip(work.x, x, strict=True))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"instances": [10, 5]}, "2 instances have 4 weights"),
        ({"instances": [10, 8, 8, 4]}, "name a step twice"),
        ({"instances": [11, 8, 6, 4]}, "must lie in 1 .. steps"),
        ({"instances": [10, 8, 6, 0]}, "must lie in 1 .. steps"),
        ({"weights": [1.0, 1.0, 1.0, -0.1]}, "must not be negative"),
        ({"instances": [], "weights": []}, "instances"),
    ],
)
def test_instances_that_cannot_be_taken_are_refused(changes, told):
    with pytest.raises(InputError, match=told):
        made("mirst", **changes)


def test_instances_may_stand_in_any_order():
    other = {"instances": [4, 10, 6, 8], "weights": [0.16, 0.34, 0.22, 0.28]}
    one, two = train("mirst"), train("mirst", **other)
    assert one.parameters["w1"].tobytes() == two.parameters["w1"].tobytes()


def test_plain_cross_entropy_is_a_composed_loss():
    x, y = points()
    values = {"name": "composed_loss", "loss": "cross_entropy", "optimizer": "adam"}
    spec = parse_spec("method", values | {"max_epochs": 2}, file="test", prefix="method")
    work = Work(x, y, 2, [0], [7], input_range=EVERYWHERE)
    trained = method_of("composed_loss").train(spec, "layer_norm_mlp", layer_norm_mlp.Spec(), work)
    net = plain_network(layer_norm_mlp.initial_parameters(layer_norm_mlp.Spec(), (2,), 2, [7]))
    optimizer = torch.optim.Adam(net.parameters())
    for epoch in range(2):
        order = torch.from_numpy(generator(7, "epoch", epoch).permutation(POINTS))
        for rows in order.split(128):
            optimizer.zero_grad()
            cross_entropy(net(torch.from_numpy(x)[rows]), torch.from_numpy(y)[rows]).backward()
            optimizer.step()
    expected = net[8].weight.detach().numpy()
    np.testing.assert_allclose(trained.parameters["w4"][0], expected, atol=2e-5)


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(InputError, match="margin_step is larger"):
        made("ima", margin_step=0.4)
    composed = {"name": "composed_loss", "loss": "cross_entropy", "max_epochs": 1}
    spec = parse_spec("method", composed | {"normalise_kernels": True}, file="", prefix="")
    x, y = points()
    with pytest.raises(InputError, match="which of its kernels"):
        method_of("composed_loss").train(
            spec, "layer_norm_mlp", layer_norm_mlp.Spec(), Work(x, y, 2, [0], [0])
        )


@pytest.mark.parametrize(
    ("name", "passes"),
    [
        ("adv", 2 + 40 / 3),
        ("rand", 2),
        ("trades", 2 + 40 / 3),
        ("ddn", 1 + 60 / 3),
        ("mma", 2 + 50 / 3),
        ("ima", 2 + 50 / 3 + 1 / 3 + 50 / 3),
        ("mirst", 5 + 20 / 3),
        ("rst", 2 + 20 / 3),
        ("madry", 1 + 20 / 3),
        ("gr", 2),
        ("llr", 3 + 22 / 3),
    ],
)
def test_the_plan_counts_passes(name, passes):
    """Forward passes and passes back to the points, in thirds of a plain step."""
    values = SETTINGS[name] | {"max_epochs": 3}
    assert planned_passes(values, 2, POINTS) == pytest.approx(3 * passes)


def test_the_plan_knows_the_networks_whatever_the_method():
    assert costs.training_unit_seconds("ima", "layer_norm_mlp") == 5e-6
    assert costs.training_unit_seconds("mma", "layer_norm_mlp") == 5e-6
    measured = {"train:ima:layer_norm_mlp:187": 3.0}
    assert costs.training_unit_seconds("ima", "layer_norm_mlp", measured) == 3.0
    assert costs.training_unit_seconds("composed_loss", "relu_mlp") == 7e-6
    assert costs.training_unit_seconds("ima", "forest") == costs.UNKNOWN_TRAINING
    assert costs.attack_unit_seconds("spsa", "mlp") == costs.UNKNOWN_QUERY
    assert costs.attack_unit_seconds("pgd", "mlp", {"attack:pgd:mlp:187": 2.0}) == 2.0
