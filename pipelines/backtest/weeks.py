"""Weeks of a back-test that share a model."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import date, timedelta

WEEK = timedelta(days=7)


def stretches(weeks: Sequence[date], retrain: str) -> list[list[date]]:
    """One week each, or the weeks that begin in one month. They are also what a killed back-test
    does not do again, so that one that never retrains has them too.

    Args:
        weeks: their first days, in order.
    """
    if retrain == "weekly":
        return [[week] for week in weeks]
    return [list(of) for _, of in itertools.groupby(weeks, lambda week: (week.year, week.month))]
