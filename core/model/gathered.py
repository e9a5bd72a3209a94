"""Gathered encoder: sampled targets, each beside the last events of its keys.

As in `core.model.keyed` keys and values come from the events' own embeddings, never from hidden
states. Here all heads of a view share one key and one value of an event, as in multi-query
attention (Shazeer 2019, arXiv:1911.02150): what is gathered for a target is narrow, and the
target's own side may be wide. Because every target's window is laid out for it, how old an event
is can enter keys and values as features instead of rotations, and the difference between the
target's numbers and those that a head looked at is handed on.

Shapes: T targets, W slots of a view's window, N memory events, D dim, M memory width, E key size,
H heads of a view, A features of age and label state, C carried numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.errors import ConfigError
from core.model.ages import AGE_FEATURES, DAILY, age_features, hats
from core.model.landmarks import SCORED, against_others, landmark_width, landmarks
from core.model.views import LEGITIMATE, POSITIVE, UNKNOWN, Views

STARTS = (
    (2.0, None),
    (0.25, None),
    (1.0, POSITIVE),
    (0.0, POSITIVE),
    (-0.2, POSITIVE),
    (1.0, LEGITIMATE),
    (-0.05, LEGITIMATE),
    (0.03, None),
)
"""Where a view's heads start: decay a day, and the label state that they look at. Some favour old
events: where a run of known positives began says as much as where it ended."""

ASIDE = -8.0
"""Score of an event in another state than a head starts by looking at."""

STATES = 3
FEATURES = STATES + AGE_FEATURES


@dataclass(frozen=True)
class GatheredConfig(Views):
    """Args:
    carried: numbers of an event that a target's own are compared with, as differences from the
        mean of what a head looked at and as standard scores.
    few_labels: whether `core.model.landmarks` tells of labels what heads learn only from many
        positives, in place of every head's mean age day by day.
    """

    carried: int = 0
    few_labels: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dim % 4:
            raise ConfigError(f"gathered encoder: found dim={self.dim}, expected a multiple of 4")

    @property
    def memory(self) -> int:
        """Width of a memory event's embedding."""
        return self.dim // 2

    @property
    def head_size(self) -> int:
        return self.dim // 4

    @property
    def compared(self) -> int:
        """Width of what a head says of the target's numbers and of its mean age."""
        return self.carried * SCORED + (0 if self.few_labels else len(DAILY))


@dataclass(frozen=True)
class Seen:
    """What the targets see through one view.

    Args:
        keys, values: [T, W, E], from `GatheredEncoder.remember`.
        carried: [T, W, C].
        ages: [T, W] days.
        days: [T, W] int64 midnights in between.
        states: [T, W] int64 label states as the target may see them.
        bias: [T, W] added to scores: -inf where there is no event. The last slot, the target
            itself, is never empty.
    """

    keys: Tensor
    values: Tensor
    carried: Tensor
    ages: Tensor
    days: Tensor
    states: Tensor
    bias: Tensor


_View = tuple[Seen, Tensor]
"""What a view shows, and its features [T, W, A], age in days the last."""


class Remember(nn.Module):
    """The one key and value of a memory event in one view, with the label state that a target
    may see."""

    def __init__(self, config: GatheredConfig, view: int) -> None:
        super().__init__()
        self.mix = nn.Linear(config.memory, config.memory)
        self.state = nn.Embedding(3, config.memory) if config.views[view].labels else None
        self.project = nn.Linear(config.memory, 2 * config.head_size)
        if self.state is not None:
            nn.init.normal_(self.state.weight, std=0.5)

    def forward(self, events: Tensor, states: Tensor) -> Tensor:
        """[N, M] embeddings and [N] states -> [N, 2 E]."""
        mixed = self.mix(events)
        if self.state is not None:
            mixed = mixed + self.state(states)
        return self.project(F.gelu(mixed))


