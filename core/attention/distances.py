"""Sets of distances: everything that depends on j - i alone.

Looking back and looking ahead are independent there, so a union of such sets is decided a side
at a time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

Limits = tuple[int | None, int | None]


class Distances(ABC):
    """A base whose pairs are those at certain distances |i - j|, 0 always among them."""

    @abstractmethod
    def last(self, limit: int) -> int:
        """The largest distance of the set up to `limit`."""

    @abstractmethod
    def holds(self, distance: int) -> bool:
        """Whether a distance above 0 is in the set."""

    @abstractmethod
    def includes(self, other: Distances) -> bool:
        """Whether every distance of `other` is in this set."""

    @abstractmethod
    def common(self, other: Distances) -> Distances | None:
        """The intersection; None where it is none of the sets that have a name."""


class Every(Distances):
    """All distances: what a band is cut from."""

    def last(self, limit: int) -> int:
        return limit

    def holds(self, distance: int) -> bool:
        return True

    def includes(self, other: Distances) -> bool:
        return True

    def common(self, other: Distances) -> Distances:
        return other


EVERY = Every()


def floored(base: Distances, limit: int | None) -> int | None:
    """The largest distance of the set up to the limit, so that equal cuts are equal."""
    return None if limit is None else base.last(limit)


def reduced(limits: dict[Distances, Limits]) -> dict[Distances, Limits]:
    """The same union without what another member holds.

    A member whose side another member covers has limit 0 there; without a side left it is gone,
    and the diagonal alone is a band.
    """
    used = {base: sides for base, sides in limits.items() if sides != (0, 0)}
    if not used:
        return {EVERY: (0, 0)} if limits else {}
    left = _side({base: sides[0] for base, sides in used.items()})
    right = _side({base: sides[1] for base, sides in used.items()})
    both = {base: (left[base], right[base]) for base in used}
    return {base: sides for base, sides in both.items() if sides != (0, 0)}


def _side(limits: dict[Distances, int | None]) -> dict[Distances, int | None]:
    return {base: 0 if _covered(base, limits) else limit for base, limit in limits.items()}


def _covered(base: Distances, limits: dict[Distances, int | None]) -> bool:
    limit = limits[base]
    return any(
        other != base
        and other.includes(base)
        and (end is None or (limit is not None and limit <= end))
        for other, end in limits.items()
    )
