"""Descent of networks that give every pixel a class: nnU-Net's, for a fixed number of batches.

Stochastic gradient descent with Nesterov momentum .99, weight decay 3e-5, gradients clipped at
length 12, and a rate that falls from .01 as ``(1 - epoch / epochs) ** 0.9`` (nnU-Net; ima trains 50
epochs of 50 batches). The last state counts.

Numbers are float32 throughout; nnU-Net rounds some to 16 bits on a GPU, the authors of ima did not
where they made noisy samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from medrobust.attacks.engine.pixel_network import PixelNetwork
from medrobust.core.logs import Progress
from medrobust.core.schema import Settings
from medrobust.core.seeds import derive_seed
from medrobust.data.prepared.slices import SliceSet
from medrobust.models import nnunet
from medrobust.runtime.journal import Checkpoint, Pace
from medrobust.training.engine.slice_batches import Batch, SliceBatches
from medrobust.training.engine.work import Trained

if TYPE_CHECKING:
    import torch
    from torch import Generator, Tensor

#: As nnU-Net 2.8.1 has them (``nnUNetTrainer``).
MOMENTUM, WEIGHT_DECAY, LONGEST_GRADIENT, RATE_POWER = 0.99, 3e-5, 12.0, 0.9
CHECKPOINT_SECONDS = 30.0


class SliceSettings(Settings):
    """Settings of the descent, the same for all methods that train nnU-Net's network."""

    learning_rate: float = Field(default=0.01, gt=0, description="step size at first")
    batch_size: int | None = Field(
        default=None, ge=1, description="patches per batch; null: as nnU-Net plans"
    )
    max_epochs: int = Field(default=50, ge=1, description="epochs; there is no earlier stop")
    batches_per_epoch: int = Field(default=50, ge=1, description="batches per epoch")


@dataclass(frozen=True)
class SliceWork:
    """One training job.

    Attributes:
        slices: the data set.
        members: numbers of the networks to train, one.
        seeds: their seeds.
        device: "cpu" or "cuda[:k]".
        checkpoint: state of an unfinished job.
    """

    slices: SliceSet
    members: list[int]
    seeds: list[int]
    device: str = "cpu"
    checkpoint: Checkpoint | None = None


@dataclass(frozen=True)
class Step:
    """What a loss is made of.

    Attributes:
        network: in training.
        x: patches, float32 ``[n, d]``.
        targets: at each resolution, int64 ``[n, h, w]`` each.
        numbers: of the slices, int64 ``[n]``.
        draws: generator of noise.
    """

    network: PixelNetwork
    x: Tensor
    targets: list[Tensor]
    numbers: np.ndarray
    draws: Generator


def descend(
    spec: SliceSettings,
    architecture_spec: nnunet.Spec,
    work: SliceWork,
    losses: Callable[[Step], Iterable[Tensor]],
    *,
    kept: Mapping[str, np.ndarray] | None = None,
    after_epoch: Callable[[], None] | None = None,
) -> Trained:
    """Trains one network.

    Args:
        spec: settings of the descent.
        architecture_spec: of the network.
        work: data, seed, device and checkpoint.
        losses: of one batch, scalars that autograd can follow, whose sum is the loss. The way back
            is gone from each before the next is asked for, so that memory holds one graph.
        kept: what the method keeps from batch to batch, by name, which it changes in place; it
            goes into checkpoints.
        after_epoch: called after each epoch, to change what is kept.
    """
    import torch

    (seed,) = work.seeds
    slices, kept = work.slices, kept or {}
    size = nnunet.patch_size(architecture_spec, slices.plans)
    planned = nnunet.planned(slices.plans)["batch_size"]
    batches = SliceBatches(slices, size, spec.batch_size or planned, derive_seed(seed, "batches"))
    module = nnunet.build(
        slices.plans, slices.channels, slices.n_classes, derive_seed(seed, "network")
    ).to(work.device)
    shape, for_points = (slices.channels, *size), nnunet.fast(module, to_parameters=False)
    network = PixelNetwork(nnunet.fast(module), shape, for_points)
    descent = _Descent(spec, module, work.checkpoint, kept)
    draws = torch.Generator(work.device)
    progress = Progress("training nnU-Net's network", spec.max_epochs, unit="epochs")
    begun = descent.resume()
    total = begun.total
    for epoch in range(begun.epoch, spec.max_epochs):
        descent.set_rate(epoch)
        first = begun.batch if epoch == begun.epoch else 0
        total = total if first else 0.0
        for number in range(first, spec.batches_per_epoch):
            draws.manual_seed(derive_seed(seed, "noise", epoch, number))
            step = _step(network, batches.draw(epoch, number), work.device, draws)
            total += descent.move(losses(step))
            done = number + 1
            progress.update(
                epoch + done / spec.batches_per_epoch,
                f"batch {done} of {spec.batches_per_epoch}, mean loss {total / done:.4f}",
            )
            if done < spec.batches_per_epoch:
                descent.save_if_due(Begun(epoch, done, total))
        if after_epoch is not None:
            after_epoch()
        descent.save_if_due(Begun(epoch + 1, 0, total))
    mean = total / spec.batches_per_epoch
    finite = bool(np.isfinite(mean))
    history = {
        "member": work.members[0],
        "epochs": spec.max_epochs,
        "loss": mean if finite else None,
        "stopped": "max_epochs" if finite else "loss is not a number",
    }
    return Trained(nnunet.arrays_of(module), [history], {n: v[None] for n, v in kept.items()})


