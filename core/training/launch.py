"""Who this process is among those that torchrun started, read from its environment."""

from __future__ import annotations

import os


def launched() -> bool:
    """Whether torchrun (torch.distributed.run) started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def rank() -> int:
    """0 .. count() - 1; the first process alone writes files."""
    return int(os.environ["RANK"]) if launched() else 0


def count() -> int:
    """Processes of the training, on all machines."""
    return int(os.environ["WORLD_SIZE"]) if launched() else 1


def count_here() -> int:
    """Processes of the training on this machine."""
    return int(os.environ["LOCAL_WORLD_SIZE"]) if launched() else 1
