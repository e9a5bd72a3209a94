"""The normal form that patterns are combined in: a union of terms, each a base set cut to a band.

Every band contains the diagonal, so a union of bands is one band, and combining stays exact. The
same holds for other sets of distances (`core.attention.distances`), one limit a side.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from core.attention.distances import EVERY, Distances, Limits, floored, reduced
from core.errors import ConfigError


class Base(Protocol):
    """A set of pairs that is not a band, such as `Global`, `Random` or `Strided`."""

    def allowed(self, i: Tensor, j: Tensor) -> Tensor: ...
    def to_dict(self) -> dict[str, Any]: ...
    def pieces(self) -> Sequence[Base]:
        """The smallest sets that this one is the union of."""
        ...

    def join(self, others: Sequence[Base]) -> Base | None:
        """The union with other pieces as one base; None where that isn't one."""
        ...

    def causal(self) -> Base:
        """What `& Causal()` cuts: itself, but for a set that the data choose."""
        ...


@dataclass(frozen=True)
class Term:
    """The pairs of `base` (of everything, where None) with i - left <= j <= i + right.

    None as a limit means unlimited.
    """

    base: Base | None
    left: int | None
    right: int | None

    def allowed(self, i: Tensor, j: Tensor) -> Tensor:
        inside = within(i, j, self.left, self.right)
        return inside if self.base is None else inside & self.base.allowed(i, j)

    def reach(self) -> int | None:
        return None if self.left is None or self.right is None else max(self.left, self.right)

    def order(self) -> tuple[str, float, float]:
        infinity = float("inf")
        return (
            "" if self.base is None else repr(self.base),
            infinity if self.left is None else self.left,
            infinity if self.right is None else self.right,
        )


def within(i: Tensor, j: Tensor, left: int | None, right: int | None) -> Tensor:
    """Whether i - left <= j <= i + right, elementwise with broadcasting."""
    inside = None if left is None else j >= i - left
    if right is not None:
        past = j <= i + right
        inside = past if inside is None else inside & past
    if inside is None:
        shape = torch.broadcast_shapes(i.shape, j.shape)
        inside = torch.ones(shape, dtype=torch.bool, device=i.device)
    return inside


def wider(a: int | None, b: int | None) -> int | None:
    return None if a is None or b is None else max(a, b)


def narrower(a: int | None, b: int | None) -> int | None:
    if a is None or b is None:
        return b if a is None else a
    return min(a, b)


def unite(terms: Iterable[Term]) -> tuple[Term, ...]:
    """The same set in a normal form, which does not depend on how the union was written.

    Sets of distances are reduced (see `reduced`). Each other smallest base has its widest limits,
    but 0 on a side where the band covers it and none where it covers both; bases with equal
    limits are joined; the order is fixed.
    """
    distances: dict[Distances, Limits] = {}
    others: dict[Base, Limits] = {}
    for term in terms:
        if term.base is None or isinstance(term.base, Distances):
            base = EVERY if term.base is None else term.base
            sides = (floored(base, term.left), floored(base, term.right))
            distances[base] = _widest(distances.get(base), sides)
        else:
            for piece in term.base.pieces():
                others[piece] = _widest(others.get(piece), (term.left, term.right))
    distances = reduced(distances)
    # every set of distances holds the diagonal
    band = distances.get(EVERY, (0, 0)) if distances else None
    groups: dict[Any, list[Base]] = {}
    for base, (left, right) in others.items():
        if band is not None:
            left = 0 if wider(left, band[0]) == band[0] else left
            right = 0 if wider(right, band[1]) == band[1] else right
        if band is None or (left, right) != (0, 0):
            groups.setdefault((left, right, type(base)), []).append(base)
    united = [Term(_base(base), *sides) for base, sides in distances.items()]
    for (left, right, _), bases in groups.items():
        whole = bases[0].join(bases[1:])
        united.extend(Term(base, left, right) for base in (bases if whole is None else [whole]))
    return tuple(sorted(united, key=Term.order))


def _base(distances: Distances) -> Base | None:
    return None if distances is EVERY else cast("Base", distances)


def _widest(some: Limits | None, others: Limits) -> Limits:
    return others if some is None else (wider(some[0], others[0]), wider(some[1], others[1]))


def intersect(some: Iterable[Term], others: Iterable[Term]) -> tuple[Term, ...]:
    """The pairs in both. Raises ConfigError where two bases have no intersection that is a base."""
    others = tuple(others)
    return unite(_meet(a, b) for a in some for b in others)


def _meet(a: Term, b: Term) -> Term:
    if a.base is None or b.base is None or a.base == b.base:
        base = _limited(b.base, a) if a.base is None else _limited(a.base, b)
    else:
        base = None
        if isinstance(a.base, Distances) and isinstance(b.base, Distances):
            base = a.base.common(b.base)
        if base is None:
            raise ConfigError(
                f"cannot intersect {a.base!r} with {b.base!r}: that set is not one this library "
                "has a plan for. Expected one side made of Window, Causal and Dense only, the "
                "same pattern twice, or two Strided (or Dilated)"
            )
    return Term(cast("Base | None", base), narrower(a.left, b.left), narrower(a.right, b.right))


def _limited(base: Base | None, band: Term) -> Base | None:
    """The base that the limits of `band` cut."""
    causal = band.base is None and band.right == 0
    return base.causal() if causal and base is not None else base


def any_allowed(terms: Iterable[Term], i: Tensor, j: Tensor) -> Tensor:
    """Whether some term has the pair, of the broadcast shape where there are terms."""
    inside = torch.zeros((), dtype=torch.bool, device=i.device)
    for term in terms:
        inside = inside | term.allowed(i, j)
    return inside
