"""Attention over a stream: chunks of any length give what one pass over everything gives.

A causal pattern's keys and values never change once they are there, so those that later tokens may
see are the whole state: a bounded reach keeps its last tokens, global tokens and the summaries of
fixed blocks stay for ever beside them, an unbounded pattern keeps everything.

Shape suffixes: B batch, H heads, N new tokens, M kept keys, D head size.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from core.attention.heads import HeadGroups, shared_heads
from core.attention.past import Past
from core.attention.patterns import Pattern, pattern_from_dict
from core.attention.saved import below, facts_of, from_bytes, nested, to_bytes, with_facts
from core.errors import ConfigError

_KIND = "stream"


class StreamState:
    """Past keys and values of one attention, and the position of the next token.

    Memory is O(reach + chunk) for a pattern of bounded `reach()`; global tokens, and `summary`
    tokens of each block of `Fixed`, add to it. Everything stays until the last global position
    has passed, and for ever under Causal, Strided, LogSparse, TopK and blocks without a window.

    Args:
        pattern: causal; `X & Causal()` makes any pattern so. Each group of `HeadGroups` keeps what
            its own pattern needs.
        block: as in `Pattern.plan`; speed only.

    Raises:
        ConfigError: a pattern in which a token sees later ones, in any head.
    """

    def __init__(self, pattern: Pattern, block: int | None = None) -> None:
        self.pattern, self.block = pattern, block
        grouped = isinstance(pattern, HeadGroups)
        patterns = [some for some, _ in pattern.groups] if grouped else [pattern]
        self._pasts = [Past(some, block) for some in patterns]

    @property
    def seen(self) -> int:
        """Tokens so far, and the position of the next."""
        return self._pasts[0].seen

    @property
    def rows(self) -> int:
        """Rows of memory, room for more included; each is a key and a value of every head, or of
        every head of its group."""
        return sum(past.rows for past in self._pasts)

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
        self._check(q_BHND, k_BHND, v_BHND, start)
        parts = self._split(q_BHND, k_BHND, v_BHND)
        found = [
            past.attend(*part, start, scale, backend)
            for past, part in zip(self._pasts, parts, strict=True)
        ]
        for past, (_, tail), (q, _, _) in zip(self._pasts, found, parts, strict=True):
            past.accept(tail, q)  # only now: a group may refuse what those before it took
        return torch.cat([out for out, _ in found], 1)

    def _split(self, q: Tensor, k: Tensor, v: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """The heads of each group, queries in proportion."""
        if not isinstance(self.pattern, HeadGroups):
            return [(q, k, v)]
        shared = q.shape[1] // k.shape[1]
        return [
            (q[:, shared * first : shared * last], k[:, first:last], v[:, first:last])
            for first, last in self.pattern.spans()
        ]

    def _check(self, q: Tensor, k: Tensor, v: Tensor, start: Tensor | None) -> None:
        """Raises ConfigError for chunks that don't fit each other or the state."""
        if q.ndim != 4 or k.ndim != 4 or k.shape[2] != q.shape[2] or v.shape != k.shape:
            shapes = [tuple(x.shape) for x in (q, k, v)]
            raise ConfigError(
                f"stream: got q, k and v of shapes {shapes}, expected [batch, heads, tokens, size] "
                "with equal tokens, and k and v alike"
            )
        shared_heads(q.shape[1], k, self.pattern)
        tails = [past.tail.buffer for past in self._pasts if past.tail is not None]
        kept = tails or [k[None]]
        batch, size = kept[0].shape[1], kept[0].shape[4]
        heads = sum(rows.shape[2] for rows in kept)
        dtype, device = kept[0].dtype, kept[0].device
        for name, x in (("k", k), ("v", v)):
            fits = (*x.shape[:2], x.shape[3]) == (batch, heads, size)
            if not fits or x.dtype != dtype or x.device != device:
                raise ConfigError(
                    f"stream: got {name} {x.dtype} {tuple(x.shape)} on {x.device}, expected "
                    f"{dtype} ({batch}, {heads}, tokens, {size}) on {device} as in the "
                    "first chunk; convert the chunk, or start a new state"
                )
        shapes = (tuple(q.shape[:1]), (q.shape[0], q.shape[2]))
        if start is not None and (start.is_floating_point() or tuple(start.shape) not in shapes):
            raise ConfigError(
                f"stream start: got {start.dtype} {tuple(start.shape)}, expected integers of "
                f"shape {shapes[0]} or {shapes[1]}"
            )

    def state_dict(self) -> dict[str, Tensor]:
        """Plain tensors; they share no memory with the state."""
        tensors: dict[str, Tensor] = {}
        for at, past in enumerate(self._pasts):
            tensors |= nested(str(at), past.state_dict())
        facts = {"pattern": self.pattern.to_dict(), "block": self.block, "seen": self.seen}
        return with_facts(tensors, kind=_KIND, **facts)

    @staticmethod
    def from_state_dict(saved: Mapping[str, Tensor]) -> StreamState:
        """The state that `state_dict` saved: what it gives next has the same bits."""
        facts = facts_of(saved, _KIND)
        state = StreamState(pattern_from_dict(facts["pattern"]), facts["block"])
        for at, past in enumerate(state._pasts):
            past.load(below(str(at), saved), facts["seen"])
        return state

    def to_bytes(self) -> bytes:
        return to_bytes(self.state_dict())

    @staticmethod
    def from_bytes(data: bytes, device: torch.device | str = "cpu") -> StreamState:
        """Raises ConfigError for bytes that are no saved `StreamState`."""
        return StreamState.from_state_dict(from_bytes(data, device))
