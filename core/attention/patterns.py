"""Attention patterns: which query i may see which key j, as small values with an algebra.

`|` unites, `&` intersects. A pattern is an exact rule on absolute positions, so it means the same
in a chunk of a stream as in one pass; `plan` turns it into work for a backend. The published
patterns are `longformer` (Beltagy et al. 2020) and `bigbird` (Zaheer et al. 2020).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from core.attention.algebra import Term, intersect, unite, wider
from core.errors import ConfigError

if TYPE_CHECKING:
    from core.attention.plan import Plan


class Pattern(ABC):
    """A set of pairs (query position i, key position j). Immutable, hashable, saved as JSON."""

    @abstractmethod
    def terms(self) -> tuple[Term, ...]:
        """The normal form: the pattern is the union of these."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; `pattern_from_dict` reads it back."""

    def allowed(self, i: Tensor, j: Tensor) -> Tensor:
        """The exact rule: bool of the broadcast shape of integer positions i and j."""
        first, *rest = self.terms()
        result = first.allowed(i, j)
        for term in rest:
            result = result | term.allowed(i, j)
        return result

    def reach(self) -> int | None:
        """The largest |i - j| in tokens, None where unbounded."""
        reach: int | None = 0
        for term in self.terms():
            reach = wider(reach, term.reach())
        return reach

    def plan(self, q: range, kv: range, block: int = 64) -> Plan:
        """The cached plan for queries at positions `q` and keys at positions `kv`.

        Args:
            q, kv: absolute positions, step 1; `kv` may start after 0 in a stream.
            block: rows a block of the sliding window; changes speed, never the result.
        """
        from core.attention.plan import build_plan

        return build_plan(self, q, kv, block)

    def draw(self, n: int) -> str:
        """A picture of the first n positions: a row a query, '#' where it sees the key."""
        at = torch.arange(n)
        rows = self.allowed(at[:, None], at[None, :]).tolist()
        return "\n".join("".join("#" if cell else "." for cell in row) for row in rows)

    def __or__(self, other: Pattern) -> Pattern:
        return _simplest(unite(self.terms() + other.terms()))

    def __and__(self, other: Pattern) -> Pattern:
        return _simplest(intersect(self.terms(), other.terms()))


@dataclass(frozen=True)
class Window(Pattern):
    """Keys at most `radius` tokens away on either side, itself included."""

    radius: int

    def __post_init__(self) -> None:
        _require_count("Window", "radius", self.radius, 0)

    def terms(self) -> tuple[Term, ...]:
        return (Term(None, self.radius, self.radius),)

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "window", "radius": self.radius}


@dataclass(frozen=True)
class Causal(Pattern):
    """Every key up to the query itself; `X & Causal()` makes any pattern causal."""

    def terms(self) -> tuple[Term, ...]:
        return (Term(None, None, 0),)

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "causal"}


@dataclass(frozen=True)
class Dense(Pattern):
    """Every pair."""

    def terms(self) -> tuple[Term, ...]:
        return (Term(None, None, None),)

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "dense"}


@dataclass(frozen=True)
class Global(Pattern):
    """Tokens at `positions` see everything and are seen by everything."""

    positions: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "positions", tuple(sorted(set(self.positions))))
        if not self.positions:
            raise ConfigError("Global: got no positions, expected at least one")
        for position in self.positions:
            _require_count("Global", "position", position, 0)

    def terms(self) -> tuple[Term, ...]:
        return (Term(self, None, None),)

    def allowed(self, i: Tensor, j: Tensor) -> Tensor:
        positions = torch.tensor(self.positions, device=i.device)
        return torch.isin(i, positions) | torch.isin(j, positions)

    def pieces(self) -> tuple[Global, ...]:
        return tuple(Global((position,)) for position in self.positions)

    def join(self, others: Sequence[Any]) -> Global:
        positions = (position for other in others for position in other.positions)
        return Global((*self.positions, *positions))

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "global", "positions": list(self.positions)}


