"""Score a file: python -m pipelines.score bundle=DIR|NAME@ALIAS input=FILE|DIR|GLOB
output=FILE|DIR [history=FILE] [engine=local|ray] [engine.workers=N]; input=- reads standard input

Partitions are scored by the engine's workers into <output>.parts/, so that a killed run goes on
where it was, with another engine or number of workers if need be; the output is written under a
temporary name and renamed. The same input and bundle give the same bytes on every engine.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import json
import logging
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from core.contract import Partition
from core.errors import ConfigError
from pipelines import build, cli, runs
from pipelines.domains import load_domain
from pipelines.engines import open_pool
from pipelines.engines.job import PartWorker, ScoreJob, frames, part_file
from pipelines.engines.pool import score_parts
from pipelines.locks import held_folder
from pipelines.log import about, stage
from pipelines.registry import bundle_folder
from pipelines.score_each import Known, score_each

if TYPE_CHECKING:
    from core.bundle import Bundle
    from core.contract import Domain

log = logging.getLogger("longstrand.score")


@dataclass(frozen=True)
class Model:
    """What scores, as the command's configuration has it."""

    bundle: Bundle
    domain: Domain
    settings: Any


def score(config: DictConfig) -> dict[str, Any]:
    """One input to one output, or each file of a folder or glob to one in a folder; returns the
    summary."""
    input = None if config.input == "-" else _existing(config.input)
    model = _model(config)
    output = Path(config.output)
    told = {
        "command": "score",
        "domain": model.domain.name,
        "bundle": str(model.bundle.path),
        "model_version": model.bundle.version,
    }
    if input is None:
        with _standard_input(output) as input:
            found = _scored(config, model, input, output, None)
    elif (files := model.domain.inputs(model.settings, input)) is None:
        found = _scored(config, model, input, output, None)
    else:
        found = score_each(files, output, functools.partial(_scored, config, model))
    engine = {"engine": config.engine.kind, "workers": config.engine.workers}
    return {**told, **found, "set_aside": found["rows"] - found["scored"], **engine}


def _model(config: DictConfig) -> Model:
    from core.bundle import load_bundle

    build.tune_process(config.threads)
    bundle = load_bundle(bundle_folder(config.bundle, config.registry))
    domain = load_domain(bundle.domain)
    about(domain=domain.name)
    return Model(bundle, domain, build.restored_config(domain, bundle.config, config.config))


def _scored(
    config: DictConfig, model: Model, input: Path, output: Path, known: Known | None
) -> dict[str, Any]:
    """What `Summary` has, partitions, and how many of them had been scored before; `known` of an
    output that an earlier run may have finished."""
    if output.resolve() == input.resolve():
        raise ConfigError(f"output: {output} is the input; give it a name of its own")
    history = Path(config.history) if config.history else None
    with stage("open"):
        source = model.domain.open(model.settings, "score", input=input, history=history)
    scorer = model.domain.task(model.settings).scorer(model.bundle, source)
    scorer.check(output)
    work = output.with_name(output.name + ".parts")
    job = ScoreJob(
        model.bundle.path.resolve(),
        model.settings,
        input.resolve(),
        history,
        Path.cwd(),
        work.resolve(),
        config.threads,
    )
    identity = {
        "model_version": model.bundle.version,
        "input": source.fingerprint(),
        "settings": repr(model.settings),
        "threads": config.threads,
    }
    if known is not None and (before := known.summary(identity)) is not None:
        return before
    with held_folder(work):
        _keep_or_clear(work, identity)
        with stage("prepare") as done:
            parts = scorer.prepare(work)
            done["partitions"] = len(parts)
        resumed = _score(config.engine, job, PartWorker(scorer, work), parts)
        with stage("write", partitions=len(parts)):
            summary = scorer.write(frames(work, parts), output)
        shutil.rmtree(work)
    found = {**asdict(summary), "partitions": len(parts), "resumed": resumed}
    if known is not None:
        known.keep(identity, found)
    return found


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
