"""Projected gradient descent in L2 on networks that give every pixel a class, levels side by side.

Ima (Ma and Liang 2021, section "Experiments on Segmentation", and its authors' code): 100 steps,
each a twentieth of the noise level long, along the gradient divided by its length, from a random
start on the sphere; the loss that rises is the one that trains, with Dice over all pixels of a
batch, so slices of a batch shape each other's noise. Noise is not clipped: values of standardised
images have no bounds.

All noise levels of a batch go through the network together. Dice is taken within a level, so a
level's result is the one that it would have alone, but for the last bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from medrobust.attacks.contract import Attack
from medrobust.attacks.engine.gradient_ascent import ascend
from medrobust.attacks.engine.norm_balls import Balls
from medrobust.attacks.engine.pixel_network import PixelNetwork, loss_slopes
from medrobust.core.schema import Settings
from medrobust.core.seeds import derive_seed

if TYPE_CHECKING:
    import torch

#: Values of standardised images have no bounds.
EVERYWHERE = (-float("inf"), float("inf"))


class Spec(Settings):
    """Settings of the attack on segmentation."""

    norm: Literal["l2"] = Field(default="l2", description="of the noise on a patch, all channels")
    epsilon: float = Field(
        ge=0,
        allow_inf_nan=False,
        description="noise level, in standard deviations of the image; 0: no noise",
    )
    num_steps: int = Field(default=100, ge=1, description="gradient steps")
    step_share: float = Field(default=0.05, gt=0, description="length of a step, in noise levels")
    batch_size: int | None = Field(
        default=None,
        ge=1,
        description="slices whose pixels Dice is taken over; null: as nnU-Net plans for training",
    )
    clip_min: None = Field(default=None, description="values of standardised images are not bound")
    clip_max: None = Field(default=None, description="nor from above")

    def expected_queries(self) -> int:
        """Returns the gradients that an attack on one slice takes."""
        return self.num_steps if self.epsilon else 1


def attack(
    network: PixelNetwork,
    x: torch.Tensor,
    targets: Sequence[torch.Tensor],
    specs: Sequence[Spec],
    seeds: Sequence[Sequence[int]],
) -> torch.Tensor:
    """Returns noisy versions of one batch of patches at several levels.

    Args:
        network: that is attacked.
        x: patches, float32 ``[n, d]``.
        targets: classes at each resolution, int64 ``[n, h, w]`` each.
        specs: of each level, alike but for epsilon.
        seeds: of the start of each patch at each level, ``[levels][n]``.

    Returns:
        float32 ``[levels, n, d]``; at level 0 the patches as they are.
    """
    import torch

    levels, n = [spec.epsilon for spec in specs], len(x)
    noisy = [level for level, epsilon in enumerate(levels) if epsilon > 0]
    found = x.expand(len(levels), *x.shape).clone()
    if not noisy:
        return found
    centres = x.repeat(len(noisy), 1)
    radius = torch.tensor([levels[k] for k in noisy], device=x.device).repeat_interleave(n)
    starts = torch.cat([_start(x, levels[k], seeds[k]) for k in noisy])
    ends = ascend(
        network,
        loss_slopes([target.repeat(len(noisy), 1, 1) for target in targets], n),
        starts,
        Balls(centres, radius, "l2", EVERYWHERE),
        radius * specs[0].step_share,
        specs[0].num_steps,
        to_the_end=True,
    )
    found[noisy] = ends.view(len(noisy), *x.shape)
    return found


def _start(x: torch.Tensor, epsilon: float, seeds: Sequence[int]) -> torch.Tensor:
    """Returns uniform draws from a cube around each patch, projected to its ball.

    A patch's draw depends on its own seed alone, and not on the device.
    """
    import torch

    draws = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        draws.append(torch.empty(x.shape[1]).uniform_(-1, 1, generator=generator))
    noise = torch.stack(draws).to(x.device) * epsilon
    shortened = (epsilon / noise.norm(dim=1, keepdim=True)).clamp(max=1)
    return x + noise * shortened


def start_seed(seed: int, names: Sequence[object], number: int, epsilon: float) -> int:
    """Returns the seed of the start of a slice at a level."""
    return derive_seed(seed, "pixel_pgd", *names, number, f"{epsilon:g}")


ATTACK = Attack(spec=Spec, attack=attack, of_pixels=True)
