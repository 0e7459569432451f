"""Functions of hidden units whose values and slopes are our own.

**Logistic function.** PyTorch's rounds the last elements of an array, those that do not fill a
vector register, by other instructions than the others: what a member computes would depend on
its place in the stack. The steps used here round all elements alike.

**Signs** with the slopes that binary networks pass back in place of the true one, 0. All give -1
below 0 and +1 from 0 on. Names and formulas are those of Larq (Geiger and Plumerai 2020), which
the authors of signnet used:

* ``ste_sign``: 1 where ``|x| <= 1``, else 0 (Hubara et al. 2016);
* ``approx_sign``: ``2 - 2|x|`` where ``|x| <= 1``, else 0 (Bi-Real Net, Liu et al. 2018);
* ``swish_sign``: ``b (2 - bx tanh(bx/2)) / (1 + cosh(bx))``, b = 5 (BNN+, Darabi et al. 2018).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

SWISH_BETA = 5.0


class _Logistic(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        y = x.neg().exp_().add_(1).reciprocal_()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        (y,) = ctx.saved_tensors
        return (1 - y).mul_(y).mul_(gradient)


#: ``1 / (1 + exp(-x))``.
logistic: Callable[[torch.Tensor], torch.Tensor] = _Logistic.apply


def signs(x: torch.Tensor) -> torch.Tensor:
    """Returns -1 where x < 0, else +1, in the type of ``x`` and without a gradient."""
    return torch.sign(x.detach()).add_(0.5).sign_()


def _straight_through(x: torch.Tensor) -> torch.Tensor:
    return x.abs() <= 1


def _triangle(x: torch.Tensor) -> torch.Tensor:
    return (2 - 2 * x.abs()).clamp_(min=0)


def _swish(x: torch.Tensor) -> torch.Tensor:
    # 1 / (1 + cosh(2a)) is (1 - tanh(a)^2) / 2, which neither overflows nor rounds by place.
    scaled = SWISH_BETA * x
    tanh = torch.tanh(scaled / 2)
    return SWISH_BETA / 2 * (2 - scaled * tanh) * (1 - tanh.square())


def _sign_with(
    slope: Callable[[torch.Tensor], torch.Tensor],
) -> Callable[[torch.Tensor], torch.Tensor]:
    class Sign(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            ctx.save_for_backward(x)
            return signs(x)

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
            return gradient * slope(*ctx.saved_tensors)

    return Sign.apply


QUANTISERS = {
    "ste_sign": _sign_with(_straight_through),
    "approx_sign": _sign_with(_triangle),
    "swish_sign": _sign_with(_swish),
}
