"""The plain U-Net of nnU-Net on a CPU, in less time than it takes as nnU-Net builds it.

All maps lie with channels side by side, in which convolutions are fastest; most of these take fewer
products (:mod:`medrobust.models.engine.winograd_convolution`), and what follows one is one compiled
loop (:mod:`medrobust.models.engine.instance_norm`). Values and slopes are those of the network as
nnU-Net builds it, but for rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d

from medrobust.models.engine import first_convolution, winograd, winograd_convolution
from medrobust.models.engine.first_convolution import FirstConvolution
from medrobust.models.engine.instance_norm import LeakyNormalised
from medrobust.models.engine.winograd_convolution import TransformedKernels, WinogradConvolution

_PACKAGE = "dynamic_network_architectures"
NETWORK = f"{_PACKAGE}.architectures.unet.PlainConvUNet"
BLOCK = f"{_PACKAGE}.building_blocks.simple_conv_blocks.ConvDropoutNormReLU"
#: Bytes of the largest maps, for as many images as go through the network together. The memory of
#: larger ones is given back and asked for anew each time, which takes up to a quarter longer.
MAP_BYTES = 24 * 2**20
#: Of a network, the transformed kernels of its layers. What computes it with slopes at parameters
#: and without shares them: a step of training transforms them once.
_TRANSFORMED: WeakKeyDictionary[nn.Module, dict[nn.Module, TransformedKernels]] = (
    WeakKeyDictionary()
)


def fast_on_cpu(
    module: nn.Module, *, to_parameters: bool = True
) -> Callable[[Tensor], Sequence[Tensor]]:
    """Returns what computes a network's outputs, and their slopes, fast on a CPU.

    It reads the module's parameters at each call, so they may be trained or loaded. Their values,
    shapes and names stay; kernels in memory are laid with channels side by side. Slopes cannot be
    differentiated again.

    Args:
        module: from images ``[n, channels, h, w]`` to logits at each resolution.
        to_parameters: whether slopes at parameters may be asked for, or at images alone, which
            takes less time.

    Returns:
        The module itself where it is not on a CPU, or no float32 ``PlainConvUNet`` with deep
        supervision, of convolution, instance normalisation and leaky ReLU.
    """
    if not _is_known(module):
        return module
    module.to(memory_format=torch.channels_last)
    return _Fast(module, to_parameters)


def _is_known(module: nn.Module) -> bool:
    """Tells whether :class:`_Fast` computes what the module does."""
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
    zeros = block.conv.padding_mode == "zeros"
    return zeros and block.norm.affine and not block.norm.track_running_stats


class _Fast:
    """What computes a known network's outputs.

    Args:
        module: the network.
        to_parameters: whether slopes at parameters may be asked for.
    """

    def __init__(self, module: nn.Module, to_parameters: bool) -> None:
        self._module, self._to_parameters = module, to_parameters
        if module not in _TRANSFORMED:
            memory = winograd.Memory()
            _TRANSFORMED[module] = {
                layer: TransformedKernels(layer, memory)
                for layer in module.modules()
                if isinstance(layer, nn.Conv2d) and winograd_convolution.is_known(layer)
            }
        self._transformed = _TRANSFORMED[module]

    def __call__(self, images: Tensor) -> list[Tensor]:
        """Returns what the module does: logits at each resolution, finest first."""
        channels = self._module.decoder.stages[-1].convs[0].conv.in_channels
        image = channels * images.shape[2:].numel() * images.element_size()
        parts = [self._outputs(part) for part in images.split(max(1, MAP_BYTES // image))]
        return (
            parts[0] if len(parts) == 1 else [torch.cat(part) for part in zip(*parts, strict=True)]
        )

    def _outputs(self, images: Tensor) -> list[Tensor]:
        x, skips = _side_by_side(images), []
        for stage in self._module.encoder.stages:
            for blocks in stage:
                x = self._through(blocks, x)
            skips.append(x)
        *skips, x = skips
        decoder, outputs = self._module.decoder, []
        steps = zip(decoder.transpconvs, decoder.stages, decoder.seg_layers, strict=True)
        for enlarge, blocks, head in steps:
            larger = conv_transpose2d(x, *self._values(enlarge), stride=enlarge.stride)
            x = self._through(blocks, torch.cat((larger, skips.pop()), dim=1))
            outputs.append(conv2d(x, *self._values(head)).contiguous())
        return outputs[::-1]

    def _values(self, layer: nn.Module) -> tuple[Tensor, Tensor | None]:
        """Returns a layer's weight and bias, with slopes where these may be asked for."""
        weight, bias = layer.weight, layer.bias
        if self._to_parameters:
            return weight, bias
        return weight.detach(), None if bias is None else bias.detach()

    def _through(self, stacked: nn.Module, x: Tensor) -> Tensor:
        """Returns what blocks of convolution, normalisation and leaky ReLU make of maps."""
        for block in stacked.convs:
            x = self._normalised(block, self._convolved(block.conv, x))
        return x

    def _normalised(self, block: nn.Module, x: Tensor) -> Tensor:
        norm, slope = block.norm, block.nonlin.negative_slope
        if x.shape[2:].numel() == 1:
            return block.nonlin(norm(x))  # PyTorch's own refusal of maps of one pixel
        return LeakyNormalised.apply(x, *self._values(norm), norm.eps, slope)

    def _convolved(self, layer: nn.Conv2d, x: Tensor) -> Tensor:
        weight, bias = self._values(layer)
        if first_convolution.is_known(layer):
            return FirstConvolution.apply(x, weight, bias)
        if layer in self._transformed and winograd_convolution.is_quicker(x):
            return WinogradConvolution.apply(x, weight, bias, self._transformed[layer])
        return conv2d(x, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)


def _side_by_side(images: Tensor) -> Tensor:
    """Returns images in memory with channels side by side."""
    if images.shape[1] == 1:
        # Nothing moves; but strides must say so, as PyTorch chooses its convolution by them.
        return images.reshape(len(images), *images.shape[2:], 1).movedim(-1, 1)
    return images.contiguous(memory_format=torch.channels_last)
