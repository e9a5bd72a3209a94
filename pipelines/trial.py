"""One trial of a sweep: trainings with its settings, judged on validation rows."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from core.contract import Domain, Fold, Source
from core.errors import ConfigError
from pipelines import build, runs
from pipelines.learn import Lesson, predicted, trained
from pipelines.tries import fold_seed, mean_loss


class UnknownMetric(ConfigError):
    """No trial can be judged."""


if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Judge:
    """Judges settings on one source; `folder` holds the trials' run folders."""

    domain: Domain
    source: Source
    folder: Path

    def value(self, config: DictConfig, name: str) -> float:
        """Mean over the folds, of which each trains on its training part and is judged on its
        validation rows. A killed trial goes on from its last checkpoint.

        Raises:
            LongstrandError: the training diverged.
            ConfigError: the settings do not fit each other.
        """
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        runs.write_text(folder / "config.yaml", OmegaConf.to_yaml(config, resolve=True))
        task = self.domain.task(build.domain_config(config.domain))
        encoder = build.encoder(config, build.pattern(config.attention))
        folds = task.folds(self.source)
        judging = [i for i, fold in enumerate(folds) if len(fold.test)] or [len(folds) - 1]
        values = []
        for index in judging[: config.sweep.folds]:
            fold, seed = folds[index], fold_seed(config, index)
            at = folder / "checkpoints" / fold.name
            logs = folder / "logs" / fold.name
            lesson = Lesson(config, self.source, task, fold, encoder, seed, at, logs)
            values.append(_fold_value(lesson, folder / f"{fold.name}.json"))
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        return fmean(values)


def _fold_value(lesson: Lesson, kept: Path) -> float:
    """Of one fold, or what an earlier start has measured."""
    if not kept.is_file():
        runs.write_json(kept, {"value": _measured(lesson)})
    return json.loads(kept.read_text())["value"]


def _measured(lesson: Lesson) -> float:
    sweep, fold = lesson.config.sweep, lesson.fold
    tokenizer, module = trained(lesson)
    if sweep.metric == "loss":
        task = lesson.task
        loader = task.loader(lesson.source, tokenizer, fold.validation, lesson.seed, sweep.batches)
        return mean_loss(module, loader)
    return _metric(lesson, predicted(lesson, tokenizer, module, fold.validation), fold)


def _metric(lesson: Lesson, predictions: pl.DataFrame, fold: Fold) -> float:
    task = lesson.task
    scored = build.scored(task, predictions, task.calibrate(predictions), fold.name)
    # Of one name, the figure of all rows comes before those of parts of them.
    found = {m.metric: m.value for m in reversed(task.metrics(lesson.source, scored))}
    wanted = lesson.config.sweep.metric
    if wanted not in found:
        raise UnknownMetric(
            f"sweep.metric: found {wanted!r}, expected loss or one of {', '.join(sorted(found))}"
        )
    return found[wanted]
