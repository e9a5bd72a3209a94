"""A bundle is whole, verified and refused when it is not what it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from core.bundle import load_bundle, write_bundle
from core.bundle_files import FILES
from core.calibration import Calibration
from core.errors import ConfigError
from core.model.encoder import EncoderConfig


@pytest.fixture
def bundle(write: Callable[..., Path]) -> Path:
    return write("bundle", 1.5)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    return lambda name, mean: _write(tmp_path / name, mean)


def _write(path: Path, mean: float) -> Path:
    write_bundle(
        path,
        manifest={
            "domain": "toy",
            "task": "sum",
            "created": "2026-01-01T00:00:00+00:00",
            "fingerprint": "abc",
            "label_intervals": ["chr1:0-5"],
            "config": {"rows": 3},
        },
        encoder=EncoderConfig(dim=8, heads=2),
        weights={"w": torch.arange(6.0).reshape(2, 3).T},
        tokenizer={"mean": mean},
        calibration=Calibration("platt", 2.0, -1.0),
        metrics=[],
        reference=[],
        model_card="# card\n",
    )
    return path


def test_what_was_written_is_read_back(bundle: Path) -> None:
    loaded = load_bundle(bundle)
    assert loaded.encoder == EncoderConfig(dim=8, heads=2)
    assert loaded.calibration == Calibration("platt", 2.0, -1.0)
    assert loaded.tokenizer == {"mean": 1.5}
    assert torch.equal(loaded.state_dict()["w"], torch.arange(6.0).reshape(2, 3).T)
    assert {p.name for p in bundle.iterdir()} == {*FILES, "SHA256SUMS"}


@pytest.mark.parametrize("name", FILES)
def test_a_changed_or_missing_file_is_named(bundle: Path, name: str) -> None:
    content = (bundle / name).read_bytes()
    (bundle / name).write_bytes(content + b" ")
    with pytest.raises(ConfigError, match=name):
        load_bundle(bundle)
    (bundle / name).unlink()
    with pytest.raises(ConfigError, match=name):
        load_bundle(bundle)


def test_an_unlisted_file_is_refused(bundle: Path) -> None:
    (bundle / "hook.py").write_text("")
    with pytest.raises(ConfigError, match=r"hook\.py"):
        load_bundle(bundle)


def test_a_bundle_of_another_format_is_refused(bundle: Path) -> None:
    import hashlib

    manifest = yaml.safe_load((bundle / "bundle.yaml").read_text())
    (bundle / "bundle.yaml").write_text(yaml.safe_dump({**manifest, "format": 99}))
    sums = "".join(f"{hashlib.sha256((bundle / n).read_bytes()).hexdigest()}  {n}\n" for n in FILES)
    (bundle / "SHA256SUMS").write_text(sums)
    with pytest.raises(ConfigError, match="format 99, this version reads format 2"):
        load_bundle(bundle)


def test_the_version_follows_the_contents(write: Callable[..., Path]) -> None:
    first, same, other = (
        load_bundle(write(name, mean)).version for name, mean in (("a", 1.5), ("b", 1.5), ("c", 2))
    )
    assert first == same != other
