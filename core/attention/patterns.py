"""Attention patterns: which query i may see which key j, as small values with an algebra.

`|` unites, `&` intersects. A pattern is an exact rule on absolute positions, so it means the same
in a chunk of a stream as in one pass; `plan` turns it into work for a backend.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from torch import Tensor

from core.attention.algebra import Base, Term, any_allowed, intersect, unite, wider, within
from core.attention.static import uncompiled
from core.errors import ConfigError

if TYPE_CHECKING:
    from core.attention.plan import Plan


class Pattern(ABC):
    """A set of pairs (query position i, key position j). Immutable, hashable, saved as JSON.

    A subclass is a frozen dataclass of plain fields with the name of its `kind`.
    """

    kind: ClassVar[str]
    uniform: ClassVar[bool] = True  # all heads see the same
    _kinds: ClassVar[dict[str, type[Pattern]]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "kind" in vars(cls):
            Pattern._kinds[cls.kind] = cls

    @abstractmethod
    def terms(self) -> tuple[Term, ...]:
        """The normal form: the pattern is the union of these."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; `pattern_from_dict` reads it back."""
        values = {f.name: _thawed(getattr(self, f.name)) for f in fields(cast(Any, self))}
        return {"kind": self.kind, **values}

    @classmethod
    def from_fields(cls, **saved: Any) -> Pattern:
        """The pattern of the fields that `to_dict` saved."""
        return cls(**{name: _frozen(x) for name, x in saved.items()})

    def allowed(self, i: Tensor, j: Tensor) -> Tensor:
        """The exact rule: bool of the broadcast shape of integer positions i and j."""
        return any_allowed(self.terms(), i, j)

    def reach(self) -> int | None:
        """The largest |i - j| in tokens, None where unbounded."""
        reach: int | None = 0
        for term in self.terms():
            reach = wider(reach, term.reach())
        return reach

    @uncompiled
    def plan(self, q: range, kv: range, block: int | None = None) -> Plan:
        """The cached plan for queries at positions `q` and keys at positions `kv`.

        Args:
            q, kv: absolute positions, step 1; `kv` may start after 0 in a stream.
            block: rows a block of the sliding window; changes speed, never the result. Each
                backend takes the size that suits it where None.

        Raises:
            ConfigError: no ranges, ranges with a step or below 0, a block below 1.
        """
        from core.attention.plan import build_plan

        return build_plan(self, q, kv, block)

    def draw(self, n: int) -> str:
        """A picture of the first n positions: a row a query, '#' where it sees the key, '?' where
        the data decide."""
        i, j = torch.arange(n)[:, None], torch.arange(n)[None]
        cells = torch.zeros(n, n, dtype=torch.int64)
        for term in self.terms():
            cells = torch.maximum(cells, _seen(term, i, j))
        return "\n".join("".join(".?#"[cell] for cell in row) for row in cells.tolist())

    def __or__(self, other: Pattern) -> Pattern:
        if not isinstance(other, Pattern) or not other.uniform:
            return NotImplemented
        return _simplest(unite(self.terms() + other.terms()))

    def __and__(self, other: Pattern) -> Pattern:
        if not isinstance(other, Pattern) or not other.uniform:
            return NotImplemented
        return _simplest(intersect(self.terms(), other.terms()))


class BasePattern(Pattern):
    """A pattern that is no union or cut of others, so that it stands in the normal form itself."""

    def terms(self) -> tuple[Term, ...]:
        return (Term(self, None, None),)

    @abstractmethod
    def allowed(self, i: Tensor, j: Tensor) -> Tensor: ...

    def pieces(self) -> Sequence[Base]:
        """The smallest patterns that this one is the union of."""
        return (self,)

    def join(self, others: Sequence[Any]) -> Base | None:
        """The union with other pieces as one pattern; None where that isn't one."""
        return None

    def causal(self) -> Base:
        """The pattern that `& Causal()` cuts."""
        return self

    def certain(self, i: Tensor, j: Tensor) -> Tensor:
        """The pairs that the pattern has whatever the data."""
        return self.allowed(i, j)

    def possible(self, i: Tensor, j: Tensor) -> Tensor:
        """The pairs that it has for some data."""
        return self.allowed(i, j)

    def between(self, left: int | None, right: int | None) -> Pattern | None:
        """The pattern that has a name of its own for this one cut to a band, if any."""
        return self if left is None and right is None else None


