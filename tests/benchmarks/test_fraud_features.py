"""Features made by hand equal their definitions, and none looks ahead."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, replace

import numpy as np
import pytest

from benchmarks.fraud_features import (
    EXTENDED,
    HANDBOOK,
    HOUR,
    Events,
    extended_features,
    handbook_features,
)
from domains.finance.stream import DAY

DELAY = 7 * DAY
NAN = float("nan")


def made_up(n: int) -> Events:
    """Some 60 days; a third of the rows share their time with the row before."""
    rng = np.random.default_rng(0)
    time = np.sort(rng.integers(0, 60 * DAY, n) // HOUR * HOUR)
    time[::3] = time[np.maximum(np.arange(0, n, 3) - 1, 0)]
    return Events(
        time=time,
        amount=np.round(rng.exponential(50, n), 2),
        fraud=(rng.random(n) < 0.4).astype(np.float64),
        card=rng.integers(0, 5, n),
        terminal=rng.integers(0, 4, n),
    )


def both(events: Events) -> dict[str, np.ndarray]:
    return {**handbook_features(events, DELAY), **extended_features(events, DELAY)}


def mean(values: list[float], empty: float) -> float:
    return float(np.mean(values)) if values else empty


def naive(e: Events, i: int) -> dict[str, float]:
    """Row i by loops over all rows."""
    now, n = e.time[i], len(e.time)

    def amounts(rows: Iterable[int], days: float) -> list[float]:
        inside = (j for j in rows if e.time[j] > now - days * DAY)
        return [float(e.amount[j]) for j in inside if e.card[j] == e.card[i]]

    def labels(keys: np.ndarray, days: float) -> list[float]:
        old = [j for j in range(n) if keys[j] == keys[i] and e.time[j] <= now - DELAY]
        return [float(e.fraud[j]) for j in old if e.time[j] > now - DELAY - days * DAY]

    found = {"amount": e.amount[i], "hour": now % DAY / HOUR, "night": now % DAY < 7 * HOUR}
    found["weekend"] = now // DAY % 7 in (2, 3)  # 1970-01-01 was a Thursday
    for days in (1, 7, 30):
        own, known = amounts(range(i + 1), days), labels(e.terminal, days)
        found |= {f"card_count_{days}d": len(own), f"card_amount_{days}d": mean(own, 0)}
        found |= {f"terminal_count_{days}d": len(known), f"terminal_risk_{days}d": mean(known, 0)}
    for name, days in {"7d": 7, "30d": 30, "all": 1e4}.items():
        own = amounts(range(i), days)
        usual, spread = mean(own, NAN), float(np.std(own)) if own else 0.0
        found[f"amount_ratio_{name}"] = e.amount[i] / usual
        found[f"amount_z_{name}"] = (e.amount[i] - usual) / (spread + 1)
        found[f"card_before_{name}"] = len(own)
    earlier = [j for j in range(i) if e.card[j] == e.card[i]]
    for back in (1, 2, 3):
        there = len(earlier) >= back
        found[f"amount_before_{back}"] = e.amount[earlier[-back]] if there else NAN
        found[f"gap_{back}"] = now - e.time[earlier[-back]] if there else NAN
    for name, days in {"7d": 7, "14d": 14, "all": 1e4}.items():
        found[f"card_frauds_{name}"] = sum(labels(e.card, days))
    for days in (3, 14, 21, 28):
        known = labels(e.terminal, days)
        found |= {f"terminal_frauds_{days}d": sum(known), f"terminal_rate_{days}d": mean(known, -1)}
    found |= naive_run(e, i)
    same = [j for j in range(i) if e.terminal[j] == e.terminal[i]]
    found["terminal_unlabelled"] = sum(e.time[j] > now - DELAY for j in same)
    found["pair_seen"] = sum(e.card[j] == e.card[i] for j in same)
    return found


def naive_run(e: Events, i: int) -> dict[str, float]:
    known = [j for j in range(len(e.time)) if e.terminal[j] == e.terminal[i]]
    known = [j for j in known if e.time[j] <= e.time[i] - DELAY]
    run: list[int] = []
    for j in reversed(known):
        if e.fraud[j]:
            run.append(j)
        elif run:
            break
    return {
        "since_known_fraud": e.time[i] - e.time[run[0]] if run else NAN,
        "since_run_start": e.time[i] - e.time[run[-1]] if run else NAN,
        "run_length": len(run),
        "last_known_label": e.fraud[known[-1]] if known else -1,
        "run_open": bool(run) and run[0] == known[-1],
    }


@pytest.fixture(scope="module")
def events() -> Events:
    return made_up(200)


def test_every_feature_equals_its_definition_in_loops(events):
    found = both(events)
    assert len(handbook_features(events, DELAY)) == HANDBOOK and len(found) == EXTENDED
    for i in range(len(events.time)):
        expected = naive(events, i)
        assert set(expected) == set(found)
        for name, value in expected.items():
            near = pytest.approx(float(value), rel=1e-5, abs=1e-5, nan_ok=True)
            assert float(found[name][i]) == near, (i, name)


def test_later_rows_and_labels_not_known_yet_change_nothing(events):
    i = 150
    hidden = events.time > events.time[i] - DELAY
    flipped = replace(events, fraud=np.where(hidden, 1 - events.fraud, events.fraud))
    cut = Events(**{f.name: getattr(flipped, f.name)[: i + 1] for f in fields(Events)})
    whole, less = both(events), both(cut)
    for name, column in whole.items():
        # Sums over other rows round otherwise; a label would move a column by far more.
        expected = pytest.approx(float(column[i]), rel=1e-9, abs=1e-9, nan_ok=True)
        assert float(less[name][i]) == expected, name
