"""Natural variants told from controls by a training on those of other chromosomes, begun from what
the genome taught or anew."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.configured import training_config
from core.bundle import Bundle
from core.contract import Fold
from core.errors import ConfigError
from domains.genomics import domain
from domains.genomics.source import LabelledSource
from pipelines import build
from pipelines.learn import Lesson, learn

CALIBRATED = "VI"  # held back from both; a small one


def tuned(rows: pl.Series, bundle: Bundle, begin: bool, threads: int, steps: int) -> np.ndarray:
    """Scores (logits) of held-out rows of the table; all rows of other contigs are learned from.

    Args:
        rows: row numbers in the file, of the contigs that `bundle` held out.
        bundle: of task mlm; with `begin` the training begins from it, else from the same network
            untrained.
    """
    e = bundle.encoder
    given = [
        "domain=genomics",
        "experiment=yeast_sgrp",
        f"threads={threads}",
        f"trainer.steps={steps}",
        f"model.dim={e.dim}",
        f"model.layers={e.layers}",
        f"model.heads={e.heads}",
        f"attention.radius={e.pattern.reach()}",
        "logger=none",
    ]
    config = training_config(given)
    settings = build.domain_config(config.domain)
    source, task = domain.open(settings, "train"), domain.task(settings)
    assert isinstance(source, LabelledSource)
    fold = _fold(source.variants, set(bundle.config["masked"]["test"]))
    encoder = build.encoder(config, build.pattern(config.attention))
    with tempfile.TemporaryDirectory() as folder:
        start = bundle if begin else None
        lesson = Lesson(config, source, task, fold, encoder, 0, Path(folder), Path(folder), start)
        learn(lesson)
        told = pl.read_parquet(Path(folder) / "test.parquet").select("row", "raw")
    joined = pl.DataFrame({"row": rows}).join(told, on="row", how="left", maintain_order="left")
    if joined["raw"].null_count():
        raise ConfigError(f"variants: found no score of {joined['raw'].null_count()} rows")
    return joined["raw"].to_numpy()


def _fold(variants: pl.DataFrame, test: set[str]) -> Fold:
    held = pl.col("chrom").is_in(sorted(test))
    back = pl.col("chrom") == CALIBRATED
    parts = [variants.filter(x)["row"] for x in (~held & ~back, ~held & back, held)]
    return Fold("held_out", *parts)
