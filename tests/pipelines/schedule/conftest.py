"""A job whose python writes down how it was started."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipelines.schedule.cron import Cron
from pipelines.schedule.job import Job

# Half past midnight in Berlin, and still the day before in UTC.
FIRE = datetime(2026, 11, 23, 23, 30, tzinfo=UTC)
ARGUMENTS = ("bundle=b", "input=in/{date-1}.csv", "output='out of' {date}/50%$x;`y`.csv")
STARTED = [
    "-m",
    "pipelines.score",
    "bundle=b",
    "input=in/2026-11-23.csv",
    "output='out of' 2026-11-24/50%$x;`y`.csv",
    "no run id",
]
_PYTHON = """#!/bin/sh
[ -n "$HOLD" ] && trap 'echo stopped >>"$STARTED"; exit 143' TERM
printf '%s\\n' "$@" "${LONGSTRAND_RUN_ID-no run id}" >"$STARTED"
[ -n "$HOLD" ] && while [ ! -e "$HOLD" ]; do sleep 0.02; done
exit ${EXIT:-0}
"""
# GNU date, with FIRE for its now.
_DATE = f"""#!/bin/sh
case "$*" in *-d*) exec /bin/date "$@" ;; *) exec /bin/date -d @{int(FIRE.timestamp())} "$@" ;; esac
"""


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., Job]:
    """A scoring of the night before, on Mondays and Thursdays; its python is a recorder."""
    python = _script(tmp_path / "bin" / "python", _PYTHON)

    def made(**changes: Any) -> Job:
        given: dict[str, Any] = {
            "name": "longstrand-score",
            "command": "score",
            "arguments": ARGUMENTS,
            "cron": Cron.parse("30 0 * * mon,thu"),
            "timezone": "Europe/Berlin",
            "grace": 3600,
            "python": str(python),
            "folder": tmp_path,
        }
        return Job(**{**given, **changes})

    return made


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """PATH with a stopped clock, and where the recorder writes."""
    _script(tmp_path / "bin" / "date", _DATE)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    return {"PATH": path, "STARTED": str(tmp_path / "started")}


def started(tmp_path: Path) -> list[str]:
    """The arguments that the recorder was given, and the run id that it saw."""
    return (tmp_path / "started").read_text().splitlines()


def _script(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path
