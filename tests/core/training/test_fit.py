"""Averaged weights, and what a checkpoint holds."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
import torch
from torch import Tensor, nn

from core.errors import ConfigError
from core.training.fit import FitConfig, fit
from core.training.lightning import OptimConfig, Training
from core.training.loader import StepLoader, generator_at
from core.training.module import SequenceModule


class Line(SequenceModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.weight = nn.Parameter(torch.randn(3, 1))
        self.seen: list[Tensor] = []

    def loss(self, batch: Tensor) -> Tensor:
        return ((batch @ self.weight - batch.sum(1, keepdim=True)) ** 2).mean()


@pytest.fixture(autouse=True)
def _seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def see(training: Training, *args: object) -> None:
        line = cast(Line, training.network)
        line.seen.append(line.weight.detach().clone())

    monkeypatch.setattr(Training, "on_train_batch_end", see)


def _loader(steps: int) -> StepLoader:
    return StepLoader(lambda k: torch.randn(8, 3, generator=generator_at(0, k)), steps)


def _fit(folder: Path, **options: object) -> Line:
    config = FitConfig(steps=20, checkpoint_every=5, accelerator="cpu", **options)  # type: ignore[arg-type]
    line = Line()
    fit(line, _loader(20), OptimConfig(lr=0.05), config, folder, seed=0)
    return line


def test_averaged_weights_are_the_average_of_the_steps(tmp_path: Path) -> None:
    line = _fit(tmp_path, average=0.9)
    torch.manual_seed(0)
    expected = torch.randn(3, 1)
    for step, weight in enumerate(line.seen, start=1):
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weight
    torch.testing.assert_close(line.weight.detach(), expected)


def test_every_checkpoint_loads_without_a_pickle_of_ours(tmp_path: Path) -> None:
    _fit(tmp_path, average=0.9)
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert state["global_step"] == 20
    assert not (tmp_path / "last.partial").exists()


def test_bf16_trains_and_keeps_fp32_weights(tmp_path: Path) -> None:
    line = _fit(tmp_path, precision="bf16-mixed")
    assert line.weight.dtype == torch.float32
    assert not torch.equal(line.seen[0], line.seen[-1])


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected 32-true or bf16-mixed"):
        FitConfig(precision="16")


def test_a_time_limit_ends_a_training_with_its_learning_rate(tmp_path: Path) -> None:
    config = FitConfig(steps=10**6, seconds=0.4, accelerator="cpu", checkpoint_every=10**6)
    line = Line()
    fit(line, _loader(10**6), OptimConfig(lr=0.05), config, tmp_path, seed=0)
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert 1 < state["global_step"] == len(line.seen) < 10**6
    rate = state["optimizer_states"][0]["param_groups"][0]["lr"]
    assert rate < 0.05 * 0.2
    again = Line()
    fit(again, _loader(10**6), OptimConfig(lr=0.05), config, tmp_path, seed=0)
    assert len(again.seen) <= 1  # its time was over
    torch.testing.assert_close(again.weight, line.weight, atol=0.05, rtol=0)
