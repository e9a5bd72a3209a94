"""One part of a plan on CPU: torch's flash kernel over blocks.

Shape suffixes: G batch x head, N rows, C blocks, R rows a block, K keys a block, D head size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from core.attention.backends.state import State
from core.attention.parts import Part

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward.default


def part_forward(
    part: Part, mask: Tensor | None, q: Tensor, k: Tensor, v: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """out [G, C, R, D] and lse [G, C, R] of the pairs of one part; rows without any: undefined."""
    rows, cols = part.rows, part.cols
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


def _spread(mask: Tensor | None, q_GCRD: Tensor, k_GCKD: Tensor) -> Tensor | None:
    return None if mask is None else mask.expand(*q_GCRD.shape[:3], k_GCKD.shape[2])
