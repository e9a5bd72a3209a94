"""The fraud network: event embedding -> keyed encoder -> one logit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.errors import LongstrandError
from core.model.keyed import KeyedEncoder, KeyedEncoderConfig, Memory
from core.model.views import Views
from core.training.module import SequenceModule
from domains.finance.batches import Gatherer
from domains.finance.stream import Stream
from domains.finance.tokens import FinanceTokenizer, gap_features

UNKNOWN_DROP = 0.02
"""Share of category tokens that training replaces by the unknown token, so that it is trained."""
BIN_SPREAD, STEP_SPREAD = 0.3, 0.03
"""Of an embedding at the start: each bin on its own, and the steps that add up to one."""

ALIGNED = 16
"""Floats of a cache line."""


def require_finite(values: np.ndarray, what: str) -> np.ndarray:
    """The same numbers.

    Raises:
        LongstrandError: some are not finite, so that the model is worth nothing.
    """
    bad = int((~np.isfinite(values)).sum())
    if bad:
        raise LongstrandError(
            f"model: {bad} of {len(values)} {what} are not finite numbers: its training diverged; "
            "train again with a lower trainer.lr or with trainer.clip above 0"
        )
    return values


class EventEmbedding(nn.Module):
    """Token ids, continuous inputs and gaps of an event -> [n, D].

    Args:
        ordered: whether a number's bin is the sum of the steps up to it, so that what is learned
            of one bin holds beyond it until another step takes it back; few events teach a
            threshold that way. If not, each bin is on its own.
    """

    unknown: Tensor

    def __init__(
        self, tokenizer: FinanceTokenizer, views: int, dim: int, ordered: bool = False
    ) -> None:
        super().__init__()
        self.table = nn.EmbeddingBag(sum(tokenizer.sizes), dim, mode="sum")
        nn.init.normal_(self.table.weight, std=STEP_SPREAD if ordered else BIN_SPREAD)
        self.linear = nn.Linear(tokenizer.floats + 2 * views, dim)
        self.categories = tokenizer.category_columns
        # Numbers come first.
        self.ordered = tokenizer.sizes[: self.categories.start] if ordered else []
        unknown = torch.tensor(tokenizer.offsets)
        self.register_buffer("unknown", unknown, persistent=False)

    def forward(self, ids: Tensor, floats: Tensor) -> Tensor:
        """[n, K] int64 ids and [n, P] inputs (continuous, then gaps) -> [n, D]."""
        if self.training and self.categories.start < self.categories.stop:
            dropped = torch.rand(ids.shape, device=ids.device) < UNKNOWN_DROP
            dropped[:, : self.categories.start] = False
            dropped[:, self.categories.stop :] = False
            ids = torch.where(dropped, self.unknown, ids)
        return F.embedding_bag(ids, self._weights(), mode="sum") + self._continuous(floats)

    def _continuous(self, floats: Tensor) -> Tensor:
        """Rows as long as an aligned load: how a matrix product rounds a row can depend on where
        it begins in memory, and an event's number must not depend on its place in a batch."""
        missing = (0, -floats.shape[1] % ALIGNED)
        return F.linear(
            F.pad(floats, missing), F.pad(self.linear.weight, missing), self.linear.bias
        )

    def _weights(self) -> Tensor:
        """Of all ids."""
        weight = self.table.weight
        if not self.ordered:
            return weight
        *bins, others = weight.split([*self.ordered, len(weight) - sum(self.ordered)])
        return torch.cat([*map(running_sum, bins), others])


def running_sum(steps: Tensor) -> Tensor:
    """[K, D] -> [K, D]: each row with all before it.

    torch's own adds in no fixed order on a GPU, so that a deterministic training refuses it there;
    here sums of 1, 2, 4 ... rows are added up in turn.
    """
    if steps.device.type == "cpu":
        return steps.cumsum(0)
    reach = 1
    while reach < len(steps):
        steps = steps + F.pad(steps[:-reach], (0, 0, reach, 0))
        reach *= 2
    return steps


