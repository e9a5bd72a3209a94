"""Compiled functions are kept for their sources only, and compile where nothing can be kept."""

from __future__ import annotations

import os

import numpy as np
import pytest
from numba import config

from core.fused import compiling
from core.fused.compiling import compiled, version


def twice(x):
    return 2 * x


def test_a_changed_constant_has_a_folder_of_its_own(monkeypatch, tmp_path):
    source = tmp_path / "constants.py"
    source.write_text("LANES = 8\n")
    monkeypatch.setattr(compiling, "SOURCES", (tmp_path,))
    before = version.__wrapped__()
    source.write_text("LANES = 4\n")
    assert version.__wrapped__() != before


@pytest.mark.parametrize("place", ["given", "own"])
def test_what_is_compiled_is_kept(monkeypatch, tmp_path, place):
    usual = ""
    if place == "given":
        usual = str(tmp_path)
    else:
        monkeypatch.setattr(compiling, "HERE", tmp_path / "file" / "package")
        (tmp_path / "file").write_text("no folder\n")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(config, "CACHE_DIR", usual)
    assert compiled(twice)(np.float32(3)) == 6
    assert list(tmp_path.rglob("*.nbc"))
    assert usual == config.CACHE_DIR


def test_where_nothing_can_be_kept(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("no folder\n")
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "file"))
    assert compiled(twice)(np.float32(3)) == 6
    assert not list(tmp_path.rglob("*.nb*"))


def test_old_versions_are_removed(monkeypatch, tmp_path):
    folders = [tmp_path / f"kernels-{at:016x}" for at in range(compiling.KEPT + 2)]
    for at, folder in enumerate(folders):
        folder.mkdir()
        os.utime(folder, (at, at))
    someone_elses = tmp_path / "kernels-of-another-program"
    someone_elses.mkdir()
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))
    compiled(twice)
    own = tmp_path / f"kernels-{version()}"
    assert {*tmp_path.iterdir()} == {own, *folders[3:], someone_elses}
