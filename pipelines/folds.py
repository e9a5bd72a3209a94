"""The trainings of a run, fold by fold, each kept in the run folder once it is finished."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from core.contract import Fold, Source, Task
from core.errors import DataContractError
from core.training import launch
from pipelines import build, runs
from pipelines.tries import fold_seed

if TYPE_CHECKING:
    import polars as pl

    from core.model.encoder import EncoderConfig
    from core.training.module import SequenceModule

log = logging.getLogger("longstrand.train")


@dataclass(frozen=True)
class Job:
    """What the folds of one run share. `encoders` has one a fold by name: they differ only where
    attention=auto chose a pattern each, which `choice` records."""

    config: DictConfig
    run: runs.Run
    source: Source
    task: Task
    encoders: Mapping[str, EncoderConfig]
    choice: Mapping[str, Any] | None


def out_of_fold(job: Job, folds: Sequence[Fold]) -> pl.DataFrame:
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
        _train_fold(job, fold, index, folder)
        steps = {"steps": job.config.trainer.steps}
        from_first(lambda: runs.write_json(finished, steps))
    return pl.read_parquet(folder / "test.parquet") if len(fold.test) else None


def _train_fold(job: Job, fold: Fold, index: int, folder: Path) -> None:
    import pytorch_lightning as lightning
    from safetensors.torch import save_file

    from core.training.fit import fit

    task, source = job.task, job.source
    seed = fold_seed(job.config, index)
    log.info("fold %s: train %d, test %d rows", fold.name, len(fold.train), len(fold.test))
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = task.fit_tokenizer(source, fold.train)
    lightning.seed_everything(seed, verbose=False)
    module = task.module(tokenizer, job.encoders[fold.name])
    loader = task.loader(source, tokenizer, fold.train, seed, job.config.trainer.steps)
    module = fit(
        module,
        loader,
        build.optimiser(job.config.trainer),
        build.fitting(job.config.trainer),
        folder,
        seed,
        build.loggers(job.config.logger, job.run.path / "logs" / fold.name),
    )
    validation = _predict(job, module, tokenizer, fold.validation)
    test = _predict(job, module, tokenizer, fold.test) if len(fold.test) else None
    if launch.rank() > 0:
        return
    calibration = task.calibrate(validation)
    runs.write_json(folder / "tokenizer.json", tokenizer.to_dict())
    runs.write_json(folder / "calibration.json", calibration.to_dict())
    weights = {n: t.detach().cpu().contiguous() for n, t in module.state_dict().items()}
    save_file(weights, str(folder / "model.safetensors"))
    if test is not None:
        scored = build.scored(test, calibration, fold.name)
        write_parquet(scored, folder / "test.parquet")


def _predict(job: Job, module: SequenceModule, tokenizer: Any, rows: pl.Series) -> pl.DataFrame:
    """Each process predicts a stretch of the rows; all get the whole."""
    import polars as pl

    from core.training.processes import gathered

    size = -(-len(rows) // launch.count())
    mine = rows[launch.rank() * size : (launch.rank() + 1) * size]
    part = job.task.predict(module, job.source, tokenizer, mine) if len(mine) else None
    return pl.concat([frame for frame in gathered(part) if frame is not None])


def write_parquet(frame: pl.DataFrame, path: Path) -> None:
    with runs.replacing(path) as temporary:
        frame.write_parquet(temporary)
