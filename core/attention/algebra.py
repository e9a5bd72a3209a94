"""The normal form that patterns are combined in: a union of terms, each a base set cut to a band.

Every band contains the diagonal, so a union of bands is one band, and combining stays exact.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from core.errors import ConfigError


class Base(Protocol):
    """A set of pairs that is not a band: `Global` or `Random`."""

    def allowed(self, i: Tensor, j: Tensor) -> Tensor: ...
    def to_dict(self) -> dict[str, Any]: ...
    def join(self, other: Any) -> Any: ...


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

    def covers(self, other: Term) -> bool:
        return (
            self.base in (None, other.base)
            and wider(self.left, other.left) == self.left
            and wider(self.right, other.right) == self.right
        )

    def order(self) -> tuple[str, float, float]:
        infinity = float("inf")
        return (
            "" if self.base is None else repr(self.base),
            infinity if self.left is None else self.left,
            infinity if self.right is None else self.right,
        )


def within(i: Tensor, j: Tensor, left: int | None, right: int | None) -> Tensor:
    """Whether i - left <= j <= i + right, elementwise with broadcasting."""
    inside = None if left is None else j - i >= -left
    if right is not None:
        past = j - i <= right
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
    """The same set with one term a base, no term inside another, in a fixed order."""
    limits: dict[Base | None, tuple[int | None, int | None]] = {}
    for term in terms:
        left, right = limits.get(term.base, (term.left, term.right))
        limits[term.base] = (wider(left, term.left), wider(right, term.right))
    joined: list[Term] = []
    for base, (left, right) in limits.items():
        for at, other in enumerate(joined):
            same_band = (other.left, other.right) == (left, right)
            both = base.join(other.base) if base is not None and same_band else None
            if both is not None:
                joined[at] = Term(both, left, right)
                break
        else:
            joined.append(Term(base, left, right))
    kept = [t for t in joined if not any(o is not t and o.covers(t) for o in joined)]
    return tuple(sorted(kept, key=Term.order))


def intersect(some: Iterable[Term], others: Iterable[Term]) -> tuple[Term, ...]:
    """The pairs in both. Raises ConfigError for two different bases: that set is not a term."""
    others = tuple(others)
    return unite(_meet(a, b) for a in some for b in others)


def _meet(a: Term, b: Term) -> Term:
    if a.base is not None and b.base is not None and a.base != b.base:
        raise ConfigError(
            f"cannot intersect {a.base!r} with {b.base!r}: expected one side made of Window, "
            "Causal and Dense only"
        )
    base = b.base if a.base is None else a.base
    return Term(base, narrower(a.left, b.left), narrower(a.right, b.right))
