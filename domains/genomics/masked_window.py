"""Windows of a genome to learn from without labels: bases alone, cut anew in every epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from core.training.loader import WHOLE, Share, generator_at
from domains.genomics.contig import UNKNOWN, Genome
from domains.genomics.source import Reference
from domains.genomics.stretch import Run
from domains.genomics.window import Span


def stack_bases(reference: Reference, spans: Sequence[Span], width: int) -> dict[str, Any]:
    """Spans, each at most `width` long, padded on the right with N.

    Returns:
        base uint8 [B, width], real bool [B, width] (left out where nothing is padding).
    """
    base = np.full((len(spans), width), UNKNOWN, dtype=np.uint8)
    real = np.zeros((len(spans), width), dtype=bool)
    for i, span in enumerate(spans):
        n = span.end - span.start
        base[i, :n] = reference.sequence(span.contig)[span.start : span.end]
        real[i, :n] = True
    out = {"base": torch.from_numpy(base), "tokens": int(real.sum())}
    return out if real.all() else out | {"real": torch.from_numpy(real)}


class MaskedWindows:
    """Batch k of windows over runs of bases, a pure function of (seed, k).

    An epoch passes over every base about once: windows lie side by side from a start that is drawn
    anew, and come in a drawn order. The runs lie one after another in one array, so that a batch
    is one look-up.

    Args:
        runs: what is learned from.
        soft_mask: weight of a base in lower case; others have 1.
    """

    def __init__(
        self,
        genome: Genome,
        runs: Sequence[Run],
        window: int,
        batch_size: int,
        soft_mask: float,
        seed: int,
    ) -> None:
        self.batch_size, self.seed = batch_size, seed
        self._length = np.array([run.end - run.start for run in runs])
        self.window = int(min(window, self._length.max()))
        self._first = np.cumsum(self._length) - self._length
        end = np.full(self.window, UNKNOWN, dtype=np.uint8)  # the last run may be a short one
        parts = [genome.contigs[run.contig][run.start : run.end] for run in runs]
        self._base = np.concatenate([*parts, end])
        self._weight = _weights(genome, runs, soft_mask, self.window)
        self._count = -(-self._length // self.window) + 1
        self.per_epoch = int(self._count.sum())
        self._laid: tuple[int, np.ndarray, np.ndarray] | None = None

    def batch_at(self, step: int, share: Share = WHOLE) -> dict[str, Any]:
        """base uint8 [B, window]; weight float32 [B, window] where some are in lower case; real
        bool [B, window] where a run is shorter than a window; tokens."""
        wanted = share.of(np.arange(step * self.batch_size, (step + 1) * self.batch_size))
        epoch, place = np.divmod(wanted, self.per_epoch)
        drawn = [self._windows(int(e)) for e in epoch]
        run = np.array([of[p] for (of, _), p in zip(drawn, place, strict=True)])
        start = np.array([at[p] for (_, at), p in zip(drawn, place, strict=True)])
        inside = start[:, None] + np.arange(self.window)
        index = self._first[run][:, None] + inside
        real = inside < self._length[run][:, None]
        batch: dict[str, Any] = {"tokens": int(real.sum())}
        base = self._base[index]
        if not real.all():
            base = np.where(real, base, np.uint8(UNKNOWN))
            batch["real"] = torch.from_numpy(real)
        if self._weight is not None:
            batch["weight"] = torch.from_numpy(self._weight[index])
        return batch | {"base": torch.from_numpy(base)}

    def _windows(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Run, and first base in it, of each window of an epoch in the order in which they come."""
        if self._laid is None or self._laid[0] != epoch:
            draw = generator_at(self.seed, -1 - epoch)
            order = torch.randperm(self.per_epoch, generator=draw).numpy()
            shift = torch.randint(self.window, (len(self._length),), generator=draw).numpy()
            run = np.repeat(np.arange(len(self._length)), self._count)
            number = np.arange(self.per_epoch) - np.repeat(
                np.cumsum(self._count) - self._count, self._count
            )
            last = np.maximum(self._length - self.window, 0)[run]
            start = np.clip((number - 1) * self.window + shift[run], 0, last)
            self._laid = (epoch, run[order], start[order])
        return self._laid[1:]


def _weights(
    genome: Genome, runs: Sequence[Run], soft_mask: float, window: int
) -> np.ndarray | None:
    """float32 weight of every base of the runs, and of a window behind them; None where all are
    1."""
    if not any(run.contig in genome.soft for run in runs):
        return None
    masked = [genome.soft_masked(run.contig)[run.start : run.end] for run in runs]
    lower = np.concatenate([*masked, np.zeros(window, dtype=bool)])
    return np.where(lower, np.float32(soft_mask), np.float32(1))
