"""Block-sparse attention on CPU, forward and backward.

Parts of many rows whose keys lie in stretches are worked out by the project's own kernels
(`tiled`) in float32, in heads filled up to a multiple of 16 channels. Everything else, and all of
it in float64 and where `torch.export` is looking, is a call of torch's flash kernel (`kernels`) on
[G, blocks, rows, D] against [G, blocks, keys, D]: a sliding window and a residue class are read as
views without a copy, random blocks are gathered, global tokens are small rectangles, log-sparse
distances are diagonals. Parts and sources are merged by log-sum-exp. The backward calls each part's
kernel with the merged output and the merged log-sum-exp, which is exact (Dao 2023,
arXiv:2307.08691, section 3.1) and needs no gradient through the log-sum-exp itself.

Memory is O(n): gathered keys live for one piece of a part at a time, masks for a few.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.amp import custom_bwd, custom_fwd

from core.attention.axes import Run
from core.attention.backends.chosen import chosen_pieces
from core.attention.backends.kernels import part_backward, part_forward
from core.attention.backends.narrow import narrow_backward, narrow_forward
from core.attention.backends.pieces import Piece, Size, pieces_of
from core.attention.backends.source import Source, compute_dtype, for_each_head
from core.attention.backends.state import State
from core.attention.backends.tiled import tiled_backward, tiled_forward
from core.attention.learned import Choice
from core.attention.plan import BLOCK, Plan
from core.attention.static import known
from core.first_order import first_order
from core.fused.lanes import WIDE

# measured by benchmarks/attention.py: with torch's kernel the forward has the least waste in low
# blocks, the backward spends more on summing overlapping keys, which high blocks have fewer of
FORWARD_ROWS, BACKWARD_ROWS = 32, 192
FORWARD, BACKWARD = Size(1 << 20, copied=False), Size(3 << 18, copied=True)
TILED_ROWS = BLOCK  # 32 to 256 are as fast
LEVEL = torch.float64  # of log-sum-exps: rounded ones would weigh parts a little too much or little
WAITING = 1 << 22  # numbers in the masks of pieces that one call works out


def cpu(q: Tensor, sources: Sequence[Source], scale: float) -> tuple[Tensor, Tensor]:
    """One softmax over all sources. Returns out_BHND in q's dtype and lse_BHN without gradient."""
    if torch.is_autocast_enabled("cpu"):  # half precision is computed in float32
        with torch.autocast("cpu", enabled=False):
            return cpu(q, sources, scale)
    plans = tuple(source.plan for source in sources)
    bounds = tuple(source.bounds for source in sources)
    choices = tuple(source.choices for source in sources)
    pairs = [tensor for source in sources for tensor in (source.k, source.v)]
    return _BlockSparse.apply(plans, bounds, choices, scale, q, *pairs)  # pyright: ignore


