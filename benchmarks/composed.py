"""Kernels that the CPU backend doesn't run everywhere, for `benchmarks.kernels` to compare with.

One head at a time, as a batch of matrix products reads overlapping views of one head in place.

Shape suffixes: G batch x head, N rows, C blocks, R rows a block, K keys a block, D head size.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from core.attention.axes import KeyBlocks, Shifts
from core.attention.backends import kernels
from core.attention.backends.state import State
from core.attention.parts import Part

_LOG2E = math.log2(math.e)


def composed_forward(
    part: Part, mask: Tensor | None, q: Tensor, k: Tensor, v: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """As `kernels.part_forward`: products in the dtype of q, softmax and lse in float32."""
    assert not isinstance(part.cols, Shifts)
    shape = (len(q), part.count, part.rows.width)
    out, lse = q.new_empty(*shape, q.shape[2]), torch.empty(shape)
    for head in range(len(q)):
        q_CRD, k_CKD, v_CKD = (
            axis.take(x[head, None])[0]
            for axis, x in ((part.rows, q), (part.cols, k), (part.cols, v))
        )
        scores = _scores(mask, head, q_CRD, k_CKD, scale)
        top = scores.amax(-1, keepdim=True)
        weights = scores.sub_(top).exp2_()
        total = weights.sum(-1, keepdim=True)
        out[head] = torch.bmm(weights.to(q.dtype), v_CKD).div_(total)
        lse[head] = top.add_(total.log2_()).div_(_LOG2E)[..., 0]
    return out, lse


def composed_backward(
    part: Part,
    mask: Tensor | None,
    state: State,
    totals: tuple[Tensor, Tensor, Tensor],
    scale: float,
) -> None:
    """As `kernels.part_backward`, from the log-sum-exp; the sums of gradients are float32."""
    rows, cols, dtype = part.rows, part.cols, state.q.dtype
    assert not isinstance(cols, Shifts)
    for head in range(len(state.q)):
        one = State(*(x[head, None] for x in state))
        q, out, grad, lse = (
            rows.take(x)[0] for x in (one.q, one.out, one.grad, one.lse[..., None])
        )
        k, v = (cols.take(x)[0] for x in (one.k, one.v))
        weights = _scores(mask, head, q, k, scale).sub_(lse, alpha=_LOG2E).exp2_()
        mean = (grad.float() * out).sum(-1, keepdim=True)
        slopes = torch.bmm(grad, v.mT).float().sub_(mean).mul_(weights).mul_(scale)
        weights, slopes = weights.to(dtype), slopes.to(dtype)
        found = torch.bmm(slopes, k), torch.bmm(slopes.mT, q), torch.bmm(weights.mT, grad)
        for axis, total, part_grad in zip((rows, cols, cols), totals, found, strict=True):
            axis.add(total[head, None], part_grad[None].to(total.dtype))


def flash_backward(
    part: Part,
    mask: Tensor | None,
    state: State,
    totals: tuple[Tensor, Tensor, Tensor],
    scale: float,
) -> None:
    """`kernels.part_backward`, by the flash kernel also where keys are gathered."""
    rows, cols = part.rows, part.cols
    if not isinstance(cols, KeyBlocks):
        kernels.part_backward(part, mask, state, totals, scale)
        return
    taken = (rows.take(state.grad), rows.take(state.q), cols.take(state.k), cols.take(state.v))
    out, lse = rows.take(state.out), rows.take(state.lse[..., None])[..., 0]
    found = kernels._flash_backward(*taken, out, lse, 0.0, False, attn_mask=mask, scale=scale)
    for axis, total, part_grad in zip((rows, cols, cols), totals, found, strict=True):
        axis.add(total, part_grad.to(total.dtype))


def _scores(mask: Tensor | None, head: int, q_CRD: Tensor, k_CKD: Tensor, scale: float) -> Tensor:
    """float32 [C, R, K], times log2(e): exp is several times slower than exp2 on -inf."""
    factor = scale * _LOG2E
    if mask is None:
        shape = (*q_CRD.shape[:2], k_CKD.shape[1])
        start = q_CRD.new_empty(1).expand(shape)
        return torch.baddbmm(start, q_CRD, k_CKD.mT, beta=0, alpha=factor).float()
    own = mask[head if len(mask) > 1 else 0]
    return torch.baddbmm(own, q_CRD, k_CKD.mT, alpha=factor).float()
