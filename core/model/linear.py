"""Linear and feed-forward layers over many rows on a CPU, in float32.

Two things cost there beside arithmetic: memory that the system hands out anew for each wide tensor,
and a pass over it for the bias. So products go through oneDNN, which adds the bias to what is in
cache, and the hidden width of a feed-forward layer exists for a stretch of rows at a time (as in
Reformer, Kitaev et al. 2020, arXiv:2001.04451, section 3). Other devices and types, few rows or
numbers of them that are not `EVEN`, layers with hooks, autocast and `torch.export` take torch's own
layers, which are the slow twins. Gradients are of first order only.

Shapes: N rows, D channels in, E out, H hidden before the activation, A after it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.first_order import first_order

ROWS = 1024  # with fewer, what is won is not worth oneDNN's preparation
EVEN = 256  # for a new number of rows oneDNN takes milliseconds, and half a megabyte for good
NARROWEST = 128  # channels in and out; below, both libraries are equally fast
HIDDEN = 2**20  # hidden numbers of a stretch, which two cores keep in their caches

_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")

_INSTEAD = "run the layer under torch.backends.mkldnn.flags(enabled=False), which is torch's own"

Activation = Callable[[Tensor], Tensor]


class Linear(nn.Linear):
    """`nn.Linear`, by the faster library."""

    def forward(self, x: Tensor) -> Tensor:
        wide = min(self.weight.shape) >= NARROWEST
        if wide and _many(x, self.weight, ROWS) and x.shape[:-1].numel() % EVEN == 0:
            return _rows(x, _Linear.apply, self.weight, self.bias)
        return super().forward(x)


class FeedForward(nn.Sequential):
    """[..., D] -> [..., D] through `hidden` channels; the activation as in `two_layers`."""

    def __init__(self, dim: int, hidden: int, activation: nn.Module) -> None:
        super().__init__(nn.Linear(dim, hidden), activation, nn.Linear(hidden, dim))

    def forward(self, x: Tensor) -> Tensor:
        first, activation, second = cast("tuple[nn.Linear, nn.Module, nn.Linear]", tuple(self))
        return two_layers(x, first, activation, second)


def two_layers(x: Tensor, first: nn.Linear, activation: Activation, second: nn.Linear) -> Tensor:
    """second(activation(first(x))) of two linear layers with biases: [..., D] -> [..., E].

    The activation, H channels to A, works row by row, without numbers to learn or to draw.
    """
    rows = max(1, HIDDEN // first.out_features)
    alone = _product_alone(first) and _product_alone(second)
    if not (alone and _many(x, first.weight, max(rows, ROWS))):
        return second(activation(first(x)))
    weights = (first.weight, first.bias, second.weight, second.bias)
    learning = torch.is_grad_enabled() and any(one.requires_grad for one in (x, *weights))
    return _rows(x, _FeedForward.apply, *weights, activation, rows, learning)


def _rows(x: Tensor, layer: Callable[..., Tensor], *given: Any) -> Tensor:
    """layer(x_ND, *given) of the rows of x; no view is made in the layer, so that what comes out
    may be changed in place."""
    return layer(x.flatten(0, -2), *given).unflatten(0, x.shape[:-1])


def _product_alone(layer: nn.Linear) -> bool:
    """Whether to call a layer is its product and no more: no hook, nothing put in its place."""
    return type(layer) is nn.Linear and not any(getattr(layer, name) for name in _HOOKS)


def _many(x: Tensor, weight: Tensor, rows: int) -> bool:
    """Whether this module's ways are for such a call."""
    return (
        # first: a trace that asks for the number of rows is for that side of the question only
        not torch.compiler.is_compiling()
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.shape[-1] == weight.shape[1]  # else torch says what is wrong
        and x.numel() >= rows * x.shape[-1]
        and torch.backends.mkldnn.is_available()
        and torch.backends.mkldnn.enabled
        and not torch.is_autocast_enabled("cpu")
    )


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear` by oneDNN."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, weight_ED: Tensor, bias_E: Tensor | None) -> Tensor:
        ctx.save_for_backward(x_ND, weight_ED)
        return _product(x_ND, weight_ED, bias_E)

    @staticmethod
    @first_order("linear layer on CPU", _INSTEAD)
    def backward(ctx: Any, grad_NE: Tensor) -> tuple[Tensor | None, ...]:
        x_ND, weight_ED = ctx.saved_tensors
        wanted_x, wanted_weight, wanted_bias = ctx.needs_input_grad
        return (
            _product(grad_NE, weight_ED.t()) if wanted_x else None,
            grad_NE.t() @ x_ND if wanted_weight else None,
            grad_NE.sum(0) if wanted_bias else None,
        )


class _FeedForward(torch.autograd.Function):
    """Keeps what goes into the activation, and works out again what comes out of it."""

    @staticmethod
    def forward(
        ctx: Any,
        x_ND: Tensor,
        weight_HD: Tensor,
        bias_H: Tensor,
        weight_EA: Tensor,
        bias_E: Tensor,
        activation: Activation,
        rows: int,
        learning: bool,
    ) -> Tensor:
        out_NE = x_ND.new_empty(len(x_ND), len(weight_EA))
        kept: list[Tensor] = []
        for out, stretch in zip(out_NE.split(rows), x_ND.split(rows), strict=True):
            hidden = _stretch(stretch, weight_HD, bias_H, rows)
            if learning:
                kept.append(hidden)
            out.copy_(_stretch(activation(hidden), weight_EA, bias_E, rows))
        ctx.save_for_backward(x_ND, weight_HD, weight_EA, *kept)
        ctx.activation, ctx.rows = activation, rows
        return out_NE

    @staticmethod
    @first_order("feed-forward layer on CPU", _INSTEAD)
    def backward(ctx: Any, grad_NE: Tensor) -> tuple[Tensor | None, ...]:
        x_ND, weight_HD, weight_EA, *kept = ctx.saved_tensors
        grad_ND = torch.empty_like(x_ND)
        of_first, of_second = torch.zeros_like(weight_HD), torch.zeros_like(weight_EA)
        of_bias = x_ND.new_zeros(len(weight_HD))
        parts = (part.split(ctx.rows) for part in (x_ND, grad_ND, grad_NE))
        for x, grad_x, grad_out, hidden in zip(*parts, kept, strict=True):
            with torch.enable_grad():
                hidden = hidden.detach().requires_grad_()
                active = ctx.activation(hidden)
            grad_active = _stretch(grad_out, weight_EA.t(), None, ctx.rows)
            (grad_hidden,) = torch.autograd.grad(active, hidden, grad_active)
            of_second.addmm_(grad_out.t(), active.detach())
            of_first.addmm_(grad_hidden.t(), x)
            of_bias += grad_hidden.sum(0)
            grad_x.copy_(_stretch(grad_hidden, weight_HD.t(), None, ctx.rows))
        grads = (of_first, of_bias, of_second, grad_NE.sum(0))
        return grad_ND, *grads, None, None, None


def _stretch(x: Tensor, weight: Tensor, bias: Tensor | None, rows: int) -> Tensor:
    """The last, shorter stretch has another length each time: not worth oneDNN's preparation."""
    return _product(x, weight, bias) if len(x) == rows else F.linear(x, weight, bias)