class _BlockSparse(torch.autograd.Function):
    @staticmethod
    @custom_fwd(device_type="cpu")
    def forward(  # pyright: ignore
        ctx: Any,
        plans: tuple[Plan, ...],
        bounds: tuple[Tensor | None, ...],
        choices: tuple[tuple[Choice, ...], ...],
        scale: float,
        q: Tensor,
        *kv: Tensor,
    ) -> tuple[Tensor, Tensor]:
        fill = filling(q.dtype, q.shape[-1])
        q_GND, *kv_GND = (_flat(tensor, q.shape[1], fill) for tensor in (q, *kv))
        out, lse = None, None
        given = zip(plans, bounds, choices, kv_GND[::2], kv_GND[1::2], strict=True)
        for plan, bound, choice, k, v in given:
            plan, size = sized(plan, q_GND, backward=False)
            pieces = _pieces(plan, bound, choice, q.shape[1], k, size)
            covered = plan.covered and bound is None
            found, level = _forward(_together(pieces, size), q_GND, k, v, scale, covered)
            if out is None or lse is None:
                out, lse = found, level
            else:
                merge(out, lse, found, level)
        assert out is not None and lse is not None
        ctx.given, ctx.scale = (plans, bounds, choices), scale
        out_BHND = out[..., : q.shape[-1]].contiguous().to(q.dtype).view(q.shape)
        ctx.save_for_backward(q, out_BHND, lse, *kv)
        lse_BHN = lse.to(out.dtype, copy=True).view(q.shape[:3])
        ctx.mark_non_differentiable(lse_BHN)
        return out_BHND, lse_BHN

    @staticmethod
    @first_order("attention on CPU", "ask for attend(..., backend='reference')")
    @custom_bwd(device_type="cpu")  # without autocast, as the forward
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Any, ...]:  # pyright: ignore
        q, out, lse, *kv = ctx.saved_tensors
        fill = filling(q.dtype, q.shape[-1])
        flat = (_flat(tensor, q.shape[1], fill) for tensor in (q, out, grad, *kv))
        q_GND, out_GND, grad_GND, *kv_GND = flat
        lse, grad_GND = _rounded(lse, grad_GND)
        dq = torch.zeros_like(q_GND)
        dkv = [torch.zeros_like(tensor) for tensor in kv_GND]
        for at, (plan, bound, choice) in enumerate(zip(*ctx.given, strict=True)):
            state = State(q_GND, kv_GND[2 * at], kv_GND[2 * at + 1], out_GND, lse, grad_GND)
            plan, size = sized(plan, q_GND, backward=True)
            pieces = _pieces(plan, bound, choice, q.shape[1], state.k, size)
            dk, dv = dkv[2 * at], dkv[2 * at + 1]
            totals = (dq, dk, dv)
            _backward(_together(pieces, size), state, plan.whole_rows, totals, ctx.scale)
        shaped = [_summed(d, x) for d, x in zip((dq, *dkv), (q, *kv), strict=True)]
        return (None, None, None, None, *shaped)


def sized(plan: Plan, q_GND: Tensor, backward: bool) -> tuple[Plan, Size]:
    """The plan in the blocks that suit its kernels, and how much a piece of it holds."""
    tiled = serves(q_GND.dtype)
    size = replace(BACKWARD if backward else FORWARD, tiled=tiled)
    return plan.at(rows_of(tiled, backward)), size


def rows_of(tiled: bool, backward: bool) -> int:
    """Rows of a block, where a plan leaves them to its backend."""
    if tiled:
        return TILED_ROWS
    return BACKWARD_ROWS if backward else FORWARD_ROWS


def serves(dtype: torch.dtype) -> bool:
    """Whether the kernels of `tiled` are for such inputs; `torch.export` cannot see into them."""
    return compute_dtype(dtype) == torch.float32 and not torch.compiler.is_compiling()


def filling(dtype: torch.dtype, channels: int) -> int:
    """Channels of zeros that a head is filled up with for the kernels of `tiled`."""
    return -channels % WIDE if serves(dtype) else 0


def _together(pieces: Iterator[Piece], size: Size) -> Iterator[list[Piece] | Piece]:
    """Neighbours that `tiled` works out in one call as lists, the others one by one."""
    waiting: list[Piece] = []
    numbers = 0
    for piece in pieces:
        tiled = size.tiles(piece.part)
        if waiting and (not tiled or numbers > WAITING):
            yield waiting
            waiting, numbers = [], 0
        if not tiled:
            yield piece
            continue
        waiting.append(piece)
        numbers += 0 if piece.mask is None else piece.mask.numel()
    if waiting:
        yield waiting


def _pieces(
    plan: Plan,
    bounds: Tensor | None,
    choices: tuple[Choice, ...],
    heads: int,
    k_GND: Tensor,
    size: Size,
) -> Iterator[Piece]:
    """What lengths decide, then what the data chose; nothing where there is no sequence."""
    if not known(k_GND.shape[0], heads):
        return
    yield from pieces_of(plan, bounds, heads, k_GND, size)
    yield from chosen_pieces(plan, bounds, choices, k_GND, size)


