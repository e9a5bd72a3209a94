"""How the tensors of a call become those of a grid, and its findings go back.

All are views, copies and paddings that autograd reverses. Lengths are those of a bucket, so that
one compiled kernel serves every length in it.

Shape suffixes: B batch, H heads, N queries or keys, D head size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from core.attention.tiles.tiles import BLOCK


def bucket(n: int) -> int:
    """The length that n is padded to: a multiple of the block, above 2,048 of an eighth octave.

    Blocks of padding are in no list: they cost memory, an eighth at most, and no arithmetic.
    """
    step = BLOCK
    while n > 16 * step:
        step *= 2
    return max(BLOCK, -(-n // step) * step)


class View(Protocol):
    def queries(self, q_BHND: Tensor) -> Tensor:
        """[B * frames, H, rows, D]; frame f of sequence b is number b * frames + f."""
        ...

    def keys(self, k_BHND: Tensor) -> Tensor:
        """The same with columns for rows."""
        ...


@dataclass(frozen=True, eq=False)
class InOrder:
    """Index order; copies of some keys follow the others, `places` for them."""

    rows: int
    cols: int
    copied: Tensor
    places: int

    def queries(self, q_BHND: Tensor) -> Tensor:
        return _padded(q_BHND, self.rows)

    def keys(self, k_BHND: Tensor) -> Tensor:
        own = _padded(k_BHND, self.cols)
        if not self.places:
            return own
        return torch.cat((own, _padded(k_BHND.index_select(2, self.copied), self.places)), 2)

    def back(self, found: Tensor) -> Tensor:
        """[B, H, N, ...] with the N of a bucket."""
        return found


@dataclass(frozen=True)
class Classes:
    """A frame a residue class modulo `step`; rows of padding `ahead` line up the classes."""

    step: int
    ahead: tuple[int, int]
    rows: int
    cols: int
    queries_back: int

    def queries(self, q_BHND: Tensor) -> Tensor:
        return self._apart(q_BHND, self.ahead[0], self.rows)

    def keys(self, k_BHND: Tensor) -> Tensor:
        return self._apart(k_BHND, self.ahead[1], self.cols)

    def back(self, found: Tensor) -> Tensor:
        by_class = found.unflatten(0, (-1, self.step)).movedim(1, 3)
        return by_class.flatten(2, 3).narrow(2, self.ahead[0], self.queries_back)

    def _apart(self, x: Tensor, ahead: int, rows: int) -> Tensor:
        room = rows * self.step - ahead - x.shape[2]
        long = F.pad(x, (0, 0, ahead, room)) if ahead or room else x
        return long.unflatten(2, (rows, self.step)).movedim(3, 1).flatten(0, 1).contiguous()


@dataclass(frozen=True, eq=False)
class Chosen:
    """Some queries against all keys, a stretch of keys a frame: few rows would leave a GPU idle."""

    chosen: Tensor
    rows: int
    cols: int
    stretches: int

    def queries(self, q_BHND: Tensor) -> Tensor:
        some = _padded(q_BHND.index_select(2, self.chosen), self.rows)
        return some.repeat_interleave(self.stretches, 0)

    def keys(self, k_BHND: Tensor) -> Tensor:
        long = _padded(k_BHND, self.cols * self.stretches)
        apart = long.unflatten(2, (self.stretches, self.cols)).movedim(2, 1)
        return apart.flatten(0, 1).contiguous()

    def back(self, found: Tensor) -> Tensor:
        """[stretches, B, H, rows, ...]: what each stretch of keys found."""
        return found.unflatten(0, (-1, self.stretches)).movedim(1, 0)


def _padded(x: Tensor, rows: int) -> Tensor:
    return x if x.shape[2] == rows else F.pad(x, (0, 0, 0, rows - x.shape[2]))
