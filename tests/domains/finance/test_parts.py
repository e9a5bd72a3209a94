"""Figures of weeks, kinds of fraud, and new and known entities are those of these rows alone."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import average_precision_score

from domains.finance.parts import NEW, earlier, part_metrics

ROWS = 2100


@pytest.fixture(scope="module")
def predictions():
    """Three weeks; a kind that scores high, one that scores like legitimate rows."""
    rng = np.random.default_rng(0)
    kind = rng.choice(["", "easy", "hard", "rare"], ROWS, p=[0.897, 0.05, 0.05, 0.003])
    return pl.DataFrame(
        {
            "label": (kind != "").astype(np.int8),
            "kind": kind,
            "raw": rng.normal(size=ROWS) + 9 * (kind == "easy"),
            "day": [date(2024, 3, 1) + timedelta(days=int(d)) for d in np.arange(ROWS) // 100],
            "entity": rng.integers(0, 80, ROWS),
            "earlier:card": rng.integers(0, 2 * NEW, ROWS),
        }
    ).with_columns(pl.when(pl.col("kind") != "").then("kind").alias("kind"))


@pytest.fixture(scope="module")
def found(predictions):
    return {(m.protocol, m.metric): m for m in part_metrics("d", predictions)}


def precision(rows):
    return pytest.approx(average_precision_score(rows["label"], rows["raw"]))


def test_a_week_is_judged_by_its_own_rows(predictions, found):
    begin = date(2024, 3, 8)
    week = predictions.filter(
        (pl.col("day") >= begin) & (pl.col("day") < begin + timedelta(days=7))
    )
    assert found[f"week {begin}", "average_precision"].value == precision(week)
    assert sum(protocol.startswith("week") for protocol, _ in found) == 3


def test_a_kind_is_judged_among_legitimate_rows_and_by_its_recall(predictions, found):
    for kind in ("easy", "hard"):
        rows = predictions.filter((pl.col("kind") == kind) | (pl.col("label") == 0))
        assert found[f"kind {kind}", "average_precision"].value == precision(rows)
    # As many alerts as frauds hold all easy ones.
    assert found["kind easy", "recall_of_kind"].value == 1
    assert found["kind hard", "recall_of_kind"].value < 0.5


def test_new_and_known_entities_are_judged_apart(predictions, found):
    new = predictions.filter(pl.col("earlier:card") < NEW)
    assert found["new card", "average_precision"].value == precision(new)
    assert ("known card", "average_precision") in found


def test_too_few_frauds_have_no_figure_and_intervals_hold_the_value(found):
    assert not any("rare" in protocol for protocol, _ in found)
    assert all(m.low <= m.value <= m.high for m in found.values())


def test_earlier_transactions_are_those_before_the_row():
    events = pl.DataFrame({"entity:card": ["a", "b", "a", "a", "b"], "row": [4, 3, 2, 1, 0]})
    assert events.select(earlier(events))["earlier:card"].to_list() == [0, 0, 1, 2, 1]
