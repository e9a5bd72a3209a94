"""Commands in processes of their own that need not import torch anew: forks of one server."""

from __future__ import annotations

import json
import multiprocessing
import os
import runpy
import sys
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

_CONTEXT = multiprocessing.get_context("forkserver")
# Imports only: a fork of a process whose polars or torch has run threads would hang.
_CONTEXT.set_forkserver_preload(
    [
        "pytorch_lightning",
        "scipy.stats",
        "domains.finance.task",
        "domains.finance.labelled",
        "core.bundle",
        "core.drift",
        "core.training.fit",
        "pipelines.retrain.command",
        "pipelines.retrain.page",
        "pipelines.backtest",
    ]
)


@dataclass(frozen=True)
class Outcome:
    code: int
    summary: dict[str, Any]
    stderr: str


@dataclass(frozen=True)
class Started:
    """A command under way."""

    process: ForkServerProcess
    folder: Path

    def outcome(self) -> Outcome:
        self.process.join(120)
        lines = (self.folder / "stdout").read_text().splitlines()
        summary = json.loads(lines[-1]) if lines else {}
        code = self.process.exitcode
        assert code is not None
        return Outcome(code, summary, (self.folder / "stderr").read_text())


def start(folder: Path, command: str, *arguments: str, **environment: str) -> Started:
    """`python -m pipelines.COMMAND ...`, its output in a new folder under `folder`."""
    folder.mkdir(exist_ok=True)
    own = folder / f"command{len(list(folder.iterdir())):03d}"
    own.mkdir()
    process = _CONTEXT.Process(target=_run, args=(own, command, arguments, environment))
    process.start()
    return Started(process, own)


def _run(
    folder: Path, command: str, arguments: tuple[str, ...], environment: dict[str, str]
) -> None:
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT), number)
    os.environ.update(environment)
    sys.argv[1:] = arguments
    runpy.run_module(f"pipelines.{command}", run_name="__main__", alter_sys=True)
