"""The domain contract: all that pipelines know of a domain.

Pipelines own runs, resume and files; a domain owns meaning (rows, tokens, metrics, output
format); core owns encoder, training and bundle bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from torch import Tensor

    from core.attention import Pattern
    from core.attention.auto import Workload
    from core.bundle import Bundle
    from core.calibration import Calibration
    from core.model.encoder import EncoderConfig
    from core.training.loader import StepLoader
    from core.training.module import SequenceModule


@dataclass(frozen=True)
class Fold:
    """Row ids of one split; purged (no row near a border that would leak) and disjoint.

    A cross-validating task ends its list with a fold whose `test` is empty: the refit on all
    groups. The bundle always holds the model of the last fold.

    Args:
        refit: what the fold's model learns from anew, in the same way, once a first one, of
            `train`, has been calibrated on `validation`; it keeps that calibration. None: the
            first one is the fold's model.
    """

    name: str
    train: pl.Series
    validation: pl.Series
    test: pl.Series
    refit: pl.Series | None = None

    @property
    def learned(self) -> pl.Series:
        """What the fold's model has learned from in the end."""
        return self.train if self.refit is None else self.refit


@dataclass(frozen=True)
class Challenge:
    """What a retraining works on.

    Args:
        fold: the challenger's training and validation rows; test is the newest rows with known
            labels, which neither it nor the champion has learned from.
        fresh: rows that came after the champion's, labelled or not.
    """

    fold: Fold
    fresh: pl.Series


@dataclass(frozen=True)
class Yardstick:
    """How models are compared on the same n labelled rows.

    Args:
        figures: by name, a figure of [n] row weights; higher is better. The first is the one that
            counts unless the configuration names another.
        calibration: error of the scores by [n] row weights; 0 is perfect.
        groups: [n] integers; rows of one group are drawn together in a bootstrap.
        slices: by name, [n] bool: parts of the rows on which no model may be worse.
    """

    figures: Mapping[str, Callable[[np.ndarray], float]]
    calibration: Callable[[np.ndarray], float]
    groups: np.ndarray
    slices: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Partition:
    """Unit of resume and of distribution; `key` is stable over reruns.

    Partitions that carry state are scored in order, each with what the one before left; others in
    any order, at the same time, on any machine.
    """

    key: str
    order: int
    carries_state: bool


@dataclass(frozen=True)
class Metric:
    """One figure with its 95 % interval. `model` is `ours` or the name of a floor."""

    data: str
    protocol: str
    model: str
    metric: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Panel:
    """Data of one chart in report.html: long form, one row a mark.

    `kind` is line, bar, histogram or scatter; `data` has the columns named by `x`, `y` and,
    where there are several, `series`. A histogram needs only `x` (and `series`). A table shows
    every column of `data` under its name, numbers as they are to be read.
    """

    title: str
    kind: Literal["line", "bar", "histogram", "scatter", "table"]
    data: pl.DataFrame
    x: str = ""
    y: str = ""
    series: str | None = None
    caption: str = ""


@dataclass(frozen=True)
class Summary:
    """What a scorer wrote: rows or alleles in, scored, not scored by reason, files."""

    rows: int
    scored: int
    reasons: Mapping[str, int] = field(default_factory=dict)
    files: Sequence[str] = ()


class Tokenizer(Protocol):
    """Fitted on training rows only; plain JSON types so that a bundle can carry it."""

    def to_dict(self) -> dict[str, Any]: ...


class Source(Protocol):
    """Opened, validated input."""

    def fingerprint(self) -> str: ...
    def rows(self) -> pl.LazyFrame:
        """Columns row (int64), group, time (where rows have one) or locus, label, weight."""
        ...

    def set_aside(self) -> pl.LazyFrame:
        """Columns file, row, column, found, expected."""
        ...

    def fields(self, rows: pl.Series) -> pl.DataFrame:
        """What drift is measured on: these rows, one column a field, numbers or text; nothing
        that tells one person or entity from another."""
        ...


class Input(Protocol):
    """What is to be scored: found and cheap to open, read by `Scorer.prepare`."""

    def fingerprint(self) -> str: ...


class Scorer(Protocol):
    """Scores the partitions of one input. Each worker process makes its own from the same bundle
    and input; a partition's scores must not depend on which worker computes them."""

    def check(self, out: Path) -> None:
        """Raises ConfigError for an output that `write` could not write, before any scoring."""
        ...

    def prepare(self, work: Path) -> Sequence[Partition]:
        """The input's partitions. What scoring them needs beyond input and bundle is left in the
        folder `work`, which workers share: the first call there reads the input, the calls of
        workers and of a resumed run find all done."""
        ...

    def score(self, part: Partition, state: bytes | None) -> tuple[pl.DataFrame, bytes | None]:
        """Scores of a prepared partition; `state` is None unless it carries one."""
        ...

    def write(self, scored: Iterator[pl.DataFrame], out: Path) -> Summary:
        """`scored` in the order of partitions."""
        ...


