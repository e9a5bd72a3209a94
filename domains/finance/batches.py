"""Gathered batches: targets with the last events of each of their keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from core.errors import TooFewLabelsError
from core.training.loader import WHOLE, Share, generator_at
from domains.finance.stream import KeyOrder, Stream, visible_label
from domains.finance.tokens import gap_features

Batch = dict[str, Any]


class Gatherer:
    """Pure index arithmetic after one sort a view."""

    def __init__(self, stream: Stream, delay: int) -> None:
        self.stream = stream
        self.delay = delay
        self.orders = [KeyOrder.of(stream.keys[:, v]) for v in range(stream.keys.shape[1])]
        self.floats = np.concatenate([stream.floats, gap_features(stream.gaps)], axis=1)

    def gather(self, targets: np.ndarray, windows: Sequence[int | None]) -> Batch:
        """[T] stream places and one window a view -> tensors.

        The tokens of the targets and of every view's memory follow each other, `sizes` long each.
        An event that several targets see in the same label state is one memory event.
        """
        s = self.stream
        events, states, slots = [targets], [np.full(len(targets), 2)], []
        for order, window in zip(self.orders, windows, strict=True):
            seen = order.windows(targets, window)
            state = visible_label(s.label[seen], s.time[seen], s.time[targets][:, None], self.delay)
            code = np.where(seen < 0, -1, seen * 3 + state)
            unique, place = np.unique(code, return_inverse=True)
            # The code -1 sorts first, so places shift down onto NO_EVENT when it is there.
            empty = int(unique[0] == -1)
            slots.append(torch.from_numpy(place.reshape(code.shape) - empty))
            events.append(unique[empty:] // 3)
            states.append(unique[empty:] % 3)
        flat = np.concatenate(events)
        return {
            "sizes": [len(e) for e in events],
            "ids": torch.from_numpy(s.ids[flat].astype(np.int64)),
            "floats": torch.from_numpy(self.floats[flat]),
            "times": torch.from_numpy(s.time[flat]),
            "states": torch.from_numpy(np.concatenate(states).astype(np.int64)),
            "slots": slots,
        }


def sampled_batches(
    gatherer: Gatherer, rows: np.ndarray, seed: int, size: int, negative_rate: float
) -> Callable[..., Batch]:
    """Batch k as a function of (seed, k): frauds and legitimate rows in the proportion of every
    fraud to `negative_rate` of the rest, drawn afresh each time. A batch only names its targets;
    the module gathers what its views ask for.

    Args:
        rows: stream places that may be targets; rows without a label are left out.

    Raises:
        TooFewLabelsError: one of the classes is missing.
    """
    label = gatherer.stream.label[rows]
    frauds, rest = rows[label == 1], rows[label == 0]
    if not len(frauds) or not len(rest):
        raise TooFewLabelsError(
            f"training rows: found {len(frauds)} frauds and {len(rest)} legitimate rows with a "
            "label, expected both; move split.train_before or wait for labels to mature"
        )
    share = len(frauds) / (len(frauds) + negative_rate * len(rest))
    positives = min(max(1, round(size * share)), size - 1)
    negatives = size - positives
    offset = np.log(positives / len(frauds)) - np.log(negatives / len(rest))

    def batch_at(k: int, share: Share = WHOLE) -> Batch:
        generator = generator_at(seed, k)
        chosen = [
            pool[torch.randint(len(pool), (n,), generator=generator).numpy()]
            for pool, n in ((frauds, positives), (rest, negatives))
        ]
        targets = share.of(np.concatenate(chosen))
        label = torch.from_numpy((gatherer.stream.label[targets] == 1).astype(np.float32))
        return {
            "gatherer": gatherer,
            "targets": targets,
            "label": label,
            "offset": float(offset),
            "tokens": len(targets),
        }

    return batch_at


def uniform_batches(
    gatherer: Gatherer, rows: np.ndarray, seed: int, size: int
) -> Callable[..., Batch]:
    """Batch k as a function of (seed, k): `size` of these stream places, drawn afresh each time."""

    def batch_at(k: int, share: Share = WHOLE) -> Batch:
        chosen = torch.randint(len(rows), (size,), generator=generator_at(seed, k)).numpy()
        targets = share.of(rows[chosen])
        return {"gatherer": gatherer, "targets": targets, "tokens": len(targets)}

    return batch_at
