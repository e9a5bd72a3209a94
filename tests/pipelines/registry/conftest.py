"""Bundles as small as their sums allow, and a registry of each kind."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from core.bundle_files import FILES
from pipelines.registry.folder import FolderStore
from pipelines.registry.registry import Registry

Make = Callable[[str], Path]


def make_bundle(path: Path, text: str) -> Path:
    """A folder that the sums vouch for; what its files hold is nobody's concern here."""
    path.mkdir(parents=True)
    for name in FILES:
        (path / name).write_text(f"{name} {text}\n")
    sums = [f"{hashlib.sha256((path / n).read_bytes()).hexdigest()}  {n}\n" for n in FILES]
    (path / "SHA256SUMS").write_text("".join(sums))
    return path


@pytest.fixture
def bundle(tmp_path: Path) -> Make:
    return lambda text: make_bundle(tmp_path / "bundles" / text, text)


@pytest.fixture(params=["folder"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Registry:
    return Registry(FolderStore(tmp_path / "models"))