@dataclass(frozen=True)
class Random(Pattern):
    """Each row of `block` queries sees `blocks` pseudo-random key blocks.

    Slot s of block row r is a hash of (seed, r, s), uniform over the key blocks 0 .. 2^b - 1 with
    b the bit length of r. It knows nothing of the sequence length, so a token's keys are the same
    in a chunk as in one pass. A slot that points past the end is absent (a quarter of the slots
    of the last, incomplete power of two, on average), and two slots may agree. Under `& Causal()`
    exactly the pairs with j <= i stay, three quarters of the slots on average. `block` belongs
    to the pattern: the block size of a plan never changes what is seen.
    """

    blocks: int
    seed: int
    block: int = 64

    def __post_init__(self) -> None:
        _require_count("Random", "blocks", self.blocks, 1)
        _require_count("Random", "block", self.block, 1)

    def terms(self) -> tuple[Term, ...]:
        return (Term(self, None, None),)

    def drawn(self, rows: Tensor) -> Tensor:
        """Key blocks [..., blocks] of the block rows int64 [...]."""
        span = rows.long()
        for shift in (1, 2, 4, 8, 16, 32):
            span = span | (span >> shift)
        slots = torch.arange(self.blocks, device=rows.device)
        seeded = _mix(torch.tensor(self.seed, device=rows.device))
        return _mix(_mix(seeded ^ rows.long())[..., None] + slots) & span[..., None]

    def allowed(self, i: Tensor, j: Tensor) -> Tensor:
        drawn = self.drawn(i // self.block)
        return (drawn == (j // self.block)[..., None]).any(-1)

    def pieces(self) -> tuple[Random, ...]:
        return (self,)

    def join(self, others: Sequence[Any]) -> None:
        return None

    def to_dict(self) -> dict[str, Any]:
        fields = {"blocks": self.blocks, "seed": self.seed, "block": self.block}
        return {"kind": "random", **fields}


@dataclass(frozen=True)
class Mixture(Pattern):
    """A union of terms that is none of the simple patterns; `|` and `&` make it."""

    members: tuple[Term, ...]

    def terms(self) -> tuple[Term, ...]:
        return self.members

    def to_dict(self) -> dict[str, Any]:
        def member(term: Term) -> dict[str, Any]:
            base = None if term.base is None else term.base.to_dict()
            return {"base": base, "left": term.left, "right": term.right}

        return {"kind": "mixture", "members": [member(term) for term in self.members]}


def longformer(radius: int, globals_: Iterable[int] = (), causal: bool = False) -> Pattern:
    """Sliding window and global tokens (Beltagy et al. 2020, arXiv:2004.05150)."""
    positions = tuple(globals_)
    pattern = Window(radius) | Global(positions) if positions else Window(radius)
    return pattern & Causal() if causal else pattern


def bigbird(
    radius: int,
    random_blocks: int,
    globals_: Iterable[int] = (),
    seed: int = 0,
    causal: bool = False,
) -> Pattern:
    """Window, global tokens and random blocks (Zaheer et al. 2020, arXiv:2007.14062)."""
    pattern = longformer(radius, globals_) | Random(random_blocks, seed)
    return pattern & Causal() if causal else pattern


def pattern_from_dict(saved: Mapping[str, Any]) -> Pattern:
    """The pattern that `to_dict` saved. Raises ConfigError for a kind or field it doesn't know."""
    fields = dict(saved)
    kind = fields.pop("kind", None)
    if kind not in _KINDS:
        raise ConfigError(f"pattern kind: got {kind!r}, expected one of {sorted(_KINDS)}")
    try:
        return _KINDS[kind](**fields)
    except (TypeError, KeyError) as error:
        raise ConfigError(f"pattern of kind {kind!r}: got fields {fields}: {error}") from error


def _mixture_from_dict(members: Iterable[Mapping[str, Any]]) -> Pattern:
    def term(member: Mapping[str, Any]) -> Term:
        base = None if member["base"] is None else pattern_from_dict(member["base"])
        if not (base is None or isinstance(base, Global | Random)):
            raise ConfigError(f"member base: got {base!r}, expected a Global or a Random")
        return Term(base, member["left"], member["right"])

    return _simplest(unite(term(member) for member in members))


_KINDS: dict[str, Callable[..., Pattern]] = {
    "window": Window,
    "global": Global,
    "random": Random,
    "causal": Causal,
    "dense": Dense,
    "mixture": _mixture_from_dict,
}


def _simplest(terms: tuple[Term, ...]) -> Pattern:
    """The named pattern that is this set where there is one, so that equal sets compare equal."""
    if len(terms) == 1:
        base, left, right = terms[0].base, terms[0].left, terms[0].right
        if isinstance(base, Pattern) and left is None and right is None:
            return base
        if base is None and left == right:
            return Dense() if left is None else Window(left)
        if base is None and left is None and right == 0:
            return Causal()
    return Mixture(terms)


def _mix(x: Tensor) -> Tensor:
    """splitmix64's finaliser (Steele et al. 2014) on int64, which wraps as uint64 does."""
    x = x + -0x61C8864680B583EB
    x = (x ^ _shift(x, 30)) * -0x40A7B892E31B1A47
    x = (x ^ _shift(x, 27)) * -0x6B2FB644ECCEEE15
    return x ^ _shift(x, 31)


def _shift(x: Tensor, bits: int) -> Tensor:
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _require_count(kind: str, name: str, got: Any, least: int) -> None:
    if not isinstance(got, int) or isinstance(got, bool) or got < least:
        raise ConfigError(f"{kind}: got {name} {got!r}, expected an integer of at least {least}")
