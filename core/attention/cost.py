"""What a plan costs, counted before it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from core.attention.axes import KeyBlocks, Pick, Slots
from core.attention.parts import Part

_FORWARD, _BACKWARD = 2, 5  # products of a block: q k^T, p v; and again q k^T, dp, dq, dk, dv


@dataclass(frozen=True)
class Cost:
    """Arithmetic and memory traffic of one attention, all heads and sequences together.

    Attributes:
        pairs: pairs that are computed, masked ones included.
        forward_flops, backward_flops: of the matrix products, 2 a multiply-add. A dense plan has
            4 n^2 D and 10 n^2 D a head.
        forward_bytes: q, k, v and out read and written part by part, gathered copies and masks
            included. A cache makes it less: it is what would pass with none.
        forward_seconds, backward_seconds: predicted for a device, None where none was named.
    """

    pairs: int
    forward_flops: int
    backward_flops: int
    forward_bytes: int
    forward_seconds: float | None = None
    backward_seconds: float | None = None


def count(parts: Sequence[Part], size: int, heads: int, batch: int, dtype: torch.dtype) -> Cost:
    """See `Plan.cost`."""
    groups = batch * heads
    # half precision is computed in float32
    width = 8 if dtype == torch.float64 else 4
    pairs = groups * sum(part.area() for part in parts)
    moved = groups * size * width * sum(_rows_moved(part) for part in parts)
    masks = width * sum(_mask_pairs(part) for part in parts)
    return Cost(pairs, 2 * _FORWARD * pairs * size, 2 * _BACKWARD * pairs * size, moved + masks)


def _rows_moved(part: Part) -> int:
    """Rows of D numbers: q and out, k and v; what is gathered is read, written and read."""
    queries, keys = part.rows.count * part.rows.width, part.cols.count * part.cols.width
    gathered = [
        3 if isinstance(axis, KeyBlocks | Pick | Slots) else 1 for axis in (part.rows, part.cols)
    ]
    # a part that adds to others reads what they found
    touched = 2 if part.starts or part.name == "rows" else 3
    return touched * queries * gathered[0] + 2 * keys * gathered[1]


def _mask_pairs(part: Part) -> int:
    """Numbers in the mask of a part: one block's where all blocks share it."""
    if part.full:
        return 0
    return part.area() // part.count if part.alike else part.area()
