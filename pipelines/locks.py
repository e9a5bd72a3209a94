"""Locks on files that the kernel lets go of when their holder ends, however it ends.

They need a file system where flock(2) works: a local disk, NFS version 4; not a bucket mounted as
a folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import socket
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from core.errors import LockHeldError


@contextlib.contextmanager
def held(path: Path, refusal: str) -> Iterator[None]:
    """Hold the lock file `path`.

    Raises:
        LockHeldError: another process holds it; `refusal` and who that is.
    """
    # Not "w": the holder's words must survive that somebody else asks.
    with path.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockHeldError(f"{refusal} ({_holder(lock)})") from None
        _sign(lock)
        try:
            yield
        finally:
            lock.truncate(0)


@contextlib.contextmanager
def held_folder(work: Path) -> Iterator[None]:
    """Hold the folder in which an output is made; it is made where it is not there.

    Raises:
        LockHeldError: another process holds it.
    """
    work.mkdir(parents=True, exist_ok=True)
    folder = os.open(work, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockHeldError(
                f"{work}: another process is scoring to this output; wait for it"
            ) from None
        yield
    finally:
        os.close(folder)


@contextlib.contextmanager
def waited_for(path: Path) -> Iterator[None]:
    """Hold the lock file `path` for moments, after whoever holds it now."""
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _sign(lock: TextIO) -> None:
    words = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": _without_passwords(" ".join(sys.argv)),
    }
    lock.truncate(0)
    lock.write(json.dumps(words))
    lock.flush()


def _holder(lock: TextIO) -> str:
    lock.seek(0)
    try:
        words = json.loads(lock.read())
    except json.JSONDecodeError:
        return "it has only just begun or is about to end"
    return ", ".join(f"{name} {words[name]}" for name in ("pid", "host", "since", "command"))


def _without_passwords(command: str) -> str:
    return re.sub(r"://[^/@\s]*@", "://***@", command)
