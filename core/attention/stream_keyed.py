"""The state of a keyed view: the last events of every key, so that a stream can go on for ever.

An event sees the last events of its own key and nothing else, so they are all that is kept. A chunk
is attended together with the past of the keys that occur in it, by `keyed_attend`: chunks of any
length, one event included, give what one pass gives.

Shape suffixes: H heads, N events of a chunk, M older events, D head size.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from core.attention.attend import attend
from core.attention.keyed import keyed_attend, keyed_index
from core.attention.patterns import Dense
from core.attention.pool import Events, Pool
from core.attention.saved import facts_of, from_bytes, to_bytes, with_facts
from core.errors import ConfigError

_KIND = "keyed stream"


class KeyedStreamState:
    """Past keys and values of one keyed view. Memory O(keys x window); a chunk costs
    O((N + keys in it x window) x window), however much is kept.

    Args:
        window: as in `keyed_index`; with None everything stays.
        delay: time until a label is known, as in `keyed_index`; None for a view without labels.

    Raises:
        ConfigError: a window below 0 or a delay that is not above 0.
    """

    def __init__(self, window: int | None, delay: float | None = None) -> None:
        nothing = torch.zeros(0, dtype=torch.int64)
        keyed_index(nothing, nothing, window, delay)  # refuses what can't be
        self.window, self.delay = window, delay
        self.seen = 0
        self._now: int | float | None = None
        self._places: dict[int, list[int]] = {}  # of each key, oldest first
        self._pool: Pool | None = None

    @property
    def rows(self) -> int:
        """Events that there is memory for."""
        return 0 if self._pool is None else self._pool.capacity

    @torch.no_grad()
    def attend(
        self,
        q_HND: Tensor,
        k_HND: Tensor,
        v_HND: Tensor,
        keys: Tensor,
        times: Tensor,
        *,
        labelled: tuple[Tensor, Tensor] | None = None,
        scale: float | None = None,
        backend: str = "auto",
    ) -> Tensor:
        """Attention of the next N events to themselves and the past of their keys, which they then
        belong to. Without gradient.

        Args:
            q_HND, k_HND, v_HND: of the events at stream positions seen, seen + 1, ...
            keys: int64 [N].
            times: float64 or int64 [N], never falling, over chunks either.
            labelled: keys and values [H, N, D] that carry the label, where it is known beforehand
                (a replay). Without, events have their plain ones until `label` is called.
            scale, backend: as in `attend`.

        Returns:
            out_HND.

        Raises:
            ConfigError: sizes that don't fit each other or the first chunk, times that fall, or
                `labelled` without a delay. The state is then as it was.
        """
        fresh = Events(self._rows_of(k_HND, v_HND, labelled), keys, times)
        pool = self._check(q_HND, fresh)
        new = keys.tolist()
        past = sorted(place for key in set(new) for place in self._places.get(key, ()))
        old = pool.take(past)
        if len(new) == 1 and backend == "auto":
            out = self._one(q_HND, old, fresh, scale)
        else:
            out = self._several(q_HND, old, fresh, scale, backend)
        self._pool = pool
        self._remember(new, fresh)
        return out

    def _several(
        self, q_HND: Tensor, old: Events, fresh: Events, scale: float | None, backend: str
    ) -> Tensor:
        """The chunk behind the past of its keys, as a stream of its own."""
        values, keys, times = (torch.cat(both) for both in zip(old, fresh, strict=True))
        index = keyed_index(keys, times, self.window, self.delay)
        kv = values.permute(1, 2, 0, 3)
        return keyed_attend(
            q_HND,
            kv[0],
            kv[1],
            index,
            labelled=None if self.delay is None else (kv[2], kv[3]),
            query=torch.arange(len(old.keys), len(keys), device=keys.device),
            scale=scale,
            backend=backend,
        )

    def _one(self, q_H1D: Tensor, old: Events, fresh: Events, scale: float | None) -> Tensor:
        """A single event sees all that is kept of its key: no order to find, no rule to apply."""
        past = old.values[:, :2]
        if self.delay is not None:
            exact = isinstance(self.delay, int)
            then, now = (x if exact else x.double() for x in (old.times, fresh.times))
            known = then <= now - self.delay
            past = torch.where(known[:, None, None, None], old.values[:, 2:], past)
        k_1HMD, v_1HMD = torch.cat((past, fresh.values[:, :2])).permute(1, 2, 0, 3)[:, None]
        plan = Dense().plan(range(1), range(k_1HMD.shape[2]))
        fused = q_H1D.dtype in (torch.float32, torch.float64)
        backend = "sdpa" if fused else "auto"
        return attend(q_H1D[None], k_1HMD, v_1HMD, plan, scale=scale, backend=backend)[0]

    @torch.no_grad()
    def label(self, places: Tensor, k_HMD: Tensor, v_HMD: Tensor) -> None:
        """Labels that have become known: older events get keys and values that carry them.

        Queries take them from the event's time + delay on, as in one pass; given later than that,
        they are missing until then. Events that are no longer kept are passed over.

        Args:
            places: int64 [M], positions in the stream, all of them seen.
            k_HMD, v_HMD: as `labelled` in `attend`.

        Raises:
            ConfigError: a state without delay, sizes that don't fit, or events still to come.
        """
        if self.delay is None or self._pool is None:
            raise ConfigError("keyed stream: got labels, expected a delay and events before them")
        if places.ndim != 1 or places.dtype != torch.int64:
            raise ConfigError(
                f"keyed stream labels: got events {places.dtype} {tuple(places.shape)}, expected "
                "int64 [events]"
            )
        _, heads, size = self._pool.shape
        for name, x in (("k", k_HMD), ("v", v_HMD)):
            if x.shape != (heads, len(places), size) or x.dtype != self._pool.dtype:
                raise ConfigError(
                    f"keyed stream labels: got {name} {x.dtype} {tuple(x.shape)}, expected "
                    f"{self._pool.dtype} {(heads, len(places), size)}"
                )
        if len(places) and not 0 <= int(places.min()) <= int(places.max()) < self.seen:
            raise ConfigError(
                f"keyed stream labels: got events {int(places.min())} to {int(places.max())}, "
                f"expected them among the {self.seen} seen so far"
            )
        self._pool.relabel(places.tolist(), torch.stack((k_HMD, v_HMD)).permute(2, 0, 1, 3))

    def _rows_of(
        self, k_HND: Tensor, v_HND: Tensor, labelled: tuple[Tensor, Tensor] | None
    ) -> Tensor:
        """[N, 2 or 4, H, D]: keys, values and, where labels may come, those that carry them."""
        pair = (k_HND, v_HND)
        if labelled is not None and self.delay is None:
            raise ConfigError("keyed stream: got labelled keys, expected a state with a delay")
        both = pair if self.delay is None else (*pair, *(labelled or pair))
        if k_HND.ndim != 3 or any(x.shape != k_HND.shape for x in both):
            shapes = [tuple(x.shape) for x in both]
            raise ConfigError(
                f"keyed stream: got keys and values of shapes {shapes}, expected [heads, events, "
                "size] alike"
            )
        return torch.stack(both).permute(2, 0, 1, 3)

    def _check(self, q_HND: Tensor, fresh: Events) -> Pool:
        """The pool. Raises ConfigError for a chunk that doesn't fit in itself or behind others."""
        n, times = len(fresh.values), fresh.times
        if q_HND.ndim != 3 or q_HND.shape[1] != n or fresh.keys.is_floating_point():
            raise ConfigError(
                f"keyed stream: got q {tuple(q_HND.shape)} and keys {fresh.keys.dtype}, expected "
                f"[heads, {n}, size] and integers"
            )
        pool = Pool.like(fresh) if self._pool is None else self._pool
        pool.check(fresh)
        if bool(times.isnan().any()):
            raise ConfigError(
                f"keyed stream: got {int(times.isnan().sum())} NaN among the times of {n} events, "
                "expected a number for every event"
            )
        if self._now is not None and n and times[0].item() < self._now:
            raise ConfigError(
                f"keyed stream: got time {times[0].item()} after {self._now}, expected a stream in "
                "time order over chunks too"
            )
        return pool

    def _remember(self, new: list[int], fresh: Events) -> None:
        """Adds a chunk and drops what has left the windows, of the chunk too."""
        assert self._pool is not None
        gone, first = list[int](), self.seen
        for place, key in enumerate(new, first):
            places = self._places.setdefault(key, [])
            places.append(place)
            if self.window is not None and len(places) > self.window:
                gone.append(places.pop(0))
        self._pool.drop([place for place in gone if place < first])
        passed = {place - first for place in gone if place >= first}
        stay = [at for at in range(len(new)) if at not in passed]
        self._pool.put([first + at for at in stay], fresh.at(stay))
        self.seen += len(new)
        self._now = fresh.times[-1].item() if new else self._now

    def state_dict(self) -> dict[str, Tensor]:
        """Plain tensors of the kept events in stream order; they share no memory with the state."""
        facts = {"window": self.window, "delay": self.delay, "seen": self.seen, "now": self._now}
        tensors = {} if self._pool is None else self._pool.state_dict()
        return with_facts(tensors, kind=_KIND, **facts)

    @staticmethod
    def from_state_dict(saved: Mapping[str, Tensor]) -> KeyedStreamState:
        """The state that `state_dict` saved: what it gives next has the same bits."""
        facts = facts_of(saved, _KIND)
        state = KeyedStreamState(facts["window"], facts["delay"])
        state.seen, state._now = facts["seen"], facts["now"]
        if "places" in saved:
            state._pool = Pool.from_state_dict(saved)
            for place, key in zip(saved["places"].tolist(), saved["keys"].tolist(), strict=True):
                state._places.setdefault(key, []).append(place)
        return state

    def to_bytes(self) -> bytes:
        return to_bytes(self.state_dict())

    @staticmethod
    def from_bytes(data: bytes, device: torch.device | str = "cpu") -> KeyedStreamState:
        """Raises ConfigError for bytes that are no saved `KeyedStreamState`."""
        return KeyedStreamState.from_state_dict(from_bytes(data, device))
