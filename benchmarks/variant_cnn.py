"""A convolutional network beside ours: the same stem and head, the same windows, steps and seeds,
and as many parameters a layer, with convolutions where ours has attention.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from torch import Tensor, nn
from torch.nn import functional as F

from domains.genomics.effect import EffectTask
from domains.genomics.fact_config import FactsConfig
from domains.genomics.model import NEIGHBOURS, STEM, EffectModule

if TYPE_CHECKING:
    from core.contract import Fold
    from core.model.encoder import EncoderConfig
    from domains.genomics.config import GenomicsConfig
    from domains.genomics.source import LabelledSource

WIDTH = 11
DILATIONS = (1, 4, 16)  # taken in turn


class ConvBlock(nn.Module):
    """A dilated convolution and one of width 1 on a residual branch: 12 D^2 weights, as many as
    attention (4 D^2) and a feed-forward layer of four times the width (8 D^2)."""

    def __init__(self, dim: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        around = dilation * (WIDTH // 2)
        self.wide = nn.Conv1d(dim, dim, WIDTH, padding=around, dilation=dilation)
        self.mix = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        """[B, N, D], bool [B, N] -> [B, N, D]."""
        near = self.norm(x) * real[..., None]
        wide = self.wide(near.transpose(1, 2)).transpose(1, 2)
        return x + self.dropout(self.mix(F.gelu(wide)))


class ConvEncoder(nn.Module):
    """What stands in the place of `SparseEncoder`."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.dilations = [DILATIONS[i % len(DILATIONS)] for i in range(config.layers)]
        self.blocks = nn.ModuleList(
            ConvBlock(config.dim, d, config.dropout) for d in self.dilations
        )
        self.norm = nn.LayerNorm(config.dim)

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, real)
        return self.norm(x)


class ConvModule(EffectModule):
    """`EffectModule` with convolutions."""

    def __init__(self, encoder: EncoderConfig, **told: Any) -> None:
        super().__init__(encoder, **told)
        self.encoder = ConvEncoder(encoder)

    def reach(self) -> int:
        wide = sum(d * (WIDTH // 2) for d in self.encoder.dilations)
        return wide + STEM // 2 + NEIGHBOURS // 2


class ConvTask(EffectTask):
    """`effect` by a convolutional network."""

    def network(self) -> type[EffectModule]:
        return ConvModule


def _with_encoder(config: GenomicsConfig) -> GenomicsConfig:
    """Where ours leaves its encoder out, the convolutions are added to the facts in full."""
    share = config.facts.encoder or FactsConfig().encoder
    return replace(config, facts=replace(config.facts, encoder=share))


def out_of_fold(
    config: Any, source: LabelledSource, task: EffectTask, folds: list[Fold]
) -> pl.DataFrame:
    """row, fold and raw number of every fold's test rows, of trainings as the pipeline's."""
    from pipelines import build
    from pipelines.learn import Lesson, learn
    from pipelines.tries import fold_seed

    encoder = build.encoder(config, build.pattern(config.attention))
    parts = []
    with tempfile.TemporaryDirectory() as scratch:
        for index, fold in enumerate(folds):
            folder, seed = Path(scratch) / fold.name, fold_seed(config, index)
            conv = ConvTask(_with_encoder(task.config))
            learn(Lesson(config, source, conv, fold, encoder, seed, folder, folder / "logs"))
            parts.append(pl.read_parquet(folder / "test.parquet").select("row", "fold", "raw"))
    return pl.concat(parts)
