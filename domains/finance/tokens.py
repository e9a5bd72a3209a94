"""Events to numbers: quantile bins beside a continuous path, vocabularies, calendar.

Ids of all fields share one table (each field has its own stretch of it), so that an event's
embedding is one bag lookup and one matrix product.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from domains.finance.stream import DAY, UNKNOWN_LABEL, Stream, view_keys

RARE = 5
"""A category seen fewer times in training is left to the unknown token."""


@dataclass(frozen=True)
class NumberField:
    """Bins of one number and the scale of its continuous path, in the column's own unit."""

    name: str
    edges: list[float]
    unit: float
    centre: float
    spread: float
    top: float


@dataclass(frozen=True)
class CategoryField:
    """Vocabulary of one column; id 0 is the unknown token."""

    name: str
    words: list[str]


@dataclass(frozen=True)
class FinanceTokenizer:
    """Fitted on training rows only; holds no value of an id or entity column."""

    numbers: list[NumberField]
    categories: list[CategoryField]
    time_zone: str

    @property
    def sizes(self) -> list[int]:
        """Ids of each field: bins, words, then the calendar."""
        bins = [len(f.edges) + 1 for f in self.numbers]
        return bins + [len(f.words) + 1 for f in self.categories] + [24, 7]

    @property
    def offsets(self) -> list[int]:
        """Where each field's stretch of the id table begins."""
        return [0, *np.cumsum(self.sizes)[:-1].tolist()]

    @property
    def category_columns(self) -> slice:
        """Which columns of `Stream.ids` hold categories."""
        return slice(len(self.numbers), len(self.numbers) + len(self.categories))

    @property
    def floats(self) -> int:
        """Width of `Stream.floats`."""
        return 2 * len(self.numbers)

    def encode(
        self, events: pl.DataFrame, views: Sequence[Sequence[str]], secret: bytes = b""
    ) -> Stream:
        """Events (columns of `TransactionSource.events`, in time order) to a stream whose gaps
        are not filled in yet (`Stream.after` does); `secret` keys the hash of entities."""
        ids, floats = [], []
        for field in self.numbers:
            values = events[f"number:{field.name}"].to_numpy()
            ids.append(_binned(field, values))
            floats += _continuous(field, values)
        for category in self.categories:
            known = {word: i + 1 for i, word in enumerate(category.words)}
            column = events[f"category:{category.name}"]
            coded = column.replace_strict(known, default=0, return_dtype=pl.Int32)
            ids.append(coded.fill_null(0).to_numpy())
        local = events["time"].dt.convert_time_zone(self.time_zone)
        ids += [local.dt.hour().to_numpy(), local.dt.weekday().to_numpy() - 1]
        table = np.stack(ids, axis=1).astype(np.int32) + np.asarray(self.offsets, dtype=np.int32)
        return Stream(
            row=events["row"].to_numpy(),
            time=events["time"].dt.epoch("us").to_numpy(),
            day=local.dt.date().cast(pl.Int32).to_numpy(),
            keys=view_keys(events, views, secret),
            ids=table,
            floats=np.stack(floats, axis=1).astype(np.float32),
            gaps=np.full((len(events), len(views)), np.nan, dtype=np.float32),
            label=events["label"].fill_null(UNKNOWN_LABEL).to_numpy().astype(np.int8),
        )

    def encode_number(self, field: int, values: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        """[n] values of a number -> token ids and continuous inputs.

        Args:
            field: its place in `numbers`.
        """
        number = self.numbers[field]
        ids = _binned(number, values).astype(np.int32) + self.offsets[field]
        return ids, _continuous(number, values)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(state: Mapping[str, Any]) -> FinanceTokenizer:
        return FinanceTokenizer(
            numbers=[NumberField(**f) for f in state["numbers"]],
            categories=[CategoryField(**f) for f in state["categories"]],
            time_zone=state["time_zone"],
        )


def fit_tokenizer(
    events: pl.DataFrame, bins: int, tail_bins: int, time_zone: str
) -> FinanceTokenizer:
    """Bins, scales and vocabularies of these (training) events.

    Args:
        bins: equal-frequency bins of a number.
        tail_bins: more of them beyond the last percent, where fraud sits; equal steps of the
            logarithm, because quantiles alone cannot tell 200 from 2,000 out there.
    """
    names = [c.split(":", 1) for c in events.columns if ":" in c]
    numbers = [
        _fit_number(name, events[f"number:{name}"].to_numpy(), bins, tail_bins)
        for role, name in names
        if role == "number"
    ]
    words = [
        _fit_words(name, events[f"category:{name}"]) for role, name in names if role == "category"
    ]
    return FinanceTokenizer(numbers, words, time_zone)


def _fit_number(name: str, values: np.ndarray, bins: int, tail_bins: int) -> NumberField:
    edges = np.quantile(values, np.linspace(0, 1, bins + 1)[1:-1])
    unit = float(max(np.median(np.abs(values)) / 4, 1e-6))
    low, high = np.arcsinh(np.quantile(values, [0.98, 1.0]) / unit)
    tail = np.sinh(np.linspace(low, high, tail_bins + 1)[:-1]) * unit
    squeezed = np.arcsinh(values / unit)
    return NumberField(
        name=name,
        edges=sorted({float(e) for e in np.concatenate([edges, tail])}),
        unit=unit,
        centre=float(squeezed.mean()),
        spread=float(max(squeezed.std(), 1e-6)),
        top=float(max(np.quantile(np.abs(values), 0.99), 1e-6)),
    )


def _binned(field: NumberField, values: np.ndarray) -> np.ndarray:
    return np.searchsorted(np.asarray(field.edges), values, side="right")


def _continuous(field: NumberField, values: np.ndarray) -> list[np.ndarray]:
    """Near the logarithm (ratios become differences) and plain, both of order one."""
    squeezed = (np.arcsinh(values / field.unit) - field.centre) / field.spread
    return [np.clip(squeezed, -8, 8), np.clip(values / field.top, -8, 8)]


def _fit_words(name: str, column: pl.Series) -> CategoryField:
    counts = column.drop_nulls().value_counts().filter(pl.col("count") >= RARE)
    return CategoryField(name, sorted(counts[column.name].to_list()))


def gap_features(gaps: np.ndarray) -> np.ndarray:
    """[n, V] days (NaN: no event before) -> [n, 2 V] float32."""
    first = np.isnan(gaps)
    minutes = np.log1p(np.where(first, 0, gaps) * (DAY / 60e6)) / 8
    return np.concatenate([minutes, first], axis=1).astype(np.float32)
