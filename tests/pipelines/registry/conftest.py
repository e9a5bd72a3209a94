"""Bundles as small as their sums allow, and a registry of each kind."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from core.bundle_files import FILES
from pipelines.registry.opening import open_registry
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


@pytest.fixture(params=["folder", "mlflow"])
def node(request: pytest.FixtureRequest, tmp_path: Path) -> DictConfig:
    """Group `registry` of a configuration."""
    root = str(tmp_path / "models")
    if request.param == "folder":
        return OmegaConf.create({"kind": "folder", "root": root})
    shutil.copy(request.getfixturevalue("empty_database"), tmp_path / "mlflow.db")
    return OmegaConf.create(
        {"kind": "mlflow", "uri": f"sqlite:///{tmp_path / 'mlflow.db'}", "root": root}
    )


@pytest.fixture
def registry(node: DictConfig) -> Registry:
    return open_registry(node)
