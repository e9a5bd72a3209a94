"""A bundle is whole, verified and refused when it is not what it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from core.bundle import Begun, begin_from, load_bundle, write_bundle
from core.bundle_files import FILES
from core.calibration import Calibration
from core.errors import ConfigError
from core.model.encoder import EncoderConfig
from core.training.module import SequenceModule


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
    with pytest.raises(ConfigError, match="format 99, this version reads format 3"):
        load_bundle(bundle)


def test_the_version_follows_the_contents(write: Callable[..., Path]) -> None:
    first, same, other = (
        load_bundle(write(name, mean)).version for name, mean in (("a", 1.5), ("b", 1.5), ("c", 2))
    )
    assert first == same != other


def _learner(task: str, width: int = 3, classes: int = 1) -> SimpleNamespace:
    """A task whose module has a shared and a head layer of these sizes."""

    class Net(SequenceModule):
        def __init__(self) -> None:
            super().__init__()
            self.shared = nn.Linear(2, width)
            self.head = nn.Linear(width, classes)

    return SimpleNamespace(name=task, module=lambda *_: Net())


def _begun(bundle: Any, task: Any) -> Begun:
    return begin_from(bundle, task, EncoderConfig(), bundle.tokenizer, bundle.state_dict())


def _trained(task: str, path: Path) -> SimpleNamespace:
    weights = _learner(task).module().state_dict()
    return SimpleNamespace(task=task, tokenizer={"a": 1}, path=path, state_dict=lambda: weights)


def test_another_task_takes_over_all_but_the_head(tmp_path: Path) -> None:
    bundle = _trained("first", tmp_path)
    begun = _begun(bundle, _learner("second", classes=5))
    assert begun.taken == ["shared.weight", "shared.bias"]
    assert begun.new == ["head.weight", "head.bias"]
    assert begun.tokenizer == {"a": 1}
    assert torch.equal(begun.module.shared.weight, bundle.state_dict()["shared.weight"])


def test_the_same_task_takes_over_the_head_too(tmp_path: Path) -> None:
    bundle = _trained("first", tmp_path)
    begun = _begun(bundle, _learner("first"))
    assert torch.equal(begun.module.head.weight, bundle.state_dict()["head.weight"])
    assert begun.new == []
    with pytest.raises(ConfigError, match=r"head.weight it has shape \(1, 3\), expected \(5, 3\)"):
        _begun(bundle, _learner("first", classes=5))


def test_weights_of_another_size_are_no_beginning(tmp_path: Path) -> None:
    bundle = _trained("first", tmp_path)
    with pytest.raises(
        ConfigError, match=r"shared.weight it has shape \(3, 2\), expected \(4, 2\)"
    ):
        _begun(bundle, _learner("second", width=4))
