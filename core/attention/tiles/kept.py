"""What is made of a plan for a device, kept for the next call within a budget of memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Generic, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class Kept(Generic[P, R]):
    """A function of hashable positional arguments that keeps its latest results.

    Those used longest ago go first, once there are more than `most` or all together, weighed by
    `size`, take more than `room` bytes; the newest stays in any case.
    """

    def __init__(
        self, function: Callable[P, R], size: Callable[[R], int], most: int, room: int
    ) -> None:
        self.function, self.size, self.most, self.room = function, size, most, room
        self._found: OrderedDict[object, R] = OrderedDict()
        self._lock = Lock()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        with self._lock:
            if args in self._found:
                self._found.move_to_end(args)
                return self._found[args]
        made = self.function(*args, **kwargs)
        with self._lock:
            self._found[args] = made
            used = sum(map(self.size, self._found.values()))
            while len(self._found) > 1 and (len(self._found) > self.most or used > self.room):
                used -= self.size(self._found.popitem(last=False)[1])
        return made

    def cache_clear(self) -> None:
        with self._lock:
            self._found.clear()

    def __len__(self) -> int:
        return len(self._found)
