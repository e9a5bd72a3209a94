"""What happens around the steps: checkpoints, preemption, averaged weights, throughput."""

from __future__ import annotations

import logging
import os
import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from core.errors import Preempted
from core.stops import stop_name, stops
from core.training import processes
from core.training.strategy import placed_like, whole_tensor

log = logging.getLogger(__name__)


class Checkpointer(pl.Callback):
    """Keeps one resumable checkpoint, renamed into place, so that a kill never leaves half a file.

    SIGTERM and Ctrl-C are answered after the step in flight: checkpoint, then `Preempted` (exit
    code 143). A second Ctrl-C ends the process at once.
    """

    def __init__(self, path: Path, every: int) -> None:
        self.path = path
        self.every = every
        self.stop = False
        self._by = ""
        self._previous: dict[int, Any] = {}

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._previous = {s: signal.signal(s, self._request_stop) for s in stops()}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Again: Lightning has put a handler around ours that broadcasts, wherever the signal finds
        # this process, and so meets another collective of the other processes.
        for stop in self._previous:
            signal.signal(stop, self._request_stop)

    def _request_stop(self, signum: int, frame: FrameType | None) -> None:
        self.stop, self._by = True, f" by {stop_name(signum)}"
        if signum == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # Signals come to the processes at different steps; they save and stop at the same one.
        stop = processes.any_of(self.stop, pl_module.device)
        if stop or trainer.global_step % self.every == 0:
            self.save(trainer)
        if stop:
            raise Preempted(
                f"stopped{self._by} at step {trainer.global_step}; "
                "the same command with resume=auto goes on from there"
            )

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.save(trainer)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        for stop, before in self._previous.items():
            signal.signal(stop, before)
        self._previous = {}

    def save(self, trainer: pl.Trainer) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".partial")
        trainer.save_checkpoint(temporary)
        if trainer.is_global_zero:
            os.replace(temporary, self.path)


class AveragedWeights(pl.Callback):
    """Exponential moving average of the weights (Polyak & Juditsky 1992), used after training.

    The decay rises as (1 + step) / (10 + step) up to `decay`, so that short runs are not
    dominated by the initial weights. Saved in the checkpoint: a resumed run averages the same.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.average: dict[str, Tensor] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        parameters = {n: p.detach() for n, p in pl_module.named_parameters()}
        if not self.average:
            self.average = {n: p.clone() for n, p in parameters.items()}
        self.average = {n: placed_like(p, self.average[n]) for n, p in parameters.items()}

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        decay = min(self.decay, (1 + step) / (10 + step))
        parameters = dict(pl_module.named_parameters())
        for name, average in self.average.items():
            average.lerp_(parameters[name], 1 - decay)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        with torch.no_grad():
            for name, parameter in pl_module.named_parameters():
                parameter.copy_(placed_like(parameter, self.average[name]))

    def state_dict(self) -> dict[str, Any]:
        return {"average": {n: whole_tensor(t) for n, t in self.average.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.average = dict(state_dict["average"])


class TimeLimit(pl.Callback):
    """Ends a training after the step in which its time is over; a resumed one has what was left."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.spent = seconds, 0.0
        self._began, self._before = 0.0, 0.0

    def share(self) -> float:
        """Of the time that is gone, 0 to 1."""
        return min(1.0, self.spent / self.seconds)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._began, self._before = time.perf_counter(), self.spent

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        # Ahead of the step: the learning rate of the next one is asked for within this one.
        self.spent = self._before + time.perf_counter() - self._began

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.spent = self._before + time.perf_counter() - self._began
        # Clocks differ; the processes stop at the same step.
        if processes.any_of(self.spent >= self.seconds, pl_module.device):
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        return {"spent": self.spent}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.spent = float(state_dict["spent"])


class Throughput(pl.Callback):
    """Logs steps a second, tokens a second and the loss every `every` steps.

    A batch is a mapping that tells its size under `tokens`: real positions, padding not counted.
    """

    def __init__(self, every: int) -> None:
        self.every = every
        self._start = 0.0
        self._tokens = 0
        self._steps = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._tokens += int(batch["tokens"]) if isinstance(batch, dict) else 0
        self._steps += 1
        if trainer.global_step % self.every and trainer.global_step != trainer.max_steps:
            return
        seconds = time.perf_counter() - self._start
        tokens = processes.total(torch.tensor(float(self._tokens), device=pl_module.device))
        rates = {
            "steps_per_second": self._steps / seconds,
            "tokens_per_second": float(tokens) / seconds,
        }
        for name, value in rates.items():
            pl_module.log(name, value, batch_size=1)
        log.info(
            "step %d/%d loss %.4f, %.2f steps/s, %.0f tokens/s",
            trainer.global_step,
            trainer.max_steps,
            float(trainer.callback_metrics.get("loss", torch.tensor(float("nan")))),
            rates["steps_per_second"],
            rates["tokens_per_second"],
        )
        self._start, self._tokens, self._steps = time.perf_counter(), 0, 0
