"""The plain U-Net of nnU-Net on a CPU, in less time than it takes as nnU-Net builds it.

All maps lie with channels side by side, in which PyTorch convolves fastest, and what follows a
convolution is one compiled loop (:mod:`medrobust.models.engine.instance_norm`). Values and
slopes are those of the network as nnU-Net builds it, but for rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from medrobust.models.engine import first_convolution
from medrobust.models.engine.first_convolution import FirstConvolution
from medrobust.models.engine.instance_norm import LeakyNormalised

_PACKAGE = "dynamic_network_architectures"
NETWORK = f"{_PACKAGE}.architectures.unet.PlainConvUNet"
BLOCK = f"{_PACKAGE}.building_blocks.simple_conv_blocks.ConvDropoutNormReLU"


def fast_on_cpu(module: nn.Module) -> Callable[[Tensor], Sequence[Tensor]]:
    """Returns what computes a network's outputs, and their slopes, fast on a CPU.

    It reads the module's parameters at each call, so they may be trained or loaded. Their values,
    shapes and names stay; kernels in memory are laid with channels side by side. Slopes cannot be
    differentiated again.

    Args:
        module: from images ``[n, channels, h, w]`` to logits at each resolution.

    Returns:
        The module itself where it is not on a CPU, or no float32 ``PlainConvUNet`` with deep
        supervision, of convolution, instance normalisation and leaky ReLU.
    """
    if not _is_known(module):
        return module
    module.to(memory_format=torch.channels_last)
    return lambda images: _outputs(module, images)


def _is_known(module: nn.Module) -> bool:
    """Tells whether :func:`_outputs` computes what the module does."""
    if _class_of(module) != NETWORK or not module.decoder.deep_supervision:
        return False
    if any(p.device.type != "cpu" or p.dtype != torch.float32 for p in module.parameters()):
        return False
    stages = [part for stage in module.encoder.stages for part in stage] + [*module.decoder.stages]
    blocks = [block for stage in stages for block in getattr(stage, "convs", [stage])]
    return all(_class_of(block) == BLOCK and _is_known_block(block) for block in blocks)


def _class_of(module: nn.Module) -> str:
    # By name: the package comes with nnU-Net, and is not imported where that is not.
    return f"{type(module).__module__}.{type(module).__qualname__}"


def _is_known_block(block: nn.Module) -> bool:
    parts = [nn.Conv2d, nn.InstanceNorm2d, nn.LeakyReLU]
    if [type(part) for part in block.all_modules] != parts:
        return False
    return block.norm.affine and not block.norm.track_running_stats


def _outputs(module: nn.Module, images: Tensor) -> list[Tensor]:
    """Returns what the module does: logits at each resolution, finest first."""
    x, skips = _side_by_side(images), []
    for stage in module.encoder.stages:
        for blocks in stage:
            x = _through(blocks, x)
        skips.append(x)
    *skips, x = skips
    decoder, outputs = module.decoder, []
    steps = zip(decoder.transpconvs, decoder.stages, decoder.seg_layers, strict=True)
    for enlarge, blocks, head in steps:
        x = _through(blocks, torch.cat((enlarge(x), skips.pop()), dim=1))
        outputs.append(head(x).contiguous())
    return outputs[::-1]


def _through(stacked: nn.Module, x: Tensor) -> Tensor:
    """Returns what blocks of convolution, normalisation and leaky ReLU make of maps."""
    for block in stacked.convs:
        x = _normalised(block, _convolved(block.conv, x))
    return x


def _normalised(block: nn.Module, x: Tensor) -> Tensor:
    norm, slope = block.norm, block.nonlin.negative_slope
    if x.shape[2:].numel() == 1:
        return block.nonlin(norm(x))  # PyTorch's own refusal of maps of one pixel
    return LeakyNormalised.apply(x, norm.weight, norm.bias, norm.eps, slope)


def _convolved(layer: nn.Conv2d, x: Tensor) -> Tensor:
    if first_convolution.is_known(layer):
        return FirstConvolution.apply(x, layer.weight, layer.bias)
    return layer(x)


def _side_by_side(images: Tensor) -> Tensor:
    """Returns images in memory with channels side by side."""
    if images.shape[1] == 1:
        # Nothing moves; but strides must say so, as PyTorch chooses its convolution by them.
        return images.reshape(len(images), *images.shape[2:], 1).movedim(-1, 1)
    return images.contiguous(memory_format=torch.channels_last)