@dataclass(frozen=True)
class Window(Pattern):
    """Keys at most `radius` tokens away on either side, itself included."""

    kind = "window"
    radius: int

    def __post_init__(self) -> None:
        require_count("Window", "radius", self.radius, 0)

    def terms(self) -> tuple[Term, ...]:
        return (Term(None, self.radius, self.radius),)


@dataclass(frozen=True)
class Causal(Pattern):
    """Every key up to the query itself; `X & Causal()` makes any pattern causal."""

    kind = "causal"

    def terms(self) -> tuple[Term, ...]:
        return (Term(None, None, 0),)


@dataclass(frozen=True)
class Dense(Pattern):
    """Every pair."""

    kind = "dense"

    def terms(self) -> tuple[Term, ...]:
        return (Term(None, None, None),)


@dataclass(frozen=True)
class Mixture(Pattern):
    """A union of terms that is none of the simple patterns; `|` and `&` make it."""

    kind = "mixture"
    members: tuple[Term, ...]

    def terms(self) -> tuple[Term, ...]:
        return self.members

    def to_dict(self) -> dict[str, Any]:
        def member(term: Term) -> dict[str, Any]:
            base = None if term.base is None else term.base.to_dict()
            return {"base": base, "left": term.left, "right": term.right}

        return {"kind": self.kind, "members": [member(term) for term in self.members]}

    @classmethod
    def from_fields(cls, **saved: Any) -> Pattern:
        def term(member: Mapping[str, Any]) -> Term:
            base = None if member["base"] is None else pattern_from_dict(member["base"])
            if not (base is None or isinstance(base, BasePattern)):
                raise ConfigError(f"member base: got {base!r}, which is cut from other patterns")
            for side in ("left", "right"):
                if member[side] is not None:
                    require_count("member of a mixture", side, member[side], 0)
            return Term(base, member["left"], member["right"])

        members = saved["members"]
        return _simplest(unite(term(member) for member in members))


def pattern_from_dict(saved: Mapping[str, Any]) -> Pattern:
    """The pattern that `to_dict` saved. Raises ConfigError for a kind or field it doesn't know."""
    values = dict(saved)
    kind = values.pop("kind", None)
    kinds = Pattern._kinds
    if kind not in kinds:
        raise ConfigError(f"pattern kind: got {kind!r}, expected one of {sorted(kinds)}")
    try:
        return kinds[kind].from_fields(**values)
    except (TypeError, KeyError) as error:
        raise ConfigError(f"pattern of kind {kind!r}: got fields {values}: {error}") from error


def _simplest(terms: tuple[Term, ...]) -> Pattern:
    """The named pattern that is this set where there is one, so that equal sets compare equal."""
    if len(terms) == 1:
        base, left, right = terms[0].base, terms[0].left, terms[0].right
        if isinstance(base, BasePattern) and (named := base.between(left, right)) is not None:
            return named
        if base is None and left == right:
            return Dense() if left is None else Window(left)
        if base is None and left is None and right == 0:
            return Causal()
    return Mixture(terms)


def _seen(term: Term, i: Tensor, j: Tensor) -> Tensor:
    """2 for pairs of the term, 1 for those that depend on the data, 0 for others."""
    inside = within(i, j, term.left, term.right)
    if isinstance(term.base, BasePattern):
        sure, maybe = term.base.certain(i, j), term.base.possible(i, j)
        return (inside & sure).long() + (inside & maybe).long()
    return 2 * inside.long()


def _thawed(x: Any) -> Any:
    return [_thawed(item) for item in x] if isinstance(x, tuple) else x


def _frozen(x: Any) -> Any:
    return tuple(_frozen(item) for item in x) if isinstance(x, list) else x


def require_count(kind: str, name: str, got: Any, least: int) -> None:
    """Raises ConfigError where a field is no integer of at least `least`."""
    if not isinstance(got, int) or isinstance(got, bool) or got < least:
        raise ConfigError(f"{kind}: got {name} {got!r}, expected an integer of at least {least}")
