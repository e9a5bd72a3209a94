"""Models that take no learning worth the name: the amount alone, and a logistic regression on
the past-only aggregates of the Fraud Detection Handbook (Le Borgne et al. 2022, chapter 3)."""

from __future__ import annotations

import numpy as np

from domains.finance.past import Past
from domains.finance.stream import DAY, Stream

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
        past = Past(stream.keys[:, view], stream.time)
        dark = past.known(delay)
        for days in DAYS:
            columns += past.count_and_mean(amount, past.known(days * DAY), past.here + 1)
            columns += past.count_and_mean(fraud, past.known(delay + days * DAY), dark)
    return np.stack(columns, axis=1)


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
