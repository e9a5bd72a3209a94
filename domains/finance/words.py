"""What surprised, and what was usual instead, in words; no identifier is among them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import torch

from domains.finance.batches import Gatherer
from domains.finance.fields import FIRST, GAP_EDGES, KNOWN, Field
from domains.finance.stream import DAY, Stream
from domains.finance.tokens import FinanceTokenizer

if TYPE_CHECKING:
    from domains.finance.labelled import TransactionSource
    from domains.finance.surprise_model import SurpriseEnsemble, SurpriseModule

TOLD = 100
"""Rows that are told of each field: those that it surprised most at."""
USUAL = (0.1, 0.9)
"""Quantiles between which a number or a gap counts as usual."""
FOUND_PREFIX, USUAL_PREFIX = "found:", "usual:"
_SPANS = ((1440.0, "days"), (60.0, "h"), (1.0, "min"))


def told(
    module: SurpriseModule | SurpriseEnsemble,
    tokenizer: FinanceTokenizer,
    source: TransactionSource,
    stream: Stream,
    places: np.ndarray,
    nats: np.ndarray,
) -> pl.DataFrame:
    """Columns found:FIELD and usual:FIELD for these stream places, null but for each field's TOLD
    rows with the most `nats` [n, F]."""
    most = [np.argsort(-nats[:, f], kind="stable")[:TOLD] for f in range(nats.shape[1])]
    rows = np.unique(np.concatenate(most))
    gatherer = Gatherer(stream, source.schema.label_delay)
    with torch.no_grad():
        expected = [e.exp().cpu().numpy() for e in module.expected(gatherer, places[rows])]
    found = module.classes(gatherer, places[rows])
    columns: dict[str, list[str | None]] = {}
    for f, field in enumerate(module.fields):
        speak = _SPEAKERS[field.kind](field, tokenizer, source, stream)
        texts: list[tuple[str | None, str | None]] = [(None, None)] * len(places)
        for row in most[f]:
            at = int(np.searchsorted(rows, row))
            texts[row] = speak(int(places[row]), int(found[at, f]), expected[f][at])
        columns[f"{FOUND_PREFIX}{field.name}"] = [text[0] for text in texts]
        columns[f"{USUAL_PREFIX}{field.name}"] = [text[1] for text in texts]
    return pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String))


_Speaker = Callable[[int, int, np.ndarray], tuple[str, str]]
"""Stream place, class and the probabilities of all classes -> found and usual."""


def _number(
    field: Field, tokenizer: FinanceTokenizer, source: TransactionSource, stream: Stream
) -> _Speaker:
    values = source.events[f"number:{field.name}"].to_numpy()
    edges = np.asarray(tokenizer.numbers[field.place].edges)

    def speak(place: int, _: int, expected: np.ndarray) -> tuple[str, str]:
        low, high = _between(expected)
        return f"{values[place]:,.2f}", _range(edges, low, high, lambda value: f"{value:,.2f}")

    return speak


def _category(
    field: Field, tokenizer: FinanceTokenizer, source: TransactionSource, stream: Stream
) -> _Speaker:
    words = tokenizer.categories[field.place - len(tokenizer.numbers)].words
    names = ["empty or rare", *words]

    def speak(_: int, found: int, expected: np.ndarray) -> tuple[str, str]:
        best = np.argsort(-expected)[:2]
        return names[found], ", ".join(f"{names[c]} ({expected[c]:.0%})" for c in best)

    return speak


def _gap(
    field: Field, tokenizer: FinanceTokenizer, source: TransactionSource, stream: Stream
) -> _Speaker:
    minutes = stream.gaps[:, field.place] * (DAY / 60e6)

    def speak(place: int, found: int, expected: np.ndarray) -> tuple[str, str]:
        mine = "none before" if found == FIRST else _span(float(minutes[place]))
        if expected[FIRST] > 0.5:
            return mine, "none before"
        low, high = _between(expected[FIRST + 1 :] / (1 - expected[FIRST]))
        return mine, _range(GAP_EDGES, low, high, _span)

    return speak


def _pair(
    field: Field, tokenizer: FinanceTokenizer, source: TransactionSource, stream: Stream
) -> _Speaker:
    def speak(_: int, found: int, expected: np.ndarray) -> tuple[str, str]:
        return ("known" if found == KNOWN else "new"), f"known ({expected[KNOWN]:.0%})"

    return speak


_SPEAKERS = {"number": _number, "category": _category, "gap": _gap, "pair": _pair}


def _between(expected: np.ndarray) -> tuple[int, int]:
    """First and last usual class, of classes in order."""
    total = np.cumsum(expected)
    low, high = (int(np.searchsorted(total, share * total[-1])) for share in USUAL)
    return low, min(high, len(expected) - 1)


def _range(edges: np.ndarray, low: int, high: int, text: Callable[[float], str]) -> str:
    """Class k lies between the edges k - 1 and k."""
    if low == 0 and high == len(edges):
        return "anything"
    if low == 0:
        return f"below {text(float(edges[high]))}"
    if high == len(edges):
        return f"{text(float(edges[low - 1]))} or more"
    return f"{text(float(edges[low - 1]))} to {text(float(edges[high]))}"


def _span(minutes: float) -> str:
    for unit, name in _SPANS:
        if minutes >= unit:
            return f"{minutes / unit:.3g} {name}"
    return "under a minute"
