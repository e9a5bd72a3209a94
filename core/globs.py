"""What a path names that may be a folder or a glob."""

from __future__ import annotations

import glob
from pathlib import Path


def root_and_named(path: Path) -> tuple[Path, list[Path]]:
    """The folder from which names count, and what is named: a folder itself, or what a glob finds,
    files and folders, counted from the folder above the first part that stands for several."""
    if path.is_dir():
        return path, [path]
    root = next(above for above in path.parents if not glob.has_magic(str(above)))
    return root, [Path(name) for name in glob.glob(str(path), recursive=True)]
