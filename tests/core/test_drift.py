"""Drift is zero where nothing moved, and seen where something did."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from scipy.stats import ks_2samp

from core.drift import OTHER, compare, references
from core.errors import LongstrandError


def _fields(seed: int, shift: float = 0.0, share: float = 0.5, missing: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    amount = [None] * missing + (rng.gamma(2, 30, 4000 - missing) + shift).tolist()
    channel = rng.choice(["chip", "online"], 4000, p=[share, 1 - share])
    return pl.DataFrame({"amount": amount, "channel": channel})


def _carried(fields: pl.DataFrame) -> list[dict]:
    return json.loads(json.dumps(references(fields), allow_nan=False))


def test_the_same_rows_have_not_drifted() -> None:
    for drift in compare(_carried(_fields(0)), _fields(0)):
        assert drift.psi == 0
        assert drift.level == "stable"
        assert drift.ks is None or drift.ks < 0.006


def test_ks_is_that_of_the_two_samples() -> None:
    before, now = _fields(0), _fields(1, shift=20)
    drift = compare(_carried(before), now)[0]
    exact = ks_2samp(before["amount"].to_numpy(), now["amount"].to_numpy()).statistic
    assert drift.ks == pytest.approx(exact, abs=0.006)
    assert drift.level == "drifted"
    assert drift.mean - drift.mean_before == pytest.approx(20, abs=3)


def test_psi_of_two_values_is_its_formula() -> None:
    drift = compare(_carried(_fields(0, share=0.5)), _fields(1, share=0.8))[1]
    before = (_fields(0)["channel"] == "chip").mean()
    now = (_fields(1, share=0.8)["channel"] == "chip").mean()
    expected = (now - before) * np.log(now / before * (1 - before) / (1 - now))
    assert drift.psi == pytest.approx(expected)
    assert drift.ks is None


def test_missing_values_are_counted_apart() -> None:
    drift = compare(_carried(_fields(0)), _fields(0, missing=1000))[0]
    assert (drift.missing_before, drift.missing) == (0, 0.25)
    assert drift.level == "stable"


def test_a_new_value_counts_as_other() -> None:
    carried = _carried(_fields(0))
    assert carried[1]["values"][-1] == OTHER
    new = pl.DataFrame({"channel": ["phone"] * 10})
    assert [d.level for d in compare(carried, new)] == ["drifted"]


def test_a_number_with_one_value_is_compared() -> None:
    carried = _carried(pl.DataFrame({"x": [0.0] * 50}))
    same, moved = (compare(carried, pl.DataFrame({"x": [v] * 50}))[0] for v in (0.0, 1.0))
    assert (same.psi, same.ks) == (0, 0)
    assert moved.ks == 1
    assert moved.level == "drifted"


def test_a_field_without_values_is_unknown() -> None:
    carried = _carried(pl.DataFrame({"x": [1.0, 2.0]}))
    empty = pl.DataFrame({"x": [None, None]}, schema={"x": pl.Float64})
    assert [d.level for d in compare(carried, empty)] == ["unknown"]
    assert [d.level for d in compare(_carried(empty), empty)] == ["unknown"]


def test_a_reference_of_another_version_is_refused() -> None:
    with pytest.raises(LongstrandError, match=r"reference\.json: found the keys mean"):
        compare([{"mean": 1.0}], _fields(0))
