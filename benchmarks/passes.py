"""One attention, forward or forward and backward, of 8 heads of 64 channels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.patterns import patterns
from core.attention import Plan, attend

HEADS, SIZE = 8, 64


@dataclass(frozen=True)
class Inputs:
    """q, k, v and the gradient of the output, all [batch, HEADS, n, SIZE]."""

    q: Tensor
    k: Tensor
    v: Tensor
    grad: Tensor

    @staticmethod
    def of(n: int, dtype: torch.dtype, device: str, batch: int = 1) -> Inputs:
        generator = torch.Generator(device).manual_seed(0)
        shape = (batch, HEADS, n, SIZE)
        drawn = [torch.randn(shape, generator=generator, device=device) for _ in range(4)]
        return Inputs(*(x.to(dtype) for x in drawn))

    def runs(self, call: Callable[[Tensor, Tensor, Tensor], Tensor], train: bool) -> None:
        if not train:
            with torch.no_grad():
                call(self.q, self.k, self.v)
            return
        leaves = [x.detach().requires_grad_() for x in (self.q, self.k, self.v)]
        call(*leaves).backward(self.grad)


def attends(plan: Plan) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    return lambda q, k, v: attend(q, k, v, plan)


def run_once(name: str, n: int, dtype: torch.dtype, train: bool) -> Callable[[], object]:
    """A pass of one pattern on CPU, its inputs and plan made."""
    plan, given = patterns(n)[name].plan(range(n), range(n)), Inputs.of(n, dtype, "cpu")
    call = attends(plan)
    return lambda: given.runs(call, train)
