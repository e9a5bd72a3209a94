"""Keyed encoder: an event attends to the last events of each of its keys.

The stream is one time-ordered sequence of events. A view groups it by a key; inside a group an
event sees the last `window` events up to and including itself. Memory is shallow: keys and values
of every round come from the events' own embeddings, never from hidden states, so the loss can be
taken on a sample of the events and a stream's whole state is its raw recent events.

Shapes: n events of the stream, T targets, M memory events of a view, W window slots, D dim,
H heads of a view, E head size, R rounds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.attention.keyed import keyed_index
from core.errors import ConfigError
from core.model.recall import StreamView, read_slots, read_stream, with_clock
from core.model.views import NO_EVENT, UNKNOWN, Views


@dataclass(frozen=True)
class KeyedEncoderConfig(Views):
    """Args:
    time_unit: ticks of `times` in one unit of decay, age and rotary period; a day in seconds here,
        what a domain makes of it elsewhere.
    periods: rotary periods in time units, shortest and longest.
    """

    time_unit: float = 86400.0
    periods: tuple[float, float] = (7.0, 112.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dim % self.heads or (self.dim // self.heads) < 4:
            raise ConfigError(
                f"keyed encoder: found dim={self.dim} with heads={self.heads}, expected dim to be "
                "a multiple of heads with at least 4 numbers a head"
            )

    @property
    def head_size(self) -> int:
        return self.dim // self.heads


@dataclass(frozen=True)
class Memory:
    """Gathered memory of one view for a batch of targets.

    Args:
        events: [M, D] embeddings, label not included.
        times: [M] int64 ticks.
        states: [M] int64 label state as the target may see it (matured or UNKNOWN).
        slots: [T, W] int64 places in `events`, NO_EVENT where there is none; the target
            itself last.
    """

    events: Tensor
    times: Tensor
    states: Tensor
    slots: Tensor


class ViewMemory(nn.Module):
    """Keys and values of one view for all rounds, from the events' own embeddings."""

    def __init__(self, config: KeyedEncoderConfig, view: int) -> None:
        super().__init__()
        self.shape = (config.rounds, 2, config.heads_of(view), config.head_size)
        self.state = nn.Embedding(3, config.dim) if config.views[view].labels else None
        self.norm = nn.LayerNorm(config.dim)
        self.project = nn.Linear(config.dim, math.prod(self.shape))
        if self.state is not None:
            nn.init.normal_(self.state.weight, std=0.5)

    def forward(self, events: Tensor, states: Tensor | None, turn: Turn) -> tuple[Tensor, Tensor]:
        """[M, D] events -> rotated keys and values, each [M, R, H, E]."""
        if self.state is not None:
            if states is None:
                states = torch.full(events.shape[:1], UNKNOWN, device=events.device)
            events = events + self.state(states)
        both = self.project(self.norm(events)).view(-1, *self.shape)
        return turn.rotate(both[:, :, 0]), both[:, :, 1]


class Turn:
    """Rotary angles of events at real times; the first quarter of a head's pairs turns, the rest
    carries content alone. Angles in float64, because seconds since 1970 need it."""

    def __init__(self, times: Tensor, config: KeyedEncoderConfig, dtype: torch.dtype) -> None:
        self.pairs = max(1, config.head_size // 4)
        shortest, longest = config.periods
        steps = torch.linspace(0, 1, self.pairs, dtype=torch.float64, device=times.device)
        period = config.time_unit * shortest * (longest / shortest) ** steps
        angle = 2 * math.pi * torch.remainder(times.double()[:, None], period) / period
        self.cos, self.sin = angle.cos().to(dtype), angle.sin().to(dtype)

    def rotate(self, x: Tensor) -> Tensor:
        """[M, ..., E] -> the same shape."""
        shape = (x.shape[0], *([1] * (x.ndim - 2)), self.pairs)
        cos, sin = self.cos.view(shape), self.sin.view(shape)
        a, b, rest = x.split([self.pairs, self.pairs, x.shape[-1] - 2 * self.pairs], dim=-1)
        return torch.cat([a * cos - b * sin, a * sin + b * cos, rest], dim=-1)


class Round(nn.Module):
    """Pre-norm attention over every view, then a feed-forward layer."""

    def __init__(self, config: KeyedEncoderConfig) -> None:
        super().__init__()
        self.config = config
        heads = config.heads
        self.norm = nn.LayerNorm(config.dim)
        self.query = nn.Linear(config.dim, config.dim)
        # Decay in 1 / time unit. Some heads start by favouring old events: where a run of known
        # positives began says as much as where it ended.
        first = torch.cat([_first_decays(config.heads_of(v)) for v in range(len(config.views))])
        self.decay = nn.Parameter(first)
        self.sink = nn.Parameter(torch.zeros(heads))
        # A softmax averages and cannot count, so every head also hands on the log of its mass
        # and the mean age of what it looked at.
        self.out = nn.Linear(config.dim + 2 * heads, config.dim)
        self.ffn = nn.Sequential(
            nn.LayerNorm(config.dim),
            nn.Linear(config.dim, config.ffn),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.ffn, config.dim),
        )
        self.dropout = nn.Dropout(config.dropout)

    def queries(self, hidden: Tensor, turn: Turn) -> list[Tensor]:
        """[T, D] -> one [T, H, E] a view, rotated and scaled."""
        size = self.config.head_size
        q = self.query(self.norm(hidden)).view(hidden.shape[0], self.config.heads, size)
        return list((turn.rotate(q) / math.sqrt(size)).split(_deal(self.config), dim=1))

    def finish(self, hidden: Tensor, read: Tensor, mass: Tensor, age: Tensor) -> Tensor:
        """Residual update from what the heads read ([T, heads, E]), their log mass and the mean
        age in time units (each [T, heads])."""
        gate = torch.sigmoid(mass - self.sink)
        read = (read * gate[..., None]).flatten(1)
        age = torch.log1p(age.clamp_min(0)) * gate
        hidden = hidden + self.dropout(self.out(torch.cat([read, mass / 4, age], dim=1)))
        return hidden + self.dropout(self.ffn(hidden))