class Task(Protocol):
    """One thing to learn from a source: effect, fraud."""

    name: str

    def folds(self, source: Any) -> Sequence[Fold]: ...
    def fit_tokenizer(self, source: Any, rows: pl.Series) -> Tokenizer: ...
    def load_tokenizer(self, state: Mapping[str, Any], config: Mapping[str, Any]) -> Tokenizer:
        """Of a bundle; `config` is what it was trained with, and has what older versions did not
        keep in `state`."""
        ...

    def take_over(
        self, bundle: Bundle, source: Any, rows: pl.Series
    ) -> tuple[Tokenizer, Mapping[str, Tensor]]:
        """What a training on these rows begins with: the tokenizer of the bundle or, where it knows
        too little of this source, another one, and weights that suit it by name and shape.

        Raises:
            ConfigError: a bundle of a network that this configuration does not make.
        """
        ...

    def loader(
        self, source: Any, tokenizer: Any, rows: pl.Series, seed: int, steps: int
    ) -> StepLoader: ...
    def module(self, tokenizer: Any, encoder: EncoderConfig) -> SequenceModule: ...
    def workload(self, source: Any, encoder: EncoderConfig) -> Workload:
        """What the attention of one training step runs over, so that a pattern has a cost before
        anything is trained."""
        ...

    def objection(self, pattern: Pattern) -> str | None:
        """Why `attention=auto` must not choose this pattern; None where it may. Every task trains
        windows, and the dense twin."""
        ...

    def predict(self, module: Any, source: Any, tokenizer: Any, rows: pl.Series) -> pl.DataFrame:
        """Columns row, label, raw (the model's number before calibration) and what metrics need."""
        ...

    def calibrate(self, validation: pl.DataFrame) -> Calibration: ...
    def decide(self, scored: pl.DataFrame, calibration: Calibration) -> pl.DataFrame:
        """Predictions with their score, and columns for what follows from it; as they are where
        nothing does."""
        ...

    def metrics(self, source: Any, predictions: pl.DataFrame) -> list[Metric]:
        """Of out-of-fold predictions (columns of `predict` and `decide`, plus fold and score)."""
        ...

    def parts(self, source: Any, predictions: pl.DataFrame) -> list[Metric]:
        """Figures of parts of the same rows, such as by week, which their protocol names; none
        where there is nothing to tell beyond `metrics`."""
        ...

    def floors(self, source: Any, fold: Fold, encoder: EncoderConfig) -> Mapping[str, pl.DataFrame]:
        """Predictions on the fold's test rows of models that take no learning worth the name; one
        of them may be the network of this encoder before its first step."""
        ...

    def label_intervals(self, source: Any, fold: Fold) -> list[str]:
        """What labels the fold's model has seen, in words that a bundle can carry and
        `seen_rows` reads."""
        ...

    def seen_rows(self, source: Any, intervals: Sequence[str]) -> pl.Series:
        """Labelled rows of `source`, perhaps another file, that lie in such intervals."""
        ...

    def in_service(self, source: Any, intervals: Sequence[str]) -> datetime | None:
        """When all labels that a model with these intervals has learned from were known, so that it
        could first have scored; None where rows have no time."""
        ...

    def challenge(self, source: Any, seen: Sequence[str]) -> Challenge:
        """The fold that judges a challenger against a champion with the label intervals `seen`
        (none: there is no champion yet).

        Raises:
            TooFewLabelsError: no labels to learn from, or none to judge by.
        """
        ...

    def yardstick(self, source: Any, predictions: pl.DataFrame) -> Yardstick:
        """Of labelled predictions (columns of `predict`, plus score)."""
        ...

    def scorer(self, bundle: Bundle, source: Any) -> Scorer: ...
    def panels(self, source: Any, predictions: pl.DataFrame) -> list[Panel]: ...


class Domain(Protocol):
    """`domains/<name>/__init__.py` exposes one of these as `domain`; its import is cheap."""

    name: str
    config: type

    def open(
        self,
        config: Any,
        purpose: Literal["train", "score"],
        *,
        input: Path | None = None,
        history: Path | None = None,
    ) -> Any:
        """A Source or an Input. `train` reads the data that the config names, labels included.
        `score` opens `input`, with `history` (earlier rows that are context only) where the domain
        has such a thing."""
        ...

    def inputs(self, config: Any, input: Path) -> Mapping[str, Path] | None:
        """What a folder or a glob holds, by names for the outputs, where each file is an input by
        itself; None where `input` is one.

        Raises:
            ConfigError: nothing to score there, or two files whose outputs would have one name.
        """
        ...

    def task(self, config: Any) -> Task: ...
    def simulate(self, config: Any, out: Path) -> None:
        """Write the embedded default data into `out` as ordinary files."""
        ...

    def simulated(self, config: Any, out: Path) -> Any:
        """The same config with its data pointing at the files that `simulate` wrote to `out`."""
        ...

    def as_of(self, config: Any, day: date) -> Any:
        """The same config as that day began: no later row, no label that was not known yet, and
        the newest labels as the test. A domain without time leaves it as it is."""
        ...

    def restored(self, saved: Mapping[str, Any]) -> Mapping[str, Any]:
        """A bundle's config, which an older version may have written, in the words of this one."""
        ...

    def carried(self, config: Any) -> Any:
        """The config as a bundle carries it: usable from any folder, small files that scoring
        needs taken in."""
        ...
