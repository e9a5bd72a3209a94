"""Our model in the benchmark: trained by the command that a user has, judged from its bundle."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl
from omegaconf import OmegaConf

from benchmarks.fraud_protocols import Rows
from core.bundle import load_bundle, restore
from core.errors import ConfigError, LongstrandError
from domains.finance import domain
from domains.finance.config import FinanceConfig
from domains.finance.labelled import TransactionSource
from pipelines import build
from pipelines.runs import RUN_ID


def trained(overrides: Sequence[str]) -> tuple[Path, float | None]:
    """The bundle of `pipelines.train domain=finance` with these overrides, and the seconds of the
    whole command; None where it went on with a run begun before.

    Raises:
        LongstrandError: the training failed; it has said why.
    """
    command = [sys.executable, "-m", "pipelines.train", "domain=finance", "resume=auto", *overrides]
    environment = {name: value for name, value in os.environ.items() if name != RUN_ID}
    began = time.perf_counter()
    run = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    seconds = time.perf_counter() - began
    if run.returncode:
        raise LongstrandError(
            f"models: training ours ended with exit code {run.returncode}; its own message is above"
        )
    summary = json.loads(run.stdout.splitlines()[-1])
    return Path(summary["bundle"]), None if summary["resumed"] else seconds


def judged(
    path: Path, config: FinanceConfig, source: TransactionSource, rows: Rows
) -> tuple[pl.DataFrame, float]:
    """`rows.judged` with columns raw and score of this bundle, and the seconds of predicting.

    Raises:
        ConfigError: the bundle has learned from labels that the protocol doesn't give.
    """
    bundle = load_bundle(path)
    task = domain.task(build.restored_config(domain, bundle.config, OmegaConf.create({})))
    # With or without a refit: the other models learn from all of these labels too.
    split = replace(config.split, refit=config.split.validation_days > 0)
    allowed = domain.task(replace(config, split=split)).folds(source)[0]
    given = pl.concat([allowed.learned, allowed.validation])
    seen = task.seen_rows(source, bundle.label_intervals)
    beyond = len(seen) - int(seen.is_in(given.implode()).sum())
    if beyond:
        raise ConfigError(
            f"{path}: found a bundle that has learned from {beyond} labelled rows outside of "
            "the protocol's training time, expected none; train it with the protocol's experiment"
        )
    tokenizer, module = restore(bundle, task)
    wanted = rows.judged["row"]
    began = time.perf_counter()
    predictions = task.predict(module, source, tokenizer, wanted)
    seconds = time.perf_counter() - began
    scored = build.scored(task, predictions, bundle.calibration, "benchmark")
    return rows.judged.join(
        scored.select("row", "raw", "score"), on="row", how="left", maintain_order="left"
    ), seconds
