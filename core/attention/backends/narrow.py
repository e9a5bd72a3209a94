"""Parts with few keys a row on CPU, as products of views: diagonals, and columns of a few tokens.

The flash kernel would gather the keys of a diagonal, and spend its blocks on padding where a row
has one key. Here the scores of a row are a handful of numbers, and the result is merged into the
rows in place.

Shape suffixes: G batch x head, R rows, K keys a row, D head size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from core.attention.axes import KeyAxis, Run, Shifts
from core.attention.backends.state import State
from core.attention.parts import Part

_STRETCH = 64  # rows


def narrow_forward(
    part: Part,
    mask: Tensor | None,
    qkv: tuple[Tensor, Tensor, Tensor],
    scale: float,
    out: Tensor,
    lse: Tensor,
) -> None:
    """Adds the part to out [G, N, D] and lse [G, N] in place: one softmax over all keys."""
    q, k, v = qkv
    out_GRD, lse_GR = _rows(part, out), _rows(part, lse[..., None])[..., 0]
    scores = _masked(part.cols, _scores(part.cols, _rows(part, q), k).mul_(scale), mask)
    peak = scores.amax(-1)
    peak = peak.masked_fill_(peak == -torch.inf, 0.0)
    weights = scores.sub_(peak[..., None]).exp_()
    level = weights.sum(-1).to(lse.dtype).log_().add_(peak)
    both = level if part.starts else torch.logaddexp(lse_GR, level)
    anchor = both.masked_fill(both == -torch.inf, 0.0)
    weights.mul_((peak - anchor).exp_().to(out.dtype)[..., None])
    if part.starts:
        out_GRD.zero_()
    else:
        out_GRD.mul_((lse_GR - anchor).exp_().to(out.dtype)[..., None])
    _add_products(part.cols, out_GRD, weights, v)
    lse_GR.copy_(both)


def narrow_backward(
    part: Part,
    mask: Tensor | None,
    state: State,
    totals: tuple[Tensor, Tensor, Tensor],
    scale: float,
) -> None:
    """Adds the gradients of the part to (dq, dk, dv), all [G, N, D]."""
    q, out, grad = (_rows(part, x) for x in (state.q, state.out, state.grad))
    lse = _rows(part, state.lse[..., None])
    dq, dk, dv = totals
    scores = _masked(part.cols, _scores(part.cols, q, state.k).mul_(scale), mask)
    weights = scores.sub_(lse).exp_()
    slopes = _scores(part.cols, grad, state.v).sub_((grad * out).sum(-1, keepdim=True))
    slopes.mul_(weights).mul_(scale)
    _add_products(part.cols, _rows(part, dq), slopes, state.k)
    _add_transposed(part.cols, dk, slopes, q)
    _add_transposed(part.cols, dv, weights, grad)


def _rows(part: Part, x_GND: Tensor) -> Tensor:
    """[G, R, D], a view."""
    assert isinstance(part.rows, Run)
    taken = part.rows.take(x_GND)
    return taken[:, :, 0] if isinstance(part.cols, Shifts) else taken[:, 0]


def _scores(cols: KeyAxis, rows_GRD: Tensor, k: Tensor) -> Tensor:
    """[G, R, K], the products of rows and keys."""
    if isinstance(cols, Shifts):
        return torch.stack(
            [(rows_GRD * cols.diagonal(k, at)).sum(-1) for at in range(cols.width)], -1
        )
    return rows_GRD @ cols.take(k)[:, 0].transpose(1, 2)


def _masked(cols: KeyAxis, scores_GRK: Tensor, mask: Tensor | None) -> Tensor:
    """With `mask` [G or 1, C, R, K] added to scores that have their scale: -inf times a scale of 0
    or below would be no mask."""
    if mask is None:
        return scores_GRK
    return scores_GRK.add_(mask[:, :, 0] if isinstance(cols, Shifts) else mask[:, 0])


def _add_products(cols: KeyAxis, into_GRD: Tensor, weights: Tensor, v: Tensor) -> None:
    """Adds the weighted keys of every row."""
    if isinstance(cols, Shifts):
        for at in range(cols.width):
            into_GRD.addcmul_(weights[..., at, None], cols.diagonal(v, at))
    else:
        into_GRD.baddbmm_(weights, cols.take(v)[:, 0])


def _add_transposed(cols: KeyAxis, into_GND: Tensor, weights: Tensor, rows: Tensor) -> None:
    """Adds the weighted rows of every key."""
    if isinstance(cols, Shifts):
        for at in range(cols.width):
            cols.diagonal(into_GND, at).addcmul_(weights[..., at, None], rows)
    else:
        cols.add(into_GND, _summed(weights, rows)[:, None])


def _summed(weights_GRK: Tensor, rows_GRD: Tensor) -> Tensor:
    """[G, K, D]: of long columns stretch by stretch, whose sums lose less than one of all."""
    whole = weights_GRK.shape[1] // _STRETCH * _STRETCH
    found = weights_GRK[:, whole:].transpose(1, 2) @ rows_GRD[:, whole:]
    if whole:
        weights, rows = (x[:, :whole].unflatten(1, (-1, _STRETCH)) for x in (weights_GRK, rows_GRD))
        found += (weights.transpose(2, 3) @ rows).sum(1)
    return found
