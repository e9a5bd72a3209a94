"""Work in forked processes: torch is imported once, and a kill costs one fork."""

from __future__ import annotations

import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def forked(work: Callable[[], Any], folder: Path, **environment: str) -> Forked:
    """Start `work` in a copy of this process."""
    kept = folder / f"answer-{environment.get('RANK', '0')}.pt"
    kept.unlink(missing_ok=True)

    def run() -> None:
        os.environ.update(environment)
        try:
            answer = (work(), None)
        except BaseException as error:
            answer = (None, f"{type(error).__name__}: {error}\n{traceback.format_exc()}")
        torch.save(answer, kept)
        os._exit(0)  # no exit handlers: they are this process's

    process = multiprocessing.get_context("fork").Process(target=run, daemon=True)
    process.start()
    return Forked(process, kept)


class Forked:
    def __init__(self, process: Any, kept: Path) -> None:
        self.process = process
        self.kept = kept

    def exit_code(self) -> int:
        self.process.join()
        return self.process.exitcode

    def failure(self) -> str:
        """What it raised."""
        assert self.exit_code() == 0
        error = torch.load(self.kept, weights_only=True)[1]
        assert error is not None
        return error

    def answer(self) -> Any:
        """What it returned: tensors and plain types."""
        assert self.exit_code() == 0
        value, error = torch.load(self.kept, weights_only=True)
        assert error is None, error
        return value


def ranks(count: int, work: Callable[[int], Any], folder: Path) -> list[Forked]:
    """`work(rank)` in `count` processes with the environment that torchrun gives them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "GROUP_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "test",
    }
    return [
        forked(lambda r=r: work(r), folder, RANK=str(r), LOCAL_RANK=str(r), **shared)
        for r in range(count)
    ]
