"""One step of a back-test: the model in use, and what it and others say of the next weeks."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from core.contract import Domain, Fold, Source, Task
from core.errors import ConfigError, TooFewLabelsError
from pipelines import build
from pipelines.learn import Lesson, learn, write_model, write_parquet
from pipelines.train import plain

if TYPE_CHECKING:
    import polars as pl

    from core.bundle import Bundle

FROZEN = "frozen"
log = logging.getLogger("longstrand.backtest")


@dataclass(frozen=True)
class Walk:
    """What the steps of one back-test share.

    Args:
        bundle: in use at first, and to the end where nothing is trained anew.
        rows: columns row, label, day and week (its first day) of all that is judged.
        lesson: groups trainer and logger, and a seed, of a retraining; None where there is none.
    """

    domain: Domain
    settings: Any
    source: Source
    task: Task
    bundle: Bundle
    rows: pl.DataFrame
    folder: Path
    lesson: DictConfig | None


def step(walk: Walk, weeks: Sequence[date], before: str) -> dict[str, Any]:
    """Predictions of these weeks by every model, in files of their own.

    Args:
        before: folder of the bundle that was in use until now.

    Returns:
        what is told of the step: the bundle now in use, its version and day, rows.
    """
    import polars as pl

    from core.bundle import load_bundle

    day = weeks[0]
    folder = walk.folder / str(day)
    folder.mkdir(exist_ok=True)
    path, kept = Path(before), None
    if walk.lesson is not None and day > walk.rows["week"].min():  # pyright: ignore
        path, kept = _trained(walk, day, folder, Path(before))
    serving = load_bundle(path)
    rows = walk.rows.filter(pl.col("week").is_in(list(weeks)))["row"]
    write_parquet(_predicted(walk, serving, rows), folder / "ours.parquet")
    if walk.lesson is not None:
        write_parquet(_predicted(walk, walk.bundle, rows), folder / f"{FROZEN}.parquet")
    seen = walk.task.seen_rows(walk.source, serving.label_intervals)
    known_by = first_day(walk.task.in_service(walk.source, serving.label_intervals))
    floors = _floors(walk, Fold(str(day), seen, seen.clear(), rows))
    for name, frame in floors.items():
        write_parquet(frame, folder / f"{name}.parquet")
    return {
        "bundle": str(path),
        "model_version": serving.version,
        "labels_known_by": str(known_by) if known_by else None,
        "seen": len(seen),
        "kept_because": kept,
        "models": ["ours", *([] if walk.lesson is None else [FROZEN]), *floors],
    }


def first_day(moment: datetime | None) -> date | None:
    """The first day that begins at that moment or later."""
    if moment is None:
        return None
    return moment.date() + timedelta(days=moment.time() > time())


def _predicted(walk: Walk, bundle: Bundle, rows: pl.Series) -> pl.DataFrame:
    from core.bundle import restore

    tokenizer, module = restore(bundle, walk.task)
    predictions = walk.task.predict(module, walk.source, tokenizer, rows)
    return build.scored(walk.task, predictions, bundle.calibration, bundle.version)


def _floors(walk: Walk, fold: Fold) -> dict[str, pl.DataFrame]:
    """None where the data has no rows that the model learned from: floors learn from the same."""
    import polars as pl

    if fold.train.is_empty():
        return {}
    return {
        name: frame.with_columns(pl.col("raw").cast(pl.Float64).alias("score"), fold=pl.lit(name))
        for name, frame in walk.task.floors(walk.source, fold, walk.bundle.encoder).items()
    }


def _trained(walk: Walk, day: date, folder: Path, before: Path) -> tuple[Path, str | None]:
    """A bundle that knows what was known when that day began; where that is too little, the one
    before, and why."""
    from core.bundle import load_bundle

    assert walk.lesson is not None
    settings = walk.domain.as_of(walk.settings, day)
    source = walk.domain.open(settings, "train")
    task = walk.domain.task(settings)
    try:
        fold = task.folds(source)[-1]
        # What it would be judged by is not needed: the weeks to come judge it.
        fold = replace(fold, test=fold.test.clear())
        now = walk.task.in_service(walk.source, load_bundle(before).label_intervals)
        then = walk.task.in_service(walk.source, task.label_intervals(source, fold))
        if now is not None and then is not None and then <= now:
            return before, (
                "a new one would know no later labels: those that would judge it are held back "
                "(config.split.retrain_days)"
            )
        encoder, seed = walk.bundle.encoder, walk.lesson.seed
        learn(
            Lesson(
                walk.lesson, source, task, fold, encoder, seed, folder / "model", folder / "logs"
            )
        )
    except TooFewLabelsError as error:
        log.warning("as of %s the model before stays: %s", day, error)
        return before, str(error)
    manifest = {
        "domain": walk.bundle.domain,
        "task": task.name,
        "created": f"{day}T00:00:00+00:00",
        "fingerprint": source.fingerprint(),
        "label_intervals": list(task.label_intervals(source, fold)),
        "config": plain(walk.domain.carried(settings)),
        "training": build.training(walk.lesson),
    }
    write_model(folder / "bundle", folder / "model", manifest, encoder, [], [])
    return folder / "bundle", None


def lesson_of(bundle: Bundle, changes: DictConfig) -> DictConfig:
    """How the bundle was trained, with the user's `changes` of the trainer."""
    from pipelines.schema import TrainerSchema

    if not bundle.training:
        raise ConfigError(
            f"{bundle.path}: found nothing of its training, which bundles of older versions do not "
            "tell; train it again, or say backtest.retrain=never"
        )
    kept, alone = bundle.training["trainer"], {"strategy": "single"}
    told = OmegaConf.merge(OmegaConf.structured(TrainerSchema), kept, alone, changes)
    config = OmegaConf.create(
        {
            "trainer": OmegaConf.to_container(told),
            "logger": {"kind": "none"},
            "model": {},
            "attention": {},
            "seed": bundle.training["seed"],
        }
    )
    build.fitting(config.trainer)
    return config
