"""The stages that find out: drift, a challenger, a verdict. None changes the registry."""

from __future__ import annotations

import logging
import shutil
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from core.contract import Metric
from pipelines import build, runs
from pipelines.learn import Lesson, learn, reference_of, write_model
from pipelines.retrain.gate import Verdict, alone, judge
from pipelines.retrain.job import Job
from pipelines.retrain.rows import score_new, served_rows
from pipelines.train import plain

if TYPE_CHECKING:
    import polars as pl

    from core.model.encoder import EncoderConfig

log = logging.getLogger("longstrand.retrain")


def find_out(job: Job) -> Verdict:
    """Everything up to the verdict; goes on from what an earlier start of this run finished."""
    once = job.stages.once
    if job.champion is not None:
        once("scores", lambda: score_new(job))
        once("drift", lambda: _drift(job))
    once("training", lambda: _train(job))
    once("challenger", lambda: _write_challenger(job))
    return Verdict.from_dict(once("verdict", lambda: _verdict(job).to_dict()))


def _drift(job: Job) -> list[dict[str, Any]]:
    """Every field and the champion's score of rows since the last retraining, and the newest known
    labels, against those that the champion was trained on."""
    import polars as pl

    from core.drift import compare

    assert job.champion is not None
    before, served = job.champion.bundle.reference, served_rows(job)
    scores = pl.read_parquet(job.folder / "champion.parquet")
    scores = scores.filter(pl.col("row").is_in(served.implode())).select("score")
    tested = pl.col("row").is_in(job.challenge.fold.test.implode())
    labels = job.source.rows().filter(tested).select(pl.col("label").cast(pl.Float64)).collect()
    parts = [job.source.fields(served), scores, labels]
    return [asdict(d) | {"level": d.level} for part in parts for d in compare(before, part)]


def encoder_of(job: Job) -> EncoderConfig:
    """The configured encoder; of a warm start the champion's."""
    if job.config.init is not None and job.champion is not None:
        return job.champion.bundle.encoder
    return build.encoder(job.config, build.pattern(job.config.attention))


def _train(job: Job) -> dict[str, Any]:
    fold, folder = job.challenge.fold, job.folder / "checkpoints"
    log.info("train %d, validate %d rows", len(fold.train), len(fold.validation))
    warm = job.champion.bundle if job.config.init is not None and job.champion else None
    lesson = Lesson(
        job.config,
        job.source,
        job.task,
        fold,
        encoder_of(job),
        job.config.seed,
        folder,
        job.folder / "logs",
        warm,
    )
    learn(lesson)
    return {"train": len(fold.train), "validation": len(fold.validation), "test": len(fold.test)}


def _write_challenger(job: Job) -> dict[str, Any]:
    from core.bundle import load_bundle

    path, fold = job.folder / "challenger", job.challenge.fold
    shutil.rmtree(path, ignore_errors=True)
    seen = list(job.task.label_intervals(job.source, fold))
    if job.config.init is not None and job.champion is not None:
        seen = list(dict.fromkeys([*job.champion.bundle.label_intervals, *seen]))
    manifest = {
        "domain": job.domain.name,
        "task": job.task.name,
        "created": f"{job.day}T00:00:00+00:00",
        "fingerprint": job.source.fingerprint(),
        "label_intervals": seen,
        "config": plain(job.domain.carried(job.settings)),
        "training": build.training(job.config),
    }
    predictions = both(job)[1]
    reference = reference_of(job.source, fold, predictions)
    write_model(
        path, job.folder / "checkpoints", manifest, encoder_of(job), figures(job), reference
    )
    return {"model_version": load_bundle(path).version}


def both(job: Job) -> tuple[pl.DataFrame | None, pl.DataFrame]:
    """What the champion (None where there is none) and the challenger say of the labelled test
    rows, in the same order."""
    import polars as pl

    challenger = pl.read_parquet(job.folder / "checkpoints" / "test.parquet").sort("row")
    if job.champion is None:
        return None, challenger
    scored = pl.read_parquet(job.folder / "champion.parquet")
    champion = scored.join(challenger.select("row"), on="row", how="semi").sort("row")
    if not champion["row"].equals(challenger["row"]):
        raise AssertionError("champion and challenger were not asked for the same rows")
    return champion, challenger


def figures(job: Job) -> list[Metric]:
    """Of the challenger as `ours`, and of the champion beside it."""
    champion, challenger = both(job)
    found = job.task.metrics(job.source, challenger)
    if champion is not None:
        theirs = job.task.metrics(job.source, champion)
        found = [*found, *(replace(m, model="champion") for m in theirs)]
    return found


def _verdict(job: Job) -> Verdict:
    champion, challenger = both(job)
    ours = job.task.yardstick(job.source, challenger)
    if champion is not None:
        return judge(job.task.yardstick(job.source, champion), ours, job.gate)
    return alone(ours, job.gate)


def set_aside(job: Job) -> int:
    """Rows that broke the data contract, listed in set_aside.csv; returns how many."""
    bad = job.source.set_aside().collect()
    if bad.height:
        with runs.replacing(job.folder / "set_aside.csv") as temporary:
            bad.write_csv(temporary)
    return build.distinct_rows(bad)
