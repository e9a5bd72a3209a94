"""Cron fields mean the same to every scheduler, or are refused."""

from __future__ import annotations

import re
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from core.errors import ConfigError
from pipelines.schedule.cron import Cron

ZONE = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 24, tzinfo=UTC)
TEXTS = [
    "0 3 * * mon",
    "30 0 * * fri-sun",
    "*/20 6-8 * * mon-fri",
    "0 12 1,15 jan-mar *",
    "5/25 4 * 12 *",
    "15 23 31 * *",
    "0 0 29 feb *",
]


def fires(cron: Cron, count: int) -> list[datetime]:
    """By trying every minute that could be one: the oracle."""
    found: list[datetime] = []
    day = NOW.astimezone(ZONE).date()
    while len(found) < count:
        if day.month in cron.month and day.day in cron.day and day.weekday() in cron.weekday:
            times = [(hour, minute) for hour in cron.hour for minute in cron.minute]
            moments = [datetime(day.year, day.month, day.day, *t, tzinfo=ZONE) for t in times]
            found += [m for m in moments if m > NOW]
        day += timedelta(days=1)
    return [m.astimezone(UTC) for m in found[:count]]


@pytest.mark.parametrize(
    ("text", "named", "crontab", "calendar"),
    [
        ("0 3 * * mon", "0 3 * * mon", "0 3 * * 1", "Mon *-*-* 03:00:00 UTC"),
        (
            "0 3 * * SUN-Tue",
            "0 3 * * mon,tue,sun",
            "0 3 * * 0,1,2",
            "Mon,Tue,Sun *-*-* 03:00:00 UTC",
        ),
        ("*/30 * 1 * *", "0,30 * 1 * *", "0,30 * 1 * *", "*-*-01 *:00,30:00 UTC"),
        ("10-50/20 0 * jan *", "10,30,50 0 * 1 *", "10,30,50 0 * 1 *", "*-01-* 00:10,30,50:00 UTC"),
    ],
)
def test_a_schedule_is_written_for_each_scheduler_in_its_own_words(
    text: str, named: str, crontab: str, calendar: str
) -> None:
    cron = Cron.parse(text)
    assert (cron.text(), cron.crontab(), cron.calendar("UTC")) == (named, crontab, calendar)
    assert Cron.parse(cron.text()) == cron


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0 3 * * 1", "numbers mean different days"),
        ("0 3 * * 1-5", "numbers mean different days"),
        ("0 3 * * mon-", "day of the week 'mon-'"),
        ("0 3 1 * mon", "schedulers disagree"),
        ("0 24 * * *", "hour '24', expected 0 to 23"),
        ("0 5-3 * * *", "hour '5-3'"),
        ("*/0 3 * * *", r"minute '\*/0'"),
        ("0 3 * mai *", "month 'mai'"),
        ("@daily", "expected five fields"),
        ("0 0 3 * * mon", "expected five fields"),
    ],
)
def test_what_schedulers_read_differently_or_not_at_all_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Cron.parse(text)


@pytest.mark.parametrize("text", TEXTS)
def test_the_embedded_scheduler_starts_when_the_fields_say(job, text: str) -> None:
    from pipelines.schedule.clock import trigger

    cron = Cron.parse(text)
    asked, moment, found = trigger(job(cron=cron)), NOW, []
    for expected in fires(cron, 4):
        moment = asked.get_next_fire_time(None, moment)
        found.append(moment.astimezone(UTC) == expected)
        moment += timedelta(seconds=1)
    assert all(found)


@pytest.mark.parametrize("text", TEXTS)
def test_systemd_starts_when_the_fields_say(text: str) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze here to read OnCalendar=")
    cron = Cron.parse(text)
    done = subprocess.run(
        [
            "systemd-analyze",
            "calendar",
            "--iterations=4",
            "--base-time=2026-11-24 00:00:00 UTC",
            cron.calendar("Europe/Berlin"),
        ],
        env={"TZ": "UTC", "LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=True,
    )
    said = re.findall(r"(?:Next elapse|Iter. #\d): \w+ (\S+ \S+) UTC", done.stdout)
    found = [datetime.fromisoformat(s).replace(tzinfo=UTC) for s in said]
    assert found == fires(cron, 4)
