"""Parts whose keys the data chose, in pieces that fit in the cache, with their masks.

Shape suffixes: G batch x head, C block rows, R rows of one, S slots, K keys of a block row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from torch import Tensor

from core.attention.axes import Gather, Slots
from core.attention.backends.pieces import MASK_AREA, Piece, Size, additive
from core.attention.learned import Choice
from core.attention.parts import Part
from core.attention.plan import Plan


def chosen_pieces(
    plan: Plan, bounds: Tensor | None, choices: Sequence[Choice], k_GND: Tensor, size: Size
) -> Iterator[Piece]:
    """A piece holds a few block rows of all heads; `choices` are those of `plan.learned`."""
    groups, keys, channels = k_GND.shape
    scratch: dict[int, Tensor] = {}
    for part in plan.parts:
        cols = part.cols
        if not isinstance(cols, Slots):
            continue
        rows = MASK_AREA // (groups * part.rows.width * cols.width)
        step = max(1, min(rows, size.numbers // (groups * channels * cols.width)))
        for at in range(0, part.count, step):
            end = min(at + step, part.count)
            table = choices[cols.choice].table[..., cols.first + at : cols.first + end, :]
            first = _starts(table.flatten(0, 1), cols.size, plan.kv, part.starts)
            if first.shape[2]:
                gather = Gather(first, cols.size, keys, scratch)
                some = replace(part, rows=part.rows.blocks(at, end), cols=gather)
                mask = _mask(some, gather, bounds, choices[: cols.choice])
                added = (None, None) if mask is None else additive(mask, k_GND.dtype)
                yield Piece(slice(groups), some, *added)


def _starts(table_GCS: Tensor, size: int, kv: range, some: bool) -> Tensor:
    """The local index of the first key of each block, below 0 for none, without the slots that
    no row uses; with `some`, one stays, so that there is a result if an empty one."""
    first = (table_GCS * size - kv.start).masked_fill(table_GCS < 0, -size)
    used = ((first > -size) & (first < len(kv))).any(0).any(0)
    used[0] |= some and not used.any()
    return first[..., used]


def _mask(
    part: Part, keys: Gather, bounds: Tensor | None, earlier: Sequence[Choice]
) -> Tensor | None:
    """bool [G or 1, C or 1, R, K]; None where all pairs count."""
    if part.rule is None and not earlier and not _cut(part, keys, bounds):
        if part.full:
            return None
        if (part.left, part.right) == (None, 0) and not keys.gaps:
            # only the own block, the first slot, holds keys after a query: one mask for all
            one = replace(keys, first=keys.first[:1, :1])
            return replace(part, rows=part.rows.blocks(0, 1), cols=one).mask()
    mask = part.mask(bounds)
    i, j = part.rows.index().long() + part.origin[0], keys.index().long() + part.origin[1]
    for choice in earlier:
        mask &= ~choice.holds(i[..., None], j[..., None, :])
    return mask


def _cut(part: Part, keys: Gather, bounds: Tensor | None) -> bool:
    """Whether bounds may take some pair away."""
    if bounds is None:
        return False
    bound = part.rows.take(bounds)
    low, high = bound[..., 0].amax(-1), bound[..., 1].amin(-1)  # what all rows of a block see
    heads = len(keys.first) // len(low) if len(low) > 1 else 1
    low, high = (x.repeat_interleave(heads, 0)[..., None] for x in (low, high))
    return bool(((low > keys.first) | (high < keys.first + keys.size)).any())
