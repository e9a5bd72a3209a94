"""A training that is killed ten times ends with the weights of one that was not."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from core.training import callbacks
from core.training.fit import FitConfig
from core.training.lightning import Training
from tests.forked import forked
from tests.tiny import DOMAINS, Tiny

STEPS = 40
CONFIG = FitConfig(steps=STEPS, accelerator="cpu", average=0.9, checkpoint_every=4, log_every=10**6)
SEED = 20261124
MOMENTS = ("batch drawn", "gradients there", "step made", "checkpoint written, not yet renamed")


class Kill(pl.Callback):
    """SIGKILL at a moment of a step; a checkpoint is written every fourth step only."""

    def __init__(self, step: int, moment: str) -> None:
        self.step = step
        self.moment = moment
        self.made = 0

    def _at(self, moment: str, step: int) -> None:
        if moment == self.moment and step >= self.step:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_train_batch_start(self, trainer: Any, *args: Any) -> None:
        self.made = trainer.global_step
        self._at("batch drawn", self.made)

    def on_after_backward(self, trainer: Any, *args: Any) -> None:
        self._at("gradients there", trainer.global_step)

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        self._at("step made", trainer.global_step)

    def arm(self, module: nn.Module) -> None:
        """In this process, from now on."""
        Training.configure_callbacks = lambda training: [self]  # type: ignore[method-assign]
        replace = os.replace

        def killed(*paths: Any) -> None:
            # Of the step whose batch was drawn last, which is made by now.
            self._at("checkpoint written, not yet renamed", self.made + 1)
            replace(*paths)

        callbacks.os.replace = killed  # type: ignore[attr-defined]


def _training(
    tiny: Tiny, folder: Path, start: int, change: Callable[[Any], None]
) -> Callable[[], Any]:
    def run() -> dict[str, torch.Tensor]:
        # A new process has random states of its own.
        module = tiny.fit(CONFIG, folder, lambda m: (_scramble(start), change(m)))
        return dict(module.state_dict())

    return run


def _scramble(start: int) -> None:
    torch.manual_seed(start)
    np.random.seed(start)
    random.seed(start)


@pytest.mark.parametrize("domain", DOMAINS)
def test_ten_kills_at_random_steps_change_no_bit_of_the_weights(
    domain: str, tmp_path: Path
) -> None:
    tiny = DOMAINS[domain](tmp_path, dropout=0.2)
    whole = forked(_training(tiny, tmp_path / "whole", 0, lambda _: None), tmp_path).answer()
    draw = random.Random(SEED)
    # A step that the last checkpoint is beyond would not come again.
    kills = sorted(draw.sample(range(1, STEPS - 4), 10))
    for start, step in enumerate(kills, start=1):
        kill = Kill(step, draw.choice(MOMENTS))
        training = forked(_training(tiny, tmp_path / "killed", start, kill.arm), tmp_path)
        assert training.exit_code() == -signal.SIGKILL, (step, kill.moment)
    last = forked(_training(tiny, tmp_path / "killed", 99, lambda _: None), tmp_path).answer()
    assert whole.keys() == last.keys()
    assert all(torch.equal(whole[name], last[name]) for name in whole)
