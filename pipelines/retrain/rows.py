"""Scored rows: what the champion said of new rows, and the weeks it can be held to."""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.learn import write_parquet
from pipelines.retrain.job import Job, Model, load_model
from pipelines.retrain.stages import Stages

if TYPE_CHECKING:
    import polars as pl


def score_new(job: Job) -> dict[str, Any]:
    """champion.parquet: the champion's scores of the test and of all rows since the last
    retraining. frozen.parquet: those of the first version, of the latter rows."""
    import polars as pl

    assert job.champion is not None
    test, served = job.challenge.fold.test, served_rows(job)
    wanted = pl.concat([test, served]).unique().sort()
    champion = job.champion.predict(job.source, wanted)
    write_parquet(champion, job.folder / "champion.parquet")
    first = job.registry.versions(job.name)[0]
    if first.number == job.champion.version.number:
        shutil.copyfile(job.folder / "champion.parquet", job.folder / "frozen.parquet")
    else:
        frozen: Model = load_model(job.domain, job.registry, first)
        write_parquet(frozen.predict(job.source, served), job.folder / "frozen.parquet")
    return {"test": len(test), "served": len(served)}


def served_rows(job: Job) -> pl.Series:
    """Rows since the last retraining: the champion of now was the first to meet them. All fresh
    rows where there was none, or where rows have no time."""
    import polars as pl

    last, fresh = last_day(job), job.challenge.fresh
    rows = job.source.rows().filter(pl.col("row").is_in(fresh.implode()))
    if last is None or "time" not in rows.collect_schema():
        return fresh
    return rows.filter(pl.col("time").dt.date() >= last).select("row").collect()["row"]


def finished_before(job: Job) -> list[tuple[date, Path]]:
    """Day and folder of every finished retraining of earlier days, oldest first."""
    found = []
    for done in job.home.glob("*/done.json"):
        stages = Stages(done.parent)
        day = date.fromisoformat(stages.read("start")["as_of"])
        if day < job.day:
            found.append((day, done.parent))
    return sorted(found)


def last_day(job: Job) -> date | None:
    """Day of the last finished retraining before this one."""
    days = [day for day, _ in finished_before(job)]
    return days[-1] if days else None


def weekly(job: Job, metric: str) -> pl.DataFrame | None:
    """The figure of the champion of the time and of the first version, by week, over all rows
    since the first retraining whose labels are known by now.

    Returns:
        columns week, champion, first, rows, versions; None where rows have no time, or there are
        none.
    """
    import polars as pl

    rows = job.source.rows()
    if "time" not in rows.collect_schema():
        return None
    before = finished_before(job)
    if not before:
        return None
    began = pl.col("time").dt.date() >= before[0][0]
    known = rows.filter(began & pl.col("label").is_not_null()).select("row", "label", "time")
    known = known.collect()
    folders = [*(folder for _, folder in before), job.folder]
    both = [_served(folders, name) for name in ("champion", "frozen")]
    if any(frame is None for frame in both):
        return None
    champion, first = (
        frame.drop("label").join(known, on="row").sort("row") for frame in both if frame is not None
    )
    champion = champion.join(first.select("row"), on="row", how="semi")
    found = []
    weeks = champion["time"].dt.truncate("1w").dt.date()
    for week in weeks.unique().sort():
        parts = [frame.filter(weeks == week) for frame in (champion, first)]
        if parts[0]["label"].n_unique() > 1:
            ours, theirs = (_figure(job, part, metric) for part in parts)
            versions = ", ".join(parts[0]["fold"].unique().sort())
            found.append((week, ours, theirs, len(parts[0]), versions))
    columns = ["week", "champion", "first", "rows", "versions"]
    return pl.DataFrame(found, schema=columns, orient="row") if found else None


def _served(folders: list[Path], name: str) -> pl.DataFrame | None:
    """The scores of every row by whichever run met it first."""
    import polars as pl

    paths = [folder / f"{name}.parquet" for folder in folders]
    frames = [pl.read_parquet(path) for path in paths if path.is_file()]
    if not frames:
        return None
    return pl.concat(frames, how="diagonal_relaxed").unique("row", keep="first")


def _figure(job: Job, part: pl.DataFrame, metric: str) -> float:
    import numpy as np

    return job.task.yardstick(job.source, part).figures[metric](np.ones(len(part)))
