"""The surprise network: an event's fields predicted from what came before it.

The encoder is that of the fraud network, so that a fraud training may begin from its weights. A
target sees the past of its keys, the time and which views it stands in; of itself nothing more.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.model.gathered import GatheredConfig
from core.model.slots import FEATURES, Slots
from core.model.views import NO_EVENT
from domains.finance.batches import Gatherer
from domains.finance.fields import Field, classes
from domains.finance.gathered import Encode, GatheredFraudModule
from domains.finance.model import FraudEnsemble
from domains.finance.stream import DAY
from domains.finance.tokens import FinanceTokenizer

CALENDAR = 2
"""Columns of `Stream.ids` that the time alone makes: hour and weekday, the last ones."""
PACE = 8
"""Gaps before it that a gap is predicted from."""
OUTLIERS = 0.003
"""Share of a batch, a number's most surprising values, that teaches nothing of this number:
otherwise frauds in the training rows would make frauds usual."""


class SurpriseHead(nn.Module):
    """Hidden states and the pace of keys -> scores of all classes of all fields."""

    def __init__(self, fields: Sequence[Field], dim: int, ffn: int, paces: Sequence[int]) -> None:
        super().__init__()
        self.fields = fields
        seen = sum(f.size for f in fields if f.kind != "gap")
        self.seen = nn.Sequential(nn.Linear(dim, ffn), nn.GELU(), nn.Linear(ffn, seen))
        gaps = [f for f in fields if f.kind == "gap"]
        self.pace = nn.ModuleList(
            nn.Sequential(nn.Linear(3 * n + 2, ffn), nn.GELU(), nn.Linear(ffn, f.size))
            for f, n in zip(gaps, paces, strict=True)
        )

    def forward(self, hidden: Tensor, paces: Sequence[Tensor]) -> list[Tensor]:
        """[T, D] and [T, 3 K + 2] a gap -> [T, size] log-probabilities, one a field."""
        seen = iter(self.seen(hidden).split([f.size for f in self.fields if f.kind != "gap"], -1))
        gaps = iter([layer(pace) for layer, pace in zip(self.pace, paces, strict=True)])
        chosen = [next(gaps if f.kind == "gap" else seen) for f in self.fields]
        return [F.log_softmax(scores, dim=-1) for scores in chosen]


class SurpriseModule(GatheredFraudModule):
    """`logits` and `stream_logits` give [T, F]: how little each field's value was expected, in
    nats (minus the logarithm of its probability)."""

    sees_itself = False

    def __init__(
        self, tokenizer: FinanceTokenizer, encoder: GatheredConfig, fields: Sequence[Field]
    ) -> None:
        super().__init__(tokenizer, encoder)
        self.fields, self.offsets = list(fields), tokenizer.offsets
        self.outputs = (len(fields),)
        gaps = [f.place for f in fields if f.kind == "gap"]
        # As far back as what scoring keeps of a key.
        self.paces = [min(PACE, (self.windows()[v] or PACE + 1) - 1) for v in gaps]
        self.direct = None
        self.head = SurpriseHead(fields, encoder.dim, encoder.ffn, self.paces)

    @classmethod
    def ensemble(cls, members: Sequence[SurpriseModule]) -> SurpriseEnsemble:
        return SurpriseEnsemble(members)

    def loss(self, batch: Mapping[str, Any]) -> Tensor:
        nats = self.logits(batch["gatherer"], batch["targets"])
        total = nats.new_zeros(())
        for place, field in enumerate(self.fields):
            each = nats[:, place]
            if field.kind == "number":
                each = each.clamp_max(10)[each <= each.detach().quantile(1 - OUTLIERS)]
            total = total + self.mean(each.sum(), len(each))
        return total

    def expected(self, gatherer: Gatherer, targets: np.ndarray) -> list[Tensor]:
        """[T, size] log-probabilities of each field at a few stream places."""
        encode = functools.partial(self.encoder.hidden, seen=self._sight(gatherer, targets))
        return self._expect(gatherer, targets, encode)

    def classes(self, gatherer: Gatherer, targets: np.ndarray) -> np.ndarray:
        """[T, F] what the fields are."""
        return classes(self.fields, gatherer, targets, self.windows(), self.offsets)

    def _sight(self, gatherer: Gatherer, targets: np.ndarray) -> list[Slots]:
        size = self.encoder.config.head_size
        return [_without_itself(one, size) for one in super()._sight(gatherer, targets)]

    def _judge(self, gatherer: Gatherer, targets: np.ndarray, encode: Encode) -> Tensor:
        found = self._tensor(self.classes(gatherer, targets))
        expected = self._expect(gatherer, targets, encode)
        nats = [-e.gather(1, found[:, i : i + 1])[:, 0] for i, e in enumerate(expected)]
        return torch.stack(nats, dim=1)

    def _expect(self, gatherer: Gatherer, targets: np.ndarray, encode: Encode) -> list[Tensor]:
        stream = gatherer.stream
        calendar = self._tensor(stream.ids[targets, -CALENDAR:].astype(np.int64))
        nothing = calendar.new_zeros((len(targets), stream.floats.shape[1]), dtype=torch.float32)
        events = self.embed.table(calendar) + self.embed.linear.bias
        hidden = self.encoder.norm(encode(events, nothing))
        return self.head(hidden, self._paces(gatherer, targets))

    def _paces(self, gatherer: Gatherer, targets: np.ndarray) -> list[Tensor]:
        """What is known of the gaps before: of each its length, whether it was a key's first and
        whether it is there, then the time of day of the last event."""
        stream, found = gatherer.stream, []
        gaps = [f.place for f in self.fields if f.kind == "gap"]
        for view, depth in zip(gaps, self.paces, strict=True):
            places = gatherer.orders[view].windows(targets, depth + 1)[:, :-1]
            there = (places != NO_EVENT)[..., None]
            column = stream.floats.shape[1] + view
            both = gatherer.floats[places][..., [column, column + len(self.views.views)]]
            turn = 2 * np.pi * (stream.time[places[:, -1:]] % DAY) / DAY
            clock = np.concatenate([np.sin(turn), np.cos(turn)], axis=1) * there[:, -1]
            told = np.concatenate([both * there, there], axis=-1).reshape(len(targets), -1)
            found.append(self._tensor(np.concatenate([told, clock], axis=1).astype(np.float32)))
        return found


class SurpriseEnsemble(FraudEnsemble):
    """Mean nats of several trainings of the same network."""

    def __init__(self, members: Sequence[SurpriseModule]) -> None:
        super().__init__(members)
        self.fields, self.outputs = members[0].fields, members[0].outputs

    def expected(self, gatherer: Gatherer, targets: np.ndarray) -> list[Tensor]:
        """As of one module: of the mean log-probabilities, made to add up to one."""
        each = [module.expected(gatherer, targets) for module in self._trainings()]
        return [F.log_softmax(torch.stack(e).mean(0), dim=-1) for e in zip(*each, strict=True)]

    def classes(self, gatherer: Gatherer, targets: np.ndarray) -> np.ndarray:
        return self._trainings()[0].classes(gatherer, targets)

    def _trainings(self) -> list[SurpriseModule]:
        return cast("list[SurpriseModule]", list(self.members))


def _without_itself(seen: Slots, size: int) -> Slots:
    """The last slot is the target's own: it stays, for who has no past, but tells nothing. Keys are
    `size` wide."""
    visible = seen.content.new_ones(seen.content.shape[1:])
    visible[-1, :size] = 0
    visible[-1, size + FEATURES :] = 0
    return seen._replace(content=seen.content * visible)