class FraudModule(SequenceModule):
    """Log-odds of fraud. The loss is binary cross-entropy on sampled targets; the batch's
    `offset` is what the sampling added to the log-odds, so that raw scores need no weights."""

    views: Views
    focal: float = 0.0
    """Power of what is left to learn of a row; 0 is plain cross-entropy."""
    outputs: tuple[int, ...] = ()
    """Shape of what is said of one event: a number here."""

    def logits(self, gatherer: Gatherer, targets: np.ndarray) -> Tensor:
        """[T] log-odds of these places of a stream, from their gathered windows."""
        raise NotImplementedError

    def stream_logits(self, stream: Stream, places: np.ndarray, delay: int) -> Tensor:
        """[T] log-odds of these places, equal to `logits`, by the faster way for many of them;
        without gradient."""
        raise NotImplementedError

    def windows(self) -> list[int | None]:
        """Events that each view shows."""
        return [view.window for view in self.views.views]

    def loss(self, batch: Mapping[str, Any]) -> Tensor:
        logits = self.logits(batch["gatherer"], batch["targets"])
        sampled, label = logits + batch["offset"], batch["label"]
        each = F.binary_cross_entropy_with_logits(sampled, label, reduction="none")
        if self.focal:
            # Away from 0, where a power below 1 has no slope.
            wrong = (sampled.sigmoid() - label).abs().clamp_min(1e-6)
            each = each * wrong**self.focal
        return self.mean(each.sum(), len(each))

    @classmethod
    def ensemble(cls, members: Sequence[FraudModule]) -> FraudEnsemble:
        return FraudEnsemble(members)


class FraudEnsemble(FraudModule):
    """Mean log-odds of several trainings of the same network."""

    def __init__(self, members: Sequence[FraudModule]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.views = members[0].views

    def logits(self, gatherer: Gatherer, targets: np.ndarray) -> Tensor:
        return torch.stack([m.logits(gatherer, targets) for m in self._each()]).mean(0)

    def stream_logits(self, stream: Stream, places: np.ndarray, delay: int) -> Tensor:
        found = [m.stream_logits(stream, places, delay) for m in self._each()]
        return torch.stack(found).mean(0)

    def _each(self) -> list[FraudModule]:
        return cast("list[FraudModule]", list(self.members))


def fraud_head(sizes: Views) -> nn.Sequential:
    """[T, D] -> [T, 1]."""
    return nn.Sequential(nn.Linear(sizes.dim, sizes.ffn), nn.GELU(), nn.Linear(sizes.ffn, 1))


class KeyedFraudModule(FraudModule):
    """A memory for each head, scored by the windowed kernel over the whole stream."""

    def __init__(self, tokenizer: FinanceTokenizer, encoder: KeyedEncoderConfig) -> None:
        super().__init__()
        self.views = encoder
        self.embed = EventEmbedding(tokenizer, len(encoder.views), encoder.dim)
        self.encoder = KeyedEncoder(encoder)
        self.head = fraud_head(encoder)

    def logits(self, gatherer: Gatherer, targets: np.ndarray) -> Tensor:
        from pytorch_lightning.utilities import move_data_to_device

        batch = move_data_to_device(gatherer.gather(targets, self.windows()), self.device)
        events = self.embed(batch["ids"], batch["floats"])
        target, *memories = events.split(batch["sizes"])
        times, *memory_times = batch["times"].split(batch["sizes"])
        _, *states = batch["states"].split(batch["sizes"])
        memory = [
            Memory(*parts)
            for parts in zip(memories, memory_times, states, batch["slots"], strict=True)
        ]
        return self.head(self.encoder.targets(target, times, memory))[:, 0]

    def stream_logits(self, stream: Stream, places: np.ndarray, delay: int) -> Tensor:
        def tensor(values: np.ndarray) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(values)).to(self.device)

        inputs = np.concatenate([stream.floats, gap_features(stream.gaps)], axis=1)
        hidden = self.encoder.stream(
            self.embed(tensor(stream.ids.astype(np.int64)), tensor(inputs)),
            tensor(stream.time),
            tensor(stream.label.astype(np.int64)),
            [tensor(stream.keys[:, v]) for v in range(stream.keys.shape[1])],
            delay,
            query=tensor(places),
        )
        return self.head(hidden)[:, 0]
