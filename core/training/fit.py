"""One training: a module, a loader, a folder that a killed run can go on from."""

from __future__ import annotations

import copy
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from core.errors import ConfigError
from core.training import launch, processes
from core.training.callbacks import AveragedWeights, Checkpointer, Throughput, TimeLimit
from core.training.lightning import OptimConfig, Training
from core.training.loader import Share, StepLoader
from core.training.module import SequenceModule
from core.training.strategy import STRATEGIES, lightning_strategy, whole_weights


@dataclass(frozen=True)
class FitConfig:
    """How long and on what.

    Args:
        steps: optimiser steps of one training, at most.
        seconds: time of one training after which it ends as if its steps were done, the learning
            rate with it; 0 for no limit. How many steps that makes depends on the machine.
        precision: "32-true" or "bf16-mixed".
        clip: largest gradient norm; 0 turns clipping off.
        average: decay of the averaged weights; 0 keeps the last weights.
        checkpoint_every: steps between resumable checkpoints.
        log_every: steps between lines in the log.
        accelerator: "cpu", "gpu" (CUDA), or "auto": a GPU where torch sees one. Apple's has no
            float64, which real times need.
        deterministic: ask torch for deterministic kernels.
        strategy: "single", or how the processes that torchrun started share the model: "ddp",
            "fsdp". A batch is as large as with one process; each takes its share of it.
    """

    steps: int = 1000
    seconds: float = 0.0
    precision: str = "32-true"
    clip: float = 1.0
    average: float = 0.0
    checkpoint_every: int = 100
    log_every: int = 50
    accelerator: str = "auto"
    deterministic: bool = True
    strategy: str = "single"

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise ConfigError(
                f"trainer.strategy: found {self.strategy!r}, expected one of {STRATEGIES}"
            )
        if self.precision not in ("32-true", "bf16-mixed"):
            raise ConfigError(
                f"trainer.precision: found {self.precision!r}, expected 32-true or bf16-mixed"
            )
        for name in ("steps", "checkpoint_every", "log_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"trainer.{name}: found {getattr(self, name)}, expected >= 1")
        if not self.seconds >= 0:
            raise ConfigError(f"trainer.seconds: found {self.seconds}, expected >= 0 (0: no limit)")
        if not self.clip >= 0:
            raise ConfigError(f"trainer.clip: found {self.clip}, expected >= 0 (0: no clipping)")
        if self.accelerator not in ("auto", "cpu", "gpu"):
            raise ConfigError(
                f"trainer.accelerator: found {self.accelerator!r}, expected auto, cpu or gpu"
            )
        if self.accelerator == "gpu" and not torch.cuda.is_available():
            raise ConfigError("trainer.accelerator: found gpu, but torch sees no CUDA device")
        if not 0 <= self.average < 1:
            raise ConfigError(f"trainer.average: found {self.average}, expected 0 <= average < 1")


def fit(
    module: SequenceModule,
    loader: StepLoader,
    optim: OptimConfig,
    config: FitConfig,
    folder: Path,
    seed: int,
    loggers: list[Any] | None = None,
) -> SequenceModule:
    """Train for `config.steps` steps or `config.seconds`, going on from `folder`/last.ckpt where
    there is one.

    Returns:
        The trained module, whole in every process; under fsdp another one than `module`.
    """
    _quieten()
    processes.join(config.strategy)
    checkpoint = folder / "last.ckpt"
    callbacks: list[pl.Callback] = [
        Throughput(config.log_every),
        Checkpointer(checkpoint, config.checkpoint_every),
    ]
    if config.average:
        # Before the checkpointer: a checkpoint must hold the average of its own step.
        callbacks.insert(0, AveragedWeights(config.average))
    limit = TimeLimit(config.seconds) if config.seconds else None
    if limit is not None:
        callbacks.insert(0, limit)  # before the checkpointer too, which keeps the time spent
    loader.take(Share(launch.rank(), launch.count()))
    unsharded = copy.deepcopy(module) if config.strategy == "fsdp" else module
    trainer = pl.Trainer(
        max_steps=config.steps,
        max_epochs=1,
        accelerator=_accelerator(config.accelerator),
        devices=launch.count_here(),
        num_nodes=launch.count() // launch.count_here(),
        strategy=lightning_strategy(config.strategy),
        precision=config.precision,  # type: ignore[arg-type]
        gradient_clip_val=config.clip or None,
        deterministic=config.deterministic,
        callbacks=callbacks,
        logger=loggers or False,
        log_every_n_steps=config.log_every,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=str(folder),
        num_sanity_val_steps=0,
    )
    resume = str(checkpoint) if processes.from_first(checkpoint.is_file) else None
    training = Training(module, optim, seed, limit)
    trainer.fit(training, train_dataloaders=loader, ckpt_path=resume, weights_only=True)
    rate = trainer.callback_metrics.get("steps_per_second")
    unsharded.steps_per_second = None if rate is None else float(rate)
    unsharded.trained_on = trainer.strategy.root_device
    if unsharded is not module:
        unsharded.load_state_dict(whole_weights(module))
    return unsharded.eval()


def _accelerator(wanted: str) -> str:
    """Raises ConfigError where processes outnumber the GPUs that they are to use."""
    if wanted == "auto":
        wanted = "gpu" if torch.cuda.is_available() else "cpu"
    if wanted == "gpu" and launch.count_here() > torch.cuda.device_count():
        raise ConfigError(
            f"torchrun: found {launch.count_here()} processes for {torch.cuda.device_count()} "
            "GPU(s), expected at most one a GPU; lower --nproc_per_node"
        )
    return wanted


def _quieten() -> None:
    # Advice about data-loader workers does not fit a loader that computes batch k on demand.
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="pytorch_lightning", message=".*num_workers.*")
    warnings.filterwarnings("ignore", module="pytorch_lightning", message=".*GPU available.*")
