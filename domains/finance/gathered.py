"""The fraud network whose heads share a view's memory: windows laid out beside their targets."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from core.fused.rounds import FusedEncoder
from core.model.gathered import GatheredConfig, GatheredEncoder
from core.model.slots import Seen, Slots
from core.model.views import NO_EVENT
from domains.finance.batches import Gatherer
from domains.finance.memory import ViewMemory
from domains.finance.model import EventEmbedding, FraudModule, fraud_head
from domains.finance.stream import DAY, Stream, visible_label
from domains.finance.tokens import FinanceTokenizer

FIRST_LOG_ODDS = -5.0
"""Frauds are rare, and a network that starts from there needs not learn it."""
SLOTS = 1 << 15
"""Window slots of a view that scoring reads at a time: what that makes fits into a core's own
cache."""
Encode = Callable[[Tensor, Tensor], Tensor]
"""Embeddings [T, D] and carried numbers [T, C] of targets -> hidden states [T, D]."""


@dataclass(frozen=True)
class Look:
    """Stream places [T, W] that targets see through one view, NO_EVENT where there are fewer; the
    target itself last. `kept` is the share of the window that is there to be seen."""

    places: np.ndarray
    states: np.ndarray
    kept: float = 1.0


class GatheredFraudModule(FraudModule):
    """Training embeds each slot of a window anew; scoring embeds each event once."""

    HEAD = ("head.", "direct.")
    sees_itself = True
    """Whether a target reads its own fields in its windows."""

    def __init__(self, tokenizer: FinanceTokenizer, encoder: GatheredConfig) -> None:
        super().__init__()
        self.views = encoder
        views = len(encoder.views)
        self.embed = EventEmbedding(tokenizer, views, encoder.dim, ordered=True)
        self.recall = EventEmbedding(tokenizer, views, encoder.memory, ordered=True)
        self.encoder = GatheredEncoder(encoder)
        self.head = fraud_head(encoder)
        # What each input says by itself needs no layers to be heard.
        self.direct = nn.Linear(encoder.dim, 1, bias=False)
        nn.init.constant_(self.head[-1].bias, FIRST_LOG_ODDS)  # type: ignore[arg-type]

    def logits(self, gatherer: Gatherer, targets: np.ndarray) -> Tensor:
        encode = functools.partial(self.encoder.hidden, seen=self._sight(gatherer, targets))
        return self._judge(gatherer, targets, encode)

    def _sight(self, gatherer: Gatherer, targets: np.ndarray) -> list[Slots]:
        """What the targets see through every view, embedded for them alone."""
        seen = []
        for view in range(len(self.views.views)):
            look = self._look(gatherer, view, targets)
            events = self.recall(*self._inputs(gatherer, look.places.ravel()))
            states = self._tensor(look.states.ravel())
            pair = self.encoder.remember(view, events, states)
            keys, values = (part.view(*look.places.shape, -1) for part in pair)
            seen.append(self._seen(gatherer, targets, look, keys, values))
        return self.encoder.laid_out(seen)

    @torch.no_grad()
    def stream_logits(self, stream: Stream, places: np.ndarray, delay: int) -> Tensor:
        gatherer = Gatherer(stream, delay)
        found = torch.empty((len(places), *self.outputs), device=self.device)
        memories = [self._memory(gatherer, view, places) for view in range(len(self.views.views))]
        step = max(1, SLOTS // max(memory.width for memory in memories))
        reader = self._reader(memories)
        for start in range(0, len(places), step):
            chosen = memories[0].order[start : start + step]
            targets = places[chosen]
            encode = reader(chosen, stream.time[targets], stream.day[targets])
            found[self._tensor(chosen)] = self._judge(gatherer, targets, encode)
        return found

    def _memory(self, gatherer: Gatherer, view: int, targets: np.ndarray) -> ViewMemory:
        def embed(places: np.ndarray, states: np.ndarray) -> Tensor:
            events = self.recall(*self._inputs(gatherer, places))
            pair = self.encoder.remember(view, events, self._tensor(states))
            return torch.cat([*pair, self._tensor(gatherer.stream.floats[places])], dim=-1)

        look, size = self.views.views[view], self.encoder.config.head_size
        return ViewMemory(gatherer, view, look, targets, size, embed, self.sees_itself)

    def _reader(self, memories: Sequence[ViewMemory]) -> Callable[..., Encode]:
        """Of places among the targets, their times and days: the encoder of what they see."""
        if self._fuses():
            fused = FusedEncoder(self.encoder)
            return lambda *asked: functools.partial(
                fused.hidden, seen=[m.sight(*asked) for m in memories]
            )
        encode = self.encoder.hidden
        return lambda *asked: functools.partial(encode, seen=[m.slots(*asked) for m in memories])

    def _fuses(self) -> bool:
        """Whether the compiled form can run where the weights are."""
        return self.encoder.norm.weight.dtype == torch.float32 and self.device.type == "cpu"

    def _look(self, gatherer: Gatherer, view: int, targets: np.ndarray) -> Look:
        stream, order = gatherer.stream, gatherer.orders[view]
        places, kept = order.windows(targets, self.windows()[view]), 1.0
        if self.training and self.views.forget and places.shape[1] > 1:
            places, kept = _forgotten(places, self.views.forget)
        now = stream.time[targets][:, None]
        states = visible_label(stream.label[places], stream.time[places], now, gatherer.delay)
        return Look(places, states.astype(np.int64), kept)

    def _seen(
        self, gatherer: Gatherer, targets: np.ndarray, look: Look, keys: Tensor, values: Tensor
    ) -> Seen:
        stream, empty = gatherer.stream, look.places == NO_EVENT
        ages = (stream.time[targets][:, None] - stream.time[look.places]) / DAY
        days = stream.day[targets][:, None] - stream.day[look.places].astype(np.int64)
        # What was forgotten would have had mass of its own.
        bias = np.full(empty.shape, -math.log(look.kept))
        bias[:, -1] = 0
        bias[empty], ages[empty] = -np.inf, 0
        numbers = [ages.astype(np.float32), days, look.states, bias.astype(np.float32)]
        values = torch.cat([values, self._tensor(stream.floats[look.places])], dim=-1)
        return Seen(keys, values, *(self._tensor(x) for x in numbers))

    def _judge(self, gatherer: Gatherer, targets: np.ndarray, encode: Encode) -> Tensor:
        events = self.embed(*self._inputs(gatherer, targets))
        hidden = encode(events, self._tensor(gatherer.stream.floats[targets]))
        return (self.head(self.encoder.norm(hidden)) + self.direct(hidden))[:, 0]

    def _inputs(self, gatherer: Gatherer, places: np.ndarray) -> tuple[Tensor, Tensor]:
        ids = gatherer.stream.ids[places].astype(np.int64)
        return self._tensor(ids), self._tensor(gatherer.floats[places])

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device)


def _forgotten(places: np.ndarray, share: float) -> tuple[np.ndarray, float]:
    """Some slots of each window at random, and the target's own; with the share that is left."""
    others = places.shape[1] - 1
    kept = max(1, round(others * (1 - share)))
    draw = torch.rand(len(places), others).numpy()
    chosen = np.argpartition(draw, kept - 1, axis=1)[:, :kept]
    left = np.take_along_axis(places[:, :-1], chosen, axis=1)
    return np.concatenate([left, places[:, -1:]], axis=1), kept / others
