"""Attention over a stream: chunks of any length give what one pass over everything gives.

A causal pattern's keys and values never change once they are there, so those that later tokens may
see are the whole state: a bounded reach keeps its last tokens, global tokens and the summaries of
fixed blocks stay for ever beside them, an unbounded pattern keeps everything.

Shape suffixes: B batch, H heads, N new tokens, M kept keys, D head size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from core.attention.attend import SourceTuple, attend_sources
from core.attention.patterns import Dense, Pattern, pattern_from_dict
from core.attention.retention import keys_of, retention
from core.attention.rows import Rows
from core.attention.saved import below, facts_of, from_bytes, nested, to_bytes, with_facts
from core.errors import ConfigError

_KIND = "stream"


class StreamState:
    """Past keys and values of one attention, and the position of the next token.

    Memory is O(reach + chunk) for a pattern of bounded `reach()`; global tokens, and `summary`
    tokens of each block of `Fixed`, add to it. Everything stays until the last global position
    has passed, and for ever under Causal, Strided, LogSparse, TopK and blocks without a window.

    Args:
        pattern: causal; `X & Causal()` makes any pattern so.
        block: as in `Pattern.plan`; speed only.

    Raises:
        ConfigError: a pattern in which a token sees later ones.
    """

    def __init__(self, pattern: Pattern, block: int | None = None) -> None:
        self.pattern, self.block = pattern, block
        self.seen = 0
        self._retention = retention(pattern)
        self._tail: Rows | None = None  # neighbours, up to the newest
        self._lasting: Rows | None = None  # what every later token sees, all before the tail
        self._lasting_at: list[int] = []
        self._queries: Rows | None = None  # the last ones, where they choose for later tokens

    @property
    def rows(self) -> int:
        """Rows of memory, room for more included; each is a key and a value of every head."""
        return sum(rows.capacity for rows in (self._tail, self._lasting) if rows is not None)

    @torch.no_grad()
    def attend(
        self,
        q_BHND: Tensor,
        k_BHND: Tensor,
        v_BHND: Tensor,
        *,
        start: Tensor | None = None,
        scale: float | None = None,
        backend: str = "auto",
    ) -> Tensor:
        """Attention of the next N tokens to themselves and the past, which they then belong to.

        Without gradient: what trains is one pass.

        Args:
            q_BHND, k_BHND, v_BHND: of the tokens at positions seen, seen + 1, ...; as in `attend`,
                fewer heads of keys included. Batch, heads, size, dtype and device of the keys are
                those of the first chunk.
            start: integers [B] or [B, N], the first position that a sequence's new tokens may see:
                where its document began, or its real tokens where there is padding before. The
                beginning of the stream where None. What comes out before `start` is 0.
            scale, backend: as in `attend`.

        Returns:
            out_BHND in q's dtype.

        Raises:
            ConfigError: what `attend` refuses, keys unlike those of the first chunk, or a start
                of another shape. The state is then as it was.
        """
        n = q_BHND.shape[2]
        tail = self._check(q_BHND, k_BHND, v_BHND, start)
        held = tail.offer(k_BHND, v_BHND)
        earlier = None if self._queries is None else self._queries.held()[0]
        if n == 1 and backend == "auto" and not self._retention.queries:
            sources = [self._gathered(held, start)]
            fused = sources[0][3] is None and q_BHND.dtype in (torch.float32, torch.float64)
            backend = "sdpa" if fused and sources[0][2].parts else backend
        else:
            sources = self._apart(held, n, start)
        out = attend_sources(q_BHND, sources, scale=scale, backend=backend, earlier=earlier)
        tail.accept(n)
        self._tail, self.seen = tail, self.seen + n
        self._forget(tail)
        self._ask_later(q_BHND)
        return out

    def _ranges(self, rows: int, n: int) -> tuple[range, range]:
        """Positions of n new tokens, and of the rows that end with them."""
        end = self.seen + n
        return range(self.seen, end), range(end - rows, end)

    def _apart(self, held_2BHMD: Tensor, n: int, start: Tensor | None) -> list[SourceTuple]:
        """The tail under its plan; and what every new token sees, so that no rule is needed."""
        q, kv = self._ranges(held_2BHMD.shape[3], n)
        plan = self.pattern.plan(*self._retention.placed(q, kv), self.block)
        sources = [(held_2BHMD[0], held_2BHMD[1], plan, _bounds(start, kv, n))]
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

    def _check(self, q: Tensor, k: Tensor, v: Tensor, start: Tensor | None) -> Rows:
        """The tail. Raises ConfigError for chunks that don't fit each other or the state."""
        if q.ndim != 4 or k.ndim != 4 or k.shape[2] != q.shape[2] or v.shape != k.shape:
            shapes = [tuple(x.shape) for x in (q, k, v)]
            raise ConfigError(
                f"stream: got q, k and v of shapes {shapes}, expected [batch, heads, tokens, size] "
                "with equal tokens, and k and v alike"
            )
        tail = Rows.like(k) if self._tail is None else self._tail
        held = tail.buffer
        for name, x in (("k", k), ("v", v)):
            fits = x.shape[:2] == held.shape[1:3] and x.shape[3] == held.shape[4]
            if not fits or x.dtype != held.dtype or x.device != held.device:
                batch, heads, _, size = held.shape[1:]
                raise ConfigError(
                    f"stream: got {name} {x.dtype} {tuple(x.shape)} on {x.device}, expected "
                    f"{held.dtype} ({batch}, {heads}, tokens, {size}) on {held.device} as in the "
                    "first chunk; convert the chunk, or start a new state"
                )
        shapes = (tuple(q.shape[:1]), (q.shape[0], q.shape[2]))
        if start is not None and (start.is_floating_point() or tuple(start.shape) not in shapes):
            raise ConfigError(
                f"stream start: got {start.dtype} {tuple(start.shape)}, expected integers of "
                f"shape {shapes[0]} or {shapes[1]}"
            )
        return tail

    def state_dict(self) -> dict[str, Tensor]:
        """Plain tensors; they share no memory with the state."""
        tensors = {}
        kept = {"tail": self._tail, "lasting": self._lasting, "queries": self._queries}
        for name, rows in kept.items():
            if rows is not None:
                tensors |= nested(name, rows.state_dict())
        facts = {"pattern": self.pattern.to_dict(), "block": self.block, "seen": self.seen}
        return with_facts(tensors, kind=_KIND, **facts)

    @staticmethod
    def from_state_dict(saved: Mapping[str, Tensor]) -> StreamState:
        """The state that `state_dict` saved: what it gives next has the same bits."""
        facts = facts_of(saved, _KIND)
        state = StreamState(pattern_from_dict(facts["pattern"]), facts["block"])
        state.seen = facts["seen"]
        if tail := below("tail", saved):
            state._tail = Rows.from_state_dict(tail)
            first = state.seen - state._tail.count
            state._lasting_at = state._retention.lasting(range(first))
        if lasting := below("lasting", saved):
            state._lasting = Rows.from_state_dict(lasting)
        if queries := below("queries", saved):
            state._queries = Rows.from_state_dict(queries)
        return state

    def to_bytes(self) -> bytes:
        return to_bytes(self.state_dict())

    @staticmethod
    def from_bytes(data: bytes, device: torch.device | str = "cpu") -> StreamState:
        """Raises ConfigError for bytes that are no saved `StreamState`."""
        return StreamState.from_state_dict(from_bytes(data, device))


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
