"""Stages of a run, each done once: a killed run goes on after the last that was finished.

A stage is finished when its file is in the run folder; the file appears whole or not at all.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines import runs
from pipelines.log import stage

KILL_AT = "LONGSTRAND_KILL_AT"
"""Environment variable for tests: the process kills itself at that point, see `reached`."""


@dataclass(frozen=True)
class Stages:
    """The run folder whose files say what is finished."""

    folder: Path

    def finished(self, name: str) -> bool:
        return (self.folder / f"{name}.json").is_file()

    def read(self, name: str) -> Any:
        """What a finished stage found."""
        return json.loads((self.folder / f"{name}.json").read_text())

    def once(self, name: str, work: Callable[[], Any]) -> Any:
        """What the stage finds, worked out unless an earlier start of this run has.

        Args:
            work: returns plain JSON types; after a kill it is called again, so what it does
                besides must be harmless to repeat.
        """
        if not self.finished(name):
            with stage(name):
                found = work()
            reached(name)
            runs.write_json(self.folder / f"{name}.json", found)
            reached(f"{name}.done")
        return self.read(name)


def reached(point: str) -> None:
    """Where a test may kill the process: `<stage>` is after its work and before its file is
    there, `<stage>.done` after both."""
    if os.environ.get(KILL_AT) == point:
        os.kill(os.getpid(), signal.SIGKILL)
