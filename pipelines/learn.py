"""One fold's model: trained, calibrated, and kept in a folder that a killed run goes on from."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from core.contract import Fold, Metric, Source, Task
from core.training import launch
from pipelines import build, runs

if TYPE_CHECKING:
    import polars as pl

    from core.bundle import Bundle
    from core.model.encoder import EncoderConfig
    from core.training.module import SequenceModule

log = logging.getLogger("longstrand.train")

BEGUN = "init.json"
SEEDS_APART = 100_000
"""Between members: seeds of folds lie closer together."""


@dataclass(frozen=True)
class Lesson:
    """What one training needs.

    Args:
        config: groups trainer and logger, and what a logger is told.
        folder: where tokenizer.json, calibration.json, model.safetensors and, where the fold has
            test rows, test.parquet come to lie.
        logs: where the loss is followed.
        start: a bundle whose weights the training begins with, but for the head where it is of
            another task; `folder` then has the number of tensors in init.json. None begins
            anew.
    """

    config: DictConfig
    source: Source
    task: Task
    fold: Fold
    encoder: EncoderConfig
    seed: int
    folder: Path
    logs: Path
    start: Bundle | None = None


def learn(lesson: Lesson) -> None:
    """Train on the fold's training rows, calibrate on its validation rows, train anew where the
    fold has rows to refit on, predict its test.

    Several processes train and predict together; the first one alone writes.
    """
    from safetensors.torch import save_file

    task, fold, folder = lesson.task, lesson.fold, lesson.folder
    tokenizer, module = fitted(lesson)
    validation = predicted(lesson, tokenizer, module, fold.validation)
    if fold.refit is not None:
        log.info("refit on %d rows", len(fold.refit))
        tokenizer, module = fitted(_again(lesson, fold.refit))
    test = predicted(lesson, tokenizer, module, fold.test) if len(fold.test) else None
    if launch.rank() > 0:
        return
    calibration = task.calibrate(validation)
    runs.write_json(folder / "tokenizer.json", tokenizer.to_dict())
    runs.write_json(folder / "calibration.json", calibration.to_dict())
    weights = {n: t.detach().cpu().contiguous() for n, t in module.state_dict().items()}
    save_file(weights, str(folder / "model.safetensors"))
    if test is not None:
        write_parquet(build.scored(task, test, calibration, fold.name), folder / "test.parquet")


def _again(lesson: Lesson, rows: pl.Series) -> Lesson:
    """The same lesson on these rows, in a folder of its own."""
    return replace(
        lesson,
        fold=replace(lesson.fold, train=rows),
        folder=lesson.folder / "refit",
        logs=lesson.logs / "refit",
    )


def fitted(lesson: Lesson) -> tuple[Any, SequenceModule]:
    """Tokenizer and the module of one training, or the ensemble of `trainer.members`.

    Raises:
        ConfigError: a task whose modules have no mean; nothing has been trained then.
    """
    count = build.members(lesson.config.trainer)
    if count == 1:
        return trained(lesson)
    lesson.folder.mkdir(parents=True, exist_ok=True)
    alone = _first(lesson)[1]
    alone.ensemble([alone])
    members = [trained(_member(lesson, index)) for index in range(count)]
    modules = [module for _, module in members]
    return members[0][0], modules[0].ensemble(modules).eval()


def _member(lesson: Lesson, index: int) -> Lesson:
    """The same lesson with a seed and a folder of its own; the first is what one would be."""
    if index == 0:
        return lesson
    name = f"member-{index}"
    seed = lesson.seed + SEEDS_APART * index
    return replace(lesson, seed=seed, folder=lesson.folder / name, logs=lesson.logs / name)


def trained(lesson: Lesson) -> tuple[Any, SequenceModule]:
    """Tokenizer and module, trained from where an earlier start was killed."""
    import pytorch_lightning as lightning

    from core.training.fit import fit

    config, source, task = lesson.config, lesson.source, lesson.task
    lesson.folder.mkdir(parents=True, exist_ok=True)
    lightning.seed_everything(lesson.seed, verbose=False)
    tokenizer, module = _first(lesson)
    module = fit(
        module,
        task.loader(source, tokenizer, lesson.fold.train, lesson.seed, config.trainer.steps),
        build.optimiser(config.trainer),
        build.fitting(config.trainer),
        lesson.folder,
        lesson.seed,
        _loggers(lesson),
    )
    return tokenizer, module


def _first(lesson: Lesson) -> tuple[Any, Any]:
    if lesson.start is not None:
        from core.bundle import begin_from

        taken = lesson.task.take_over(lesson.start, lesson.source, lesson.fold.train)
        begun = begin_from(lesson.start, lesson.task, lesson.encoder, *taken)
        log.info("init: %d tensors taken over, %d new", len(begun.taken), len(begun.new))
        runs.write_json(lesson.folder / BEGUN, {"taken": len(begun.taken), "new": len(begun.new)})
        return begun.tokenizer, begun.module.train()
    tokenizer = lesson.task.fit_tokenizer(lesson.source, lesson.fold.train)
    return tokenizer, lesson.task.module(tokenizer, lesson.encoder)


def _loggers(lesson: Lesson) -> list[Any]:
    if launch.rank() > 0:
        return []
    config = lesson.config
    return build.loggers(config.logger, lesson.logs, build.parameters(config))


def predicted(
    lesson: Lesson, tokenizer: Any, module: SequenceModule, rows: pl.Series
) -> pl.DataFrame:
    """Each process predicts a stretch of the rows; all get the whole. Of no rows it has columns."""
    import polars as pl

    from core.training.processes import gathered

    size = -(-len(rows) // launch.count())
    mine = rows[launch.rank() * size : (launch.rank() + 1) * size]
    asked = len(mine) or launch.rank() == 0
    part = lesson.task.predict(module, lesson.source, tokenizer, mine) if asked else None
    return pl.concat([frame for frame in gathered(part) if frame is not None])


def write_model(
    bundle: Path,
    folder: Path,
    manifest: Mapping[str, Any],
    encoder: EncoderConfig,
    metrics: Sequence[Metric],
    reference: Sequence[Mapping[str, Any]],
) -> None:
    """The bundle of what `learn` left in `folder`."""
    from safetensors.torch import load_file

    from core.bundle import write_bundle
    from core.calibration import Calibration
    from pipelines.model_card import model_card

    calibration = json.loads((folder / "calibration.json").read_text())
    write_bundle(
        bundle,
        manifest=manifest,
        encoder=encoder,
        weights=load_file(str(folder / "model.safetensors")),
        tokenizer=json.loads((folder / "tokenizer.json").read_text()),
        calibration=Calibration.from_dict(calibration),
        metrics=[asdict(m) for m in metrics],
        reference=reference,
        model_card=model_card(manifest, encoder, metrics),
    )


def reference_of(source: Source, fold: Fold, predictions: pl.DataFrame) -> list[dict[str, Any]]:
    """What later rows are compared with: the fields and labels that were learned from, and the
    scores of rows that were not."""
    import polars as pl

    from core.drift import references

    chosen = pl.col("row").is_in(fold.learned.implode())
    labels = source.rows().filter(chosen).select(pl.col("label").cast(pl.Float64)).collect()
    scores = predictions.select(pl.col("score").cast(pl.Float64))
    fields = source.fields(fold.learned)
    return [*references(fields), *references(scores), *references(labels)]


def write_parquet(frame: pl.DataFrame, path: Path) -> None:
    with runs.replacing(path) as temporary:
        frame.write_parquet(temporary)
