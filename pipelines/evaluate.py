"""Metrics of a bundle on labelled data: python -m pipelines.evaluate bundle=DIR [config.KEY=VALUE]

`config.` overrides lie on top of the configuration that the bundle was trained with, for
example config.data.variants=new.vcf.gz. Rows whose labels the bundle has seen are refused.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from core.contract import Fold, Source, Task
from core.errors import DataContractError
from pipelines import build, cli, runs
from pipelines.domains import load_domain

if TYPE_CHECKING:
    from core.bundle import Bundle

log = logging.getLogger("longstrand.evaluate")


def evaluate(config: DictConfig) -> dict[str, Any]:
    """Predict the labelled rows and compare; returns the summary."""
    from core.bundle import load_bundle

    build.use_threads(config.threads)
    bundle = load_bundle(Path(config.bundle))
    domain = load_domain(bundle.domain)
    settings = build.restored_config(domain, bundle.config, config.config)
    source = domain.open(settings, "train")
    task = domain.task(settings)
    fold = held_out(source, task)
    shared = overlap(task.label_intervals(source, _as_training(fold)), bundle.label_intervals)
    if shared and not config.allow_overlap:
        raise DataContractError(
            f"the bundle has been trained on labels of {shared[0]}"
            f"{f' and {len(shared) - 1} more' if len(shared) > 1 else ''}: a figure on them says "
            "nothing about new data; name other data with config.data..., or allow_overlap=true"
        )
    metrics = [asdict(m) for m in task.metrics(source, _predict(bundle, task, source, fold))]
    if config.out:
        runs.write_json(Path(config.out), metrics)
    return {
        "command": "evaluate",
        "bundle": str(bundle.path),
        "model_version": bundle.version,
        "rows": len(fold.test),
        "overlap_with_training": bool(shared),
        "metrics": metrics,
    }


def held_out(source: Source, task: Task) -> Fold:
    """The split's own test rows where it has one, else every labelled row."""
    import polars as pl

    fold = task.folds(source)[-1]
    if len(fold.test):
        return fold
    rows = pl.concat([fold.train, fold.validation]).unique().sort()
    return Fold("all", rows.clear(), rows.clear(), rows)


def _as_training(fold: Fold) -> Fold:
    return Fold(fold.name, fold.test, fold.test.clear(), fold.test.clear())


def _predict(bundle: Bundle, task: Task, source: Source, fold: Fold) -> Any:
    import polars as pl

    tokenizer = task.load_tokenizer(bundle.tokenizer)
    module = task.module(tokenizer, bundle.encoder)
    module.load_state_dict(bundle.state_dict())
    predictions = task.predict(module.eval(), source, tokenizer, fold.test)
    score = bundle.calibration.apply(predictions["raw"].to_numpy())
    return predictions.with_columns(
        pl.Series("score", score, dtype=pl.Float64), pl.lit(fold.name).alias("fold")
    )


def overlap(asked: Sequence[str], seen: Iterable[str]) -> list[str]:
    """The intervals asked for that meet one that was seen.

    An interval is `name:start-end` with integers (a contig, 0-based half-open) or
    `name:start/end` with ISO times, half-open.
    """
    known = [_interval(s) for s in seen]
    return [text for text in asked if any(_meets(_interval(text), other) for other in known)]


def _interval(text: str) -> tuple[str, Any, Any]:
    name, _, span = text.partition(":")
    if "/" in span:
        start, end = span.split("/")
        return name, start, end
    start, end = span.rsplit("-", 1)
    return name, int(start), int(end)


def _meets(a: tuple[str, Any, Any], b: tuple[str, Any, Any]) -> bool:
    return a[0] == b[0] and a[1] < b[2] and b[1] < a[2]


def main() -> None:
    """Console script longstrand-evaluate."""
    cli.run(evaluate, "evaluate")


if __name__ == "__main__":
    main()
