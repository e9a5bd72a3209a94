"""Keyed views: in one time-ordered stream of events, an event attends to the past of its own key.

A stable sort by key puts the events of a card, a merchant or a device side by side; there a causal
window is a band, and 'same key' is an interval of it, so a view costs O(n x window). The sort is
undone at the end.

Matured labels: a view may give a past event other keys and values once its label is known, that
is where t_key <= t_query - delay. In sorted order that cuts every window in two intervals, which
share one softmax.

Shape suffixes: H heads, N events of the stream, Q queries, W keys of a window, D head size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, overload

import torch
import torch.nn.functional as F
from torch import Tensor

from core.attention.attend import SourceTuple, attend_sources
from core.attention.patterns import Causal, Dense, Pattern, Window, require_count
from core.attention.static import unknown
from core.errors import ConfigError

_GATHERED = 1 << 24  # elements of the keys that a few queries gather at a time
_LENGTHS = 16  # the band of a view is rounded up to a multiple, so that plans are reused
_FEW = 32  # one query that gathers costs about as much as this many in a band


@dataclass(frozen=True, eq=False)
class KeyedIndex:
    """Where each event of a stream stands in its view. Made by `keyed_index`, kept for a batch.

    Attributes:
        order: int64 [N], stream position of each sorted position.
        place: int64 [N], sorted position of each stream position.
        low, high: int32 [N], the sorted positions [low, high) that each sorted position sees.
        mature: int32 [N] or None: labels are known on [low, mature).
        reach: the most events that any event sees before itself.
    """

    order: Tensor
    place: Tensor
    low: Tensor
    high: Tensor
    mature: Tensor | None
    reach: int

    def bounds(self, labelled: bool | None = None) -> Tensor:
        """int32 [1, N, 2] in sorted order: all that is seen, or its labelled or unlabelled end."""
        if labelled is None:
            low, high = self.low, self.high
        elif self.mature is None:
            raise ConfigError("keyed index: got labelled keys, expected an index with a delay")
        else:
            low, high = (self.low, self.mature) if labelled else (self.mature, self.high)
        return torch.stack((low, high), -1)[None]


def keyed_index(
    keys: Tensor, times: Tensor, window: int | None, delay: float | None = None
) -> KeyedIndex:
    """Sorts a stream by key.

    Args:
        keys: int64 [N], in stream order.
        times: float64 or int64 [N], never falling along the stream. Of events with equal times,
            the later in the stream sees the earlier.
        window: an event sees itself and the last `window` earlier events of its key; all of
            them where None, at the cost of the longest key times N.
        delay: time until a label is known, in the unit of `times`, above 0 so that no event
            sees its own label; None where the view carries no labels.

    Raises:
        ConfigError: shapes that differ, times that fall or are no numbers, a window below 0, a
            delay not above 0.
    """
    _check_stream(keys, times, window, delay)
    n, device = len(keys), keys.device
    order = torch.argsort(keys, stable=True)
    at = torch.arange(n, device=device)
    place = torch.empty_like(order).index_copy_(0, order, at)
    ranked = keys[order]
    first = torch.ones(n, dtype=torch.bool, device=device)
    first[1:] = ranked[1:] != ranked[:-1]
    low = torch.where(first, at, 0).cummax(0).values if n else at
    if window is not None:
        low = torch.maximum(low, at - window)
    mature = None
    if delay is not None:
        # an event's code rises along the sorted order, so one search finds (key, time)
        group = first.long().cumsum(0)
        clock = times if isinstance(delay, int) else times.double()
        known = torch.searchsorted(clock, clock - delay, right=True)[order]
        mature = torch.searchsorted(group * (n + 1) + order, group * (n + 1) + known)
        # never its own label, even where the delay vanishes in the rounding of the time
        mature = torch.minimum(torch.maximum(mature, low), at).int()
    reach = int((at - low).max()) if n else 0
    return KeyedIndex(order, place, low.int(), (at + 1).int(), mature, reach)


@overload
def keyed_attend(
    q_HQD: Tensor,
    k_HND: Tensor,
    v_HND: Tensor,
    index: KeyedIndex,
    *,
    labelled: tuple[Tensor, Tensor] | None = None,
    query: Tensor | None = None,
    scale: float | None = None,
    backend: str = "auto",
    return_lse: Literal[False] = False,
) -> Tensor: ...
@overload
def keyed_attend(
    q_HQD: Tensor,
    k_HND: Tensor,
    v_HND: Tensor,
    index: KeyedIndex,
    *,
    labelled: tuple[Tensor, Tensor] | None = None,
    query: Tensor | None = None,
    scale: float | None = None,
    backend: str = "auto",
    return_lse: Literal[True],
) -> tuple[Tensor, Tensor]: ...
def keyed_attend(
    q_HQD: Tensor,
    k_HND: Tensor,
    v_HND: Tensor,
    index: KeyedIndex,
    *,
    labelled: tuple[Tensor, Tensor] | None = None,
    query: Tensor | None = None,
    scale: float | None = None,
    backend: str = "auto",
    return_lse: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Attention of each event to itself and the past of its key, everything in stream order.

    Args:
        q_HQD: queries: of all events, or of the events `query`.
        k_HND, v_HND: keys and values of all events.
        index: from `keyed_index` of the same stream.
        labelled: keys and values [H, N, D] that carry the label. A query takes them where the
            label is known and the plain ones elsewhere; an event never sees its own label.
        query: int64 [Q], stream positions to score, in any order; all where None. Few queries
            cost O(Q x window), and give what the full pass gives. An event may come several
            times, each with a query of its own.
        scale, backend, return_lse: as in `attend`.

    Returns:
        out_HQD, and with `return_lse` lse_HQ without gradient.

    Raises:
        ConfigError: sizes that don't fit, events to score that are not in the stream, or
            `labelled` without a delay in the index.
    """
    kv = [(k_HND, v_HND)] if labelled is None else [labelled, (k_HND, v_HND)]
    _check_sizes(q_HQD, kv, index, query)
    bounds = [index.bounds()] if labelled is None else [index.bounds(True), index.bounds(False)]
    seen = _Seen(kv, bounds, index, scale, backend)
    if query is None:
        out, lse = _all(q_HQD, seen)
    else:
        out, lse = _asked(q_HQD, seen, query)
    return (out, lse) if return_lse else out


