"""Composed losses: training against plain PyTorch point by point, resume, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.core.registry import parse_spec
from medrobust.core.seeds import derive_seed, generator
from medrobust.data.prepared.store import Dataset
from medrobust.jobs import train as jobs
from medrobust.models import kachuee_cnn, relu_mlp
from medrobust.models.contract import architecture_of
from medrobust.runtime.journal import Checkpoint
from medrobust.training import composed_loss, planned_passes
from medrobust.training.engine import apart_steps, loop
from medrobust.training.engine.class_balance import balanced_order
from medrobust.training.engine.work import Work
from torch import nn

SQUARED = {"loss": "squared_error", "normalise_kernels": True}
MARGIN = SQUARED | {"margin": "windowed"}
DECAY = {"l1_decay": 0.01, "l2_decay": 0.01}
ENTROPY = {"loss": "cross_entropy"}


def adversarial(epsilon: float, weight: float) -> dict:
    return {"adversary": {"epsilon": epsilon}, "adversarial_weight": weight}


# The nine methods of nsr by the authors' code, on the MLP; then those of the CNN that differ, and
# what only the paper's text asks for.
METHODS = {
    "ce": ENTROPY | DECAY,
    "jacob": ENTROPY | DECAY | {"jacobian_weight": 0.9, "normalise_kernels": True},
    "mse": SQUARED,
    "mse_margin": MARGIN,
    "loss1": MARGIN | {"r1_weight": 0.2},
    "loss2": MARGIN | {"r2_weight": 0.5, "r2_offset": 0.01},
    "adv01": ENTROPY | adversarial(0.1, 1.0),
    "adv02": ENTROPY | adversarial(0.2, 1.0),
    "adv03": ENTROPY | adversarial(0.3, 1.0),
    "cnn_adv": ENTROPY
    | DECAY
    | adversarial(0.1, 0.5)
    | {"clean_weight": 0.5, "updates_per_batch": 2, "normalise_kernels": True},
    "text_loss1": {"loss": "squared_error", "margin": "plain", "r1_weight": 0.2}
    | {"penalty_mean": "batch"},
    "text_loss2": {"loss": "squared_error", "margin": "plain", "r2_weight": 0.5}
    | {"penalty_mean": "batch", "optimizer": "adam"},
}
BOTH_NETWORKS = [("relu_mlp", name) for name in METHODS] + [
    ("kachuee_cnn", name) for name in ("jacob", "loss1", "loss2", "cnn_adv")
]
SPECS = {
    "relu_mlp": relu_mlp.Spec(hidden_units=16, linear_units=8),
    "kachuee_cnn": kachuee_cnn.Spec(channels=4, blocks=3, dense_units=8),
}


def problem(n: int = 60, d: int = 45, classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    y = np.concatenate([np.arange(classes), rng.choice(classes, n - classes, p=[0.6] + [0.1] * 4)])
    centres = rng.random((classes, d))
    x = np.clip(centres[y] + rng.normal(scale=0.1, size=(n, d)), 0, 1)
    return x.astype(np.float32), y.astype(np.int64)


def settings(name: str, **changes) -> composed_loss.Spec:
    values = {"name": "composed_loss", "max_epochs": 2, "batch_size": 32, "class_balanced": True}
    values |= {"learning_rate": 0.01, "revive_kernels": True} | METHODS[name] | changes
    return parse_spec("method", values, file="test", prefix="method")


def train(architecture: str, name: str, seeds=(4,), data=None, checkpoint=None, **changes):
    x, y = problem() if data is None else data
    work = Work(
        x, y, 5, list(range(len(seeds))), list(seeds), input_range=(0.0, 1.0), checkpoint=checkpoint
    )
    spec = settings(name, **changes)
    return composed_loss.train(spec, architecture, SPECS[architecture], work)


class Network(nn.Module):
    """One member as a module whose parameters are the member's arrays."""

    def __init__(self, architecture: str, arrays: dict[str, np.ndarray]) -> None:
        super().__init__()
        self.architecture, self.spec = architecture, SPECS[architecture]
        for name, value in arrays.items():
            self.register_parameter(name, nn.Parameter(torch.from_numpy(value.copy())))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        own, F = dict(self.named_parameters()), nn.functional
        if self.architecture == "relu_mlp":
            for k in range(1, 6):
                x = F.linear(x, own[f"w{k}"], own[f"b{k}"])
                x = F.relu(x) if k <= 3 else x
            return x
        h = F.conv1d(x[:, None], own["w1"], own["b1"], padding=2)
        for k in range(2, 8, 2):
            inside = F.relu(F.conv1d(h, own[f"w{k}"], own[f"b{k}"], padding=2))
            h = F.relu(F.conv1d(inside, own[f"w{k + 1}"], own[f"b{k + 1}"], padding=2) + h)
            h = F.max_pool1d(h, 5, 2)
        return F.linear(F.relu(F.linear(h.flatten(1), own["w8"], own["b8"])), own["w9"], own["b9"])


