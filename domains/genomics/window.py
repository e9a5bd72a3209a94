"""Windows of a contig as tensors: the batches of training, the tiles of scoring."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import torch

from core.training.loader import WHOLE, Share, generator_at
from domains.genomics.contig import UNKNOWN
from domains.genomics.source import Reference
from domains.genomics.tokenizer import EffectTokenizer


@dataclass(frozen=True)
class Span:
    """Bases [start, end) of a contig."""

    contig: str
    start: int
    end: int


Stack = Callable[[Reference, Sequence[Span], int], dict[str, Any]]


def stack_windows(
    reference: Reference, spans: Sequence[Span], width: int, facts: bool = False
) -> dict[str, Any]:
    """Spans, each at most `width` long, padded on the right.

    Returns:
        base int64 [B, width], channel int8 [B, width, channels], site int64 [B, width],
        real bool [B, width] (False on padding), tokens (number of real positions); with `facts`
        also fact float32 [B, width, sites] and change float32 [B, width, 4, changes].
    """
    first = reference.channels(spans[0].contig)
    base = np.full((len(spans), width), UNKNOWN, dtype=np.int64)
    site = np.zeros((len(spans), width), dtype=np.int64)
    channel = np.zeros((len(spans), width, first.shape[1]), dtype=np.int8)
    real = np.zeros((len(spans), width), dtype=bool)
    for i, span in enumerate(spans):
        n = span.end - span.start
        base[i, :n] = reference.sequence(span.contig)[span.start : span.end]
        site[i, :n] = reference.sites(span.contig)[span.start : span.end]
        channel[i, :n] = reference.channels(span.contig)[span.start : span.end]
        real[i, :n] = True
    told = _facts(reference, spans, width) if facts else {}
    return told | {
        "base": torch.from_numpy(base),
        "channel": torch.from_numpy(channel),
        "site": torch.from_numpy(site),
        "real": torch.from_numpy(real),
        "tokens": int(real.sum()),
    }


def stack_of(tokenizer: EffectTokenizer) -> Stack:
    """`stack_windows`, with facts where the tokenizer knows them."""
    return partial(stack_windows, facts=tokenizer.facts is not None)


def _facts(reference: Reference, spans: Sequence[Span], width: int) -> dict[str, Any]:
    told = [reference.facts(span.contig).window(span.start, span.end) for span in spans]
    out = {}
    for i, name in enumerate(("fact", "change")):
        each = [pair[i] for pair in told]
        padded = np.zeros((len(spans), width, *each[0].shape[1:]), dtype=np.float32)
        for place, numbers in zip(padded, each, strict=True):
            place[: len(numbers)] = numbers
        out[name] = torch.from_numpy(padded)
    return out


class TrainingWindows:
    """Batch k of windows over labelled positions, a pure function of (seed, k).

    An epoch has as many windows as it takes to pass over the labelled stretches once; each
    window is anchored at a labelled position of its own stretch of them and shifted at random,
    so that coverage is even and no two epochs cut the sequence alike.
    """

    def __init__(
        self,
        reference: Reference,
        tokenizer: EffectTokenizer,
        rows: pl.DataFrame,
        window: int,
        batch_size: int,
        seed: int,
    ) -> None:
        self.reference, self.window, self.batch_size = reference, window, batch_size
        self.seed, self.stack = seed, stack_of(tokenizer)
        self._by_contig: dict[str, tuple[np.ndarray, ...]] = {}
        anchors: list[tuple[str, int]] = []
        for (name,), part in rows.sort("chrom", "pos", "alt").group_by(
            "chrom", maintain_order=True
        ):
            pos = part["pos"].to_numpy()
            label = tokenizer.to_model(part["label"].to_numpy()).astype(np.float32)
            weight = part["weight"].to_numpy().astype(np.float32)
            self._by_contig[str(name)] = (pos, part["alt"].to_numpy(), label, weight)
            anchors += [(str(name), int(p)) for p in np.unique(pos)]
        self._anchors = anchors
        bases = sum(_bases_around(pos, window) for pos, *_ in self._by_contig.values())
        self.per_epoch = -(-bases // window)

    def batch_at(self, step: int, share: Share = WHOLE) -> dict[str, Any]:
        """Windows of step `step` with label and weight float32 [B, window, 4]; weight 0 where
        nothing is known."""
        draw = generator_at(self.seed, step)
        drawn = [self._span(step * self.batch_size + i, draw) for i in range(self.batch_size)]
        spans = share.of(drawn)
        batch = self.stack(self.reference, spans, self.window)
        label = np.zeros((len(spans), self.window, 4), dtype=np.float32)
        weight = np.zeros_like(label)
        for i, span in enumerate(spans):
            pos, alt, value, trust = self._by_contig[span.contig]
            a, b = np.searchsorted(pos, (span.start, span.end))
            label[i, pos[a:b] - span.start, alt[a:b]] = value[a:b]
            weight[i, pos[a:b] - span.start, alt[a:b]] = trust[a:b]
        return batch | {"label": torch.from_numpy(label), "weight": torch.from_numpy(weight)}

    def _span(self, index: int, draw: torch.Generator) -> Span:
        epoch, place = divmod(index, self.per_epoch)
        order = torch.randperm(self.per_epoch, generator=generator_at(self.seed, -1 - epoch))
        stretch = int(order[place])
        within, shift = torch.rand(2, generator=draw, dtype=torch.float64).tolist()
        anchor = int((stretch + within) / self.per_epoch * len(self._anchors))
        contig, pos = self._anchors[anchor]
        length = len(self.reference.sequence(contig))
        last = max(0, length - self.window)
        start = min(max(0, pos - int(shift * self.window)), last)
        return Span(contig, start, min(length, start + self.window))


def _bases_around(sorted_positions: np.ndarray, window: int) -> int:
    """Bases that windows over these positions have to pass, gaps wider than a window cut."""
    return window + int(np.minimum(np.diff(sorted_positions), window).sum())
