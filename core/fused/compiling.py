"""Compilation on first use, kept on disk for as long as the sources stay as they are.

numba itself looks at the time and size of one file. That would miss a constant that another file
defines, and an upgrade: files of a wheel may all have the same time.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from numba import config, njit

HERE = Path(__file__).parent
SOURCES = (HERE, HERE.parent / "model")
"""Folders whose files compiled functions take code or constants from."""
KEPT = 4
"""Versions whose code stays on disk, as checkouts and environments may share a folder."""


def compiled(function: Any) -> Any:
    """The function in machine code; not kept where no folder can be written."""
    settings = cast("Any", config)
    usual = settings.CACHE_DIR
    folder = next(filter(_can_be_written, _folders(usual)), None)
    if folder is None:
        return njit(nogil=True)(function)
    settings.CACHE_DIR = str(folder)
    try:
        return njit(cache=True, nogil=True)(function)
    finally:
        settings.CACHE_DIR = usual


def helper(function: Any) -> Any:
    """A function that compiled ones call: part of their machine code, and not kept by itself.

    So what is kept for a function is whole, also where several processes compile at once. Not for
    generators: numba never gives back the arrays that one was called with.
    """
    return njit(nogil=True)(function)


def _folders(usual: str) -> Iterator[Path]:
    """NUMBA_CACHE_DIR where it is set; else beside the source or in the user's own cache."""
    own = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    roots = [usual] if usual else [HERE / "__pycache__", os.path.join(own, "longstrand")]
    yield from (Path(root, f"kernels-{version()}") for root in roots)


def _can_be_written(folder: Path) -> bool:
    new = not folder.is_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    if new:
        _remove_old(folder.parent)
    return os.access(folder, os.W_OK | os.X_OK)


def _remove_old(root: Path) -> None:
    """All versions but the newest; a process that is about to read one compiles it again."""
    with contextlib.suppress(FileNotFoundError):  # another process removes them too
        versions = [one for one in root.glob("kernels-" + "[0-9a-f]" * 16) if one.is_dir()]
        for old in sorted(versions, key=os.path.getmtime)[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)


@functools.cache
def version() -> str:
    """Of the sources, whenever they were written."""
    files = sorted(path for folder in SOURCES for path in folder.glob("*.py"))
    digest = hashlib.blake2b(digest_size=8)
    for path in files:
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()
