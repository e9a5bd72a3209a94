"""A few keys that all queries see, and a few queries that see all keys, as plain products.

As blocks they would be the longest walks of a grid: a key block that every row lists is one thread
block's work in the backward pass, however long the sequence.

Shape suffixes: B batch, H heads of queries, K heads of keys, N queries, M keys, D head size.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from core.attention.backends.source import compute_dtype
from core.attention.static import lasting
from core.attention.tiles.rules import Rule, Scope

FEW = 64  # global tokens above which they are blocks of a grid
PAIRS = 1 << 25  # pairs of a head that are held at once


@dataclass(frozen=True, eq=False)
class Few:
    """Pairs of local queries [N] and local keys [M], each of either once; None stands for all of
    `queries` or of `keys` there are."""

    rows: Tensor | None
    cols: Tensor | None
    queries: int
    keys: int
    rule: Rule
    scope: Scope

    def attention(
        self, q: Tensor, k: Tensor, v: Tensor, bounds: Tensor | None, scale: float
    ) -> tuple[Tensor, Tensor]:
        """out [B, H, N, D] and lse [B, H, N] of q [B, H, queries, D] and k, v [B, K, keys, D]."""
        q = q if self.rows is None else q.index_select(2, self.rows)
        if self.cols is not None:
            k, v = (x.index_select(2, self.cols) for x in (k, v))
        return products(q, k, v, self._unbounded if bounds is None else self._mask(bounds), scale)

    @cached_property
    @lasting()
    def _unbounded(self) -> Tensor | None:
        mask = self._mask(None)
        return None if bool(mask.all()) else mask

    def size(self) -> int:
        """Bytes of its mask."""
        rows = self.queries if self.rows is None else len(self.rows)
        return rows * (self.keys if self.cols is None else len(self.cols))

    def _mask(self, bounds_BN2: Tensor | None) -> Tensor:
        """bool [B or 1, N, M]."""
        every = torch.arange(max(self.queries, self.keys), device=self.scope.device)
        row = every[: self.queries] if self.rows is None else self.rows
        col = every[: self.keys] if self.cols is None else self.cols
        i, j = (row + self.scope.q.start)[:, None], (col + self.scope.kv.start)[None]
        mask = self.rule(i, j, row[:, None], col[None]).expand(len(row), len(col))[None]
        if bounds_BN2 is None:
            return mask
        low, high = bounds_BN2[:, row, :, None].unbind(2)
        return mask & (col >= low) & (col < high)


def products(
    q_BHND: Tensor, k_BKMD: Tensor, v_BKMD: Tensor, mask_BNM: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    """out [B, H, N, D] and lse [B, H, N], at least float32; rows without a key are 0 and -inf."""
    heads, queries = k_BKMD.shape[1], q_BHND.shape[2]
    each = q_BHND.shape[1] // heads
    by_head = q_BHND.unflatten(1, (heads, each)).flatten(2, 3)
    scores = (by_head @ k_BKMD.mT).to(compute_dtype(q_BHND.dtype)).unflatten(
        2, (each, queries)
    ) * scale
    if mask_BNM is not None:
        scores = scores.masked_fill(~mask_BNM[:, None, None], -torch.inf)
    peak = scores.detach().amax(-1, keepdim=True)
    weights = (scores - peak.masked_fill(peak == -torch.inf, 0.0)).exp()
    total = weights.sum(-1)
    empty = total == 0
    total = total.masked_fill(empty, 1.0)  # no gradient of a logarithm of nothing
    out = (weights.flatten(2, 3).to(v_BKMD.dtype) @ v_BKMD).unflatten(2, (each, queries))
    out = (out / total[..., None]).to(q_BHND.dtype)
    lse = (peak[..., 0] + total.log()).masked_fill(empty, -torch.inf)
    return out.flatten(1, 2), lse.flatten(1, 2)


def padded(found: tuple[Tensor, Tensor], rows: int) -> tuple[Tensor, Tensor]:
    """Rows of padding that found nothing behind the others."""
    out, lse = found
    room = rows - out.shape[2]
    if not room:
        return found
    return F.pad(out, (0, 0, 0, room)), F.pad(lse, (0, room), value=-torch.inf)
