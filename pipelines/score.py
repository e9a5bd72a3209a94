"""Score a file: python -m pipelines.score bundle=DIR|NAME@ALIAS input=FILE|DIR|GLOB
output=FILE|DIR [history=FILE] [engine=local|ray] [engine.workers=N]; input=- reads standard input

Partitions are scored by the engine's workers into <output>.parts/, so that a killed run goes on
where it was, with another engine or number of workers if need be; the output is written under a
temporary name and renamed. The same input and bundle give the same bytes on every engine.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import json
import logging
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from core.contract import Partition
from core.errors import ConfigError, LockHeldError
from pipelines import build, cli, runs
from pipelines.domains import load_domain
from pipelines.engines import open_pool
from pipelines.engines.job import PartWorker, ScoreJob, frames, part_file
from pipelines.engines.pool import score_parts
from pipelines.log import about, stage
from pipelines.registry import bundle_folder

log = logging.getLogger("longstrand.score")


def score(config: DictConfig) -> dict[str, Any]:
    """One input to one output; returns the summary."""
    if config.input != "-":
        return _score_input(config, _existing(config.input))
    with _standard_input(Path(config.output)) as input:
        return _score_input(config, input)


def _score_input(config: DictConfig, input: Path) -> dict[str, Any]:
    from core.bundle import load_bundle

    build.tune_process(config.threads)
    bundle = load_bundle(bundle_folder(config.bundle, config.registry))
    domain = load_domain(bundle.domain)
    about(domain=domain.name)
    settings = build.restored_config(domain, bundle.config, config.config)
    output = Path(config.output)
    if output.resolve() == input.resolve():
        raise ConfigError(f"output: {output} is the input; give it a name of its own")
    history = Path(config.history) if config.history else None
    with stage("open"):
        source = domain.open(settings, "score", input=input, history=history)
    scorer = domain.task(settings).scorer(bundle, source)
    scorer.check(output)
    work = output.with_name(output.name + ".parts")
    job = ScoreJob(
        bundle.path.resolve(),
        settings,
        input.resolve(),
        history,
        Path.cwd(),
        work.resolve(),
        config.threads,
    )
    identity = {
        "model_version": bundle.version,
        "input": source.fingerprint(),
        "settings": repr(settings),
        "threads": config.threads,
    }
    with _held(work):
        _keep_or_clear(work, identity)
        with stage("prepare") as done:
            parts = scorer.prepare(work)
            done["partitions"] = len(parts)
        resumed = _score(config.engine, job, PartWorker(scorer, work), parts)
        with stage("write", partitions=len(parts)):
            summary = scorer.write(frames(work, parts), output)
        shutil.rmtree(work)
    return {
        "command": "score",
        "domain": domain.name,
        "bundle": str(bundle.path),
        "model_version": bundle.version,
        **asdict(summary),
        "set_aside": summary.rows - summary.scored,
        "partitions": len(parts),
        "resumed": resumed,
        "engine": config.engine.kind,
        "workers": config.engine.workers,
    }


@contextlib.contextmanager
def _standard_input(output: Path) -> Iterator[Path]:
    """Standard input as a file beside the output, which scoring may read more than once."""
    path = output.with_name(output.name + ".stdin")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("wb") as f:
            shutil.copyfileobj(sys.stdin.buffer, f)
        yield path
    finally:
        path.unlink(missing_ok=True)


def _existing(name: str) -> Path:
    """The path, or the pattern of several, as a domain takes it."""
    if not Path(name).exists() and not glob.glob(name, recursive=True):
        raise ConfigError(
            f"input: found nothing at {name}, expected a file, a folder or a quoted glob of files"
        )
    return Path(name)


@contextlib.contextmanager
def _held(work: Path) -> Iterator[None]:
    """Hold the work folder; the kernel lets go when the process ends, however it ends."""
    work.mkdir(parents=True, exist_ok=True)
    folder = os.open(work, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockHeldError(
                f"{work}: another process is scoring to this output; wait for it"
            ) from None
        yield
    finally:
        os.close(folder)


def _keep_or_clear(work: Path, identity: dict[str, Any]) -> None:
    """Finished parts of the same input, model and settings are kept; others are thrown away."""
    manifest = work / "manifest.json"
    if manifest.is_file() and json.loads(manifest.read_text()) == identity:
        return
    for left in work.iterdir():
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    runs.write_json(manifest, identity)


def _score(engine: DictConfig, job: ScoreJob, own: PartWorker, parts: Sequence[Partition]) -> int:
    """How many partitions were done already; all are afterwards."""
    done = {part.key for part in parts if part_file(job.work, part).is_file()}
    if len(done) < len(parts):
        left = len(parts) - len(done)
        with stage("score", partitions=left), open_pool(engine, job, own) as pool:
            for part, rows in score_parts(parts, done, pool):
                log.info("scored", extra={"facts": {"partition": part.key, "rows": rows}})
    return len(done)


def main() -> None:
    """Console script longstrand-score."""
    cli.run(score, "score")


if __name__ == "__main__":
    main()
