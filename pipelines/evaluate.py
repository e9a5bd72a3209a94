"""Metrics of a bundle on labelled data: python -m pipelines.evaluate bundle=DIR|NAME@ALIAS
[config.KEY=VALUE] [backtest=weekly]

`config.` overrides lie on top of the configuration that the bundle was trained with, for
example config.data.variants=new.vcf.gz. Rows whose labels the bundle has seen are left out.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from core.contract import Source, Task
from core.errors import DataContractError
from pipelines import build, cli, runs
from pipelines.domains import load_domain
from pipelines.log import about, stage
from pipelines.registry import bundle_folder

if TYPE_CHECKING:
    import polars as pl

    from core.bundle import Bundle


def evaluate(config: DictConfig) -> dict[str, Any]:
    """Predict the labelled rows and compare; returns the summary."""
    import polars as pl

    from core.bundle import load_bundle

    if config.backtest.kind != "none":
        from pipelines.backtest import backtest

        return backtest(config)
    build.tune_process(config.threads)
    bundle = load_bundle(bundle_folder(config.bundle, config.registry))
    domain = load_domain(bundle.domain)
    about(domain=domain.name)
    settings = build.restored_config(domain, bundle.config, config.config)
    with stage("open"):
        source = domain.open(settings, "train")
    task = domain.task(settings)
    labelled = source.rows().filter(pl.col("label").is_not_null()).collect()["row"]
    if labelled.is_empty():
        raise DataContractError("found no labelled row to compare with")
    seen = task.seen_rows(source, bundle.label_intervals)
    rows = labelled if config.allow_overlap else labelled.filter(~labelled.is_in(seen.implode()))
    if rows.is_empty():
        raise DataContractError(
            f"all {len(labelled)} labelled rows lie where the bundle was trained "
            f"({bundle.label_intervals[0]} and so on): a figure on them says nothing about new "
            "data; name other data with config.data..., or say allow_overlap=true"
        )
    with stage("predict", rows=len(rows)):
        predictions = _predict(bundle, task, source, rows)
    with stage("metrics", rows=len(rows)):
        figures = [*task.metrics(source, predictions), *task.parts(source, predictions)]
        known = ", rows seen in training among them" if config.allow_overlap and len(seen) else ""
        metrics = [asdict(replace(m, protocol=m.protocol + known)) for m in figures]
    if config.out:
        runs.write_json(Path(config.out), metrics)
    return {
        "command": "evaluate",
        "bundle": str(bundle.path),
        "model_version": bundle.version,
        "rows": len(rows),
        "set_aside": build.distinct_rows(source.set_aside().collect()),
        "rows_seen_in_training": {
            "allowed" if config.allow_overlap else "left_out": len(seen),
        },
        "metrics": metrics,
    }


def _predict(bundle: Bundle, task: Task, source: Source, rows: pl.Series) -> pl.DataFrame:
    from core.bundle import restore

    tokenizer, module = restore(bundle, task)
    predictions = task.predict(module, source, tokenizer, rows)
    return build.scored(task, predictions, bundle.calibration, "evaluated")


def main() -> None:
    """Console script longstrand-evaluate."""
    cli.run(evaluate, "evaluate")


if __name__ == "__main__":
    main()