def _forward(
    pieces: Iterator[list[Piece] | Piece],
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: float,
    covered: bool,
) -> tuple[Tensor, Tensor]:
    """out [G, N, D] and lse [G, N] of one source; `covered` says that pieces start all rows."""
    out = torch.empty_like(q) if covered else torch.zeros_like(q)
    lse = torch.empty(q.shape[:2], dtype=LEVEL, device=q.device)
    lse = lse if covered else lse.fill_(-torch.inf)
    for piece in pieces:
        if isinstance(piece, list):
            tiled_forward(piece, (q, k, v), out, lse, scale)
            continue
        part, groups = piece.part, piece.groups
        qkv = (q[groups], k[groups], v[groups])
        if part.narrow:
            narrow_forward(part, piece.mask, qkv, scale, out[groups], lse[groups])
            continue
        found, level = part_forward(part, piece.mask, *qkv, scale)
        level = level.to(LEVEL)
        if piece.empty is not None:  # the kernel gives such rows lse 0
            found = found.masked_fill(piece.empty[..., None], 0.0)
            level = level.masked_fill(piece.empty, -torch.inf)
        if part.starts or part.name == "rows":
            part.rows.put(out[groups], found)
            part.rows.put(lse[groups][..., None], level[..., None])
        else:
            before, level_before = (part.rows.take(x[groups]) for x in (out, lse[..., None]))
            merge(before, level_before[..., 0], found, level)
            if not isinstance(part.rows, Run):  # a copy, where a run is a view
                part.rows.put(out[groups], before)
                part.rows.put(lse[groups][..., None], level_before)
    return out, lse


def merge(out: Tensor, lse: Tensor, found: Tensor, level: Tensor) -> None:
    """Adds (found, level) to (out, lse) in place: one softmax over both sets of keys."""
    both = torch.logaddexp(lse, level)
    anchor = both.masked_fill(both == -torch.inf, 0.0)
    out.mul_((lse - anchor).exp().to(out.dtype)[..., None])
    out.addcmul_(found, (level - anchor).exp().to(out.dtype)[..., None])
    lse.copy_(both)


def _backward(
    pieces: Iterator[list[Piece] | Piece],
    state: State,
    whole_rows: Tensor,
    grads: tuple[Tensor, Tensor, Tensor],
    scale: float,
) -> None:
    """Adds the gradients of one source's parts to dq, dk and dv."""
    # what other parts computed at whole rows was replaced: with lse inf their weights are 0
    elsewhere = state.lse.index_fill(1, whole_rows, torch.inf) if len(whole_rows) else state.lse
    for piece in pieces:
        if isinstance(piece, list):
            for replaced, some in groupby(piece, lambda one: one.part.name != "chosen"):
                given = state._replace(lse=elsewhere) if replaced else state
                tiled_backward(list(some), given, grads, scale)
            continue
        part, groups = piece.part, piece.groups
        given = state if part.name in ("rows", "chosen") else state._replace(lse=elsewhere)
        given = State(*(x[groups] for x in given))
        backward = narrow_backward if part.narrow else part_backward
        dq, dk, dv = (x[groups] for x in grads)
        backward(part, piece.mask, given, (dq, dk, dv), scale)


def _rounded(lse: Tensor, grad_GND: Tensor) -> tuple[Tensor, Tensor]:
    """The log-sum-exp in the dtype of the kernels, and what the slopes of `out` are for it: weights
    exp(score - lse) are off by one factor in a row then, and gradients are products of both."""
    # a row without keys: weights exp(score - inf) are 0
    lse = lse.masked_fill(lse == -torch.inf, torch.inf)
    near = lse.to(grad_GND.dtype)
    if near.dtype == lse.dtype:
        return lse, grad_GND
    factor = (near - lse).nan_to_num_(nan=0.0).exp_().to(grad_GND.dtype)
    return near, grad_GND * factor[..., None]


def _flat(x_BHND: Tensor, heads: int, fill: int) -> Tensor:
    """[B * heads, N, D + fill] in the dtype of the computation, heads apart in memory."""
    each = for_each_head(x_BHND.detach().to(compute_dtype(x_BHND.dtype)), heads)
    if fill:
        each = F.pad(each, (0, fill))
    if torch.compiler.is_compiling():
        # Blocks are views from the memory's first number on. A trace keeps that number: where
        # nothing needs a copy in another call, such as for a single sequence, it may be another.
        return each.clone(memory_format=torch.contiguous_format).flatten(0, 1)
    return each.contiguous().flatten(0, 1)


def _summed(grad_GND: Tensor, x_BHND: Tensor) -> Tensor:
    """The gradient of x, which `_flat` may have filled up, and copied for several heads."""
    batch, heads = x_BHND.shape[:2]
    grad = grad_GND[..., : x_BHND.shape[-1]]
    if len(grad) != batch * heads:
        grad = grad.unflatten(0, (batch, heads, -1)).sum(2)
    return grad.reshape(x_BHND.shape).to(x_BHND.dtype)