class KeyedEncoder(nn.Module):
    """Rounds of keyed attention; `targets` and `stream` give equal numbers."""

    def __init__(self, config: KeyedEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.memory = nn.ModuleList(ViewMemory(config, v) for v in range(len(config.views)))
        self.rounds = nn.ModuleList(Round(config) for _ in range(config.rounds))
        self.norm = nn.LayerNorm(config.dim)

    def targets(self, events: Tensor, times: Tensor, memory: Sequence[Memory]) -> Tensor:
        """Hidden states of targets whose windows were gathered.

        Args:
            events: [T, D] embeddings of the targets.
            times: [T] int64 ticks.
            memory: one a view, in the order of the config.

        Returns:
            [T, D].
        """
        turn = Turn(times, self.config, events.dtype)
        gathered = [self._gather(v, m, times) for v, m in enumerate(memory)]
        hidden = events
        for r, layer in enumerate(self._layers()):
            decays = layer.decay.split(_deal(self.config))
            queries = layer.queries(hidden, turn)
            reads = [
                read_slots(q, keys[:, :, r], values[:, :, r], age, empty, decay)
                for q, (keys, values, age, empty), decay in zip(
                    queries, gathered, decays, strict=True
                )
            ]
            hidden = layer.finish(
                hidden, *(torch.cat(part, dim=1) for part in zip(*reads, strict=True))
            )
        return self.norm(hidden)

    def _layers(self) -> list[Round]:
        return cast("list[Round]", list(self.rounds))

    def _gather(
        self, view: int, memory: Memory, times: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Keys and values [T, W, R, H, E], age [T, W] in time units, empty slots [T, W]."""
        turn = Turn(memory.times, self.config, memory.events.dtype)
        keys, values = self.memory[view](memory.events, memory.states, turn)
        empty = memory.slots == NO_EVENT
        if self.training and self.config.forget:
            hidden = torch.rand(empty.shape, device=empty.device) < self.config.forget
            hidden[:, -1] = False
            empty = empty | hidden
        slots = memory.slots.clamp_min(0)
        age = (times[:, None] - memory.times[slots]).to(keys.dtype) / self.config.time_unit
        shape = (*slots.shape, *keys.shape[1:])
        # F.embedding, because its backward sums rows far faster than that of advanced indexing.
        keys = F.embedding(slots, keys.flatten(1)).view(shape)
        values = F.embedding(slots, values.flatten(1)).view(shape)
        return keys, values, age.masked_fill(empty, 0), empty

    def stream(
        self,
        events: Tensor,
        times: Tensor,
        labels: Tensor,
        keys: Sequence[Tensor],
        delay: int,
        query: Tensor | None = None,
    ) -> Tensor:
        """Hidden states straight from a time-ordered stream, at O(n x window). Without gradient:
        what trains is `targets`.

        Args:
            events: [n, D] embeddings.
            times: [n] int64 ticks, never falling.
            labels: [n] int64 label states as they will be once known.
            keys: [n] int64, one a view.
            delay: ticks until a label is known, above 0.
            query: [T] int64 places of the events to encode; all when None.

        Returns:
            [T, D].
        """
        here = torch.arange(len(times), device=times.device) if query is None else query
        # Counted from the oldest event, so that what comes later changes no bit.
        clock = (times - times[0]).to(events.dtype) / self.config.time_unit
        turn = Turn(times, self.config, events.dtype)
        views = [
            self._lay_out(v, events, times, labels, keys[v], delay, clock, turn)
            for v in range(len(keys))
        ]
        now, asked, hidden = clock[here], Turn(times[here], self.config, events.dtype), events[here]
        for r, layer in enumerate(self._layers()):
            decays = layer.decay.split(_deal(self.config))
            reads = [
                read_stream(q, view, r, now, decay, query)
                for q, view, decay in zip(layer.queries(hidden, asked), views, decays, strict=True)
            ]
            read, mass, age = (torch.cat(part, dim=1) for part in zip(*reads, strict=True))
            hidden = layer.finish(hidden, read, mass, age)
        return self.norm(hidden)

    def _lay_out(
        self,
        view: int,
        events: Tensor,
        times: Tensor,
        labels: Tensor,
        keys: Tensor,
        delay: int,
        clock: Tensor,
        turn: Turn,
    ) -> StreamView:
        spec = self.config.views[view]
        window = None if spec.window is None else spec.window - 1
        index = keyed_index(keys, times, window, delay if spec.labels else None)
        plain = with_clock(self.memory[view](events, None, turn), clock)
        labelled = None
        if spec.labels:
            labelled = with_clock(self.memory[view](events, labels, turn), clock)
        return StreamView(index, plain, labelled)


def _deal(config: KeyedEncoderConfig) -> list[int]:
    return [config.heads_of(v) for v in range(len(config.views))]


def _first_decays(heads: int) -> Tensor:
    return torch.linspace(0.2, -0.05, heads) if heads > 1 else torch.full((1,), 0.05)
