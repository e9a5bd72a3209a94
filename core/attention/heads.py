"""Heads that differ: groups of key heads, each with a pattern of its own."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor

from core.attention.algebra import Term, wider
from core.attention.cost import Cost
from core.attention.patterns import Pattern, pattern_from_dict, require_count
from core.attention.plan import Plan
from core.attention.static import uncompiled
from core.errors import ConfigError

Groups = tuple[tuple[Pattern, int], ...]


@dataclass(frozen=True)
class HeadGroups(Pattern):
    """The first `kv_heads` heads of keys follow the first pattern, the next ones the second, ...

    Query heads that share a head of keys share its pattern. `|` and `&` apply to every group; with
    another HeadGroups they go head by head. Neighbours that are equal are one group, and what ends
    with a single group is that group's pattern.

    Raises ConfigError for fewer than two different groups.
    """

    kind = "heads"
    uniform = False
    groups: Groups

    def __post_init__(self) -> None:
        for pattern, count in self.groups:
            require_count("HeadGroups", "kv_heads", count, 1)
            if not isinstance(pattern, Pattern) or not pattern.uniform:
                raise ConfigError(f"HeadGroups: got {pattern!r} in a group, expected one pattern")
        object.__setattr__(self, "groups", _joined(self.groups))
        if len(self.groups) < 2:
            raise ConfigError(
                f"HeadGroups: got {self.groups}, expected two groups that differ at least: where "
                "all heads have one pattern, use the pattern itself"
            )

    @property
    def kv_heads(self) -> int:
        """Heads of keys of all groups."""
        return sum(count for _, count in self.groups)

    def terms(self) -> tuple[Term, ...]:
        raise ConfigError(
            f"got {self!r} where all heads must have one pattern; take those of its `groups`"
        )

    def reach(self) -> int | None:
        reach: int | None = 0
        for pattern, _ in self.groups:
            reach = wider(reach, pattern.reach())
        return reach

    def draw(self, n: int) -> str:
        """A picture a group, under the numbers of its heads of keys."""
        pictures: list[str] = []
        for (pattern, _), (first, last) in zip(self.groups, self.spans(), strict=True):
            title = f"heads {first}-{last - 1}:" if last - first > 1 else f"head {first}:"
            pictures.append(f"{title}\n{pattern.draw(n)}")
        return "\n\n".join(pictures)

    def spans(self) -> list[tuple[int, int]]:
        """The heads of keys [first, last) of each group."""
        return list(pairwise(accumulate((count for _, count in self.groups), initial=0)))

    @uncompiled
    def plan(self, q: range, kv: range, block: int | None = None) -> HeadPlan:
        return HeadPlan(self, tuple(pattern.plan(q, kv, block) for pattern, _ in self.groups))

    def to_dict(self) -> dict[str, Any]:
        groups = [{"pattern": p.to_dict(), "kv_heads": count} for p, count in self.groups]
        return {"kind": self.kind, "groups": groups}

    @classmethod
    def from_fields(cls, **saved: Any) -> Pattern:
        def group(saved: Mapping[str, Any]) -> tuple[Pattern, int]:
            return pattern_from_dict(saved["pattern"]), saved["kv_heads"]

        return cls(tuple(group(member) for member in saved["groups"]))

    def __or__(self, other: Pattern) -> Pattern:
        return _each(self, other, lambda a, b: a | b)

    def __and__(self, other: Pattern) -> Pattern:
        return _each(self, other, lambda a, b: a & b)

    def __ror__(self, other: Pattern) -> Pattern:
        return self | other

    def __rand__(self, other: Pattern) -> Pattern:
        return self & other


@dataclass(frozen=True, eq=False)
class HeadPlan:
    """The plan of each group of `pattern`; `attend` computes group by group."""

    pattern: HeadGroups
    plans: tuple[Plan, ...]

    def of_head(self, head: int) -> Plan:
        """The plan of a head of keys."""
        ends = [last for _, last in self.pattern.spans()]
        return self.plans[bisect_right(ends, head)]

    def pairs(self) -> int:
        """Pairs of all heads of keys together, each counted once, however many queries share it."""
        return sum(count * plan.pairs() for count, plan in self._counted())

    def block_area(self) -> int:
        """As `Plan.block_area`, of all heads of keys together."""
        return sum(count * plan.block_area() for count, plan in self._counted())

    def cost(
        self,
        size: int,
        heads: int | None = None,
        batch: int = 1,
        dtype: torch.dtype = torch.float32,
        device: str | None = None,
    ) -> Cost:
        """As `Plan.cost`, for `heads` query heads, as many as heads of keys where None."""
        keys = self.pattern.kv_heads
        shared, rest = divmod(keys if heads is None else heads, keys)
        if rest or not shared:
            raise ConfigError(f"cost: got {heads} heads, expected a multiple of {keys}")
        costs = [p.cost(size, shared * n, batch, dtype, device) for n, p in self._counted()]
        names = [f.name for f in fields(Cost) if getattr(costs[0], f.name) is not None]
        return Cost(**{name: sum(getattr(cost, name) for cost in costs) for name in names})

    def _counted(self) -> list[tuple[int, Plan]]:
        counts = (count for _, count in self.pattern.groups)
        return list(zip(counts, self.plans, strict=True))


Given = tuple[Tensor, Tensor, Plan | HeadPlan, Tensor | None]


def split_heads(q_BHND: Tensor, sources: Sequence[Given]) -> list[tuple[slice, list[Given]]]:
    """Stretches of query heads that follow one plan in every source, with their keys and values.

    Raises ConfigError where groups don't fit the heads, or where one would cut the query heads that
    share a head of keys.
    """
    heads = q_BHND.shape[1]
    edges = {0, heads}
    for k, _, plan, _ in sources:
        shared = shared_heads(heads, k, plan.pattern)
        if isinstance(plan, HeadPlan):
            edges |= {first * shared for first, _ in plan.pattern.spans()}
    return [
        (slice(first, last), [_of_heads(source, heads, first, last) for source in sources])
        for first, last in pairwise(sorted(edges))
    ]


def shared_heads(heads: int, k_BHMD: Tensor, pattern: Pattern) -> int:
    """Query heads, of so many, that share a head of keys.

    Raises ConfigError where they don't divide, or a pattern's groups have other heads of keys.
    """
    keys = k_BHMD.shape[1] if k_BHMD.ndim == 4 else 0
    if not keys or heads % keys:
        raise ConfigError(f"k: got shape {tuple(k_BHMD.shape)}, expected heads that divide {heads}")
    if isinstance(pattern, HeadGroups) and keys != pattern.kv_heads:
        raise ConfigError(
            f"k: got {keys} heads, expected {pattern.kv_heads} as in the groups of {pattern}"
        )
    return heads // keys


def _of_heads(source: Given, heads: int, first: int, last: int) -> Given:
    k, v, plan, bounds = source
    shared = heads // k.shape[1]
    if first % shared or last % shared:
        raise ConfigError(
            f"heads: got query heads {first}-{last - 1} with a pattern of their own where {shared} "
            "heads in a row share keys, expected groups of whole heads of keys in every source"
        )
    own = slice(first // shared, last // shared)
    one = plan.of_head(own.start) if isinstance(plan, HeadPlan) else plan
    return k[:, own], v[:, own], one, bounds


def _each(some: HeadGroups, other: Pattern, op: Callable[[Pattern, Pattern], Pattern]) -> Pattern:
    if not isinstance(other, HeadGroups):
        found = [(op(pattern, other), count) for pattern, count in some.groups]
    elif some.kv_heads != other.kv_heads:
        raise ConfigError(
            f"got groups of {some.kv_heads} and of {other.kv_heads} heads, expected as many"
        )
    else:
        each = zip(_by_head(some), _by_head(other), strict=True)
        found = [(op(a, b), 1) for a, b in each]
    joined = _joined(found)
    return joined[0][0] if len(joined) == 1 else HeadGroups(joined)


def _by_head(some: HeadGroups) -> list[Pattern]:
    return [pattern for pattern, count in some.groups for _ in range(count)]


def _joined(groups: Iterable[tuple[Pattern, int]]) -> Groups:
    """Neighbours with the same pattern as one group."""
    joined: list[tuple[Pattern, int]] = []
    for pattern, count in groups:
        if joined and joined[-1][0] == pattern:
            count += joined.pop()[1]
        joined.append((pattern, count))
    return tuple(joined)
