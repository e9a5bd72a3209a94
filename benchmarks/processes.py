"""A command with all the processes that it starts, timed and weighed (Linux)."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from core.errors import LongstrandError

EVERY = 0.25
"""Seconds between two looks at the memory."""


class Ran(NamedTuple):
    """What a command printed last and what it said on standard error, how long it took, and the
    most memory of all its processes at a time; pages that several share count once."""

    last_line: str
    said: str
    seconds: float
    peak_mb: float


def run_measured(command: Sequence[str], folder: Path) -> Ran:
    """Raises LongstrandError where the command fails."""
    began = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    done, peaks = threading.Event(), [0]

    def watch() -> None:
        while not done.wait(EVERY):
            peaks[0] = max(peaks[0], tree_bytes(process.pid))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    out, said = process.communicate()
    seconds = time.perf_counter() - began
    done.set()
    watcher.join()
    if process.returncode:
        raise LongstrandError(f"{' '.join(command)}: exit {process.returncode}: {said[-2000:]}")
    return Ran(out.strip().splitlines()[-1], said, seconds, peaks[0] / 1e6)


def tree_bytes(pid: int) -> int:
    """Proportional set size of a process and all below it."""
    return sum(_proportional(each) for each in [pid, *_below(pid)])


def _below(pid: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name, in brackets, may hold anything: the parent is the second field after it.
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found, left = list[int](), [pid]
    while left:
        children = parents.get(left.pop(), [])
        found += children
        left += children
    return found


def _proportional(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
