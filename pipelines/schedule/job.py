"""The one-shot command that is started, and the dates in its arguments."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from core.errors import ConfigError
from pipelines.prom import COMMANDS
from pipelines.runs import RUN_ID
from pipelines.schedule.cron import Cron

# Not the failure of a job: another holds the lock; stopped, and resumable.
HARMLESS = (75, 143)
_DATE = re.compile(r"\{date(?:-(\d+))?\}")


@dataclass(frozen=True)
class Job:
    """`python -m pipelines.<command> <arguments>` in `folder`, when `cron` says, in `timezone`.

    Args:
        name: of units, objects and log files.
        grace: seconds by which a start may be late; later ones are left out.
    """

    name: str
    command: str
    arguments: tuple[str, ...]
    cron: Cron
    timezone: str
    grace: int
    python: str
    folder: Path

    def __post_init__(self) -> None:
        if self.command not in COMMANDS:
            raise ConfigError(f"job: found {self.command!r}, expected one of {', '.join(COMMANDS)}")
        if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,50}[a-z0-9])?", self.name):
            raise ConfigError(
                f"name: found {self.name!r}, expected at most 52 of a-z, 0-9 and - (Kubernetes' "
                "rule)"
            )
        if self.grace < 1:
            raise ConfigError(f"grace: found {self.grace}, expected seconds, at least 1")
        try:
            ZoneInfo(self.timezone)
        except (KeyError, ValueError, OSError):  # unknown; no name at all; a folder of names
            raise ConfigError(
                f"timezone: found {self.timezone!r}, expected a name such as UTC or Europe/Berlin"
            ) from None
        if self.command == "retrain" and not any(a.startswith("as_of=") for a in self.arguments):
            raise ConfigError("retrain never reads the clock: add as_of={date} after the --")

    def argv(self, fire: datetime) -> list[str]:
        """What to start for the scheduled time `fire`."""
        day = fire.astimezone(ZoneInfo(self.timezone)).date()

        def date(match: re.Match[str]) -> str:
            return (day - timedelta(days=int(match.group(1) or 0))).isoformat()

        arguments = [_DATE.sub(date, argument) for argument in self.arguments]
        return [self.python, "-m", f"pipelines.{self.command}", *arguments]

    def shell(self, now: str = "", launcher: str = "exec") -> str:
        """The same for a POSIX shell with GNU date, which takes the date from `date <now>`."""
        words = [_quoted(self.python), "-m", f"pipelines.{self.command}"]
        started = " ".join([launcher, *words, *map(_quoted, self.arguments)])
        if not any(_DATE.search(argument) for argument in self.arguments):
            return started
        return f"day=$(TZ={self.timezone} date {now + ' ' if now else ''}+%F) && {started}"

    def check(self, fire: datetime) -> None:
        """Raises ConfigError where the job's own configuration does not compose: now, rather than
        at three in the morning."""
        command = [sys.executable, *self.argv(fire)[1:], "--cfg", "job"]
        environment = {**child_environment(), "LONGSTRAND_LOG": "plain"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            said = " ".join(done.stderr.split()[-80:])
            raise ConfigError(f"job={self.command} takes no such arguments: {said}")


def child_environment() -> dict[str, str]:
    """Ours, without the run id: every start is a run of its own."""
    return {name: value for name, value in os.environ.items() if name != RUN_ID}


def _quoted(argument: str) -> str:
    parts, at = [], 0
    for match in _DATE.finditer(argument):
        parts += [_literal(argument[at : match.start()]), _shell_date(match.group(1))]
        at = match.end()
    return "".join([*parts, _literal(argument[at:])]) or "''"


def _literal(text: str) -> str:
    return shlex.quote(text) if text else ""


def _shell_date(days: str | None) -> str:
    return f'"$(date -d "$day {days} days ago" +%F)"' if days else '"$day"'
