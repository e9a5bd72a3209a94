"""Functions with a backward pass of their own, which has no derivative itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from core.errors import ConfigError

Grads = tuple[Tensor | None, ...]
Backward = Callable[..., Grads]


def first_order(name: str, instead: str) -> Callable[[Backward], Backward]:
    """Decorates the backward pass of a `torch.autograd.Function`: who differentiates what it gives
    gets a ConfigError that says `name` and what to do `instead`.

    torch's `once_differentiable` says so only where the gradient that comes in depends on
    something; that of a loss which is linear in the output doesn't, and terms would be missing
    without a word.
    """

    def decorate(backward: Backward) -> Backward:
        @wraps(backward)
        def once(ctx: Any, *grads: Tensor) -> Grads:
            with torch.no_grad():
                found = backward(ctx, *grads)
            if not torch.is_grad_enabled():  # as in training: no graph of gradients is made
                return found
            anchor = torch.zeros((), requires_grad=True)  # so that what comes out has a graph
            return _Refused.apply((name, instead), anchor, *found)  # pyright: ignore

        return once

    return decorate


class _Refused(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, text: tuple[str, str], anchor: Tensor, *grads: Tensor | None) -> Grads:
        ctx.text = text
        return grads

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Grads:
        name, instead = ctx.text
        raise ConfigError(
            f"{name}: got a derivative of its gradient (create_graph=True), expected first "
            f"derivatives, the only ones that its backward pass has; {instead}"
        )
