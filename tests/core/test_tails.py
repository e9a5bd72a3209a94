"""Ranks of surprise, and what lies beyond them."""

from __future__ import annotations

import numpy as np
import pytest

from core.calibration import Calibration
from core.tails import fit_tail


def nats(n: int = 20_000) -> np.ndarray:
    return np.random.default_rng(0).exponential(size=n)


def test_a_level_is_how_rare_a_number_is_among_the_validation_rows() -> None:
    raw = nats()
    level = fit_tail("amount", raw).apply(raw)
    for decade in (0.5, 1.0, 1.5, 2.0):
        assert (level >= decade).mean() == pytest.approx(10**-decade, rel=0.05)


def test_beyond_the_ranks_levels_go_on_and_never_tie() -> None:
    level = fit_tail("amount", nats()).apply(np.array([5.0, 10.0, 20.0]))
    # e to the minus 10 is one in 22,026.
    assert level[1] == pytest.approx(np.log10(22_026), rel=0.1)
    assert (np.diff(level) > 0).all()


def test_a_few_anomalies_among_the_validation_rows_do_not_become_usual() -> None:
    clean = nats()
    spoilt = np.concatenate([clean, np.full(len(clean) // 200, 15.0)])
    ranked = np.log10(len(spoilt) / (len(clean) // 200))
    assert fit_tail("amount", spoilt).apply(np.array([15.0]))[0] > 2 * ranked


def test_a_number_of_few_values_has_the_share_of_rows_that_reach_it() -> None:
    raw = np.repeat([0.1, 3.0], [950, 50])
    level = fit_tail("pair", raw).apply(np.array([0.1, 3.0]))
    assert level[0] == 0
    assert level[1] == pytest.approx(np.log10(20), abs=0.06)


def test_the_field_that_gives_the_score_is_named_and_survives_the_bundle() -> None:
    tails = tuple(fit_tail(name, nats()) for name in ("amount", "channel"))
    fitted = Calibration("tails", tails=tails)
    read = Calibration.from_dict(fitted.to_dict())
    raw = np.array([[0.2, 7.0], [4.0, 1.0]])
    assert read.strongest(raw) == ["channel", "amount"]
    assert np.array_equal(read.apply(raw), fitted.apply(raw))
    assert read.apply(raw)[0] == tails[1].apply(raw[:, 1])[0]
    assert Calibration("platt").strongest(raw) is None
