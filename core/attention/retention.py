"""What a stream must keep of its past, decided from the terms of a causal pattern alone."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from functools import lru_cache
from math import lcm

import torch
from torch import Tensor

from core.attention.algebra import wider
from core.attention.blocks import Blockwise
from core.attention.distances import Distances
from core.attention.learned import TopK
from core.attention.patterns import Pattern
from core.attention.static import lasting
from core.attention.steps import Fixed
from core.attention.tokens import Global
from core.errors import ConfigError


@dataclass(frozen=True)
class Retention:
    """Which keys some later query may see, and where the pattern repeats itself.

    Attributes:
        pattern: causal.
        tail: the last so many tokens may be seen, None where all may.
        tokens: global tokens that all later tokens see. While the last of them is still to come,
            everything stays: it will see everything.
        summaries: fixed blocks whose last tokens all later blocks see.
        period: the pattern repeats itself every so many tokens after the global ones; None where
            it never does.
        settled: the first position after every global token, those of limited range included.
        queries: how many of the last queries choose blocks for later tokens.
    """

    pattern: Pattern
    tail: int | None
    tokens: tuple[int, ...]
    summaries: tuple[Fixed, ...]
    period: int | None
    settled: int
    queries: int

    def first_kept(self, seen: int) -> int:
        """Where the neighbouring keys begin that queries from position `seen` on may see."""
        waiting = bool(self.tokens) and seen <= self.tokens[-1]
        return 0 if self.tail is None or waiting else max(0, seen - self.tail)

    def lasting(self, dropped: range) -> list[int]:
        """The positions among those before the tail that every later query sees."""
        first, last = dropped.start, dropped.stop
        kept = set(self.tokens[bisect_left(self.tokens, first) : bisect_left(self.tokens, last)])
        for base in self.summaries:
            for end in range(first - first % base.step + base.step, last + base.step, base.step):
                kept.update(range(max(first, end - base.summary), min(end, last)))
        return sorted(kept)

    def placed(self, q: range, kv: range) -> tuple[range, range]:
        """The earliest positions where the pattern is the same on q x kv, so that the steps of a
        stream share what is made from positions."""
        if self.period is None or kv.start < self.settled:
            return q, kv
        earliest = self.settled + q.start - kv.start
        shift = q.start - earliest - (q.start - earliest) % self.period
        return range(q.start - shift, q.stop - shift), range(kv.start - shift, kv.stop - shift)


@lru_cache(maxsize=256)
@lasting()
def keys_of(pattern: Pattern, query: int, kv: range) -> Tensor | None:
    """Which of the keys `kv` one query sees: int64 and rising from 0; None where it sees all."""
    seen = pattern.allowed(torch.tensor(query), torch.arange(kv.start, kv.stop))
    return None if bool(seen.all()) else seen.nonzero().flatten()


def retention(pattern: Pattern) -> Retention:
    """Raises ConfigError for a pattern that looks ahead, or one that a stream can't follow."""
    tail: int | None = 0
    period: int | None = 1
    settled, queries, tokens, summaries = 0, 0, set[int](), list[Fixed]()
    for term in pattern.terms():
        if term.right is None or term.right > 0:
            raise ConfigError(
                f"stream: got {pattern!r}, where a token sees tokens after it; a stream has none "
                "yet. Use `pattern & Causal()`, or one pass over everything"
            )
        seen_for_ever = False
        match term.base:
            case None | Distances():
                pass
            case Global(positions):
                settled = max(settled, positions[-1] + 1)
                seen_for_ever = term.left is None
                tokens.update(positions if seen_for_ever else ())
            case Fixed() as base:
                period = None if period is None else lcm(period, base.step)
                seen_for_ever = term.left is None
                if seen_for_ever:
                    summaries.append(base)
                    tail = wider(tail, base.step - 1)
            case Blockwise():
                period = None
            case TopK(is_causal=True) as base:  # any key of the past may be chosen
                tail = period = None
                queries = max(queries, 2 * base.block - 1)
            case other:
                raise ConfigError(
                    f"stream: got {other!r}, which has no rule for what of the past stays visible; "
                    "use one pass over everything"
                )
        tail = tail if seen_for_ever else wider(tail, term.left)
    lasting = tuple(sorted(tokens)), tuple(summaries)
    return Retention(pattern, tail, *lasting, period, settled, queries)
