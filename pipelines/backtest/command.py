"""Walk week by week through labelled history, as a model in use would have met it.

The same bundle, data and settings are the same back-test: a second start goes on where the first
was killed, and does nothing where it had finished.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from core.contract import Domain, Metric, Source
from core.errors import ConfigError, DataContractError
from pipelines import build, locks, runs
from pipelines.backtest.figures import ALL, figures, together
from pipelines.backtest.page import write_page
from pipelines.backtest.walk import Walk, first_day, lesson_of, step
from pipelines.backtest.weeks import WEEK, stretches
from pipelines.domains import load_domain
from pipelines.log import about, stage
from pipelines.registry import bundle_folder
from pipelines.retrain.stages import Stages
from pipelines.train import note_set_aside

if TYPE_CHECKING:
    import polars as pl

    from core.bundle import Bundle

RETRAIN = ("never", "monthly", "weekly")


def backtest(config: DictConfig) -> dict[str, Any]:
    """One back-test; returns the summary."""
    from core.bundle import load_bundle

    asked = config.backtest
    if asked.retrain not in RETRAIN:
        raise ConfigError(
            f"backtest.retrain: found {asked.retrain!r}, expected one of {', '.join(RETRAIN)}"
        )
    build.tune_process(config.threads)
    bundle = load_bundle(bundle_folder(config.bundle, config.registry))
    domain = load_domain(bundle.domain)
    about(domain=domain.name)
    settings = build.restored_config(domain, bundle.config, config.config)
    lesson = None if asked.retrain == "never" else lesson_of(bundle, asked.trainer)
    with stage("open"):
        source = domain.open(settings, "train")
    key = _key(config, bundle, source)
    home = Path(config.runs) / domain.name / "backtest" / f"{bundle.version}-{key}"
    rows = _rows(config, domain, source, settings, bundle)
    home.mkdir(parents=True, exist_ok=True)
    about(run=str(home))
    walk = Walk(domain, settings, source, domain.task(settings), bundle, rows, home, lesson)
    refusal = f"{home}: another process is at this back-test; wait for it"
    with locks.held(home / ".lock", refusal), runs.logged(home / "backtest.log"):
        found = _walk(walk, asked.retrain)
    if config.out:
        runs.write_json(Path(config.out), json.loads((home / "metrics.json").read_text()))
    return {"command": "evaluate", "bundle": str(bundle.path), **found}


def _walk(walk: Walk, retrain: str) -> dict[str, Any]:
    stages, steps = Stages(walk.folder), {}
    if stages.finished("done"):
        return {**stages.read("done"), "already_done": True}
    set_aside = note_set_aside(walk.source, walk.folder)
    before = str(walk.bundle.path.resolve())
    for of in stretches(walk.rows["week"].unique().sort().to_list(), retrain):
        steps[of[0]] = stages.once(f"step-{of[0]}", lambda of=of, b=before: step(walk, of, b))
        before = steps[of[0]]["bundle"]
    with stage("metrics", rows=len(walk.rows)):
        predictions = together(walk, steps)
        metrics = figures(walk, predictions)
    runs.write_json(walk.folder / "metrics.json", [asdict(m) for m in metrics])
    write_page(walk, steps, predictions, metrics)
    return stages.once("done", lambda: _summary(walk, steps, metrics, set_aside))


def _summary(
    walk: Walk, steps: dict[date, dict[str, Any]], metrics: list[Metric], set_aside: int
) -> dict[str, Any]:
    first, last = walk.rows["week"].min(), walk.rows["week"].max()
    return {
        "run": str(walk.folder),
        "model_version": walk.bundle.version,
        "weeks": walk.rows["week"].n_unique(),
        "from": str(first),
        "last_week_from": str(last),
        "rows": len(walk.rows),
        "set_aside": set_aside,
        "trained": len({one["bundle"] for one in steps.values()}) - 1,
        "metrics": [asdict(m) for m in metrics if m.protocol == ALL],
    }


def _rows(
    config: DictConfig, domain: Domain, source: Source, settings: Any, bundle: Bundle
) -> pl.DataFrame:
    """Labelled rows of the weeks asked for.

    Raises:
        ConfigError: rows have no time, or the bundle could not have been in use so early.
        DataContractError: there is no labelled row.
    """
    import polars as pl

    served = first_day(domain.task(settings).in_service(source, bundle.label_intervals))
    if served is None:
        raise ConfigError(
            f"backtest: found the domain {domain.name}, whose rows have no time to walk through; "
            "say backtest=none"
        )
    known = source.rows().filter(pl.col("label").is_not_null())
    rows = known.select("row", "label", pl.col("time").dt.date().alias("day")).collect()
    asked = config.backtest
    first = _day("start", asked.start) if asked.start else None
    if first is not None and first < served and not config.allow_overlap:
        raise ConfigError(
            f"backtest.start: found {first}, expected {served} or later: before that not all "
            "labels that the bundle has learned from were known; say allow_overlap=true to see "
            "figures that flatter it"
        )
    inside = pl.col("day") >= (first or served)
    if asked.until:
        inside &= pl.col("day") < _day("until", asked.until)
    rows = rows.filter(inside)
    if rows.is_empty():
        raise DataContractError(
            f"found no labelled row from {first or served} on, when the bundle could first have "
            f"been in use, to {asked.until or 'the end'}; name later data with config.data..."
        )
    begin = first or max(served, rows["day"].min())  # pyright: ignore
    of = {day: begin + (day - begin) // WEEK * WEEK for day in rows["day"].unique()}
    return rows.with_columns(week=pl.col("day").replace_strict(of, return_dtype=pl.Date))


def _day(where: str, text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"backtest.{where}: found {text!r}, expected a date such as 2024-03-01"
        ) from None


def _key(config: DictConfig, bundle: Bundle, source: Source) -> str:
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    asked = {name: plain[name] for name in ("backtest", "config", "allow_overlap")}
    parts = [bundle.version, source.fingerprint(), asked]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]
