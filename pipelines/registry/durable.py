"""Writes that are on the disk before anything refers to them."""

from __future__ import annotations

import os
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Replace a file in one step: a reader, or a machine without power, finds it old or new."""
    temporary = path.with_name(f".{path.name}.partial")
    with temporary.open("w") as f:
        f.write(text)
        f.flush()
        os.fsync(f.fileno())
    os.replace(temporary, path)
    sync_folder(path.parent)


def sync_tree(folder: Path) -> None:
    """Every file of a flat folder, and the folder itself."""
    for path in folder.iterdir():
        with path.open("rb") as f:
            os.fsync(f.fileno())
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Names that were added to or taken from a folder."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
