"""attention=auto on variants: bounded reach only, and no test label has a say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from core.attention import Dilated, Window, longformer
from core.model.encoder import EncoderConfig
from domains.genomics import domain
from domains.genomics.config import GenomicsConfig
from pipelines.choose import choose, encoders
from pipelines.runs import Run
from pipelines.tries import Bench
from tests.pipelines.test_build import config as composed


def test_a_reach_without_bound_is_not_chosen(simulated: GenomicsConfig) -> None:
    task = domain.task(simulated)
    assert task.objection(Window(8)) is None
    assert task.objection(Dilated(8, 4)) is None
    assert "one window a site" in (task.objection(longformer(8, (0,))) or "")


def test_labels_of_the_test_have_no_say_in_the_choice(
    simulated: GenomicsConfig, tmp_path: Path
) -> None:
    settings = replace(simulated, window=512, batch_size=1)
    task, encoder = domain.task(settings), EncoderConfig(dim=8, layers=1, heads=2)
    overrides = ("budget.share_of_dense=0.25", "tries.steps=2", "tries.batches=2")
    node = composed("attention=auto", *(f"attention.{o}" for o in overrides))

    def chosen(name: str, flip_test: bool) -> dict[str, Any]:
        source: Any = domain.open(settings, "train")
        fold = task.folds(source)[0]
        if flip_test:
            test = pl.col("row").is_in(fold.test.implode())
            label = pl.when(test).then(-9 * pl.col("label")).otherwise(pl.col("label"))
            source.variants = source.variants.with_columns(label=label)
        folder = tmp_path / name
        folder.mkdir()
        return choose(
            Bench(node, source, task, folder), [fold], encoder, Run(folder, "", resumed=False)
        )

    plain, flipped = chosen("plain", False), chosen("flipped", True)
    assert plain["chosen"] == flipped["chosen"]
    losses = [[row["loss"] for row in c["table"]] for c in (plain, flipped)]
    assert losses[0] == losses[1]
    assert len([loss for loss in losses[0] if loss is not None]) >= 3
    reach = encoders(plain, encoder)["fold0"].pattern.reach()
    assert reach is not None and reach < 512
    left_out = {r["pattern"]: r["verdict"] for r in plain["table"] if not r["fold"]}
    assert "bigbird" in left_out and "one window a site" in left_out["bigbird"]
