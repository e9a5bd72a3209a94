"""The normal form that patterns are combined in: a union of terms, each a base set cut to a band.

Every band contains the diagonal, so a union of bands is one band, and combining stays exact.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from core.errors import ConfigError


class Base(Protocol):
    """A set of pairs that is not a band: `Global` or `Random`."""

    def allowed(self, i: Tensor, j: Tensor) -> Tensor: ...
    def to_dict(self) -> dict[str, Any]: ...
    def pieces(self) -> Sequence[Base]:
        """The smallest sets that this one is the union of."""
        ...

    def join(self, others: Sequence[Base]) -> Base | None:
        """The union with other pieces as one base; None where that isn't one."""
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
    """The same set in its normal form, which equal sets share.

    Each smallest base has its widest limits, but 0 on a side where the band covers it and none
    where it covers both; bases with equal limits are joined; the order is fixed.
    """
    limits: dict[Base | None, tuple[int | None, int | None]] = {}
    for term in terms:
        for base in (None,) if term.base is None else term.base.pieces():
            left, right = limits.get(base, (term.left, term.right))
            limits[base] = (wider(left, term.left), wider(right, term.right))
    band = Term(None, *limits[None]) if None in limits else None
    groups: dict[Any, list[Base]] = {}
    for base, (left, right) in limits.items():
        if base is not None and band is not None:
            left = 0 if wider(left, band.left) == band.left else left
            right = 0 if wider(right, band.right) == band.right else right
        if base is not None and (band is None or (left, right) != (0, 0)):
            groups.setdefault((left, right, type(base)), []).append(base)
    united = [] if band is None else [band]
    for (left, right, _), bases in groups.items():
        whole = bases[0].join(bases[1:])
        joined = bases if whole is None else [whole]
        united.extend(Term(base, left, right) for base in joined)
    return tuple(sorted(united, key=Term.order))


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
