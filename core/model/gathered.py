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

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.errors import ConfigError
from core.model.ages import DAILY, hat_sum
from core.model.landmarks import SCORED, against_others, landmark_width, landmarks, moments
from core.model.slots import FEATURES, LOG2E, STATES, Seen, Slots
from core.model.views import LEGITIMATE, POSITIVE, Views

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

NOTHING = -60.0
"""Binary logarithm of a share that is none: products of much smaller ones are slow to make."""

FORTNIGHT = 14
"""Days: a mean age in fortnights is of order one as the other features are."""


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


class _Found(NamedTuple):
    """What heads found: sums of what they read [T, H, A + E] and of their weights [T, H, 1], the
    logarithms of their masses [T, H, 1], and the target's numbers compared [T, H, C * SCORED]."""

    read: Tensor
    total: Tensor
    mass: Tensor
    compared: Tensor


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

    scale: Tensor
    """[E + A] of queries: content by its width, and all to binary logarithms."""

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
        scale = torch.full((width,), LOG2E, dtype=torch.float64)
        scale[: config.head_size] *= config.head_size**-0.5
        self.register_buffer("scale", scale, persistent=False)
        self._start()

    def forward(self, hidden: Tensor, seen: Sequence[Slots], apart: Sequence[Tensor]) -> Tensor:
        """[T, D] hidden states of the targets, and of each view its slots and their `moments`
        [T, W, 1 + 2 C] -> [T, D]."""
        query = self.query(self.norm(hidden)).unflatten(1, (self.config.heads, -1))
        query = query * self.scale.to(query.dtype)
        deal = [self.config.heads_of(v) for v in range(len(seen))]
        views = zip(query.split(deal, dim=1), seen, apart, strict=True)
        parts = [self._read(*view) for view in views]
        found = _Found(*(torch.cat(part, dim=1) for part in zip(*parts, strict=True)))
        hidden = hidden + self.dropout(self._told(found))
        return hidden + self.dropout(self.ffn(hidden))

    def _read(self, query: Tensor, seen: Slots, apart: Tensor) -> _Found:
        """Query [T, H, E + A] and `moments` [T, W, 1 + 2 C]."""
        asked = seen.content[..., : query.shape[-1]]
        score = torch.baddbmm(seen.bias[:, None], query, asked.mT)
        top = score.detach().amax(dim=-1, keepdim=True)
        # Powers of two, because the natural exponential is slow where it underflows.
        weight = torch.exp2(F.threshold(score - top, NOTHING, -math.inf))
        total = weight.sum(dim=-1, keepdim=True)
        told = seen.content.shape[-1] - self.config.carried
        read = torch.bmm(weight, seen.content[..., self.config.head_size : told])
        compared = against_others(torch.bmm(weight, apart), total)
        return _Found(read, total, (top + torch.log2(total)) / LOG2E, compared)

    def _told(self, found: _Found) -> Tensor:
        """[T, D] of what heads found."""
        gate = torch.sigmoid(found.mass - self.sink[:, None])
        *dense, daily = self.told_by_head()
        parts = [found.read * (gate / found.total), gate * found.compared, found.mass]
        told = self.out.bias
        for part, weight in zip(parts, dense, strict=True):
            told = torch.addmm(told, part.flatten(1), weight.flatten(0, 1))
        if self.config.few_labels:
            return told
        age = found.read[..., FEATURES - 1] / found.total[..., 0]
        return told + hat_sum(age, gate[..., 0], daily)

    def told_by_head(self) -> tuple[Tensor, ...]:
        """Weights of `out`, each [H, ..., D]: for means in the order of slots, for compared
        numbers, for the mass, and for the mean age day by day."""
        size, compared = self.config.head_size, self.config.carried * SCORED
        widths = [size, FEATURES - 1, 1, compared, self.config.compared - compared, 1]
        weight = self.out.weight.unflatten(1, (self.config.heads, -1)).permute(1, 2, 0)
        values, features, age, numbers, daily, mass = weight.split(widths, dim=1)
        means = torch.cat([features, age / FORTNIGHT, values], dim=1)
        return means, numbers, mass / 4, daily

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
        return self.norm(self.hidden(events, numbers, self.laid_out(seen)))

    def laid_out(self, seen: Sequence[Seen]) -> list[Slots]:
        views = zip(seen, self.config.views, strict=True)
        return [one.laid_out(view.labels) for one, view in views]

    def hidden(self, events: Tensor, numbers: Tensor, seen: Sequence[Slots]) -> Tensor:
        """[T, D] as in `forward`, before the last norm."""
        hidden = events
        if self.config.few_labels:
            marks = ((one.ages, one.days, one.states, one.bias > -torch.inf) for one in seen)
            hidden = hidden + self.marked(marks)
        carried = (one.content[..., one.content.shape[-1] - numbers.shape[-1] :] for one in seen)
        apart = [moments(numbers, c) for c in carried]
        for layer in cast("list[GatheredRound]", list(self.rounds)):
            hidden = layer(hidden, seen, apart)
        return hidden

    def marked(self, seen: Iterable[tuple[Tensor, Tensor, Tensor, Tensor]]) -> Tensor:
        """[T, D] of the `landmarks` of every view: its ages, days, states and where events are."""
        views = zip(seen, self.config.views, strict=True)
        return self.landmarks(torch.cat([landmarks(*one, v.labels) for one, v in views], dim=-1))


def _starts(config: GatheredConfig) -> Iterator[tuple[float, int | None]]:
    """Of every head in turn, spread over `STARTS`; none looks at a state that its view hides."""
    for v, view in enumerate(config.views):
        heads = config.heads_of(v)
        for head in range(heads):
            decay, state = STARTS[(head + 1) * len(STARTS) // heads - 1]
            yield decay, state if view.labels else None
