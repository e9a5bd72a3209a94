"""Models that take no learning worth the name: the amount alone, and a logistic regression on
the past-only aggregates of the Fraud Detection Handbook (Le Borgne et al. 2022, chapter 3)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from domains.finance.stream import DAY, KeyOrder, Stream

DAYS = (1, 7, 30)


def amount_feature(amount: np.ndarray) -> np.ndarray:
    """[n] -> [n, 1]."""
    return amount[:, None].astype(np.float64)


def aggregate_features(stream: Stream, amount: np.ndarray, delay: int) -> np.ndarray:
    """[n, 3 + 12 V]: amount, weekend, night, and for every view's key over 1, 7 and 30 days the
    count, the mean amount, and count and fraud rate in the same windows ended `delay` ago."""
    hour = stream.time // (DAY // 24) % 24
    # 1970-01-01 was a Thursday.
    weekend = (stream.time // DAY + 3) % 7 >= 5
    columns = [amount, weekend.astype(np.float64), (hour <= 6).astype(np.float64)]
    fraud = (stream.label == 1).astype(np.float64)
    for view in range(stream.keys.shape[1]):
        past = _Past(stream, view)
        for days in DAYS:
            count, total = past.sums([np.ones(len(stream)), amount], days * DAY, 0)
            columns += [count, total / np.maximum(count, 1)]
            count, frauds = past.sums([np.ones(len(stream)), fraud], delay + days * DAY, delay)
            columns += [count, frauds / np.maximum(count, 1)]
    return np.stack(columns, axis=1)


class _Past:
    """Sums over windows of one key's past by one search in (key, time) order."""

    def __init__(self, stream: Stream, view: int) -> None:
        self.order = KeyOrder.of(stream.keys[:, view])
        time = stream.time[self.order.order] - stream.time.min()
        self.span = int(time.max()) + 1000 * DAY
        self.first = self.order.first[self.order.order]
        _, code = np.unique(self.first, return_inverse=True)
        self.key = code.astype(np.int64) * self.span + time

    def sums(self, values: Sequence[np.ndarray], start: int, end: int) -> list[np.ndarray]:
        """[n] sums over events with now - start < time <= now - end; `end` 0 includes now."""
        low = np.maximum(np.searchsorted(self.key, self.key - start, side="right"), self.first)
        here = np.arange(1, len(self.key) + 1)
        high = np.searchsorted(self.key, self.key - end, side="right") if end else here
        high = np.maximum(high, low)
        found = []
        for value in values:
            total = np.concatenate([[0.0], np.cumsum(value[self.order.order])])
            out = np.empty(len(value))
            out[self.order.order] = total[high] - total[low]
            found.append(out)
        return found


def logistic_regression(
    features: np.ndarray, label: np.ndarray, train: np.ndarray, test: np.ndarray
) -> np.ndarray:
    """[len(test)] probabilities. Newton's method with a ridge on standardised features, which
    are cut at 6 standard deviations so that no single row rules.

    Args:
        features: [n, d] of all rows.
        label: [n] 0 or 1, read at `train` only.
        train, test: places of rows.
    """
    mean, scale = features[train].mean(axis=0), features[train].std(axis=0) + 1e-9
    design, target = _design(features[train], mean, scale), label[train].astype(np.float64)
    weights = np.zeros(design.shape[1])
    weights[-1] = np.log(max(target.mean(), 1e-6) / max(1 - target.mean(), 1e-6))
    ridge = np.eye(len(weights))
    for _ in range(50):
        p = _sigmoid(design @ weights)
        gradient = design.T @ (p - target) + ridge @ weights
        hessian = (design * (p * (1 - p))[:, None]).T @ design + ridge
        step = np.linalg.solve(hessian, gradient)
        # Far from the optimum a full Newton step overshoots.
        weights -= step / max(1.0, np.abs(step).max())
        if np.abs(step).max() < 1e-6:
            break
    return _sigmoid(_design(features[test], mean, scale) @ weights)


def _design(features: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    standard = np.clip((features - mean) / scale, -6, 6)
    return np.column_stack([standard, np.ones(len(features))])


def _sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(z, -30, 30)))
