"""SimCLR (Chen et al. 2020): pretraining without labels, by telling two views of an image together.

Each image of a batch is augmented twice. A network and a projection of its features, two layers,
map the 2 n views to points ``z`` on a sphere; the loss of a view is the cross-entropy of finding
its partner among the 2 n - 1 others by their cosine similarity over ``temperature`` (NT-Xent;
mirst, equation 4; Chen et al., equation 1), mean over all views. Labels are not looked at.

The projection takes the place of the output layer and is thrown away: what is kept is the network
up to its features, with the output layer that it was drawn with. ``python -m medrobust
export-weights`` writes them in the names that ``initial_weights`` of another model reads.

Augmentations are kornia's (Riba et al. 2020), with the amounts of Chen et al., appendix A: a random
crop brought back to the size of the image, mirroring, colour distortion, grey, blur. Images of one
channel have no colours: there brightness and contrast are distorted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from medrobust.core.errors import InputError
from medrobust.core.schema import Settings
from medrobust.core.seeds import generator
from medrobust.models.engine.images import uniform
from medrobust.training.contract import Method
from medrobust.training.engine.first_values import first_values
from medrobust.training.engine.robust_descent import DescentSettings, descend, networks_of
from medrobust.training.engine.work import Trained, Work

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from medrobust.training.engine.flat_updates import FlatMember

__all__ = ["METHOD", "Spec", "nt_xent", "train"]


class Spec(DescentSettings):
    """Settings of SimCLR."""

    temperature: float = Field(default=0.1, gt=0, description="tau, divides cosine similarities")
    projection: int = Field(default=128, ge=1, description="coordinates of the projection")
    least_crop: float = Field(
        default=0.08, gt=0, le=1, description="least share of an image that a view shows"
    )
    colour_strength: float = Field(
        default=1.0, ge=0, le=1, description="of the distortion of brightness, contrast, colours"
    )
    blur_share: float = Field(default=0.5, ge=0, le=1, description="of views that are blurred")


def passes(spec: Spec, n_classes: int, n_rows: int) -> float:
    """Returns the cost of a training in plain passes over the data, for the plan: two views."""
    return spec.max_epochs * 2.0


def train(spec: Spec, architecture: str, architecture_spec: Settings, work: Work) -> Trained:
    """Trains ``work``'s members one by one; see :mod:`medrobust.training`.

    Raises:
        InputError: the points are no images.
    """
    import torch
    from torch.nn.functional import linear, normalize, relu

    shape = work.x.shape[1:]
    if len(shape) != 3:
        raise InputError(f"SimCLR is for images; these points have the shape {list(shape)}.")
    drawn = first_values(architecture, architecture_spec, work)
    networks, augment = networks_of(architecture, architecture_spec), augmentation(spec, shape)

    def loss(member: FlatMember, x: Tensor, y: Tensor, draws: Generator) -> tuple[Tensor, Tensor]:
        images = x.view(-1, *shape)
        # kornia draws from PyTorch's own stream, that of the CPU: of a batch always the same.
        with torch.no_grad(), torch.random.fork_rng([]):
            torch.manual_seed(draws.initial_seed())
            views = torch.cat([augment(images), augment(images)]).flatten(1)
        hidden = relu(networks(member)[0].logits(views))
        z = linear(hidden, member.leaves["w_projection"], member.leaves["b_projection"])
        return nt_xent(normalize(z, dim=1), spec.temperature)

    trained = descend(
        spec,
        architecture,
        architecture_spec,
        work,
        loss,
        initial=drawn | _projection(spec, drawn["w_output"].shape[2], work.seeds),
    )
    kept = {name: value for name, value in trained.parameters.items() if name in drawn}
    own_output = {name: drawn[name] for name in ("w_output", "b_output")}
    return Trained(kept | own_output, trained.history)


def _projection(spec: Spec, features: int, seeds: list[int]) -> dict[str, np.ndarray]:
    """Draws the projection of each member; its first layer has the names of the output layer."""
    layers = {"output": features, "projection": spec.projection}
    found: dict[str, list[np.ndarray]] = {}
    for seed in seeds:
        rng = generator(seed, "projection")
        for name, width in layers.items():
            for kind, size in (("w", (width, features)), ("b", (width,))):
                found.setdefault(f"{kind}_{name}", []).append(uniform(rng, size, features))
    return {name: np.stack(values).astype(np.float32) for name, values in found.items()}


def nt_xent(z: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Returns the loss of views, and of how many images each view finds the other.

    Args:
        z: points of length 1, ``[2 n, p]``: first and second views, in the same order.
        temperature: tau.

    Returns:
        the mean of mirst, equation 4, over all views, and an int64 count.
    """
    import torch

    n = len(z) // 2
    similar = (z @ z.T / temperature).fill_diagonal_(-torch.inf)
    partner = torch.arange(2 * n, device=z.device).roll(n)
    found = similar.detach().argmax(dim=1) == partner
    loss = torch.nn.functional.cross_entropy(similar, partner)
    return loss, (found[:n] & found[n:]).sum()


def augmentation(spec: Spec, shape: tuple[int, ...]) -> Callable[[Tensor], Tensor]:
    """Returns the function that draws a view of each image ``[n, channels, side, side]``.

    Chen et al., appendix A: a crop of ``least_crop`` to all of the area, mirrored half of the time;
    brightness, contrast and saturation by up to .8, hue by up to .2, times ``colour_strength``, of
    8 views in 10, grey of 2; Gaussian blur over a tenth of the side, sigma .1 to 2.
    """
    import kornia.augmentation as kornia
    import torch

    channels, *sides = shape
    strength, width = 0.8 * spec.colour_strength, max(3, sides[0] // 10) // 2 * 2 + 1
    if channels == 3:
        colours = [
            kornia.ColorJitter(strength, strength, strength, strength / 4, p=0.8),
            kornia.RandomGrayscale(p=0.2),
        ]
    else:
        spread = (1 - strength, 1 + strength)
        colours = [kornia.RandomBrightness(spread, p=0.8), kornia.RandomContrast(spread, p=0.8)]
    return torch.nn.Sequential(
        kornia.RandomResizedCrop(tuple(sides), scale=(spec.least_crop, 1.0)),
        kornia.RandomHorizontalFlip(),
        *colours,
        kornia.RandomGaussianBlur((width, width), (0.1, 2.0), p=spec.blur_share),
    )


METHOD = Method(
    spec=Spec,
    architectures=frozenset({"batch_norm_resnet18", "resnet50"}),
    train=train,
    passes=passes,
)