def _step(network: PixelNetwork, batch: Batch, device: str, draws: Generator) -> Step:
    return Step(
        network,
        batch.images.flatten(1).to(device),
        [target.to(device) for target in batch.targets],
        batch.numbers,
        draws,
    )


@dataclass(frozen=True)
class Begun:
    """Where a training goes on: epoch, batch, and the sum of losses so far.

    It is that of the epoch, or of the one before where this has no batch yet: the training may have
    been killed after its last.
    """

    epoch: int
    batch: int
    total: float


class _Descent:
    """The optimiser, and what a checkpoint needs."""

    def __init__(
        self,
        spec: SliceSettings,
        module: torch.nn.Module,
        checkpoint: Checkpoint | None,
        kept: Mapping[str, np.ndarray],
    ) -> None:
        import torch

        self._spec, self._module, self._checkpoint, self._kept = spec, module, checkpoint, kept
        self._optimizer = torch.optim.SGD(
            module.parameters(),
            spec.learning_rate,
            momentum=MOMENTUM,
            weight_decay=WEIGHT_DECAY,
            nesterov=True,
        )
        self._pace = Pace(CHECKPOINT_SECONDS)

    def set_rate(self, epoch: int) -> None:
        """Sets the step size of an epoch."""
        rate = self._spec.learning_rate * (1 - epoch / self._spec.max_epochs) ** RATE_POWER
        for group in self._optimizer.param_groups:
            group["lr"] = rate

    def move(self, losses: Iterable[Tensor]) -> float:
        """Takes one step against the gradient of the sum of losses; returns this."""
        import torch

        self._optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for loss in losses:
            loss.backward()
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(self._module.parameters(), LONGEST_GRADIENT)
        self._optimizer.step()
        return total

    def save_if_due(self, begun: Begun) -> None:
        """Saves a checkpoint, if it is time to."""
        if self._checkpoint is not None:
            self._pace.save_if_due(lambda: self._save(begun))

    def _save(self, begun: Begun) -> None:
        moved = {name: self._optimizer.state[p] for name, p in self._module.named_parameters()}
        arrays = {f"network:{n}": v for n, v in nnunet.arrays_of(self._module).items()}
        arrays |= {
            f"momentum:{name}": state["momentum_buffer"].cpu().numpy()
            for name, state in moved.items()
            if state.get("momentum_buffer") is not None
        }
        arrays |= {f"kept:{name}": value for name, value in self._kept.items()}
        self._checkpoint.save(arrays, vars(begun))
        self._pace = Pace(CHECKPOINT_SECONDS)

    def resume(self) -> Begun:
        """Goes back to the last checkpoint; returns where the training goes on."""
        import torch

        saved = self._checkpoint.load() if self._checkpoint is not None else None
        if saved is None:
            return Begun(0, 0, 0.0)
        arrays, state = saved
        groups: dict[str, dict[str, np.ndarray]] = {"network": {}, "momentum": {}, "kept": {}}
        for key, value in arrays.items():
            group, _, name = key.partition(":")
            groups[group][name] = value
        nnunet.with_arrays(self._module, groups["network"])
        for name, parameter in self._module.named_parameters():
            if name in groups["momentum"]:
                # In memory as the parameter lies: other loops may round otherwise.
                buffer = torch.empty_like(parameter, requires_grad=False)
                buffer.copy_(torch.from_numpy(groups["momentum"][name].copy()))
                self._optimizer.state[parameter]["momentum_buffer"] = buffer
        for name, value in groups["kept"].items():
            self._kept[name][...] = value
        return Begun(**state)
