"""What bounds leave of blocks, found on the device without waiting for it.

Shape suffixes: B batch, F frames, N queries, Q rows, K columns, R blocks of rows, S blocks of
columns, C places of a list.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from core.attention.tiles.tiles import BLOCK


@dataclass(frozen=True)
class Reach:
    """The keys of blocks of rows [B, F, R]: some row sees [low, high), every row [late, early)."""

    low: Tensor
    high: Tensor
    late: Tensor
    early: Tensor

    @staticmethod
    def of(bounds_BN2: Tensor, row_FQ: Tensor) -> Reach:
        rows = row_FQ.long()
        low, high = (x[:, rows].unflatten(-1, (-1, BLOCK)) for x in bounds_BN2.unbind(-1))
        none = low >= high
        some = low.masked_fill(none, torch.iinfo(low.dtype).max), high.masked_fill(none, 0)
        return Reach(some[0].amin(-1), some[1].amax(-1), low.amax(-1), high.amin(-1))

    def map(self, change: Callable[[Tensor], Tensor]) -> Reach:
        return Reach(*map(change, (self.low, self.high, self.late, self.early)))

    def meets(self, first: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
        """Whether keys first .. last hold one that some row sees, and only such as all see."""
        some = (last >= self.low) & (first < self.high)
        return some, (first >= self.late) & (last < self.early)


def ends(col_FK: Tensor) -> tuple[Tensor, Tensor]:
    """First and last key of blocks of columns, [1, F, S]; first > last for none."""
    cols = col_FK.unflatten(-1, (-1, BLOCK))
    first = cols.where(cols >= 0, torch.iinfo(cols.dtype).max).amin(-1)
    return first[None], cols.amax(-1)[None]


def along(values: Tensor, index: Tensor) -> Tensor:
    """values [B, F, X] at index [1, 1 or F, Y, C]: [B, F, Y, C]."""
    flat = index.flatten(2).expand(*values.shape[:2], -1)
    return values.gather(2, flat).unflatten(2, index.shape[2:])
