"""One fold's model: trained, calibrated, and kept in a folder that a killed run goes on from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from core.contract import Fold, Source, Task
from core.training import launch
from pipelines import build, runs

if TYPE_CHECKING:
    import polars as pl

    from core.model.encoder import EncoderConfig
    from core.training.module import SequenceModule


@dataclass(frozen=True)
class Lesson:
    """What one training needs.

    Args:
        config: groups trainer and logger, and what a logger is told.
        folder: where tokenizer.json, calibration.json, model.safetensors and, where the fold has
            test rows, test.parquet come to lie.
        logs: where the loss is followed.
    """

    config: DictConfig
    source: Source
    task: Task
    fold: Fold
    encoder: EncoderConfig
    seed: int
    folder: Path
    logs: Path


def learn(lesson: Lesson) -> None:
    """Train on the fold's training rows, calibrate on its validation rows, predict its test.

    Several processes train and predict together; the first one alone writes.
    """
    from safetensors.torch import save_file

    task, fold, folder = lesson.task, lesson.fold, lesson.folder
    tokenizer, module = trained(lesson)
    validation = predicted(lesson, tokenizer, module, fold.validation)
    test = predicted(lesson, tokenizer, module, fold.test) if len(fold.test) else None
    if launch.rank() > 0:
        return
    calibration = task.calibrate(validation)
    runs.write_json(folder / "tokenizer.json", tokenizer.to_dict())
    runs.write_json(folder / "calibration.json", calibration.to_dict())
    weights = {n: t.detach().cpu().contiguous() for n, t in module.state_dict().items()}
    save_file(weights, str(folder / "model.safetensors"))
    if test is not None:
        write_parquet(build.scored(test, calibration, fold.name), folder / "test.parquet")


def trained(lesson: Lesson) -> tuple[Any, SequenceModule]:
    """Tokenizer and module, trained from where an earlier start was killed."""
    import pytorch_lightning as lightning

    from core.training.fit import fit

    config, source, task = lesson.config, lesson.source, lesson.task
    lesson.folder.mkdir(parents=True, exist_ok=True)
    tokenizer = task.fit_tokenizer(source, lesson.fold.train)
    lightning.seed_everything(lesson.seed, verbose=False)
    module = fit(
        task.module(tokenizer, lesson.encoder),
        task.loader(source, tokenizer, lesson.fold.train, lesson.seed, config.trainer.steps),
        build.optimiser(config.trainer),
        build.fitting(config.trainer),
        lesson.folder,
        lesson.seed,
        _loggers(lesson),
    )
    return tokenizer, module


def _loggers(lesson: Lesson) -> list[Any]:
    if launch.rank() > 0:
        return []
    config = lesson.config
    return build.loggers(config.logger, lesson.logs, build.parameters(config))


def predicted(
    lesson: Lesson, tokenizer: Any, module: SequenceModule, rows: pl.Series
) -> pl.DataFrame:
    """Each process predicts a stretch of the rows; all get the whole."""
    import polars as pl

    from core.training.processes import gathered

    size = -(-len(rows) // launch.count())
    mine = rows[launch.rank() * size : (launch.rank() + 1) * size]
    part = lesson.task.predict(module, lesson.source, tokenizer, mine) if len(mine) else None
    return pl.concat([frame for frame in gathered(part) if frame is not None])


def write_parquet(frame: pl.DataFrame, path: Path) -> None:
    with runs.replacing(path) as temporary:
        frame.write_parquet(temporary)