def plain_loss(spec: composed_loss.Spec, network: Network, x, y, found) -> torch.Tensor:
    """The loss of a batch, point by point and class by class, with autograd for all gradients."""
    points, margins, penalties, jacobian, adversarial = [], [], [], [], []
    for i in range(len(x)):
        label = int(y[i])
        point = x[i : i + 1].clone().requires_grad_()
        z = network(point)[0]
        slopes = [torch.autograd.grad(z[k], point, create_graph=True)[0][0] for k in range(5)]
        points.append(loss_of_a_point(spec, z, label))
        jacobian.append(sum(slope.abs().mean() for slope in slopes))
        if int(z.argmax()) == label:
            terms = [1 - z[label] + z[k] for k in range(5) if k != label]
            if spec.margin == "windowed":
                margins += [t for t in terms if 0 < t.item() < 2]
            elif spec.margin == "plain":
                margins += [sum(t.clamp(min=0) for t in terms) * (1 / len(x))]
            w, own = slopes[label], x[i]
            r1 = ((w - own / (own @ own)) ** 2).sum()
            r2 = torch.log(1 + w.abs().sum() / (z[label].abs() + spec.r2_offset))
            penalties.append(spec.r1_weight * r1 + spec.r2_weight * r2)
        if spec.adversary is not None:
            adversarial.append(loss_of_a_point(spec, network(found[i : i + 1])[0], label))
    total = spec.clean_weight * sum(points) / len(x)
    total = total + spec.jacobian_weight * sum(jacobian) / len(x)
    if adversarial:
        total = total + spec.adversarial_weight * sum(adversarial) / len(x)
    if margins:
        total = total + sum(margins) / (len(margins) if spec.margin == "windowed" else 1)
    if penalties:
        over = len(x) if spec.penalty_mean == "batch" else len(penalties)
        total = total + sum(penalties) / over
    return total


def loss_of_a_point(spec: composed_loss.Spec, z: torch.Tensor, label: int) -> torch.Tensor:
    if spec.loss == "cross_entropy":
        return -torch.log(torch.exp(z[label]) / torch.exp(z).sum())
    return (z[label] - 1) ** 2 + sum(z[k] ** 2 for k in range(5) if k != label)


def plain_pgd(adversary, network, x, label, start) -> torch.Tensor:
    found = x + start
    for _ in range(adversary.steps):
        found.requires_grad_()
        loss = nn.functional.cross_entropy(network(found), torch.tensor([label]))
        (slope,) = torch.autograd.grad(loss, found)
        found = found.detach() + adversary.step_size * slope.sign()
        found = torch.minimum(torch.maximum(found, x - adversary.epsilon), x + adversary.epsilon)
        found = found.clamp(0, 1)
    return found


