"""The models of `benchmarks.variants`: each tells a score for every held-out allele, by models
that saw nothing of its fold.
"""

from __future__ import annotations

import functools
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from omegaconf import DictConfig

from benchmarks import variant_trees as trees
from benchmarks.variant_data import Protocol, opened
from core.contract import Fold
from core.errors import ConfigError
from domains.genomics.effect import EffectTask
from domains.genomics.floor import floors_of, untrained
from domains.genomics.source import LabelledSource

MODELS = (
    "ours",
    "cnn",
    "trees",
    "trees_length",
    "trees_facts",
    "consequence_rank",
    "position_knn",
    "kmer",
    "untrained",
)


@dataclass(frozen=True)
class Held:
    """One protocol of one data set, opened.

    Attributes:
        rows: the held-out rows of all folds, by row id, with consequence.
        fold: number of the fold that tests each of them.
    """

    protocol: Protocol
    config: DictConfig
    source: LabelledSource
    task: EffectTask
    folds: list[Fold]
    rows: pl.DataFrame


@dataclass(frozen=True)
class Told:
    """A model's scores of `Held.rows`, in order, and what they cost."""

    score: np.ndarray
    seconds_train: float | None = None
    per_second: float | None = None


def hold(protocol: Protocol, threads: int) -> Held:
    """Open the data of a protocol."""
    config, source, task = opened(protocol, threads)
    folds = [fold for fold in task.folds(source) if len(fold.test)]
    rows = source.variants.sort("row")
    known = source.consequences()
    if known is not None:
        rows = rows.join(known, on="row", how="left", maintain_order="left")
    return Held(protocol, config, source, task, folds, rows)


def ours(held: Held, predictions: str) -> Told:
    """Out-of-fold predictions of the pipeline's training, made now or read from a run."""
    from pipelines import build
    from pipelines.train import train

    if predictions:
        return Told(_read(held, Path(predictions)))
    with tempfile.TemporaryDirectory() as runs:
        held.config.runs = runs
        began = time.perf_counter()
        summary = train(held.config)
        seconds = time.perf_counter() - began
        score = _read(held, Path(summary["run"]) / "predictions.parquet")
    members = build.members(held.config.trainer)
    return Told(score, seconds, _untrained(held, members).per_second)


def _read(held: Held, path: Path) -> np.ndarray:
    """Raw numbers in the order of `held.rows`, which must have been tested in the same folds.

    Those of trees are not calibrated either: a calibration on few held-back groups moves folds
    against each other.
    """
    if not path.is_file():
        raise ConfigError(f"predictions: found no file {path}")
    told = pl.read_parquet(path).sort("row")
    expected = pl.concat(
        [pl.DataFrame({"row": f.test, "fold": [f.name] * len(f.test)}) for f in held.folds]
    ).sort("row")
    if not told.select("row", "fold").equals(expected):
        raise ConfigError(
            f"predictions: {path} has other held-out rows or folds than {held.protocol.data} "
            f"{held.protocol.name}; train with its experiment and split"
        )
    return told["raw"].to_numpy()


def convolutional(held: Held) -> Told:
    """The network of `variant_cnn`, trained fold by fold as ours is."""
    from benchmarks.variant_cnn import out_of_fold

    began = time.perf_counter()
    told = out_of_fold(held.config, held.source, held.task, held.folds)
    seconds = time.perf_counter() - began
    return Told(told.sort("row")["raw"].to_numpy(), seconds)


def _by_fold(held: Held, predict: Callable[[Fold], np.ndarray]) -> np.ndarray:
    """What `predict` tells of each fold's test rows (in row order), as one column."""
    score = np.full(len(held.rows), np.nan)
    for fold in held.folds:
        score[held.rows["row"].is_in(fold.test.implode()).to_numpy()] = predict(fold)
    return score


def boosted(held: Held, features: np.ndarray) -> Told:
    """Boosted trees on `features` [n, columns] of `held.rows`."""
    label, row = held.rows["label"].to_numpy(), held.rows["row"]
    classes = held.config.domain.data.label_kind == "classification"
    spent = {"train": 0.0, "predict": 0.0}

    def predict(fold: Fold) -> np.ndarray:
        seen = row.is_in(pl.concat([fold.train, fold.validation]).implode()).to_numpy()
        tested = row.is_in(fold.test.implode()).to_numpy()
        began = time.perf_counter()
        models = trees.fit(features[seen], label[seen], classes)
        fitted = time.perf_counter()
        score = trees.predict(models, features[tested])
        spent["train"] += fitted - began
        spent["predict"] += time.perf_counter() - fitted
        return score

    score = _by_fold(held, predict)
    return Told(score, spent["train"], len(score) / spent["predict"])


def _floors(held: Held) -> dict[str, Told]:
    """Those that are no network."""
    found = {fold.name: floors_of(held.source, fold) for fold in held.folds}

    def told(name: str) -> Told:
        return Told(
            _by_fold(held, lambda fold: found[fold.name][name].sort("row")["raw"].to_numpy())
        )

    return {name: told(name) for name in found[held.folds[0].name]}


def _untrained(held: Held, members: int = 1) -> Told:
    """Our network before its first step, asked as often as an ensemble asks its members."""
    from pipelines import build

    encoder = build.encoder(held.config, build.pattern(held.config.attention))
    spent = [0.0]

    def predict(fold: Fold) -> np.ndarray:
        tokenizer, module = untrained(held.task, held.source, fold.train, encoder)
        if members > 1:
            module = module.ensemble([module] * members).eval()
        began = time.perf_counter()
        told = held.task.predict(module, held.source, tokenizer, fold.test)
        spent[0] += time.perf_counter() - began
        return told["raw"].to_numpy()

    score = _by_fold(held, predict)
    return Told(score, 0.0, len(score) / spent[0])


def tell(held: Held, models: list[str], predictions: str) -> dict[str, Told]:
    """Scores of each model on the same rows."""
    floors = functools.cache(lambda: _floors(held))
    makers: dict[str, Callable[[], Told]] = {
        "ours": lambda: ours(held, predictions),
        "cnn": lambda: convolutional(held),
        "trees": lambda: boosted(held, held.protocol.features(held.source, held.rows)),
        "trees_length": lambda: boosted(held, _with_length(held)),
        "trees_facts": lambda: boosted(held, trees.fact_features(held.source.reference, held.rows)),
        "consequence_rank": lambda: floors()["consequence_rank"],
        "position_knn": lambda: floors()["position_knn"],
        "kmer": lambda: floors()["kmer"],
        "untrained": lambda: _untrained(held),
    }
    return {name: makers[name]() for name in models}


def _with_length(held: Held) -> np.ndarray:
    features = held.protocol.features(held.source, held.rows)
    length = trees.length_features(held.source.reference, held.rows)
    return np.column_stack([features, length])
