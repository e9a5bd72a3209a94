"""Which rows are learned from and which are judged, the same for every model."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from benchmarks.fraud_models import LARGE, SMALL, Trees
from domains.finance import domain
from domains.finance.config import FinanceConfig, Split, parse_day
from domains.finance.labelled import TransactionSource
from domains.finance.stream import DAY
from pipelines import build
from pipelines.cli import CONF
from pipelines.schema import register_schemas

WARM_UP = timedelta(days=30)
"""The first rows that features of 30 days have no whole past for."""
KINDS = {"handbook": "TX_FRAUD_SCENARIO"}
"""By data, the column that names the kind of a fraud, 0 for none."""


@dataclass(frozen=True)
class Protocol:
    """Args:
    name: of the protocol.
    overrides: of `pipelines.train domain=finance`; they state the split too.
    drops_known: whether cards known as defrauded leave the test, day by day, as in the Handbook.
    seeds: of our model, whose mean is the figure.
    size: of the boosted forests.
    rivals: who stand beside ours.
    """

    name: str
    overrides: tuple[str, ...]
    drops_known: bool
    seeds: int
    size: Trees
    rivals: tuple[str, ...]


_LONG = (
    "lightgbm_15",
    "lightgbm_49",
    "hist_gradient_boosting_15",
    "hist_gradient_boosting_49",
    "logistic_regression_15",
)
# Grown out on 881,661 rows, a random forest takes longer than all others together.
_BOOK = (*_LONG, "random_forest_15")
HANDBOOK = (
    Protocol("all_rows", ("experiment=handbook",), False, 1, LARGE, _LONG),
    Protocol("book_week", ("experiment=handbook_book_week",), True, 3, SMALL, _BOOK),
)
TOWN = (
    "domain.data.customers=120",
    "domain.data.terminals=150",
    "domain.data.days=60",
    "domain.split.train_before=2024-02-10",
    "domain.split.test_from=2024-02-17",
    "domain.split.test_until=2024-03-01",
    "trainer.steps=4",
)
_WEEK = ("domain.split.train_from=2024-02-01", "domain.split.validation_days=0")
QUICK = (
    Protocol("all_rows", (*TOWN, "domain.split.validation_days=2"), False, 1, SMALL, _LONG),
    Protocol("book_week", (*TOWN, *_WEEK), True, 1, SMALL, _BOOK),
)
"""On the simulator; says nothing about quality."""


@dataclass(frozen=True)
class Rows:
    """Places in `source.events`, and what is judged by: columns row, label, day, entity (of the
    card), kind, new_card, new_terminal."""

    train: np.ndarray
    test: np.ndarray
    judged: pl.DataFrame


def configured(protocol: Protocol) -> FinanceConfig:
    """What `pipelines.train domain=finance` would read with the protocol's overrides."""
    register_schemas()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", ["domain=finance", *protocol.overrides])
    return build.domain_config(config.domain)


@contextmanager
def opened(config: FinanceConfig) -> Iterator[tuple[str, TransactionSource]]:
    """Name of the data, and its rows; a simulation's files last as long as the context.

    Raises:
        ConfigError: the data is not there.
    """
    if config.data.source != "simulated":
        yield Path(str(config.data.path)).stem, _read(config)
        return
    with tempfile.TemporaryDirectory() as folder:
        domain.simulate(config, Path(folder))
        yield "simulated", _read(domain.simulated(config, Path(folder)))


def _read(config: FinanceConfig) -> TransactionSource:
    source = domain.open(config, "train")
    assert isinstance(source, TransactionSource)
    return source


def rows_of(protocol: Protocol, split: Split, data: str, source: TransactionSource) -> Rows:
    """Labelled rows of the split."""
    time, labelled = source.events["time"], source.events["label"].is_not_null()
    first = time.min() + WARM_UP  # pyright: ignore
    begin = _midnight(split.train_from) if split.train_from else first
    train = labelled & (time >= begin) & (time < _midnight(split.train_before))
    test = labelled & (time >= _midnight(split.test_from)) & (time < _midnight(split.test_until))
    if protocol.drops_known:
        test &= ~known_cards(source, begin)
    places = np.flatnonzero(test.to_numpy())
    judged = _judged(source, places, _midnight(split.train_before), KINDS.get(data))
    return Rows(np.flatnonzero(train.to_numpy()), places, judged)


def known_cards(source: TransactionSource, since: datetime) -> pl.Series:
    """[n] bool: by the start of the row's day a fraud of its card, `since` then or later, had been
    known for a day, as the Handbook counts."""
    events = source.events.select("label", card="entity:customer", day=pl.col("time").dt.date())
    frauds = events.filter((pl.col("label") == 1) & (pl.col("day") >= since.date()))
    lag = timedelta(days=source.schema.label_delay // DAY + 1)
    first = frauds.group_by("card").agg((pl.col("day").min() + lag).alias("known"))
    joined = events.join(first, on="card", how="left", maintain_order="left")
    return joined.select((pl.col("day") >= pl.col("known")).fill_null(False)).to_series()


def _judged(
    source: TransactionSource, places: np.ndarray, trained: datetime, kind: str | None
) -> pl.DataFrame:
    events = source.events.with_columns(
        pl.col(f"entity:{entity}").rank("dense").cast(pl.Int64).alias(name)
        if name == "entity"
        else (pl.col("time").min().over(f"entity:{entity}") >= trained).alias(name)
        for entity, name in (
            ("customer", "entity"),
            ("customer", "new_card"),
            ("terminal", "new_terminal"),
        )
    )
    frame = events[places].select(
        "row", "label", pl.col("time").dt.date().alias("day"), "entity", "new_card", "new_terminal"
    )
    if kind is None:
        return frame.with_columns(kind=pl.lit(None, dtype=pl.Int64))
    named = pl.read_parquet(source.path, columns=[kind])[kind][frame["row"].to_numpy()]
    kinds = named.cast(pl.Int64).replace(0, None)
    return frame.with_columns(kinds.alias("kind"))


def _midnight(text: str) -> datetime:
    day = parse_day("split", text)
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