def plain_training(architecture: str, name: str, initial, x, y, seed: int) -> dict[str, np.ndarray]:
    """An epoch of steps as docs/nsr-training.md lists them, by PyTorch's own optimiser."""
    spec = settings(name)
    network = Network(architecture, initial)
    kind = {"adamax": torch.optim.Adamax, "adam": torch.optim.Adam}[spec.optimizer]
    optimizer = kind(network.parameters(), lr=spec.learning_rate)
    order = balanced_order(y.numpy(), generator(seed, "epoch", 0))[: spec.epoch_points]
    layers = architecture_of(architecture).normalised_kernels(SPECS[architecture])
    for batch, first in enumerate(range(0, len(order), spec.batch_size)):
        rows = torch.from_numpy(order[first : first + spec.batch_size])
        draws = torch.Generator().manual_seed(derive_seed(seed, "batch", 0, batch))
        found = torch.empty(0)
        if spec.adversary is not None:
            size = spec.adversary.epsilon
            start = torch.empty(len(rows), x.shape[1]).uniform_(-size, size, generator=draws)
            pairs = zip(x[rows], y[rows], start, strict=True)
            each = [
                plain_pgd(spec.adversary, network, p[None], int(k), s[None]) for p, k, s in pairs
            ]
            found = torch.cat(each)
        if spec.normalise_kernels:
            with torch.no_grad():
                for layer in layers:
                    weights, biases = (getattr(network, f"{kind}{layer}") for kind in "wb")
                    for row in range(len(weights)):
                        norm = weights[row].norm()
                        weights[row] /= norm
                        biases[row] /= norm
        optimizer.zero_grad()
        plain_loss(spec, network, x[rows], y[rows], found).backward()
        for parameter in network.parameters():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter -= spec.learning_rate * spec.l1_decay * parameter.sign()
                parameter -= spec.learning_rate * spec.l2_decay * parameter
        for _ in range(spec.updates_per_batch):
            optimizer.step()
    return {name: p.detach().numpy() for name, p in network.named_parameters()}


