"""Figures agree with their definitions."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from core.errors import LongstrandError, TooFewLabelsError
from domains.finance.floors import logistic_regression
from domains.finance.metrics import Ranking, card_precision, fraud_metrics


@pytest.fixture
def sample():
    rng = np.random.default_rng(0)
    label = (rng.random(500) < 0.1).astype(float)
    return np.round(rng.normal(size=500) + label, 1), label, rng.integers(0, 4, 500).astype(float)


def test_ranking_figures_equal_scikit_learn_with_ties_and_weights(sample):
    score, label, weight = sample
    ranking = Ranking(score, label)
    expected = average_precision_score(label, score, sample_weight=weight)
    assert ranking.average_precision(weight) == pytest.approx(expected)
    assert ranking.roc_auc(weight) == pytest.approx(
        roc_auc_score(label, score, sample_weight=weight)
    )


def test_card_precision_counts_cards_not_transactions():
    frame = pl.DataFrame(
        {
            "day": [1, 1, 1, 1, 2, 2],
            "entity": [1, 1, 2, 3, 1, 2],
            "raw": [9.0, 8.0, 7.0, 1.0, 5.0, 6.0],
            "label": [0, 1, 0, 1, 0, 1],
        }
    )
    assert card_precision(frame, 2).tolist() == [0.5, 0.5]


def test_a_card_once_caught_is_not_caught_again():
    frame = pl.DataFrame(
        {"day": [1, 2, 2], "entity": [1, 1, 2], "raw": [3.0, 2.0, 1.0], "label": [1, 1, 0]}
    )
    assert card_precision(frame, 1).tolist() == [1.0, 0.0]


def test_intervals_hold_the_value_and_one_class_is_refused(sample):
    score, label, _ = sample
    frame = pl.DataFrame(
        {
            "label": label.astype(int),
            "raw": score,
            "score": 1 / (1 + np.exp(-score)),
            "day": np.arange(500) // 50,
            "entity": np.arange(500) % 40,
        }
    )
    for metric in fraud_metrics("d", "p", frame):
        assert metric.low <= metric.value <= metric.high
    with pytest.raises(TooFewLabelsError):
        fraud_metrics("d", "p", frame.with_columns(label=pl.lit(0)))


def test_logistic_regression_finds_the_direction_and_the_rate():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(4000, 3))
    chance = 1 / (1 + np.exp(-(2 * x[:, 0] - 3)))
    label = rng.random(4000) < chance
    places = np.arange(4000)
    found = logistic_regression(x, label, places[:3000], places[3000:])
    assert np.corrcoef(found, chance[3000:])[0, 1] > 0.98
    assert found.mean() == pytest.approx(chance[3000:].mean(), rel=0.15)


@pytest.mark.parametrize("column", ["raw", "score"])
def test_figures_of_a_diverged_model_are_refused(column):
    frame = pl.DataFrame(
        {
            "label": [0, 1, 0],
            "raw": [0.0, 1.0, 2.0],
            "score": [0.1, 0.5, 0.9],
            "day": 1,
            "entity": 1,
        }
    )
    broken = frame.with_columns(pl.Series(column, [0.0, float("nan"), 1.0]))
    with pytest.raises(LongstrandError, match=r"1 of 3 .* are not finite numbers"):
        fraud_metrics("d", "p", broken)
