"""From a pattern to work: disjoint parts whose union is the pattern, built without an n x n tensor.

Disjointness is by construction. Rows of global tokens are one part each kind, over all keys; the
columns of global tokens are parts over the other rows; the band holds the other columns inside the
window; a random part holds what is left of its draws. Cost is O(blocks that are not empty).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor

from core.attention.algebra import Term
from core.attention.parts import Part, Pick, Run
from core.attention.patterns import Global, Pattern, Random
from core.errors import ConfigError

MASK_AREA = 1 << 19  # pairs of one mask that are held at a time
SCATTERED = 16  # runs of blocks with holes after which the whole band takes a mask a block


@dataclass(frozen=True, eq=False)
class Plan:
    """Disjoint parts that together are `pattern` on `q` x `kv` (absolute positions).

    `whole_rows` are the local rows, int64, that parts named "rows" cover alone: the other parts
    are computed there too where that is cheaper, and don't count.
    """

    pattern: Pattern
    q: range
    kv: range
    block: int
    parts: tuple[Part, ...]
    whole_rows: Tensor

    def pairs(self) -> int:
        """The number of pairs in the pattern, counted part by part."""
        return sum(_count(part, self.whole_rows) for part in self.parts)

    def block_area(self) -> int:
        """The number of pairs that a block backend computes, masked ones included."""
        return sum(part.area() for part in self.parts)


@lru_cache(maxsize=256)
def build_plan(pattern: Pattern, q: range, kv: range, block: int) -> Plan:
    """See `Pattern.plan`. Raises ConfigError for ranges with a step, or for a block below 1."""
    if q.step != 1 or kv.step != 1 or q.start < 0 or kv.start < 0:
        raise ConfigError(f"plan: got q {q} and kv {kv}, expected ranges from 0 on with step 1")
    if block < 1:
        raise ConfigError(f"plan: got block {block}, expected at least 1")
    builder = _Builder(pattern, q, kv, block)
    parts = tuple(builder.parts()) if len(q) and len(kv) else ()
    whole = [position - q.start for position in builder.tokens if position in q]
    return Plan(pattern, q, kv, block, parts, torch.tensor(whole, dtype=torch.int64))


class _Builder:
    """What the parts of one plan share."""

    def __init__(self, pattern: Pattern, q: range, kv: range, block: int) -> None:
        self.pattern, self.q, self.kv, self.block = pattern, q, kv, block
        self.origin = (q.start, kv.start)
        self.band: Term | None = None
        self.random: list[Term] = []
        seen_by_all: set[int] = set()
        seen_by_some: set[int] = set()
        for term in pattern.terms():
            if term.base is None:
                self.band = term
            elif isinstance(term.base, Global):
                unlimited = term.left is None and term.right is None
                (seen_by_all if unlimited else seen_by_some).update(term.base.positions)
            else:
                self.random.append(term)
        self.full_tokens = sorted(seen_by_all)
        self.ruled_tokens = sorted(seen_by_some - seen_by_all)
        self.tokens = sorted(seen_by_all | seen_by_some)
        self.holes = [position - kv.start for position in self.tokens if position in kv]
        self.keep = torch.ones(len(kv), dtype=torch.bool)
        self.keep[self.holes] = False

    def parts(self) -> Iterator[Part]:
        """Parts that start rows come first, parts that replace rows come last."""
        if self.band is not None:
            yield from self._band(self.band)
        for tokens, rule in self._tokens():
            columns = [position - self.kv.start for position in tokens if position in self.kv]
            if columns:
                rows = Run.single(0, len(self.q))
                yield Part("columns", self.origin, rows, Pick(_row(columns)), rule=rule)
        for index in range(len(self.random)):
            yield from self._draws(index)
        for tokens, rule in self._tokens():
            rows = [position - self.q.start for position in tokens if position in self.q]
            if rows:
                columns = Run.single(0, len(self.kv))
                yield Part("rows", self.origin, Pick(_row(rows)), columns, rule=rule)

    def _tokens(self) -> list[tuple[list[int], Callable[[Tensor, Tensor], Tensor] | None]]:
        return [(self.full_tokens, None), (self.ruled_tokens, self.pattern.allowed)]

    def _band(self, term: Term) -> Iterator[Part]:
        """Overlapping key blocks where whole windows fit, rectangles at the edges."""
        q, kv, block = self.q, self.kv, self.block
        if term.left is None or term.right is None:
            yield from self._rectangles(term, q.start, q.stop)
            return
        start = max(q.start, kv.start + term.left)
        count = (min(q.stop, kv.stop - term.right) - start) // block
        if count < 2:
            yield from self._rectangles(term, q.start, q.stop)
            return
        yield from self._rectangles(term, q.start, start)
        rows = Run(start - q.start, block, count, block)
        columns = Run(start - term.left - kv.start, block, count, term.left + block + term.right)
        for first, last, holed in self._stretches(columns):
            yield Part(
                "band",
                self.origin,
                rows.blocks(first, last),
                columns.blocks(first, last),
                term.left,
                term.right,
                keep=self.keep if holed else None,
            )
        yield from self._rectangles(term, start + count * block, q.stop)

    def _rectangles(self, term: Term, start: int, stop: int) -> Iterator[Part]:
        unlimited = term.left is None and term.right is None
        step = max(1, stop - start) if unlimited else 4 * self.block
        for first in range(start, stop, step):
            last = min(first + step, stop)
            low, high = self.kv.start, self.kv.stop
            left, right = term.left, term.right
            if left is not None:
                low = max(low, first - left)
                left = None if last - 1 - left <= low else left
            if right is not None:
                high = min(high, last + right)
                right = None if first + right >= high - 1 else right
            if low >= high:
                continue
            rows = Run.single(first - self.q.start, last - first)
            columns = Run.single(low - self.kv.start, high - low)
            holed = any(
                columns.start <= hole < columns.start + columns.width for hole in self.holes
            )
            keep = self.keep if holed else None
            yield Part("band", self.origin, rows, columns, left, right, keep)

    def _stretches(self, columns: Run) -> list[tuple[int, int, bool]]:
        """Stretches of blocks [first, last) that see a global column, and that don't."""
        hit = torch.zeros(columns.count, dtype=torch.bool)
        for hole in self.holes:
            first = (hole - columns.start - columns.width) // columns.step + 1
            last = (hole - columns.start) // columns.step
            if last >= 0:
                hit[max(0, first) : last + 1] = True
        changes = (torch.nonzero(hit[1:] != hit[:-1]).flatten() + 1).tolist()
        if len(changes) > SCATTERED:
            return [(0, columns.count, True)]
        ends = [0, *changes, columns.count]
        return [(a, b, bool(hit[a])) for a, b in pairwise(ends)]

    def _draws(self, index: int) -> Iterator[Part]:
        """One random term, less the band, the global columns and the random terms before it."""
        term = self.random[index]
        base = term.base
        assert isinstance(base, Random)
        size, q = base.block, self.q
        table = self._drawn_keys(base, term.right)
        outside = _Outside([t for t in (self.band, *self.random[:index]) if t is not None])
        first, last = -(-q.start // size), q.stop // size
        stretches = [(first * size, size, last - first)]
        if first > last:  # the queries lie inside one block row
            stretches = [(q.start, len(q), 1)]
        else:
            stretches.insert(0, (q.start, first * size - q.start, 1))
            stretches.append((last * size, q.stop - last * size, 1))
        for start, width, count in stretches:
            at = start // size - q.start // size
            keys = table[at : at + count]
            used = int((keys >= 0).sum(1).max()) if width and count > 0 else 0
            if used:
                yield Part(
                    "random",
                    self.origin,
                    Run(start - q.start, width, count, width),
                    Pick(keys[:, :used].contiguous()),
                    term.left,
                    term.right,
                    rule=outside,
                )

    def _drawn_keys(self, base: Random, right: int | None) -> Tensor:
        """Local keys int64 [block rows, keys] that each block row draws, absent ones (-1) last."""
        rows = torch.arange(self.q.start // base.block, (self.q.stop - 1) // base.block + 1)
        drawn = base.drawn(rows)
        again = (drawn[:, :, None] == drawn[:, None, :]).tril(-1).any(-1)
        if right is not None:  # a block wholly beyond the limit would only be masked
            again |= drawn * base.block >= (rows[:, None] + 1) * base.block + right
        keys = drawn[:, :, None] * base.block + torch.arange(base.block) - self.kv.start
        absent = again[:, :, None] | (keys < 0) | (keys >= len(self.kv))
        absent |= ~self.keep[keys.clamp(0, len(self.kv) - 1)]
        keys = keys.masked_fill(absent, -1).flatten(1)
        order = (keys < 0).to(torch.uint8).argsort(dim=1, stable=True)
        return keys.gather(1, order)


@dataclass(frozen=True)
class _Outside:
    """The rule of pairs that are in none of the terms."""

    terms: list[Term]

    def __call__(self, i: Tensor, j: Tensor) -> Tensor:
        inside = torch.zeros((), dtype=torch.bool)
        for term in self.terms:
            inside = inside | term.allowed(i, j)
        return ~inside


def _row(values: list[int]) -> Tensor:
    return torch.tensor([values], dtype=torch.int64)


def _count(part: Part, whole_rows: Tensor) -> int:
    """Pairs of a part, less those of rows that another part replaces."""
    total = 0
    for piece in part.split(MASK_AREA, MASK_AREA, masked=True):
        mask = piece.mask().expand(1, piece.count, -1, -1)[0]
        per_row = mask.sum(-1)
        if part.name != "rows" and len(whole_rows):
            per_row = per_row.masked_fill(torch.isin(piece.rows.index(), whole_rows.int()), 0)
        total += int(per_row.sum())
    return total
