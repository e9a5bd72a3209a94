"""The sentences of reasons, from the values behind them."""

from __future__ import annotations

import numpy as np

LARGE = 3.0
"""Times the median: an amount that a history's words count as large."""
FORTNIGHT = 14.0


def number_words(name: str, value: float, usual: float, whose: str) -> str:
    """`whose` usual value, such as "this customer's"."""
    if value > 0 and usual > 0 and not 1 / 1.5 < value / usual < 1.5:
        return f"{name}: {_number(value)}, {_ratio(value / usual)} {whose} usual {_number(usual)}"
    return f"{name}: {_number(value)}, {whose} usual is {_number(usual)}"


def category_words(name: str, word: str | None, same: np.ndarray, whose: str) -> str:
    """Args:
    word: None where training did not know it.
    same: of each event before, whether it has the same.
    """
    if word is None:
        return f"{name}: a value that training did not know"
    if not len(same):
        return f"{name}: {word}"
    return f"{name}: {word}, as {int(same.sum())} of {whose} last {len(same)}"


def hour_words(hour: int, before: np.ndarray, whose: str) -> str:
    """`before`: hours of the events before."""
    said = f"hour: {hour} o'clock"
    if not len(before):
        return said
    away = np.abs(before - hour)
    near = int((np.minimum(away, 24 - away) <= 1).sum())
    return f"{said}, within an hour of {near} of {whose} last {len(before)}"


def label_words(view: str, ages: np.ndarray, events: int) -> str | None:
    """`ages`: days since each confirmed fraud; none is no reason."""
    if not len(ages):
        return None
    frauds = "1 confirmed fraud" if len(ages) == 1 else f"{len(ages)} confirmed frauds"
    low, high = int(ages.min()), int(ages.max())
    span = f"{low} days ago" if low == high else f"{low} to {high} days ago"
    return f"{view} labels: {frauds} among the last {events}, {span}"


def pace_words(view: str, days: float, usual: float) -> str:
    """`days` since the event before, NaN where there is none."""
    if np.isnan(days):
        return f"{view} pace: the first transaction seen of this {view}"
    return f"{view} pace: {_span(days)} after the one before, usually {_span(usual)}"


def history_words(view: str, ages: np.ndarray, amounts: np.ndarray) -> str | None:
    """Args:
    ages: days since each event before; without any there is no reason.
    amounts: of the same events.
    """
    if not len(ages):
        return None
    recent = ages < FORTNIGHT
    large = int((amounts[recent] >= LARGE * np.median(amounts)).sum())
    said = f"{view} history: {int((ages < 1).sum())} in the last day, {recent.sum()} in 14 days"
    return f"{said}, {large} of them at least {LARGE:g} times the usual amount" if large else said


def _number(value: float) -> str:
    return f"{value:.2f}"


def _ratio(ratio: float) -> str:
    if ratio >= 10:
        return f"{ratio:.0f} times"
    return f"{ratio:.1f} times" if ratio >= 0.1 else f"{ratio:.2g} times"


def _span(days: float) -> str:
    for unit, size in (("days", 1.0), ("hours", 1 / 24), ("minutes", 1 / 1440)):
        if days >= 2 * size:
            return f"{days / size:.0f} {unit}"
    return f"{days * 86_400:.0f} seconds"
