"""One part of a plan on CPU: torch's flash kernel for blocks, vector operations for diagonals.

Shape suffixes: G batch x head, N rows, C blocks, R rows a block, K keys a block, D head size.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from core.attention.axes import Run, Shifts
from core.attention.parts import Part

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward.default


class State(NamedTuple):
    """What a backward starts from, all [G, N, D] but the merged lse [G, N]."""

    q: Tensor
    k: Tensor
    v: Tensor
    out: Tensor
    lse: Tensor
    grad: Tensor


def part_forward(
    part: Part, mask: Tensor | None, q: Tensor, k: Tensor, v: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """out [G, C, R, D] and lse [G, C, R] of the pairs of one part; rows without any: undefined."""
    rows, cols = part.rows, part.cols
    if isinstance(cols, Shifts):
        assert isinstance(rows, Run) and rows.width == 1
        return _diagonals_forward(cols, mask, rows.take(q)[:, :, 0], k, v, scale)
    q_GCRD, k_GCKD = rows.take(q), cols.take(k)
    mask = _spread(mask, q_GCRD, k_GCKD)
    return _flash(q_GCRD, k_GCKD, cols.take(v), attn_mask=mask, scale=scale)


def part_backward(
    part: Part,
    mask: Tensor | None,
    state: State,
    totals: tuple[Tensor, Tensor, Tensor],
    scale: float,
) -> None:
    """Adds the gradients of one part to (dq, dk, dv), all [G, N, D]."""
    rows, cols = part.rows, part.cols
    if isinstance(cols, Shifts):
        assert isinstance(rows, Run) and rows.width == 1
        _diagonals_backward(rows, cols, mask, state, totals, scale)
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


def _diagonals_forward(
    cols: Shifts, mask: Tensor | None, q_GCD: Tensor, k: Tensor, v: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """A key a distance: products of shifted views, where gathered keys would be copied."""
    scores = _scores(cols, mask, q_GCD, k, scale)
    lse = scores.logsumexp(-1)
    weights = (scores - lse.masked_fill(lse == -torch.inf, 0.0)[..., None]).exp()
    out = torch.zeros_like(q_GCD)
    for at in range(cols.width):
        out.addcmul_(weights[..., at, None], cols.diagonal(v, at))
    return out[:, :, None], lse[..., None]


def _diagonals_backward(
    rows: Run,
    cols: Shifts,
    mask: Tensor | None,
    state: State,
    totals: tuple[Tensor, Tensor, Tensor],
    scale: float,
) -> None:
    q, out, grad, lse = (
        rows.take(x)[:, :, 0] for x in (state.q, state.out, state.grad, state.lse[..., None])
    )
    dq, dk, dv = totals
    weights = (_scores(cols, mask, q, state.k, scale) - lse).exp()
    mean = (grad * out).sum(-1)
    dq_rows = rows.take(dq)[:, :, 0]
    for at in range(cols.width):
        weight = weights[..., at]
        slope = (grad * cols.diagonal(state.v, at)).sum(-1)
        slope = (weight * (slope - mean) * scale)[..., None]
        cols.diagonal(dv, at).addcmul_(weight[..., None], grad)
        dq_rows.addcmul_(slope, cols.diagonal(state.k, at))
        cols.diagonal(dk, at).addcmul_(slope, q)


def _scores(cols: Shifts, mask: Tensor | None, q_GCD: Tensor, k: Tensor, scale: float) -> Tensor:
    """[G, C, K]."""
    products = [(q_GCD * cols.diagonal(k, at)).sum(-1) for at in range(cols.width)]
    scores = torch.stack(products, -1).mul_(scale)
    return scores if mask is None else scores.add_(mask[:, :, 0])


def _spread(mask: Tensor | None, q_GCRD: Tensor, k_GCKD: Tensor) -> Tensor | None:
    return None if mask is None else mask.expand(*q_GCRD.shape[:3], k_GCKD.shape[2])
