"""What the surprise task predicts of an event: one class of each of its fields.

Numbers fall into the tokenizer's bins, categories into its vocabulary. Beside them stand, for every
view with a key, the time since the key's last event, and for two such views whether their keys have
met before as far as the first view shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from domains.finance.batches import Gatherer
from domains.finance.config import View
from domains.finance.stream import DAY
from domains.finance.tokens import FinanceTokenizer

GAP_EDGES = np.geomspace(1.0, 365.0 * 1440, 32)
"""Minutes between the classes of a gap; below all of them is no time at all, such as the same day
of a file of dates."""
MINUTE = 60_000_000
FIRST = 0
"""Class of the first event of a key."""
KNOWN, NEW = 0, 1
_NUMBER, _CATEGORY, _GAP, _PAIR = "number", "category", "gap", "pair"


@dataclass(frozen=True)
class Field:
    """One field of an event.

    Args:
        name: as it is written in scored files and reports.
        kind: number, category, gap or pair.
        size: of its classes.
        place: column of `Stream.ids`; of a gap or a pair the view that looks back.
        other: of a pair, the view whose key was met.
    """

    name: str
    kind: str
    size: int
    place: int
    other: int = -1


def fields_of(tokenizer: FinanceTokenizer, views: Sequence[View]) -> list[Field]:
    """In the order in which they are predicted."""
    names = [(f.name, _NUMBER) for f in tokenizer.numbers]
    names += [(f.name, _CATEGORY) for f in tokenizer.categories]
    found = [
        Field(name, kind, size, place)
        for place, ((name, kind), size) in enumerate(zip(names, tokenizer.sizes, strict=False))
    ]
    own = [v for v, view in enumerate(views) if view.key]
    for v in own:
        found.append(Field(f"time_since_last_{views[v].name}", _GAP, len(GAP_EDGES) + 2, v))
    for i, u in enumerate(own):
        for v in own[i + 1 :]:
            found.append(Field(f"new_{views[v].name}_for_{views[u].name}", _PAIR, 2, u, v))
    return found


def classes(
    fields: Sequence[Field],
    gatherer: Gatherer,
    targets: np.ndarray,
    windows: Sequence[int | None],
    offsets: Sequence[int],
) -> np.ndarray:
    """[T, F] int64: the class of each field at these stream places."""
    stream, found = gatherer.stream, []
    for field in fields:
        if field.kind == _GAP:
            minutes = stream.gaps[targets, field.place] * (DAY / MINUTE)
            later = np.searchsorted(GAP_EDGES, np.nan_to_num(minutes), side="right") + 1
            found.append(np.where(np.isnan(minutes), FIRST, later))
        elif field.kind == _PAIR:
            found.append(_new(field, gatherer, targets, windows[field.place]))
        else:
            found.append(stream.ids[targets, field.place] - offsets[field.place])
    return np.stack(found, axis=1).astype(np.int64)


def _new(field: Field, gatherer: Gatherer, targets: np.ndarray, window: int | None) -> np.ndarray:
    """Whether the event's key of the other view is none of those that its window shows."""
    seen = gatherer.orders[field.place].windows(targets, window)[:, :-1]
    keys = gatherer.stream.keys[:, field.other]
    met = (keys[np.maximum(seen, 0)] == keys[targets][:, None]) & (seen >= 0)
    return np.where(met.any(axis=1), KNOWN, NEW)