class _Seen(NamedTuple):
    """What queries meet: keys and values, once or with and without labels, the rows that each event
    may see of either, and how they are attended to."""

    kv: list[tuple[Tensor, Tensor]]
    bounds: list[Tensor]
    index: KeyedIndex
    scale: float | None
    backend: str


def _all(
    q_HND: Tensor,
    seen: _Seen,
) -> tuple[Tensor, Tensor]:
    """Every event queries: sorted, the view is a band."""
    index, n = seen.index, len(seen.index.order)
    reach = min(-(-index.reach // _LENGTHS) * _LENGTHS, max(0, n - 1))
    pattern: Pattern = Window(reach) & Causal()
    plan = pattern.plan(range(n), range(n))
    sources: list[SourceTuple] = [
        (k[:, index.order][None], v[:, index.order][None], plan, bound)
        for (k, v), bound in zip(seen.kv, seen.bounds, strict=True)
    ]
    q_BHND = q_HND[:, index.order][None]
    out, lse = attend_sources(
        q_BHND, sources, scale=seen.scale, backend=seen.backend, return_lse=True
    )
    return out[0, :, index.place], lse[0, :, index.place]


def _asked(
    q_HQD: Tensor,
    seen: _Seen,
    query: Tensor,
) -> tuple[Tensor, Tensor]:
    """Few queries gather. Many go through the band, which has one row an event: what asks for an
    event again is left to another pass."""
    events = len(seen.index.order)
    if len(query) * _FEW <= events:
        return _few(q_HQD, seen, query)
    repeat = _repeats(query)
    once, again = (~repeat).nonzero().flatten(), repeat.nonzero().flatten()
    if len(once) * _FEW <= events:
        return _few(q_HQD, seen, query)
    if len(again):
        found = [_asked(q_HQD[:, some], seen, query[some]) for some in (once, again)]
        order = torch.cat((once, again)).argsort()
        out, lse = (torch.cat(both, 1)[:, order] for both in zip(*found, strict=True))
        return out, lse
    q_HND = q_HQD.new_zeros(seen.kv[0][0].shape).index_copy(1, query, q_HQD)
    out, lse = _all(q_HND, seen)
    return out[:, query], lse[:, query]


def _repeats(query: Tensor) -> Tensor:
    """bool [Q], True where an earlier query is for the same event."""
    ranked, place = query.sort(stable=True)
    repeat = torch.zeros_like(query, dtype=torch.bool)
    repeat[place[1:]] = ranked[1:] == ranked[:-1]
    return repeat


def _few(
    q_HQD: Tensor,
    seen: _Seen,
    query: Tensor,
) -> tuple[Tensor, Tensor]:
    """Each query is a sequence of its own over the window that it gathers."""
    index, (heads, _, size) = seen.index, q_HQD.shape
    width = index.reach + 1
    plan = Dense().plan(range(1), range(width))
    step = max(1, _GATHERED // (heads * width * size))
    outs, levels = [q_HQD[:, :0]], [q_HQD[:, :0, 0]]
    for first in range(0, len(query), step):
        place = index.place[query[first : first + step]]
        start = place - index.reach
        window = index.order[
            (start[:, None] + torch.arange(width, device=place.device)).clamp_min(0)
        ]
        sources: list[SourceTuple] = []
        for (k, v), bound in zip(seen.kv, seen.bounds, strict=True):
            local = (bound[0, place] - start[:, None]).int()[:, None]
            k_QHWD, v_QHWD = (_gather(x, window) for x in (k, v))
            sources.append((k_QHWD, v_QHWD, plan, local))
        q_QH1D = q_HQD[:, first : first + step].transpose(0, 1)[:, :, None]
        out, lse = attend_sources(
            q_QH1D, sources, scale=seen.scale, backend=seen.backend, return_lse=True
        )
        outs.append(out[:, :, 0].transpose(0, 1))
        levels.append(lse[:, :, 0].transpose(0, 1))
    return torch.cat(outs, 1), torch.cat(levels, 1)


def _gather(x_HND: Tensor, window: Tensor) -> Tensor:
    """[Q, H, W, D]; by embedding, whose backward sums repeated rows fast."""
    rows = F.embedding(window, x_HND.transpose(0, 1).flatten(1))
    return rows.unflatten(-1, (x_HND.shape[0], -1)).transpose(1, 2)


def _check_stream(keys: Tensor, times: Tensor, window: int | None, delay: float | None) -> None:
    if keys.ndim != 1 or keys.is_floating_point() or times.shape != keys.shape:
        raise ConfigError(
            f"keyed index: got keys {keys.dtype} {tuple(keys.shape)} and times "
            f"{tuple(times.shape)}, expected integer keys [N] and times [N]"
        )
    if times.is_complex() or times.dtype == torch.bool or bool(times.isnan().any()):
        raise ConfigError(
            f"keyed index: got times {times.dtype} with {int(times.isnan().sum())} NaN among "
            f"{len(times)}, expected a number for every event"
        )
    falls = (times[1:] < times[:-1]).nonzero()
    if len(falls):
        row = int(falls[0]) + 1
        raise ConfigError(
            f"keyed index: got time {times[row].item()} at event {row} after "
            f"{times[row - 1].item()}, expected a stream in time order"
        )
    if window is not None:
        require_count("keyed index", "window", window, 0)
    if delay is not None and not delay > 0:
        raise ConfigError(f"keyed index: got label delay {delay}, expected above 0")


def _check_sizes(
    q_HQD: Tensor, kv: list[tuple[Tensor, Tensor]], index: KeyedIndex, query: Tensor | None
) -> None:
    n = len(index.order)
    if query is not None:
        _check_query(query, n)
    queries = n if query is None else len(query)
    if q_HQD.ndim != 3 or q_HQD.shape[1] != queries:
        raise ConfigError(f"q: got shape {tuple(q_HQD.shape)}, expected [heads, {queries}, size]")
    expected = (q_HQD.shape[0], n, q_HQD.shape[2])
    for k_HND, v_HND in kv:
        if tuple(k_HND.shape) != expected or tuple(v_HND.shape) != expected:
            raise ConfigError(
                f"keyed keys and values: got shapes {tuple(k_HND.shape)} and "
                f"{tuple(v_HND.shape)}, expected {expected}"
            )


def _check_query(query: Tensor, n: int) -> None:
    if query.ndim != 1 or query.dtype != torch.int64:
        raise ConfigError(
            f"query: got {query.dtype} {tuple(query.shape)}, expected int64 [events to score]"
        )
    if unknown(query) or not len(query):
        return
    first, last = (int(end) for end in query.aminmax())
    if first < 0 or last >= n:
        raise ConfigError(
            f"query: got events {first} to {last}, expected them among the {n} of the stream, "
            "counted from 0"
        )
