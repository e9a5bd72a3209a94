"""What the parts of one plan share: ranges, terms by kind, and columns that others own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from core.attention.algebra import Term, any_allowed
from core.attention.axes import Run
from core.attention.blocks import Blockwise
from core.attention.distances import Distances
from core.attention.learned import Learned
from core.attention.patterns import Pattern
from core.attention.steps import Fixed
from core.attention.tokens import Global
from core.errors import ConfigError

SCATTERED = 16  # stretches of blocks with and without holes after which all take a mask a block


class Layout:
    """The terms of a pattern on q x kv, sorted by kind.

    A pair that several terms hold belongs to the first of: rows of global tokens, columns of
    global tokens, the band, other sets of distances, fixed blocks, drawn blocks; within a kind
    to the first in the order of the normal form. What the data choose belongs to all others first.
    """

    def __init__(self, pattern: Pattern, q: range, kv: range, block: int) -> None:
        self.q, self.kv, self.block = q, kv, block
        self.origin = (q.start, kv.start)
        self.band: Term | None = None
        self.distances: list[Term] = []
        self.fixed: list[Term] = []
        self.blocks: list[Term] = []
        self.learned: list[Term] = []
        seen_by_all: set[int] = set()
        seen_by_some: set[int] = set()
        for term in pattern.terms():
            match term.base:
                case None:
                    self.band = term
                case Global(positions):
                    unlimited = term.left is None and term.right is None
                    (seen_by_all if unlimited else seen_by_some).update(positions)
                case Distances():
                    self.distances.append(term)
                case Fixed():
                    self.fixed.append(term)
                case Blockwise():
                    self.blocks.append(term)
                case Learned():
                    self.learned.append(term)
                case other:
                    raise ConfigError(f"plan: got {other!r}, expected a pattern with a layout")
        self.static = tuple(term for term in pattern.terms() if term not in self.learned)
        self.full_tokens = sorted(seen_by_all)
        self.ruled_tokens = sorted(seen_by_some - seen_by_all)
        self.tokens = sorted(seen_by_all | seen_by_some)
        self.holes = [position - kv.start for position in self.tokens if position in kv]
        self.keep = torch.ones(len(kv), dtype=torch.bool)
        self.keep[self.holes] = False

    def before(self, term: Term) -> list[Term]:
        """The terms that own what they share with `term`, global tokens aside."""
        band = [] if self.band is None else [self.band]
        order = [*band, *self.distances, *self.fixed, *self.blocks]
        return order[: order.index(term)]

    def allowed(self, i: Tensor, j: Tensor) -> Tensor:
        """The rule of all terms but those that the data choose."""
        return any_allowed(self.static, i, j)

    def holed(self, columns: Run) -> list[tuple[int, int, bool]]:
        """Stretches of blocks [first, last) that hold a global column, and that don't."""
        hit = torch.zeros(columns.count, dtype=torch.bool)
        starts = columns.start + columns.step * torch.arange(columns.count)
        for hole in self.holes:
            offset = hole - starts
            inside = (offset >= 0) & (offset < columns.pitch * columns.width)
            hit |= inside & (offset % columns.pitch == 0)
        changes = (torch.nonzero(hit[1:] != hit[:-1]).flatten() + 1).tolist()
        if len(changes) > SCATTERED:
            return [(0, columns.count, True)]
        ends = [0, *changes, columns.count]
        return [(a, b, bool(hit[a])) for a, b in pairwise(ends)]


@dataclass(frozen=True)
class Outside:
    """The rule of pairs that are in none of the terms."""

    terms: tuple[Term, ...]

    def __call__(self, i: Tensor, j: Tensor) -> Tensor:
        return ~any_allowed(self.terms, i, j)

    @staticmethod
    def of(terms: Iterable[Term]) -> Outside | None:
        """None where there are no terms to stay outside of."""
        terms = tuple(terms)
        return Outside(terms) if terms else None


def row(values: Iterable[int]) -> Tensor:
    """One block of indices, int64 [1, width]."""
    return torch.tensor([list(values)], dtype=torch.int64)
