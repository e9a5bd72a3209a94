"""A stream on disk: columns mapped into memory and each view's sort order beside them.

Any stretch of it can be scored by any process, because the histories that its events see are
found by index in the raw events before it; nothing is carried from one stretch to the next. In
place of keys it holds numbers without meaning: no identifier and no hash of one.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import BinaryIO

import numpy as np

from domains.finance.stream import DAY, KeyOrder, Stream

_COLUMNS = [field.name for field in fields(Stream)]
_CHUNK = 1 << 20


class StreamStore:
    """A finished store, opened.

    Attributes:
        stream: every event in time order; its arrays are read where they are used.
        orders: one a view.
    """

    def __init__(self, folder: Path) -> None:
        self.stream = Stream(**{name: _mapped(folder / f"{name}.npy") for name in _COLUMNS})
        self.orders = [
            KeyOrder(
                *(_mapped(folder / f"{part}.{view}.npy") for part in ("order", "place", "first"))
            )
            for view in range(self.stream.keys.shape[1])
        ]


class StreamWriter:
    """Makes a store of streams that come in any order of time; of equal times the earlier
    comes first. Needs some 60 bytes of memory an event, whatever an event holds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[str, BinaryIO] = {}
        self._kinds: dict[str, tuple[np.dtype, tuple[int, ...]]] = {}

    def append(self, stream: Stream) -> None:
        """Events whose gaps are not filled in yet."""
        for name in _COLUMNS:
            column = getattr(stream, name)
            if name not in self._files:
                self._files[name] = (self.folder / f"{name}.raw").open("wb")
                self._kinds[name] = column.dtype, column.shape[1:]
            self._files[name].write(np.ascontiguousarray(column).tobytes())

    def finish(self) -> StreamStore:
        """Sort by time, number the keys, fill in the gaps."""
        for file in self._files.values():
            file.close()
        order = np.argsort(self._raw("time"), kind="stable")
        for name in _COLUMNS:
            raw = self._raw(name)
            shape = (len(order), *raw.shape[1:])
            out = np.lib.format.open_memmap(self._npy(name), "w+", raw.dtype, shape)
            for start in range(0, len(order), _CHUNK):
                out[start : start + _CHUNK] = raw[order[start : start + _CHUNK]]
            out.flush()
            (self.folder / f"{name}.raw").unlink()
        del order
        self._sort_views()
        return StreamStore(self.folder)

    def _sort_views(self) -> None:
        time = np.load(self._npy("time"), mmap_mode="r")
        keys = np.load(self._npy("keys"), mmap_mode="r+")
        gaps = np.load(self._npy("gaps"), mmap_mode="r+")
        small = np.int32 if len(time) < 2**31 else np.int64
        for view in range(keys.shape[1]):
            hashed = KeyOrder.of(np.asarray(keys[:, view]))
            # A key's number is the place of its first event: the same whatever hashed it.
            keys[:, view] = hashed.order[hashed.first]
            del hashed
            sorted_ = KeyOrder.of(np.asarray(keys[:, view]))
            previous = sorted_.previous(np.arange(len(time)))
            gaps[:, view] = np.where(previous < 0, np.nan, (time - time[previous]) / DAY)
            for part in ("order", "place", "first"):
                values = getattr(sorted_, part).astype(small)
                np.save(self.folder / f"{part}.{view}.npy", values)
        keys.flush()
        gaps.flush()

    def _npy(self, name: str) -> Path:
        return self.folder / f"{name}.npy"

    def _raw(self, name: str) -> np.ndarray:
        kind, width = self._kinds[name]
        path = self.folder / f"{name}.raw"
        if not path.stat().st_size:
            return np.empty((0, *width), dtype=kind)
        return np.memmap(path, kind, "r").reshape(-1, *width)


def _mapped(path: Path) -> np.ndarray:
    return np.asarray(np.load(path, mmap_mode="r"))
