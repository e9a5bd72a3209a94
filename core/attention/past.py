"""What a stream keeps of its past where all heads follow one causal pattern.

Shape suffixes: B batch, H heads, N new tokens, M kept keys, D head size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from core.attention.attend import SourceTuple, attend_sources
from core.attention.patterns import Dense, Pattern
from core.attention.retention import keys_of, retention
from core.attention.rows import Rows
from core.attention.saved import below, nested


class Past:
    """The keys and values that later tokens may see, in heads that follow one pattern.

    A chunk is computed by `attend` and joins the past by `accept`; without, nothing has changed.

    Attributes:
        seen: tokens so far.
        tail: neighbours, up to the newest; None before the first chunk.
    """

    def __init__(self, pattern: Pattern, block: int | None) -> None:
        self.pattern, self.block = pattern, block
        self.seen = 0
        self.tail: Rows | None = None
        self._retention = retention(pattern)
        self._lasting: Rows | None = None  # what every later token sees, all before the tail
        self._lasting_at: list[int] = []
        self._queries: Rows | None = None  # the last ones, where they choose for later tokens

    @property
    def rows(self) -> int:
        """Rows of memory, room for more included."""
        return sum(rows.capacity for rows in (self.tail, self._lasting) if rows is not None)

    def attend(
        self,
        q_BHND: Tensor,
        k_BHND: Tensor,
        v_BHND: Tensor,
        start: Tensor | None,
        scale: float | None,
        backend: str,
    ) -> tuple[Tensor, Rows]:
        """As `StreamState.attend`; and the tail with the new rows offered, for `accept`."""
        n = q_BHND.shape[2]
        tail = Rows.like(k_BHND) if self.tail is None else self.tail
        held = tail.offer(k_BHND, v_BHND)
        earlier = None if self._queries is None else self._queries.held()[0]
        if n == 1 and backend == "auto" and not self._retention.queries:
            sources = [self._gathered(held, start)]
            keys, _, _, bounds = sources[0]
            fused = bounds is None and q_BHND.dtype in (torch.float32, torch.float64)
            backend = "sdpa" if fused and keys.shape[2] else backend
        else:
            sources = self._apart(held, n, start)
        out = attend_sources(q_BHND, sources, scale=scale, backend=backend, earlier=earlier)
        return out, tail

    def accept(self, tail: Rows, q_BHND: Tensor) -> None:
        """The chunk that `attend` gave this tail for, these its queries, joins the past."""
        n = q_BHND.shape[2]
        tail.accept(n)
        self.tail, self.seen = tail, self.seen + n
        self._forget(tail)
        self._ask_later(q_BHND)

    def _ranges(self, rows: int, n: int) -> tuple[range, range]:
        """Positions of n new tokens, and of the rows that end with them."""
        end = self.seen + n
        return range(self.seen, end), range(end - rows, end)

    def _apart(self, held_2BHMD: Tensor, n: int, start: Tensor | None) -> list[SourceTuple]:
        """The tail under its plan; and what every new token sees, so that no rule is needed."""
        q, kv = self._ranges(held_2BHMD.shape[3], n)
        plan = self.pattern.plan(*self._retention.placed(q, kv), self.block)
        near = (held_2BHMD[0], held_2BHMD[1], plan, _bounds(start, kv, n))
        sources: list[SourceTuple] = [near]
        if self._lasting is not None:
            k, v = self._lasting.held()
            everything = Dense().plan(range(n), range(self._lasting.count))
            sources.append((k, v, everything, _bounds(start, self._lasting_at, n)))
        return sources

    def _gathered(self, held_2BHMD: Tensor, start: Tensor | None) -> SourceTuple:
        """A single token against its own keys side by side, where a plan would take many calls."""
        q, kv = self._ranges(held_2BHMD.shape[3], 1)
        places: Sequence[int] = kv
        query, keys = self._retention.placed(q, kv)
        row = keys_of(self.pattern, query.start, keys)
        if row is not None:
            held_2BHMD = held_2BHMD.index_select(3, row.to(held_2BHMD.device))
            places = [kv[at] for at in row.tolist()] if start is not None else []
        if self._lasting is not None:
            held_2BHMD = torch.cat((self._lasting.held(), held_2BHMD), 3)
            places = [*self._lasting_at, *places]
        everything = Dense().plan(range(1), range(held_2BHMD.shape[3]))
        return held_2BHMD[0], held_2BHMD[1], everything, _bounds(start, places, 1)

    def _forget(self, tail: Rows) -> None:
        """Drops what no later token sees, and moves what all will see beside the tail."""
        first = self.seen - tail.count
        dropped = range(first, self._retention.first_kept(self.seen))
        if not dropped:
            return
        lasting = self._retention.lasting(dropped)
        if lasting:
            at = torch.tensor(lasting, device=tail.buffer.device) - first
            k, v = tail.held().index_select(3, at)
            if self._lasting is None:
                self._lasting = Rows.like(k)
            self._lasting.offer(k, v)
            self._lasting.accept(len(lasting))
            self._lasting_at += lasting
        tail.drop(len(dropped))

    def _ask_later(self, q_BHND: Tensor) -> None:
        """Keeps the queries that choose blocks for the tokens to come."""
        needed = self._retention.queries
        if needed:
            queries = self._queries or Rows.like(q_BHND, 1)
            queries.offer(q_BHND)
            queries.accept(q_BHND.shape[2])
            queries.drop(max(0, queries.count - needed))
            self._queries = queries

    def state_dict(self) -> dict[str, Tensor]:
        """What is kept, without the pattern and `seen`."""
        kept = {"tail": self.tail, "lasting": self._lasting, "queries": self._queries}
        tensors: dict[str, Tensor] = {}
        for name, rows in kept.items():
            if rows is not None:
                tensors |= nested(name, rows.state_dict())
        return tensors

    def load(self, saved: Mapping[str, Tensor], seen: int) -> None:
        """Takes over what `state_dict` gave after `seen` tokens."""
        self.seen = seen
        if tail := below("tail", saved):
            self.tail = Rows.from_state_dict(tail)
            self._lasting_at = self._retention.lasting(range(seen - self.tail.count))
        if lasting := below("lasting", saved):
            self._lasting = Rows.from_state_dict(lasting)
        if queries := below("queries", saved):
            self._queries = Rows.from_state_dict(queries)


def _bounds(start: Tensor | None, places: Sequence[int], n: int) -> Tensor | None:
    """Bounds [B, N, 2] of keys at these rising positions; None where `start` excludes none."""
    if start is None or not places or bool((start <= places[0]).all()):
        return None
    if isinstance(places, range):
        low = (start - places.start).clamp(0, len(places))
    else:
        at = torch.tensor(places, device=start.device)
        low = torch.searchsorted(at, start.long().contiguous())
    low = (low[:, None] if low.ndim == 1 else low).expand(-1, n)
    return torch.stack((low, torch.full_like(low, len(places))), -1).int()
