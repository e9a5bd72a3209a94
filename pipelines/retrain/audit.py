"""audit.jsonl: one line for everything that was decided about a model, and by whom.

Nothing is ever rewritten. A line is on the disk before what it announces happens; a line that a
kill left half written is cut off when the next is added.
"""

from __future__ import annotations

import getpass
import json
import os
import socket
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

WHO = "LONGSTRAND_WHO"
"""Environment variable that names whoever started the command; user@host where it is unset."""


def record(path: Path, event: str, run: str, facts: Mapping[str, Any]) -> None:
    """Add a line, unless one of this event and run is there."""
    if any(line["event"] == event and line["run"] == run for line in read(path)):
        return
    now = datetime.now(UTC).isoformat(timespec="seconds")
    line = {"at": now, "who": who(), "event": event, "run": run, **facts}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as f:
        f.truncate(_whole(path))
        f.write(json.dumps(line, allow_nan=False).encode() + b"\n")
        f.flush()
        os.fsync(f.fileno())


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Every whole line."""
    if path.is_file():
        for line in path.read_bytes()[: _whole(path)].splitlines():
            yield json.loads(line)


def who() -> str:
    if os.environ.get(WHO):
        return os.environ[WHO]
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def _whole(path: Path) -> int:
    """Bytes up to the last line's end."""
    return path.read_bytes().rfind(b"\n") + 1
