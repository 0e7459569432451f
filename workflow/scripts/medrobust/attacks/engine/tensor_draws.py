"""Random numbers of runs on tensors, the same on every device.

A run's stream is a function of its seed and of a number that names the stream; word n of a stream
is a bijection (SplitMix64) of the stream's key and n, as in
:mod:`medrobust.attacks.engine.ball_kernels`, whose bits these are. So every value of a run has a
number of its own: nothing depends on the rows beside it, on how rows are grouped into blocks or on
an interruption, and nothing has to be kept. Integers are exact everywhere; what is made of them,
float32, differs between devices in last bits at most.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

# Words are int64, whose products wrap as those of uint64 do; constants as such numbers.
_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_FIRST_FACTOR, _SECOND_FACTOR = 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64
_TO_SIGNED, _TO_UNIT, _TO_QUARTER = 2.0**-31, 2.0**-23, 2.0**-22
_QUADRANT_BITS, _LOW_BITS = 22, 0x3FFFFF
_RADIUS_SHIFT, _ANGLE_SHIFT = 9, 8


def stream_keys(seeds: Tensor, stream: int) -> Tensor:
    """Returns the keys of one of the streams that runs' seeds give, int64 ``[k]``.

    Args:
        seeds: int64 ``[k]``.
        stream: its number.
    """
    return _mixed(_mixed(seeds) ^ stream)


def words(keys: Tensor, first: int, count: int) -> Tensor:
    """Returns words ``first`` to ``first + count - 1`` of streams, int64 ``[k, count]``.

    Args:
        keys: int64 ``[k]``.
        first: number of the first word.
        count: number of words.
    """
    import torch

    numbers = torch.arange(first, first + count, device=keys.device)
    return words_at(keys[:, None], numbers)


def words_at(keys: Tensor, numbers: Tensor) -> Tensor:
    """Returns words of given numbers, int64; keys and numbers, int64, broadcast."""
    return _mixed(keys + numbers * _GOLDEN)


def signed(bits: Tensor, d: int) -> Tensor:
    """Returns values uniform in [-1, 1], float32 ``[..., d]``, from words ``[..., ceil(d / 2)]``.

    As :func:`medrobust.attacks.engine.noise_kernels.signed`.
    """
    return _halves(bits)[..., :d].float() * _TO_SIGNED


def normal(bits: Tensor, d: int) -> Tensor:
    """Returns standard normal values, float32 ``[..., d]``, from words ``[..., ceil(d / 2)]``.

    By Box and Muller (1958), as :func:`medrobust.attacks.engine.noise_kernels.draw_normal`: the
    first halves of pairs, then the second ones; of an odd row's last pair one value is left out.
    """
    import torch

    halves = _halves(bits)
    length, turn = halves[..., 0::2], halves[..., 1::2]
    uniform = (_shifted(length, _RADIUS_SHIFT).float() + 0.5) * _TO_UNIT
    radius = torch.sqrt(-2.0 * torch.log(uniform))
    turn = _shifted(turn, _ANGLE_SHIFT)
    quadrant = turn >> _QUADRANT_BITS
    # An angle within an eighth of a turn, either way, and one of four directions: a small angle has
    # a more exact sine.
    part = ((turn & _LOW_BITS).float() + 0.5) * _TO_QUARTER - 0.5
    angle = part * (math.pi / 2)
    sine, cosine = torch.sin(angle), torch.cos(angle)
    odd = (quadrant & 1) == 1
    x, y = torch.where(odd, sine, cosine), torch.where(odd, cosine, sine)
    x = torch.where((quadrant == 1) | (quadrant == 2), -x, x) * radius
    y = torch.where(quadrant >= 2, -y, y) * radius
    half = d // 2
    return torch.cat([x[..., :half], y[..., :half], x[..., half:]], dim=-1)[..., :d]


def _mixed(z: Tensor) -> Tensor:
    """Returns words every bit of which depends on all of ``z``."""
    z = z + _GOLDEN
    z = (z ^ _shifted(z, 30)) * _FIRST_FACTOR
    z = (z ^ _shifted(z, 27)) * _SECOND_FACTOR
    return z ^ _shifted(z, 31)


def _shifted(values: Tensor, places: int) -> Tensor:
    """Returns integers shifted right, with zeros from the left."""
    width = 8 * values.element_size()
    return (values >> places) & (2 ** (width - places) - 1)


def _halves(bits: Tensor) -> Tensor:
    """Returns the halves of words, the low one first, int32 ``[..., 2 * count]``."""
    import torch

    return bits.contiguous().view(torch.int32)
