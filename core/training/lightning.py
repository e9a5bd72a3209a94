"""What Lightning trains: AdamW with warm-up and cosine on a network's loss."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from core.errors import ConfigError, LongstrandError
from core.training import launch, processes
from core.training.callbacks import TimeLimit
from core.training.loader import step_seed
from core.training.module import SequenceModule
from core.training.strategy import shard


@dataclass(frozen=True)
class OptimConfig:
    """AdamW (Loshchilov & Hutter 2019), linear warm-up, then cosine to `final` of the peak.

    Args:
        lr: peak learning rate.
        weight_decay: on matrices only; vectors, norms and embeddings decay nothing.
        warmup: share of all steps spent rising from 0.
        final: learning rate of the last step as a share of the peak.
    """

    lr: float = 1e-3
    weight_decay: float = 0.01
    warmup: float = 0.05
    final: float = 0.05
    betas: tuple[float, float] = (0.9, 0.98)

    def __post_init__(self) -> None:
        if not self.lr > 0:
            raise ConfigError(f"trainer.lr: found {self.lr}, expected above 0")
        if not self.weight_decay >= 0:
            raise ConfigError(f"trainer.weight_decay: found {self.weight_decay}, expected >= 0")
        if not 0 <= self.warmup < 1:
            raise ConfigError(f"trainer.warmup: found {self.warmup}, expected a share in [0, 1)")


def warmup_cosine(step: float, total: int, warmup: float, final: float) -> float:
    """Factor on the peak learning rate at `step` of `total`."""
    rise = max(1, round(warmup * total))
    if step < rise:
        return (step + 1) / rise
    progress = min(1.0, (step - rise) / max(1, total - rise))
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))


class Training(pl.LightningModule):
    """One training of a network; the number of steps comes from the trainer. Every step starts
    from a generator state of its own, so that dropout draws the same in a resumed run as in an
    unbroken one."""

    def __init__(
        self,
        network: SequenceModule,
        optim: OptimConfig,
        seed: int,
        limit: TimeLimit | None = None,
    ) -> None:
        super().__init__()
        self.network, self.optim, self.seed = network, optim, seed
        self._limit = limit

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        torch.manual_seed(step_seed(self.seed, self.trainer.global_step, launch.rank()))

    def configure_model(self) -> None:
        if self._device_mesh is not None:
            shard(self.network, self._device_mesh["data_parallel"])

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.network.took_mean = False
        loss = self.network.loss(batch)
        if processes.joined() and not self.network.took_mean:
            raise ConfigError(
                "trainer.strategy: the loss of this task takes no mean over processes; train with "
                "trainer.strategy=single"
            )
        whole = processes.total(loss) / launch.count()
        if not torch.isfinite(whole):
            raise LongstrandError(
                f"the loss became {whole.item()} at step {self.trainer.global_step}: training "
                "diverged; lower trainer.lr or set trainer.clip"
            )
        self.log("loss", whole, prog_bar=False, on_step=True, on_epoch=False, batch_size=1)
        return loss

    def configure_optimizers(self) -> Any:
        o = self.optim
        optimizer = torch.optim.AdamW(
            decay_groups(self.network, o.weight_decay), lr=o.lr, betas=o.betas
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self._factor(step))
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def _factor(self, step: int) -> float:
        """On the peak learning rate: by steps, or by time where that is nearer to its end."""
        total, o = self.trainer.max_steps, self.optim
        gone = 0.0 if self._limit is None else self._limit.share() * total
        return warmup_cosine(max(step, gone), total, o.warmup, o.final)


def decay_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    embeddings = {
        id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag)
    }
    decayed, plain = [], []
    for parameter in module.parameters():
        matrix = parameter.ndim >= 2 and id(parameter) not in embeddings
        (decayed if matrix else plain).append(parameter)
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
