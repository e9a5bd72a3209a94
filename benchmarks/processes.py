"""A command with all the processes that it starts, timed and weighed, or killed (Linux)."""

from __future__ import annotations

import json
import os
import select
import signal
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


def run_killed(command: Sequence[str], folder: Path, parts: int, rest: float) -> float:
    """SIGKILL to a scoring and to all that it started; the seconds that it had.

    Args:
        parts: so many partitions have been scored then, by its log.
        rest: seconds from there on, at most, so that it dies while it works on the next one.

    Raises:
        LongstrandError: it had ended by then.
    """
    began = time.perf_counter()
    # A session of its own is a group of processes that one signal reaches.
    process = subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    said, scored = list[str](), 0
    try:
        while scored < parts and (line := process.stderr.readline()):
            said.append(line)
            scored += '"message": "scored"' in line
        # The next part may be done before: then at once.
        select.select([process.stderr], [], [], rest)
    finally:
        # It is waited for below, so that the group is there still where it has ended.
        os.killpg(process.pid, signal.SIGKILL)
        seconds = time.perf_counter() - began
        process.communicate()
    if process.returncode != -signal.SIGKILL:
        told = f"exit {process.returncode} after {scored} of {parts} parts, expected to kill it"
        raise LongstrandError(f"{' '.join(command)}: {told}: {''.join(said)[-2000:]}")
    return seconds


def stage_seconds(said: str) -> dict[str, float]:
    """Seconds of each stage that is done, from a command's log."""
    lines = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    return {line["stage"]: line["seconds"] for line in lines if line.get("state") == "done"}


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
