"""Train a domain's model: python -m pipelines.train domain=NAME [group=choice] [key=value]

Writes runs/<domain>/<run id>/ with the bundle, metrics beside their floors, out-of-fold
predictions and a report. With no data given it trains on the domain's simulator. `init=BUNDLE`
begins from the weights of a bundle, which may be of another task of the domain.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from core.contract import Domain, Fold, Metric, Source, Task
from core.errors import ConfigError, DataContractError
from core.training import launch
from pipelines import begin, build, choose, cli, runs
from pipelines.domains import load_domain
from pipelines.learn import Lesson, learn, reference_of, write_model, write_parquet
from pipelines.log import about, stage
from pipelines.tries import Bench, fold_seed

if TYPE_CHECKING:
    import polars as pl

    from core.attention import Pattern
    from core.bundle import Bundle
    from core.model.encoder import EncoderConfig

log = logging.getLogger("longstrand.train")


@dataclass(frozen=True)
class Job:
    """What the folds of one run share. `encoders` has one a fold by name: they differ only where
    attention=auto chose a pattern each, which `choice` records. `start` is the bundle of `init`."""

    config: DictConfig
    run: runs.Run
    source: Source
    task: Task
    encoders: Mapping[str, EncoderConfig]
    choice: Mapping[str, Any] | None
    start: Bundle | None


def train(config: DictConfig) -> dict[str, Any]:
    """One run: every fold, metrics, bundle, report. Returns the summary.

    Several processes (torchrun) read the data, train and predict together; the first one alone
    opens the run folder and writes into it.
    """
    domain = load_domain(config.domain.name)
    about(domain=domain.name)
    settings = build.domain_config(config.domain)
    build.tune_process(config.threads)
    check_needs(config.needs)
    build.check_logger(config.logger)
    encoder = build.encoder(config, _first_pattern(config.attention))
    build.fitting(config.trainer)
    build.members(config.trainer)
    start = begin.opened(config, domain)

    from core.training import processes

    processes.join(config.trainer.strategy)
    run = processes.from_first(lambda: runs.open_run(config, domain.name, cli.job_suffix()))
    try:
        return _train(config, domain, settings, encoder, run, start)
    except runs.DataChanged as changed:
        if config.resume != "auto":
            raise
        log.warning("%s: starting anew", changed)
        anew = processes.from_first(lambda: runs.new_run(config, domain.name, cli.job_suffix()))
        return _train(config, domain, settings, encoder, anew, start)


def _first_pattern(node: DictConfig) -> Pattern:
    """The configured pattern; of attention=auto the dense twin, until it has chosen."""
    if node.kind != "auto":
        return build.pattern(node)
    from core.attention.auto import dense_twin

    choose.check(node)
    if launch.count() > 1:
        raise ConfigError(
            "attention: found auto in several processes, which would measure each other's speed; "
            "choose with one process, then give the others the pattern that its summary names"
        )
    return dense_twin(node.causal)


def _train(
    config: DictConfig,
    domain: Domain,
    settings: Any,
    encoder: EncoderConfig,
    run: runs.Run,
    start: Bundle | None,
) -> dict[str, Any]:
    from core.training.processes import from_first

    about(run=str(run.path))
    with contextlib.ExitStack() as until_the_end:

        def hold() -> None:
            until_the_end.enter_context(runs.held(run))
            until_the_end.enter_context(runs.logged(run.path / "train.log"))

        from_first(hold)
        with stage("open") as done:
            settings = from_first(lambda: with_data(domain, settings, run.path))
            source = domain.open(settings, "train")
            from_first(lambda: runs.check_data(run, source.fingerprint()))
            done["set_aside"] = set_aside = from_first(lambda: note_set_aside(source, run.path))
        task = domain.task(settings)
        with stage("folds") as done:
            folds = task.folds(source)
            done["folds"] = len(folds)
            if start is not None:
                begin.refuse_seen(start, source, task, folds)
        encoders, choice = dict.fromkeys((fold.name for fold in folds), encoder), None
        if config.attention.kind == "auto":
            bench = Bench(config, source, task, run.path / "tries")
            with stage("choose"):
                choice = choose.choose(bench, folds, encoder, run)
            encoders = choose.encoders(choice, encoder)
        job = Job(config, run, source, task, encoders, choice, start)
        predictions = _out_of_fold(job, folds)
        if launch.rank() > 0:
            return {}
        with stage("metrics", rows=predictions.height):
            everyone = _everyone(job, folds, predictions)
            whole = _of_each(task.metrics, source, everyone)
            parts = _of_each(task.parts, source, everyone)
        with stage("bundle"):
            _finish(job, domain.carried(settings), folds[-1], predictions, [*whole, *parts])
    return {
        "command": "train",
        "domain": domain.name,
        "run": str(run.path),
        "bundle": str(run.bundle),
        "resumed": run.resumed,
        "set_aside": set_aside,
        **begin.told(start, run.path / "checkpoints" / folds[-1].name),
        **({} if choice is None else {"attention": choice["again"][folds[-1].name]}),
        # Of one name, the figure of all rows comes before those of parts of them.
        "metrics": {m.metric: round(m.value, 4) for m in reversed(whole) if m.model == "ours"},
        "parts": {
            f"{m.metric}, {m.protocol}": round(m.value, 4) for m in parts if m.model == "ours"
        },
    }


def note_set_aside(source: Source, folder: Path) -> int:
    """Rows that broke the data contract, listed in set_aside.csv; returns how many."""
    bad = source.set_aside().collect()
    if bad.height:
        bad.write_csv(folder / "set_aside.csv")
    return build.distinct_rows(bad)


def check_needs(path: str | None) -> None:
    """Raises ConfigError where the data that an experiment reads is not there."""
    if path is not None and not Path(path).exists():
        raise ConfigError(
            f"experiment: found no data at {path}; set LONGSTRAND_DATA to the folder that holds it "
            "(docs/data.md says what each experiment reads and where to obtain it)"
        )


def with_data(domain: Domain, settings: Any, folder: Path) -> Any:
    """Point a simulated source at files written into the run folder, once."""
    if settings.data.source != "simulated":
        return settings
    out = folder.resolve() / "simulated"
    if not out.is_dir():
        with runs.replacing(out) as temporary:
            domain.simulate(settings, temporary)
    return domain.simulated(settings, out)


def _out_of_fold(job: Job, folds: Sequence[Fold]) -> pl.DataFrame:
    import polars as pl

    if not folds:
        raise DataContractError("no fold could be made: no labelled row passed the filters")
    parts = [_fold(job, fold, index) for index, fold in enumerate(folds)]
    return pl.concat([part for part in parts if part is not None])


def _fold(job: Job, fold: Fold, index: int) -> pl.DataFrame | None:
    """Train one fold, or read what an earlier start of this run has finished."""
    import polars as pl

    from core.training.processes import from_first

    folder = job.run.path / "checkpoints" / fold.name
    finished = folder / "finished.json"
    if not from_first(finished.is_file):
        config, encoder, seed = job.config, job.encoders[fold.name], fold_seed(job.config, index)
        steps, logs = config.trainer.steps, job.run.path / "logs" / fold.name
        with stage("train", fold=fold.name, rows=len(fold.train), steps=steps):
            lesson = (config, job.source, job.task, fold, encoder, seed, folder, logs)
            learn(Lesson(*lesson, start=job.start))
        from_first(lambda: runs.write_json(finished, {"steps": steps}))
    return pl.read_parquet(folder / "test.parquet") if len(fold.test) else None


def _everyone(
    job: Job, folds: Sequence[Fold], predictions: pl.DataFrame
) -> dict[str, pl.DataFrame]:
    """Ours, then every floor on the same rows."""
    import polars as pl

    floors: dict[str, list[pl.DataFrame]] = {}
    for fold in folds:
        if len(fold.test):
            found = job.task.floors(job.source, fold, job.encoders[fold.name])
            for name, frame in found.items():
                named = frame.with_columns(
                    pl.col("raw").cast(pl.Float64).alias("score"), pl.lit(fold.name).alias("fold")
                )
                floors.setdefault(name, []).append(named)
    return {"ours": predictions, **{name: pl.concat(frames) for name, frames in floors.items()}}


def _of_each(
    figures: Callable[[Source, pl.DataFrame], list[Metric]],
    source: Source,
    of: Mapping[str, pl.DataFrame],
) -> list[Metric]:
    return [replace(m, model=name) for name, frame in of.items() for m in figures(source, frame)]


def _finish(
    job: Job, settings: Any, last: Fold, predictions: pl.DataFrame, metrics: list[Metric]
) -> None:
    """Write predictions, metrics, bundle and, last, the report: its presence marks the end."""
    from pipelines.choice_report import choice_panels, choice_table
    from pipelines.report import write_report

    path = job.run.path
    write_parquet(predictions, path / "predictions.parquet")
    runs.write_json(path / "metrics.json", [asdict(m) for m in metrics])
    folder, encoder = path / "checkpoints" / last.name, job.encoders[last.name]
    # Who begins from another's weights has seen what the other has.
    seen = [] if job.start is None else list(job.start.label_intervals)
    seen += job.task.label_intervals(job.source, last)
    manifest = {
        "domain": job.config.domain.name,
        "task": job.task.name,
        "created": job.run.created,
        "fingerprint": job.source.fingerprint(),
        "label_intervals": [*dict.fromkeys(seen)],
        "config": plain(settings),
        "training": build.training(job.config),
    }
    reference = reference_of(job.source, last, predictions)
    write_model(job.run.bundle, folder, manifest, encoder, metrics, reference)
    panels = job.task.panels(job.source, predictions)
    tables = []
    if job.choice is not None:
        tables.append(choice_table(job.choice))
        panels = [*panels, *choice_panels(job.choice)]
    title = f"{job.config.domain.name}: {job.task.name}"
    write_report(path / "report.html", title, manifest, metrics, panels, tables)
    runs.finish(job.run)


def plain(value: Any) -> Any:
    """Dataclasses, enums and paths -> what YAML and JSON know."""
    from enum import Enum

    if is_dataclass(value) and not isinstance(value, type):
        return {k: plain(v) for k, v in vars(value).items()}
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, Enum):
        return value.name
    return str(value) if isinstance(value, Path) else value


def main() -> None:
    """Console script longstrand-train."""
    cli.run(train, "train")


if __name__ == "__main__":
    main()