@pytest.fixture
def double_precision(monkeypatch):
    """Everything in float64, so that two ways of computing agree to many digits."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    for module in (relu_mlp, kachuee_cnn):
        draw = module.initial_parameters

        def doubled(*arguments, draw=draw):
            rng = np.random.default_rng(0)
            arrays = {name: v.astype(np.float64) for name, v in draw(*arguments).items()}
            return {
                name: v + rng.normal(0, 0.1, v.shape) * name.startswith("b")
                for name, v in arrays.items()
            }

        changed = replace(module.ARCHITECTURE, initial_parameters=doubled)
        monkeypatch.setattr(module, "ARCHITECTURE", changed)
    yield
    torch.set_default_dtype(before)


@pytest.mark.parametrize(("architecture", "name"), BOTH_NETWORKS)
def test_an_epoch_equals_plain_pytorch_point_by_point(double_precision, architecture, name):
    x, y = problem(26)
    x = x.astype(np.float64)
    ours = train(architecture, name, data=(x, y), max_epochs=1).parameters
    initial = architecture_of(architecture).initial_parameters(
        SPECS[architecture], x.shape[1:], 5, [4]
    )
    member = {key: value[0] for key, value in initial.items()}
    wanted = plain_training(architecture, name, member, torch.from_numpy(x), torch.from_numpy(y), 4)
    for key, value in wanted.items():
        np.testing.assert_allclose(ours[key][0], value, atol=1e-7)
        assert not np.allclose(value, member[key], atol=1e-3)


def loss_of(name: str, flip: bool, **changes):
    """Loss and gradients of a batch on which no point is right (``flip``), or on which all are."""
    x, _ = problem()
    arrays = relu_mlp.initial_parameters(SPECS["relu_mlp"], (45,), 5, [1])
    member = apart_steps.FlatMember({key: value[0] for key, value in arrays.items()}, "cpu")
    points = torch.from_numpy(x)
    logits, _ = relu_mlp.logits_and_pattern(SPECS["relu_mlp"], member.leaves, points)
    y = (logits.argmax(dim=1) + flip) % 5
    work = Work(x, y.numpy(), 5, [0], [0], input_range=(0.0, 1.0))
    loss = composed_loss._Gradient(
        settings(name, **changes), relu_mlp.ARCHITECTURE, SPECS["relu_mlp"], work
    )
    gradient, value, right = loss(member, points, y, torch.Generator())
    assert int(right) == (0 if flip else len(x))
    return value.item(), gradient.clone()


@pytest.mark.parametrize("name", ["mse_margin", "loss1", "loss2", "text_loss1", "text_loss2"])
def test_wrong_points_have_their_squared_error_alone(name):
    value, gradient = loss_of(name, flip=True)
    squared, squared_gradient = loss_of("mse", flip=True)
    assert value == pytest.approx(squared) and torch.allclose(gradient, squared_gradient)
    assert loss_of(name, flip=False)[0] > 1.05 * loss_of("mse", flip=False)[0]


class _Killed(Exception):
    pass


def killed_after(saves: int, tmp_path, train_with):
    """Runs training until its checkpoint has been saved ``saves`` times."""
    with Checkpoint(tmp_path / "c", "key") as checkpoint:
        save, done = checkpoint.save, 0

        def save_then_die(*arguments):
            nonlocal done
            save(*arguments)
            done += 1
            if done == saves:
                raise _Killed

        checkpoint.save = save_then_die
        with pytest.raises(_Killed):
            train_with(checkpoint)


# An epoch has 5 or 6 batches: kills within the first epoch, between epochs and in the third.
@pytest.mark.parametrize("saves", [1, 3, 6, 8, 14])
@pytest.mark.parametrize("name", ["adv01", "cnn_adv", "loss2"])
def test_a_killed_training_ends_with_the_same_bytes(tmp_path, monkeypatch, saves, name):
    def train_with(checkpoint):
        return train("relu_mlp", name, seeds=[4, 5], max_epochs=3, checkpoint=checkpoint)

    undisturbed = train_with(None)
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    killed_after(saves, tmp_path, train_with)
    with Checkpoint(tmp_path / "c", "key") as checkpoint:
        info = checkpoint.load()[1]
        assert info["epoch"] > 0 or info["batch"] > 0
        resumed = train_with(checkpoint)
    assert resumed.history == undisturbed.history
    for key, value in undisturbed.parameters.items():
        assert value.tobytes() == resumed.parameters[key].tobytes()


@pytest.mark.parametrize(
    ("architecture", "name"), [("relu_mlp", "adv02"), ("kachuee_cnn", "loss2")]
)
def test_a_member_depends_on_its_own_seed_alone(architecture, name):
    together = train(architecture, name, seeds=[7, 8, 9])
    for k, seed in enumerate([7, 8, 9]):
        alone = train(architecture, name, seeds=[seed])
        for key, value in alone.parameters.items():
            assert value[0].tobytes() == together.parameters[key][k].tobytes()
    assert not np.allclose(together.parameters["w1"][0], together.parameters["w1"][1])


def dead_start(monkeypatch, spec):
    """Makes the second unit of the first layer one that no point of [0, 1] turns on."""
    draw = relu_mlp.initial_parameters

    def dead(*arguments):
        arrays = draw(*arguments)
        arrays["w1"][:, 1], arrays["b1"][:, 1] = -np.abs(arrays["w1"][:, 1]), -0.1
        return arrays

    changed = replace(relu_mlp.ARCHITECTURE, initial_parameters=dead)
    monkeypatch.setattr(relu_mlp, "ARCHITECTURE", changed)
    return dead(spec, (45,), 5, [4])


def test_dead_kernels_are_drawn_anew_after_the_first_epoch_and_counted(monkeypatch):
    first = dead_start(monkeypatch, SPECS["relu_mlp"])["w1"][0, 1]
    options = {"l1_decay": 0.0, "l2_decay": 0.0}
    kept = train("relu_mlp", "ce", max_epochs=3, revive_kernels=False, **options)
    assert kept.history[0]["revived"] == 0
    np.testing.assert_array_equal(kept.parameters["w1"][0, 1], first)
    # Not before the first epoch is over, and not after the last.
    one = train("relu_mlp", "ce", max_epochs=1, **options)
    assert one.history[0]["revived"] == 0
    np.testing.assert_array_equal(one.parameters["w1"][0, 1], first)
    drawn = train("relu_mlp", "ce", max_epochs=2, **options)
    assert drawn.history[0]["revived"] >= 1
    assert not np.allclose(drawn.parameters["w1"][0, 1], first, atol=0.1)


@pytest.mark.parametrize(
    ("architecture", "free"), [("relu_mlp", ["5"]), ("kachuee_cnn", ["6", "7"])]
)
def test_the_kernels_that_are_never_rescaled_are_never_drawn_anew(architecture, free, monkeypatch):
    """The output of the MLP and the last block of the CNN (nsr, authors' code)."""
    entry = architecture_of(architecture)
    module = {"relu_mlp": relu_mlp, "kachuee_cnn": kachuee_cnn}[architecture]

    def nothing_moves(spec, network, architecture_spec, work):
        zero = torch.zeros(())
        return lambda member, *rest: (torch.zeros_like(member.flat), zero, zero.long())

    monkeypatch.setattr(composed_loss, "_Gradient", nothing_moves)
    options = {"l1_decay": 0.0, "l2_decay": 0.0, "normalise_kernels": False}
    trained = train(architecture, "ce", max_epochs=2, **options)
    first = module.initial_parameters(SPECS[architecture], (45,), 5, [4])
    same = {n[1:] for n, v in first.items() if n[0] == "w" and (v == trained.parameters[n]).all()}
    assert same == set(free)
    drawn = [len(v[0]) for n, v in first.items() if n[0] == "w" and n[1:] not in free]
    assert trained.history[0]["revived"] == sum(drawn)
    assert not set(free) & set(entry.normalised_kernels(SPECS[architecture]))


@pytest.mark.parametrize("key", ["normalise_kernels", "revive_kernels"])
def test_an_architecture_that_does_not_name_its_kernels_is_refused(key):
    spec = settings("ce", **{"normalise_kernels": False, "revive_kernels": False, key: True})
    x, y = problem()
    work = Work(x, y, 5, [0], [0], input_range=(0.0, 1.0))
    network = architecture_of("layer_norm_mlp")
    with pytest.raises(InputError, match=f"(?s)method.{key}.*relu_mlp"):
        composed_loss.descent(spec, network, None, work)


def test_a_kernel_that_one_point_moves_late_in_the_epoch_is_not_drawn_anew(monkeypatch):
    x, y = problem()
    x[:, 44], x[0, 44] = 0, 1
    seed = next(
        seed
        for seed in range(100)
        if list(balanced_order(y, generator(seed, "epoch", 0))[:32]).count(0) == 0
    )
    draw = relu_mlp.initial_parameters

    def one_rare_unit(*arguments):
        arrays = draw(*arguments)
        for layer in (1, 2, 3):  # all units are on
            arrays[f"w{layer}"], arrays[f"b{layer}"][:] = np.abs(arrays[f"w{layer}"]), 1
        arrays["w1"][:, 1], arrays["b1"][:, 1] = 0, -0.5
        arrays["w1"][:, 1, 44] = 1  # but this one, which point 0 turns on
        return arrays

    changed = replace(relu_mlp.ARCHITECTURE, initial_parameters=one_rare_unit)
    monkeypatch.setattr(relu_mlp, "ARCHITECTURE", changed)
    trained = train("relu_mlp", "mse", seeds=[seed], data=(x, y), normalise_kernels=False)
    assert trained.history[0]["revived"] == 0
    x[0, 44] = 0
    trained = train("relu_mlp", "mse", seeds=[seed], data=(x, y), normalise_kernels=False)
    assert trained.history[0]["revived"] == 1


def test_points_of_an_epoch():
    y = problem()[1]
    whole = 5 * np.bincount(y).max()
    seen: list[int] = []
    order = composed_loss._order(settings("ce"))(y, np.random.default_rng(0))
    assert len(order) == whole
    few = composed_loss._order(settings("ce", epoch_points=11))(y, np.random.default_rng(0))
    np.testing.assert_array_equal(few, order[:11])
    plain = settings("ce", class_balanced=False)
    seen = composed_loss._order(plain)(y, np.random.default_rng(0)).tolist()
    assert sorted(seen) == list(range(len(y)))


def test_progress_is_told_within_an_epoch(monkeypatch, caplog):
    clock = iter(range(0, 10**6, 4))
    monkeypatch.setattr("medrobust.core.logs.time.monotonic", lambda: next(clock))
    with caplog.at_level("INFO", logger="medrobust"):
        train("relu_mlp", "ce", max_epochs=1)
    lines = [record.getMessage() for record in caplog.records]
    assert "0.4/1 epochs" in lines[0] and "batch 2 of 5" in lines[0]
    assert "mean loss" in lines[-1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"adversarial_weight": 0.5}, "give both or none"),
        ({"adversary": {"epsilon": 0.1}}, "give both or none"),
        ({"adversary": {"epsilon": 0.0}, "adversarial_weight": 1.0}, "adversary.epsilon"),
        ({"margin": "window"}, "windowed"),
        ({"epoch_points": 0}, "epoch_points"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        settings("ce", **changes)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_learns(name):
    """All but the strongest adversaries: their points lie closer than the attack moves them."""
    x, y = problem(300)
    trained = train("relu_mlp", name, data=(x[:200], y[:200]), max_epochs=25)
    spec = SPECS["relu_mlp"]
    scores = relu_mlp.member_scores(spec, trained.parameters, (45,), 5, "cpu")(x[200:])
    assert np.isfinite(trained.history[0]["loss"])
    if name not in ("adv02", "adv03"):
        assert (scores[0].argmax(axis=1) == y[200:]).mean() > 0.9


@pytest.mark.parametrize(
    ("name", "changes", "passes"),
    [
        ("ce", {"class_balanced": False}, 2),
        ("ce", {}, 2 * 5),
        ("ce", {"epoch_points": 50}, 2 * 0.5),
        ("loss2", {"epoch_points": 50}, 2 * 0.5 * 2),
        ("jacob", {"epoch_points": 50}, 2 * 0.5 * 6),
        ("adv01", {"epoch_points": 50}, 2 * 0.5 * (2 + 10 * 2 / 3)),
    ],
)
def test_the_plan_counts_points_and_what_they_cost(name, changes, passes):
    spec = settings(name, **changes)
    values = {"name": "composed_loss", **spec.model_dump()}
    assert planned_passes(values, 5, 100) == pytest.approx(passes)


class InMemory(Dataset):
    def hashes(self) -> dict[str, str]:
        return {}


def test_the_job_trains_within_the_data_sets_range(tmp_path, monkeypatch):
    """The arrays of the job are those of a training with the card's range, and of no other."""
    x, y = problem()
    rows, none = np.arange(len(x)), np.arange(0)
    card = {"name": "x", "class_names": list("abcde"), "input_range": [0.3, 0.7]}
    dataset = InMemory(tmp_path, x, y, rows, none, rows, card)
    monkeypatch.setattr("medrobust.data.prepared.store.load_dataset", lambda folder, fold: dataset)
    monkeypatch.setattr(jobs, "fix_threads", lambda threads: None)
    method = {"name": "composed_loss", **settings("adv03").model_dump()}
    architecture = {"name": "relu_mlp", **SPECS["relu_mlp"].model_dump()}
    jobs.train_members(
        data="", out=str(tmp_path / "out"), card=str(tmp_path / "card"),
        timing=str(tmp_path / "timing"), members=[0, 0], names=["a"], seed=3, device="cpu",
        extras=str(tmp_path / "extras"),
        model={"architecture": architecture, "method": method},
        compute_threads=1, code="c", progress_dir=str(tmp_path / "progress"),
    )  # fmt: skip
    found = io.read_tensors(str(tmp_path / "out"))
    for low, high, same in ((0.3, 0.7, True), (0.0, 1.0, False)):
        seeds = [derive_seed(3, "train", "a", 0)]
        work = Work(x, y, 5, [0], seeds, input_range=(low, high))
        trained = composed_loss.train(settings("adv03"), "relu_mlp", SPECS["relu_mlp"], work)
        equal = [value.tobytes() == found[n].tobytes() for n, value in trained.parameters.items()]
        assert all(equal) == same
    cost = io.read_json(tmp_path / "timing")
    assert cost["units"] == pytest.approx(60 * planned_passes(method, 5, 60))
