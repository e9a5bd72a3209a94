"""Five cron fields that mean the same to every scheduler.

Two things differ between cron, systemd, Kubernetes, Airflow and APScheduler, and are refused:
numbers for days of the week (1 is Monday here and Tuesday there), and a day of the month beside a
day of the week (some fire on either, some on both).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from core.errors import ConfigError

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_BOUNDS = {"minute": (0, 59), "hour": (0, 23), "day": (1, 31), "month": (1, 12)}
_TERM = re.compile(r"(\*|[a-z0-9]+)(?:-([a-z0-9]+))?(?:/(\d+))?")


@dataclass(frozen=True)
class Cron:
    """Values at which each field fires, ascending; days of the week count from Monday, 0."""

    minute: tuple[int, ...]
    hour: tuple[int, ...]
    day: tuple[int, ...]
    month: tuple[int, ...]
    weekday: tuple[int, ...]

    @classmethod
    def parse(cls, text: str) -> Cron:
        """`minute hour day-of-month month day-of-week`, with * , - and /.

        Raises:
            ConfigError: not five fields, a value out of range, a number as day of the week, or
                both kinds of day.
        """
        fields = text.lower().split()
        if len(fields) != 5:
            raise ConfigError(
                f"cron: found {text!r}, expected five fields (minute, hour, day of the month, "
                "month, day of the week), such as '0 3 * * mon'"
            )
        parsed = [_field(name, said) for name, said in zip(_BOUNDS, fields, strict=False)]
        weekday = _weekdays(fields[4])
        if len(parsed[2]) < 31 and len(weekday) < 7:
            raise ConfigError(
                f"cron: found both a day of the month {fields[2]!r} and a day of the week "
                f"{fields[4]!r}, on which schedulers disagree; give one and * for the other"
            )
        return cls(parsed[0], parsed[1], parsed[2], parsed[3], weekday)

    def days_named(self) -> str:
        """Days of the week by name, `*` for all."""
        return "*" if len(self.weekday) == 7 else ",".join(DAYS[i] for i in self.weekday)

    def text(self) -> str:
        """The five fields, days of the week by name: Kubernetes and Airflow read these."""
        return f"{self._four()} {self.days_named()}"

    def crontab(self) -> str:
        """The five fields as cron's manual has them: it promises no list of names, so days are
        its own numbers, Sunday 0."""
        numbers = sorted((i + 1) % 7 for i in self.weekday)
        return f"{self._four()} {'*' if len(numbers) == 7 else ','.join(map(str, numbers))}"

    def calendar(self, timezone: str) -> str:
        """systemd.time(7), for OnCalendar=."""
        week = "" if len(self.weekday) == 7 else ",".join(DAYS[i].title() for i in self.weekday)
        month, day, hour, minute = (
            self._shown(name, "02d") for name in ("month", "day", "hour", "minute")
        )
        date, time = f"*-{month}-{day}", f"{hour}:{minute}:00"
        return f"{week} {date} {time} {timezone}".strip()

    def _four(self) -> str:
        return " ".join(self._shown(name) for name in _BOUNDS)

    def _shown(self, name: str, width: str = "d") -> str:
        values, (low, high) = getattr(self, name), _BOUNDS[name]
        every = len(values) == high - low + 1
        return "*" if every else ",".join(format(value, width) for value in values)


def _field(name: str, said: str) -> tuple[int, ...]:
    low, high = _BOUNDS[name]
    values: set[int] = set()
    for term in said.split(","):
        first, last, step = _range(name, term)
        start = low if first == "*" else _number(name, first)
        # `5/10` goes on to the end of the range, as cron's does.
        stop = high if first == "*" or (step and not last) else _number(name, last or first)
        if not low <= start <= stop <= high or step == "0":
            raise ConfigError(f"cron: found {name} {term!r}, expected {low} to {high}")
        values |= set(range(start, stop + 1, int(step or 1)))
    return tuple(sorted(values))


def _range(name: str, term: str) -> tuple[str, str | None, str | None]:
    match = _TERM.fullmatch(term)
    if match is None or (match.group(1) == "*" and match.group(2)):
        raise ConfigError(f"cron: found {name} {term!r}, expected a number, a range a-b or */n")
    return match.group(1), match.group(2), match.group(3)


def _number(name: str, said: str) -> int:
    if name == "month" and said in _MONTHS:
        return _MONTHS.index(said) + 1
    if not said.isdecimal():
        raise ConfigError(f"cron: found {name} {said!r}, expected a number")
    return int(said)


def _weekdays(said: str) -> tuple[int, ...]:
    values: set[int] = set()
    for term in said.split(","):
        ends = [*DAYS[::6]] if term == "*" else term.split("-")
        if len(ends) > 2 or not set(ends) <= set(DAYS):
            raise ConfigError(
                f"cron: found day of the week {term!r}, expected names such as mon or mon-fri; "
                "numbers mean different days to different schedulers"
            )
        first, last = DAYS.index(ends[0]), DAYS.index(ends[-1])
        values |= {i % 7 for i in range(first, last + (1 if last >= first else 8))}
    return tuple(sorted(values))
