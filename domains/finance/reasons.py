"""Reason codes: which fields and which histories raised an alert's score, in plain words.

By occlusion: the score without one thing is compared with the score (log-odds). Each reason begins
with a code, equal for equal causes: the name of a column, `hour`, or a view with what of it
counted, such as `terminal labels`. No text holds an identifier.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from domains.finance.config import View
from domains.finance.model import FraudModule
from domains.finance.occlusion import LEAST_PAST, Copy, Past, judged, numbers
from domains.finance.reason_words import (
    category_words,
    history_words,
    hour_words,
    label_words,
    number_words,
    pace_words,
)
from domains.finance.stream import DAY, KeyOrder, Stream
from domains.finance.tokens import FinanceTokenizer

REASONS = ("reason_1", "reason_2", "reason_3")
LEAST_EFFECT = 0.25
"""Log-odds; what changes the odds by less than a quarter is no reason."""
ROWS = 32
"""Alerts that are judged in one forward."""
NOON = 12


@dataclass(frozen=True)
class Cause:
    """One thing that may have raised scores.

    Args:
        copy: the rows without it.
        than: the rows with it: itself and everything that is not hidden for it.
        words: text for a row, None where it cannot be a reason of that row.
    """

    copy: Copy
    than: Copy
    words: Callable[[int], str | None]


class Explainer:
    """Reasons for rows of a stream.

    Args:
        views: of the model, in its order.
        delay: microseconds until a label is known.
    """

    def __init__(
        self, module: FraudModule, tokenizer: FinanceTokenizer, views: Sequence[View], delay: int
    ) -> None:
        self.module, self.tokenizer, self.views, self.delay = module, tokenizer, views, delay
        self.own = next((i for i, view in enumerate(views) if view.key), 0)
        self.whose = f"this {views[self.own].name}'s" if views[self.own].key else "the recent"

    def reasons(
        self, stream: Stream, orders: Sequence[KeyOrder], places: np.ndarray
    ) -> list[list[str | None]]:
        """Three for each of these places, the strongest first, None where there are fewer."""
        found = []
        for start in range(0, len(places), ROWS):
            part, windows = places[start : start + ROWS], self.module.windows()
            past = Past.of(stream, orders, part, windows, self.delay, self.own)
            found += self._ranked(past)
        return found

    def _ranked(self, past: Past) -> list[list[str | None]]:
        causes = self._causes(past)
        copies = list({id(c): c for cause in causes for c in (cause.copy, cause.than)}.values())
        scores = dict(zip(map(id, copies), judged(self.module, copies, self.delay), strict=True))
        # Rounded, so that equal effects keep the order of the causes wherever they are computed.
        effects = np.round([scores[id(c.than)] - scores[id(c.copy)] for c in causes], 3)
        found = []
        for row in range(len(past.places)):
            order = np.argsort(-effects[:, row], kind="stable")
            raising = (causes[i] for i in order if effects[i, row] >= LEAST_EFFECT)
            texts = [text for cause in raising if (text := cause.words(row)) is not None]
            padded: list[str | None] = [*texts[: len(REASONS)], *([None] * len(REASONS))]
            found.append(padded[: len(REASONS)])
        return found

    def _causes(self, past: Past) -> list[Cause]:
        whole = Copy.of(past)
        causes = [self._number(past, whole, j) for j in range(len(self.tokenizer.numbers))]
        causes += [self._category(past, whole, j) for j in range(len(self.tokenizer.categories))]
        causes.append(self._hour(past, whole))
        for view in range(len(self.views)):
            causes += self._view(past, whole, view)
        return causes

    def _number(self, past: Past, whole: Copy, j: int) -> Cause:
        field = self.tokenizer.numbers[j]

        def value(places: np.ndarray) -> np.ndarray:
            return numbers(field, past.stream.floats[places, 2 * j : 2 * j + 2])

        centre = float(np.sinh(field.centre) * field.unit)
        usual, here = past.usual(past.own, value, centre), value(past.places)
        ids, floats = self.tokenizer.encode_number(j, usual)
        copy = whole.with_ids(j, ids).with_floats(2 * j, floats)

        def words(row: int) -> str:
            known = len(past.history(row, past.own)) >= LEAST_PAST
            whose = self.whose if known else "the"
            return number_words(field.name, here[row], usual[row], whose)

        return Cause(copy, whole, words)

    def _category(self, past: Past, whole: Copy, j: int) -> Cause:
        column = len(self.tokenizer.numbers) + j
        offset, field = self.tokenizer.offsets[column], self.tokenizer.categories[j]
        ids = past.stream.ids[past.places, column]
        copy = whole.with_ids(column, np.full(len(ids), offset))

        def words(row: int) -> str:
            before = past.stream.ids[past.history(row, past.own), column]
            word = field.words[ids[row] - offset - 1] if ids[row] > offset else None
            return category_words(field.name, word, before == ids[row], self.whose)

        return Cause(copy, whole, words)

    def _hour(self, past: Past, whole: Copy) -> Cause:
        column = len(self.tokenizer.sizes) - 2
        offset = self.tokenizer.offsets[column]

        def hour(places: np.ndarray) -> np.ndarray:
            return past.stream.ids[places, column] - offset

        usual, here = past.usual(past.own, hour, NOON), hour(past.places)
        copy = whole.with_ids(column, np.round(usual).astype(np.int32) + offset)

        def words(row: int) -> str:
            return hour_words(here[row], hour(past.history(row, past.own)), self.whose)

        return Cause(copy, whole, words)

    def _view(self, past: Past, whole: Copy, v: int) -> list[Cause]:
        """Its known frauds, the time since its last event, its history beside those."""
        view, causes, without = self.views[v], [], whole
        now, time = past.stream.time[past.places], past.stream.time
        if view.labels:
            without = whole.without_labels(v)

            def labels(row: int) -> str | None:
                fraud = past.labels[v][row] == 1
                ages = (now[row] - time[past.seen[v][row][fraud]]) / DAY
                return label_words(view.name, ages, len(past.history(row, v)))

            causes.append(Cause(without, whole, labels))
        gaps = past.stream.gaps
        usual = past.usual(v, lambda places: _known(gaps[places, v]), 1.0)
        here = gaps[past.places, v]

        def pace(row: int) -> str:
            return pace_words(view.name, here[row], usual[row])

        def history(row: int) -> str | None:
            events = past.history(row, v)
            amounts = numbers(self.tokenizer.numbers[0], past.stream.floats[events, :2])
            return history_words(view.name, (now[row] - time[events]) / DAY, amounts)

        causes.append(Cause(whole.with_gaps(v, usual), whole, pace))
        causes.append(Cause(without.without_history(v), without, history))
        return causes


def _known(gaps: np.ndarray) -> np.ndarray:
    known = gaps[~np.isnan(gaps)]
    return known if len(known) else np.ones(1)