class GatheredRound(nn.Module):
    """Pre-norm attention over every view, then a feed-forward layer."""

    def __init__(self, config: GatheredConfig) -> None:
        super().__init__()
        self.config = config
        heads, width = config.heads, config.head_size + FEATURES
        self.norm = nn.LayerNorm(config.dim)
        self.query = nn.Linear(config.dim, heads * width)
        self.sink = nn.Parameter(torch.zeros(heads))
        # Read values, mean features, compared numbers, log mass: a softmax averages and cannot
        # count.
        self.out = nn.Linear(heads * (width + config.compared + 1), config.dim)
        self.ffn = nn.Sequential(
            nn.LayerNorm(config.dim),
            nn.Linear(config.dim, config.ffn),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.ffn, config.dim),
        )
        self.dropout = nn.Dropout(config.dropout)
        self._start()

    def forward(self, hidden: Tensor, numbers: Tensor, seen: Sequence[_View]) -> Tensor:
        """[T, D] hidden states and [T, C] numbers of the targets -> [T, D]."""
        query = self.query(self.norm(hidden)).view(len(hidden), self.config.heads, -1)
        deal = [self.config.heads_of(v) for v in range(len(seen))]
        parts = zip(query.split(deal, dim=1), self.sink.split(deal), seen, strict=True)
        read = torch.cat([self._read(*part, numbers) for part in parts], dim=1)
        hidden = hidden + self.dropout(self.out(read.flatten(1)))
        return hidden + self.dropout(self.ffn(hidden))

    def _read(self, query: Tensor, sink: Tensor, view: _View, numbers: Tensor) -> Tensor:
        """[T, H, E + A] -> [T, H, E + A + compared + 1]."""
        seen, features = view
        content, when = query.split([self.config.head_size, FEATURES], dim=-1)
        scale = self.config.head_size**-0.5
        score = torch.baddbmm(seen.bias[:, None], content, seen.keys.mT, alpha=scale)
        score = score + torch.bmm(when, features.mT)
        mass = torch.logsumexp(score, dim=-1, keepdim=True)
        share = torch.exp(score - mass)
        read, mean = torch.bmm(share, seen.values), torch.bmm(share, features)
        compared = against_others(numbers, share, seen.carried)
        if not self.config.few_labels:
            compared = torch.cat([compared, hats(mean[..., -1], DAILY)], dim=-1)
        # In fortnights, of order one as the other features are.
        scaled = torch.cat([mean[..., :-1], mean[..., -1:] / 14], dim=-1)
        found = torch.cat([read, scaled, compared], dim=-1)
        return torch.cat([found * torch.sigmoid(mass - sink[:, None]), mass / 4], dim=-1)

    @torch.no_grad()
    def _start(self) -> None:
        """Queries start by asking for content, beyond the decay and the state of their head."""
        size = self.config.head_size
        weight = self.query.weight.view(self.config.heads, -1, self.config.dim)
        weight[:, size:] *= 0.3
        weight[:, -1] = 0
        bias = self.query.bias.view(self.config.heads, -1)
        bias.zero_()
        for head, (decay, state) in enumerate(_starts(self.config)):
            bias[head, -1] = -decay
            if state is not None:
                bias[head, size : size + STATES] = ASIDE
                bias[head, size + state] = 0
        nn.init.normal_(self.out.weight, std=0.02)


class GatheredEncoder(nn.Module):
    """Rounds of attention of each target to what it sees."""

    def __init__(self, config: GatheredConfig) -> None:
        super().__init__()
        self.config = config
        self.memory = nn.ModuleList(Remember(config, v) for v in range(len(config.views)))
        self.rounds = nn.ModuleList(GatheredRound(config) for _ in range(config.rounds))
        self.norm = nn.LayerNorm(config.dim)
        if config.few_labels:
            width = sum(landmark_width(view.labels) for view in config.views)
            self.landmarks = nn.Sequential(nn.Linear(width, config.dim), nn.Dropout(config.dropout))

    def remember(self, view: int, events: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [N, E] of memory events [N, M] in these label states [N]."""
        keys, values = self.memory[view](events, states).chunk(2, dim=-1)
        return keys, values

    def forward(self, events: Tensor, numbers: Tensor, seen: Sequence[Seen]) -> Tensor:
        """Hidden states of targets.

        Args:
            events: [T, D] embeddings of the targets.
            numbers: [T, C] their carried numbers.
            seen: one a view, in the order of the config.

        Returns:
            [T, D].
        """
        return self.norm(self.hidden(events, numbers, seen))

    def hidden(self, events: Tensor, numbers: Tensor, seen: Sequence[Seen]) -> Tensor:
        """[T, D] as in `forward`, before the last norm."""
        pairs = [*zip(seen, self.config.views, strict=True)]
        views = [(one, _features(one, view.labels)) for one, view in pairs]
        hidden = events
        if self.config.few_labels:
            marks = [
                landmarks(one.ages, one.days, one.states, one.bias > -torch.inf, view.labels)
                for one, view in pairs
            ]
            hidden = hidden + self.landmarks(torch.cat(marks, dim=-1))
        for layer in cast("list[GatheredRound]", list(self.rounds)):
            hidden = layer(hidden, numbers, views)
        return hidden


def _features(seen: Seen, labels: bool) -> Tensor:
    """[T, W, A]."""
    states = seen.states if labels else torch.full_like(seen.states, UNKNOWN)
    states = F.one_hot(states, STATES).to(seen.ages.dtype)
    return torch.cat([states, age_features(seen.ages, seen.days)], dim=-1)


def _starts(config: GatheredConfig) -> Iterator[tuple[float, int | None]]:
    """Of every head in turn, spread over `STARTS`; none looks at a state that its view hides."""
    for v, view in enumerate(config.views):
        heads = config.heads_of(v)
        for head in range(heads):
            decay, state = STARTS[(head + 1) * len(STARTS) // heads - 1]
            yield decay, state if view.labels else None
