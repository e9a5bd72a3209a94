"""Timing side by side."""

import time

import pytest

from benchmarks import measure
from benchmarks.measure import interleaved


def test_runs_alternate_and_the_first_is_not_counted():
    order: list[str] = []
    functions = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    seconds = interleaved(functions, repeats=3)
    assert order == ["a", "b"] * 4
    assert [len(seconds[name]) for name in "ab"] == [3, 3]


def test_a_slow_function_runs_once_and_that_run_counts():
    calls: list[str] = []

    def slow() -> None:
        calls.append("slow")
        time.sleep(0.05)

    seconds = interleaved({"slow": slow, "quick": lambda: None}, repeats=3, budget=0.06)
    assert calls == ["slow"] and len(seconds["slow"]) == 1 and len(seconds["quick"]) == 3
    assert seconds["slow"][0] >= 0.05


def test_a_budget_bounds_the_repeats():
    seconds = interleaved({"nap": lambda: time.sleep(0.05)}, repeats=50, budget=0.4)
    assert 1 <= len(seconds["nap"]) <= 7


def test_the_seconds_of_calls_in_a_row_are_those_of_one(monkeypatch: pytest.MonkeyPatch):
    calls: list[float] = []

    def nap() -> None:
        calls.append(time.perf_counter())
        time.sleep(0.02)

    interleaved({"nap": nap}, repeats=1, calls=4)
    assert len(calls) == 3  # too slow for more than one at a time
    monkeypatch.setattr(measure, "_QUICK", 1.0)
    begin = time.perf_counter()
    (seconds,) = interleaved({"nap": nap}, repeats=1, calls=4)["nap"]
    assert len(calls) == 3 + 6 and 0.02 <= seconds < (time.perf_counter() - begin) / 4
