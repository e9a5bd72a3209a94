"""What a score would have been without one thing that the model saw.

Each row to explain is copied, with what its views show, once for every thing that may be hidden;
in a copy that thing is at its usual value, or not there. All copies are one stream of events, each
with keys of its own, so that any model of streams judges them in one forward.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch

from domains.finance.model import FraudModule
from domains.finance.stream import UNKNOWN_LABEL, KeyOrder, Stream, visible_label
from domains.finance.tokens import NumberField

LEAST_PAST = 3
"""Events of a history that say what is usual for it."""
HIDDEN = -1
"""View of the rows to explain themselves: every view shows them."""


@dataclass(frozen=True)
class Past:
    """What rows see through their views.

    Args:
        stream: where everything lies.
        places: [A] of the rows.
        seen: one a view: [A, W] places of the events before, -1 where there are fewer.
        labels: one a view: [A, W] what of their labels was known at the time.
        own: the view whose history says what is usual, the first with a key; 0 where none has.
    """

    stream: Stream
    places: np.ndarray
    seen: list[np.ndarray]
    labels: list[np.ndarray]
    own: int

    @staticmethod
    def of(
        stream: Stream,
        orders: Sequence[KeyOrder],
        places: np.ndarray,
        windows: Sequence[int | None],
        delay: int,
        own: int,
    ) -> Past:
        seen = [o.windows(places, w)[:, :-1] for o, w in zip(orders, windows, strict=True)]
        now = stream.time[places][:, None]
        labels = [
            np.where(
                s < 0, UNKNOWN_LABEL, visible_label(stream.label[s], stream.time[s], now, delay)
            )
            for s in seen
        ]
        return Past(stream, places, seen, labels, own)

    def history(self, row: int, view: int) -> np.ndarray:
        """Places of the events before, the oldest first."""
        seen = self.seen[view][row]
        return seen[seen >= 0]

    def usual(
        self, view: int, of: Callable[[np.ndarray], np.ndarray], otherwise: float
    ) -> np.ndarray:
        """[A] median of `of` (places -> numbers) over each row's history, where it is one."""
        found = np.full(len(self.places), otherwise)
        for row in range(len(found)):
            history = self.history(row, view)
            if len(history) >= LEAST_PAST:
                found[row] = np.median(of(history))
        return found


@dataclass(frozen=True)
class Copy:
    """Rows and their histories: a stream, for each event the row [n] it belongs to and the view
    [n] that shows it, HIDDEN for the rows themselves."""

    stream: Stream
    row: np.ndarray
    view: np.ndarray

    @staticmethod
    def of(past: Past) -> Copy:
        """An event that two views show is there twice, so that one of them may lose it."""
        places, rows, views = [], [], []
        for view, seen in enumerate(past.seen):
            row, slot = np.nonzero(seen >= 0)
            places.append(seen[row, slot])
            rows.append(row)
            views.append(np.full(len(row), view))
        count = len(past.places)
        places.append(past.places)
        rows.append(np.arange(count))
        views.append(np.full(count, HIDDEN))
        stream = past.stream.take(np.concatenate(places))
        return Copy(stream, np.concatenate(rows), np.concatenate(views))

    @property
    def targets(self) -> np.ndarray:
        return self.view == HIDDEN

    def with_ids(self, column: int, ids: np.ndarray) -> Copy:
        """The rows' token [A] of a field replaced."""
        changed = self.stream.ids.copy()
        changed[self.targets, column] = ids
        return replace(self, stream=replace(self.stream, ids=changed))

    def with_floats(self, first: int, values: Sequence[np.ndarray]) -> Copy:
        """The rows' continuous inputs replaced, from column `first` on."""
        changed = self.stream.floats.copy()
        for column, value in enumerate(values, first):
            changed[self.targets, column] = value
        return replace(self, stream=replace(self.stream, floats=changed))

    def with_gaps(self, view: int, days: np.ndarray) -> Copy:
        changed = self.stream.gaps.copy()
        changed[self.targets, view] = days
        return replace(self, stream=replace(self.stream, gaps=changed))

    def without_labels(self, view: int) -> Copy:
        label = np.where(self.view == view, UNKNOWN_LABEL, self.stream.label).astype(np.int8)
        return replace(self, stream=replace(self.stream, label=label))

    def without_history(self, view: int) -> Copy:
        kept = self.view != view
        stream = self.stream.take(kept)
        return Copy(stream, self.row[kept], self.view[kept]).with_gaps(
            view, np.full(int(self.targets.sum()), np.nan)
        )


def judged(module: FraudModule, copies: Sequence[Copy], delay: int) -> np.ndarray:
    """[copies, A] log-odds."""
    views, rows = copies[0].stream.keys.shape[1], int(copies[0].targets.sum())
    stream = Stream(
        **{
            f.name: np.concatenate([getattr(copy.stream, f.name) for copy in copies])
            for f in fields(Stream)
        }
    )
    view = np.concatenate([copy.view for copy in copies])
    owner = np.concatenate([copy.row + i * rows for i, copy in enumerate(copies)])
    # Nobody else has the key of an event in a view that doesn't show it.
    nobody = -1 - np.arange(len(view))
    shown = (view[:, None] == np.arange(views)) | (view == HIDDEN)[:, None]
    keys = np.where(shown, owner[:, None], nobody[:, None])
    # Of equal times, a row comes after what it sees.
    order = np.lexsort((view == HIDDEN, stream.time))
    targets = np.flatnonzero(view[order] == HIDDEN)
    with torch.no_grad():
        found = module.stream_logits(replace(stream, keys=keys).take(order), targets, delay)
    logits = np.empty(len(targets))
    logits[owner[order][targets]] = found.double().cpu().numpy()
    return logits.reshape(len(copies), rows)


def numbers(field: NumberField, floats: np.ndarray) -> np.ndarray:
    """[n] values of a number in its own unit, from its two continuous inputs [n, 2]."""
    squeezed, plain = floats.astype(np.float64).T
    far = np.sinh(squeezed * field.spread + field.centre) * field.unit
    return np.where(np.abs(plain) < 8, plain * field.top, far)
