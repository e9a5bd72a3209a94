"""From a pattern to work: disjoint parts whose union is the pattern, built without an n x n tensor.

Disjointness is by construction (`core.attention.layout`). Rows of global tokens are one part each
kind, over all keys; the columns of global tokens are parts over the other rows; the band, the
other sets of distances, fixed and drawn blocks follow, each with what is left for it; blocks that
the data choose come last, and add what none of these has. Cost is
O(blocks that are not empty).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask

from core.attention.algebra import Term
from core.attention.axes import Pick, Run, Slots
from core.attention.cost import Cost, count
from core.attention.flex import to_block_mask
from core.attention.grid import grid_area
from core.attention.layout.bands import band_parts
from core.attention.layout.choices import chosen_parts, most_pairs
from core.attention.layout.diagonals import diagonal_parts
from core.attention.layout.draws import block_parts
from core.attention.layout.layout import Layout, row
from core.attention.layout.residues import strided_parts
from core.attention.layout.summaries import fixed_parts
from core.attention.learned import Learned
from core.attention.parts import Part, Rule
from core.attention.patterns import Pattern, require_count
from core.attention.static import outside_tracing
from core.attention.steps import Strided
from core.errors import ConfigError

BLOCK = 64  # rows a block where nothing else is asked for
# 12 layers of 12 heads with a pattern each, in the two block sizes of a training step, and room
_CACHED = 512
_COUNTED = 1 << 19  # pairs of one mask that are held at a time


@dataclass(frozen=True, eq=False)
class Plan:
    """Disjoint parts that together are `pattern` on `q` x `kv` (absolute positions).

    `whole_rows` are the local rows, int64, that parts named "rows" cover alone: the other parts
    are computed there too where that is cheaper, and don't count (those named "chosen" do).
    `covered` says that every row is in a part that starts it. `block` is None where each backend
    takes the size that suits it; `prepared` is where one keeps what it derives from the plan.
    """

    pattern: Pattern
    q: range
    kv: range
    block: int | None
    parts: tuple[Part, ...]
    whole_rows: Tensor
    covered: bool
    prepared: dict[Any, Any] = field(default_factory=dict)

    def at(self, block: int) -> Plan:
        """The same plan in blocks of `block` rows, unless its size was asked for by name."""
        if self.block or block == BLOCK:
            return self
        return build_plan(self.pattern, self.q, self.kv, block)

    @property
    def learned(self) -> tuple[Term, ...]:
        """The terms whose blocks the data choose in each call."""
        return tuple(term for term in self.pattern.terms() if isinstance(term.base, Learned))

    def pairs(self) -> int:
        """The number of pairs in the pattern, counted part by part.

        Blocks that the data choose count as if none held a pair of another term.
        """
        return sum(self._pairs(part) for part in self.parts)

    def _pairs(self, part: Part) -> int:
        if isinstance(part.cols, Slots):
            base = self.learned[part.cols.choice].base
            assert isinstance(base, Learned)
            return most_pairs(part, base, self.kv)
        return _count(part, self.whole_rows)

    def block_area(self) -> int:
        """The number of pairs that a block backend computes, masked ones included."""
        return sum(part.area() for part in self.parts)

    def grid_area(self, size: int = 64) -> int:
        """The number of pairs in the aligned blocks of `size` that the pattern touches, each part
        counted in its frame, whatever blocks a backend runs."""
        return grid_area(self.parts, size)

    def cost(
        self,
        size: int,
        heads: int = 1,
        batch: int = 1,
        dtype: torch.dtype = torch.float32,
        device: str | None = None,
    ) -> Cost:
        """What attention computes and moves for heads of `size` channels, before it runs.

        With a `device` ("cpu" or "cuda") also the seconds it will take there, which rest on
        speeds that are measured once a process, in a few seconds.

        Raises:
            ConfigError: a device that isn't there, or has no sparse backend; a count below 1.
        """
        for name, value in (("size", size), ("heads", heads), ("batch", batch)):
            require_count("cost", name, value, 1)
        counted = count(self.parts, size, heads, batch, dtype)
        if device is None:
            return counted
        from core.attention.predict import predicted  # which runs backends, which run plans

        forward, backward = predicted(self, size, heads * batch, dtype, device)
        return replace(counted, forward_seconds=forward, backward_seconds=backward)

    def to_block_mask(self, block: int = 128, device: torch.device | str = "cpu") -> BlockMask:
        """FlexAttention's mask of the whole pattern, its exact rule included.

        One mask in index order, where a stride below `block` touches every block of its range.
        Its lists are (n / block)^2 numbers, as flex wants them. Raises ConfigError for a pattern
        whose blocks the data choose.
        """
        return to_block_mask(self, block, device)


@lru_cache(maxsize=_CACHED)
def build_plan(pattern: Pattern, q: range, kv: range, block: int | None) -> Plan:
    """See `Pattern.plan`. Raises ConfigError for ranges with a step, or a block below 1."""
    if not (isinstance(q, range) and isinstance(kv, range)):
        raise ConfigError(f"plan: got q {q!r} and kv {kv!r}, expected ranges, such as range(111)")
    if q.step != 1 or kv.step != 1 or q.start < 0 or kv.start < 0:
        raise ConfigError(f"plan: got q {q} and kv {kv}, expected ranges from 0 on with step 1")
    if block is not None:
        require_count("plan", "block", block, 1)
    with outside_tracing():
        layout = Layout(pattern, q, kv, block or BLOCK)
        found = list(_parts(layout)) if len(q) and len(kv) else []
        parts, covered = _started(found, len(q))
        whole = [position - q.start for position in layout.tokens if position in q]
        whole_rows = torch.tensor(whole, dtype=torch.int64)
        return Plan(pattern, q, kv, block, parts, whole_rows, covered)


def _started(parts: list[Part], rows: int) -> tuple[tuple[Part, ...], bool]:
    """The parts, those marked whose rows no earlier part has; and whether all rows are written
    before they are added to, or replaced in the end."""
    touched, written = torch.zeros(2, rows, dtype=torch.bool)
    marked: list[Part] = []
    for part in parts:
        index = part.rows.index().flatten().long()
        starts = part.name != "rows" and not bool(touched[index].any())
        touched[index] = True
        written[index] |= starts or part.name == "rows"
        marked.append(replace(part, starts=starts))
    return tuple(marked), bool(written.all())


def _parts(layout: Layout) -> Iterator[Part]:
    """Parts of many rows and regular keys come first, parts that replace rows after what they
    replace, blocks that the data choose last."""
    q, kv, origin = layout.q, layout.kv, layout.origin
    tokens: list[tuple[list[int], Rule | None]] = [
        (layout.full_tokens, None),
        (layout.ruled_tokens, layout.allowed),
    ]
    if layout.band is not None:
        yield from band_parts(layout, layout.band)
    for positions, rule in tokens:
        columns = [position - kv.start for position in positions if position in kv]
        if columns:
            yield Part("columns", origin, Run.single(0, len(q)), Pick(row(columns)), rule=rule)
    for term in layout.distances:
        of_kind = strided_parts if isinstance(term.base, Strided) else diagonal_parts
        yield from of_kind(layout, term)
    for term in layout.fixed:
        yield from fixed_parts(layout, term)
    for term in layout.blocks:
        yield from block_parts(layout, term)
    for positions, rule in tokens:
        rows = [position - q.start for position in positions if position in q]
        if rows:
            yield Part("rows", origin, Pick(row(rows)), Run.single(0, len(kv)), rule=rule)
    for at, term in enumerate(layout.learned):
        yield from chosen_parts(layout, term, at)


def _count(part: Part, whole_rows: Tensor) -> int:
    """Pairs of a part, less those of rows that another part replaces."""
    total = 0
    for piece in part.split(_COUNTED, _COUNTED):
        mask = piece.mask().expand(1, piece.count, piece.rows.width, -1)[0]
        per_row = mask.sum(-1)
        if part.name != "rows" and len(whole_rows):
            per_row = per_row.masked_fill(torch.isin(piece.rows.index(), whole_rows.int()), 0)
        total += int(per_row.sum())
    return total
