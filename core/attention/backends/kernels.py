"""One part of a plan on CPU: torch's flash kernel over blocks.

Shape suffixes: G batch x head, N rows, C blocks, R rows a block, K keys a block, D head size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from core.attention.axes import KeyAxis, KeyBlocks, RowAxis, Shifts
from core.attention.backends.scratch import scratch
from core.attention.backends.state import State
from core.attention.parts import Part

_LOG2E = 1.4426950408889634
_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward.default


def part_forward(
    part: Part, mask: Tensor | None, q: Tensor, k: Tensor, v: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """out [G, C, R, D] and lse [G, C, R] of the pairs of one part; rows without any: undefined."""
    q_GCRD = part.rows.take(q)
    k_GCKD, v_GCKD = _keys(part.cols, k, "k"), _keys(part.cols, v, "v")
    mask = _spread(mask, q_GCRD, k_GCKD)
    return _flash(q_GCRD, k_GCKD, v_GCKD, attn_mask=mask, scale=scale)


def part_backward(
    part: Part,
    mask: Tensor | None,
    state: State,
    totals: tuple[Tensor, Tensor, Tensor],
    scale: float,
) -> None:
    """Adds the gradients of one part to (dq, dk, dv), all [G, N, D]."""
    rows, cols = part.rows, part.cols
    assert not isinstance(cols, Shifts)
    if isinstance(cols, KeyBlocks):
        _slab_backward(rows, cols, mask, state, totals, scale)
        return
    q_GCRD, k_GCKD = rows.take(state.q), cols.take(state.k)
    found = _flash_backward(
        rows.take(state.grad),
        q_GCRD,
        k_GCKD,
        cols.take(state.v),
        rows.take(state.out),
        rows.take(state.lse[..., None])[..., 0],
        0.0,
        False,
        attn_mask=_spread(mask, q_GCRD, k_GCKD),
        scale=scale,
    )
    for axis, total, part_grad in zip((rows, cols, cols), totals, found, strict=True):
        axis.add(total, part_grad)


def _slab_backward(
    rows: RowAxis,
    cols: KeyBlocks,
    mask: Tensor | None,
    state: State,
    totals: tuple[Tensor, Tensor, Tensor],
    scale: float,
) -> None:
    """By matrix products: the kernel is slow on few rows, and its gradients would be copied."""
    shape = (len(state.q), cols.count)
    q, out, grad, lse = (
        rows.take(x).flatten(0, 1) for x in (state.q, state.out, state.grad, state.lse[..., None])
    )
    k, v = (_keys(cols, x, name).flatten(0, 1) for x, name in ((state.k, "k"), (state.v, "v")))
    weights, slopes = (
        scratch(name, (*q.shape[:2], k.shape[1]), q.dtype) for name in ("weights", "slopes")
    )
    torch.bmm(q, k.mT, out=weights)
    # the level goes first: scaled ones are larger, and their sum would lose what tells scores apart
    torch.add(lse.neg(), weights, alpha=scale, out=weights)
    if mask is not None:
        weights.unflatten(0, shape).add_(mask)
    weights.mul_(_LOG2E).exp2_()  # exp is several times slower on -inf
    mean = (grad * out).sum(-1, keepdim=True).neg_()
    torch.baddbmm(mean, grad, v.mT, out=slopes).mul_(weights)
    dq, dk, dv = totals
    rows.add(dq, torch.bmm(slopes, k).mul_(scale).unflatten(0, shape))
    for total, by_row, of_row in ((dk, slopes.mul_(scale), q), (dv, weights, grad)):
        found = torch.bmm(by_row.mT, of_row, out=scratch("keys", k.shape, k.dtype))
        cols.add(total, found.unflatten(0, shape))


def _keys(cols: KeyAxis, x_GND: Tensor, name: str) -> Tensor:
    """[G, C, K, D]; what is copied lies in scratch memory."""
    assert not isinstance(cols, Shifts)
    if not isinstance(cols, KeyBlocks):
        return cols.take(x_GND)
    shape = (x_GND.shape[0], cols.count, cols.width, x_GND.shape[2])
    return cols.take(x_GND, out=scratch(name, shape, x_GND.dtype))


def _spread(mask: Tensor | None, q_GCRD: Tensor, k_GCKD: Tensor) -> Tensor | None:
    return None if mask is None else mask.expand(*q_GCRD.shape[:3], k_GCKD.shape[2])
