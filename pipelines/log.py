"""What a command says on standard error: one line an event, a stage with its start and its end.

JSON where standard error is no terminal, words where it is; LONGSTRAND_LOG=json|plain decides
otherwise. A stage says counts, names of folds and partitions, and paths: never a row, an entity
or what a file holds, so its facts are scalars.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TextIO

from core.errors import ConfigError, Preempted

FORMAT = "LONGSTRAND_LOG"
Fact = str | int | float | bool | None

log = logging.getLogger("longstrand")
_about: dict[str, Fact] = {}


class Plain(logging.Formatter):
    """`2026-11-24T03:00:07.120Z INFO longstrand: train done, fold=all, seconds=12.3`"""

    def format(self, record: logging.LogRecord) -> str:
        shown = {k: v for k, v in _facts(record).items() if k not in ("stage", "state")}
        facts = "".join(f", {key}={_short(value)}" for key, value in shown.items())
        said = f"{_when(record)} {record.levelname} {record.name}: {record.getMessage()}{facts}"
        return said + (f"\n{self.formatException(record.exc_info)}" if record.exc_info else "")


class Json(logging.Formatter):
    """One object a line: time, level, logger, message, what the run is about, the facts."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _when(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_about,
            **_facts(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure(command: str, stream: TextIO | None = None) -> None:
    """Send every logger's lines, and Python's warnings, to standard error.

    Raises:
        ConfigError: LONGSTRAND_LOG is neither json nor plain.
    """
    out = sys.stderr if stream is None else stream
    chosen = os.environ.get(FORMAT) or ("plain" if out.isatty() else "json")
    handler = logging.StreamHandler(out)
    handler.setFormatter(Plain() if chosen == "plain" else Json())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    begin(command)
    if chosen not in ("plain", "json"):
        raise ConfigError(f"{FORMAT}: found {chosen!r}, expected json or plain")


def begin(command: str) -> None:
    """Forget what the job before was about: a --multirun runs several in one process."""
    _about.clear()
    about(command=command)


def about(**facts: Fact) -> None:
    """Name what this process works on (domain, run): every JSON line carries it from here on."""
    _about.update(facts)


def known() -> dict[str, Fact]:
    """What `about` has named so far."""
    return dict(_about)


@contextlib.contextmanager
def stage(name: str, **facts: Fact) -> Iterator[dict[str, Fact]]:
    """Log the start of a stage, and its end with the seconds it took.

    Facts put into the mapping that this gives are said at the end: `done["rows"] = 30`.
    """
    _say(logging.INFO, name, "started", facts)
    start, done = time.perf_counter(), dict(facts)
    try:
        yield done
    except BaseException as error:
        stopped = isinstance(error, Preempted)
        state, level = ("stopped", logging.WARNING) if stopped else ("failed", logging.ERROR)
        # The message of an error may quote what a file holds; its type does not.
        _say(level, name, state, {**done, **_seconds(start), "error": type(error).__name__})
        raise
    _say(logging.INFO, name, "done", {**done, **_seconds(start)})


def _say(level: int, name: str, state: str, facts: dict[str, Fact]) -> None:
    for key, value in facts.items():
        if not isinstance(value, Fact):
            raise TypeError(f"stage {name}: {key} is a {type(value).__name__}, expected a scalar")
    log.log(level, "%s %s", name, state, extra={"facts": {"stage": name, "state": state, **facts}})


def _seconds(start: float) -> dict[str, Fact]:
    return {"seconds": round(time.perf_counter() - start, 3)}


def _facts(record: logging.LogRecord) -> dict[str, Fact]:
    return getattr(record, "facts", {})


def _short(value: Fact) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _when(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
