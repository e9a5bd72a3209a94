"""The grids of a plan: rectangles of blocks, together exactly the pairs of all its terms but those
that the data choose (`chosen`), a flex call each.

A stride is a grid of residue classes, where it is a band. All else lies in one grid in index
order: a union there counts a pair once whatever it is written as. Two things would make that grid
slow. Keys that all queries see, scattered, fill a column of blocks each: their copies are put
together behind the other keys, and are left out where they were. A global row has every block of
keys, for one thread block to walk: such rows have a grid of their own, in stretches of keys; what
the others find there is replaced. A few of either (`few`) are no blocks at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from core.attention.algebra import Term, wider
from core.attention.static import outside_tracing
from core.attention.steps import Strided
from core.attention.tiles.few import FEW, PAIRS, Few
from core.attention.tiles.grid import Grid, grid
from core.attention.tiles.kept import Kept
from core.attention.tiles.rules import Scope, marks, term_rule, union, without
from core.attention.tiles.terms import Sides, column_marks, inside, near, term_tiles
from core.attention.tiles.tiles import BLOCK, Tiles, united
from core.attention.tiles.views import Chosen, Classes, InOrder, bucket
from core.attention.tokens import Global

if TYPE_CHECKING:
    from core.attention.plan import Plan

WALK = 32  # blocks of keys above which global rows have a grid of their own
_STRETCH = 16  # blocks of keys of one stretch there
MOST, ROOM = 512, 1 << 30  # plans of 12 layers of 12 heads and more, and bytes of their grids
_MEMBERS = 8  # members of a residue class below which a stride is cheaper in index order


class Grids(NamedTuple):
    """Disjoint grids and columns whose findings merge, and what replaces the rows it has, if any;
    all for a bucket's `length` of queries."""

    merged: tuple[Grid[InOrder] | Grid[Classes], ...]
    columns: Few | None
    rows: Grid[Chosen] | Few | None
    length: int


def _grids_of(plan: Plan, device: torch.device) -> Grids:
    with outside_tracing():
        q, kv = (range(at.start, at.start + bucket(len(at))) for at in (plan.q, plan.kv))
        scope = Scope(q, kv, device)
        terms = [term for term in plan.pattern.terms() if term not in plan.learned]
        strided = [term for term in terms if _in_classes(term, len(kv))]
        ordered = [term for term in terms if term not in strided]
        rows = _global_rows(plan, terms, scope)
        columns = _few_columns(plan, ordered, scope)
        found: list[Grid[InOrder] | Grid[Classes]] = []
        blocks = ordered if columns is None else _besides(ordered, scope.q, rows is not None)
        if blocks:
            found.append(_in_order(plan, blocks, scope, rows is not None, columns))
        for at, term in enumerate(strided):
            found.append(_in_class(plan, term, [*ordered, *strided[:at]], scope))
        return Grids(tuple(found), columns, rows, len(q))


def _size(grids: Grids) -> int:
    found = (*grids.merged, grids.columns, grids.rows)
    return sum(grid.size() for grid in found if grid is not None)


grids_of = Kept(_grids_of, _size, MOST, ROOM)


def _in_classes(term: Term, keys: int) -> bool:
    return isinstance(term.base, Strided) and keys >= _MEMBERS * term.base.step


def _few_columns(plan: Plan, terms: Sequence[Term], scope: Scope) -> Few | None:
    """The keys that all queries see, where they are few."""
    held = _columns(terms, scope).any(0).nonzero().flatten()
    held = held[held < len(plan.kv)].to(scope.device)
    if not 0 < len(held) <= FEW or len(held) * len(plan.q) > PAIRS:
        return None
    rule = union(term_rule(term, scope) for term in terms)
    return Few(None, held, len(plan.q), len(plan.kv), rule, scope)


def _besides(terms: Sequence[Term], q: range, rows_apart: bool) -> list[Term]:
    """The terms that have pairs besides global columns and, where those are apart, rows."""
    return [
        term
        for term in terms
        if not isinstance(term.base, Global) or not (rows_apart or not marks(term.base, q).any())
    ]


def _columns(terms: Sequence[Term], scope: Scope) -> Tensor:
    """bool [terms, keys]: the keys that queries see from everywhere."""
    marked = [column_marks(term, scope.kv) for term in terms]
    return torch.stack(marked) if marked else torch.zeros(0, len(scope.kv), dtype=torch.bool)


def _in_order(
    plan: Plan, terms: Sequence[Term], scope: Scope, rows_apart: bool, few: Few | None
) -> Grid[InOrder]:
    keys, queries = len(plan.kv), len(plan.q)
    columns = _columns(terms, scope)
    copied, scattered = _scattered(columns.any(0))
    apart = few is not None or scattered
    sides = Sides(scope.q, scope.kv, BLOCK)
    tiles = [term_tiles(term, sides, not rows_apart, not apart) for term in terms]
    col = _below(torch.arange(len(scope.kv)), keys)
    more = 0
    if few is not None:
        assert few.cols is not None
        col[few.cols.cpu()] = -1
        copied = copied[:0]
    elif apart:
        more = bucket(len(copied))
        places = copied.new_full((more,), -1)
        places[: len(copied)] = _below(copied, keys)
        col[copied] = -1
        tiles.append(_copied_tiles(terms, sides, copied, columns, len(col) // BLOCK))
        col = torch.cat((col, places))
    row = torch.arange(len(scope.q))
    view = InOrder(len(row), len(scope.kv), copied[copied < keys].to(scope.device), more)
    tiles = united(tiles, len(col) // BLOCK)
    used = (row < queries).view(1, -1, BLOCK).any(-1)
    row = row.clamp_max(max(0, queries - 1))
    rule = union(term_rule(term, scope) for term in terms)
    made = grid(view, row[None], col[None], tiles, used, rule, scope)
    return replace(made, plain=all(term.base is None for term in terms))


def _scattered(columns: Tensor) -> tuple[Tensor, bool]:
    """The columns that all see, and whether copies side by side save a block a row or more."""
    held = columns.nonzero().flatten()
    blocks = len(torch.unique(held // BLOCK))
    return held, blocks > bucket(len(held)) // BLOCK + 1


def _copied_tiles(
    terms: Sequence[Term], sides: Sides, copied: Tensor, columns: Tensor, start: int
) -> Tiles:
    """Tiles of the copies, numbered from `start` on. They hold all pairs of their keys, whichever
    term has them, so the widest limits say which tiles there are."""
    left, right = terms[0].left, terms[0].right
    for term in terms[1:]:
        left, right = wider(left, term.left), wider(right, term.right)
    positions = copied + sides.kv.start
    first = positions[::BLOCK]
    last = positions[(torch.arange(len(first)) * BLOCK + BLOCK - 1).clamp_max(len(copied) - 1)]
    row, block = (
        x.flatten()
        for x in torch.meshgrid(sides.all_rows(), torch.arange(len(first)), indexing="ij")
    )
    low, high = (sides.i0[row], first[block]), (sides.i1[row], last[block])
    full = torch.zeros_like(row, dtype=torch.bool)
    for term, held in zip(terms, columns[:, copied], strict=True):
        all_held = torch.nn.functional.pad(held, (0, -len(held) % BLOCK)).view(-1, BLOCK).all(1)
        full |= all_held[block] & inside(term, low, high)
    tiles = Tiles(row, block + start, full)
    return tiles.where(near(Term(None, left, right), low, high))


def _in_class(plan: Plan, term: Term, earlier: Sequence[Term], scope: Scope) -> Grid[Classes]:
    """The residue classes of a stride, a frame each, less the pairs of earlier terms."""
    assert isinstance(term.base, Strided)
    step = term.base.step
    ahead = scope.q.start % step, scope.kv.start % step
    q, kv = (
        range(at.start // step, at.start // step + bucket(-(-(len(at) + shift) // step)))
        for at, shift in zip((scope.q, scope.kv), ahead, strict=True)
    )
    limits = [None if side is None else side // step for side in (term.left, term.right)]
    sides = Sides(q, kv, BLOCK)
    tiles = term_tiles(Term(None, *limits), sides)
    tiles = tiles._replace(full=tiles.full & _clear(tiles, sides, earlier, step))
    classes = torch.arange(step)[:, None]
    row, col = (
        torch.arange(len(at)) * step + classes - shift
        for at, shift in zip((q, kv), ahead, strict=True)
    )
    used = ((row >= 0) & (row < len(plan.q))).any(0).view(1, -1, BLOCK).any(-1)
    row = row.clamp(0, max(0, len(plan.q) - 1))
    within = Term(None, term.left, term.right)  # a class holds multiples of the step alone
    rule = without(term_rule(within, scope), [term_rule(other, scope) for other in earlier])
    view = Classes(step, ahead, len(q), len(kv), len(scope.q))
    made = grid(view, row, _below(col, len(plan.kv)), tiles, used, rule, scope)
    return replace(made, plain=not earlier)


def _clear(tiles: Tiles, sides: Sides, earlier: Sequence[Term], step: int) -> Tensor:
    """Whether a tile of every class holds no pair of an earlier term; False where in doubt."""
    low = sides.i0[tiles.rows] * step, sides.j0[tiles.cols] * step
    high = sides.i1[tiles.rows] * step, sides.j1[tiles.cols] * step  # of one class: same residue
    clear = torch.ones_like(tiles.full)
    for term in earlier:
        if term.base is None:
            clear &= ~near(term, low, high)
        elif isinstance(term.base, Global):
            tokens = torch.tensor(term.base.positions)
            for first, last in zip(low, high, strict=True):
                clear &= torch.searchsorted(tokens, first) == torch.searchsorted(
                    tokens, last + step
                )
        else:
            clear &= False
    return clear


def _global_rows(plan: Plan, terms: Sequence[Term], scope: Scope) -> Grid[Chosen] | Few | None:
    """All pairs of the queries that are global tokens; None where the walk is short."""
    wide, limited = (torch.zeros(len(scope.q), dtype=torch.bool) for _ in range(2))
    for term in terms:
        if isinstance(term.base, Global):
            unlimited = term.left is None and term.right is None
            (wide if unlimited else limited).logical_or_(marks(term.base, scope.q))
    places = bucket(int((wide | limited).sum()))
    chosen = torch.cat((wide.nonzero().flatten(), (limited & ~wide).nonzero().flatten()))
    chosen = chosen[chosen < len(plan.q)]
    if not len(chosen):
        return None
    rule = union(term_rule(term, scope) for term in terms)
    if len(chosen) <= FEW and len(chosen) * len(plan.kv) <= PAIRS:
        rows = chosen.to(scope.device)
        return Few(rows, None, len(plan.q), len(plan.kv), rule, scope)
    blocks = len(scope.kv) // BLOCK
    if blocks <= WALK:
        return None
    stretches = 1
    while blocks % (2 * stretches) == 0 and blocks // (2 * stretches) >= _STRETCH:
        stretches *= 2
    row = torch.cat((chosen, chosen[-1:].expand(places - len(chosen)))).expand(stretches, -1)
    col = _below(torch.arange(len(scope.kv)), len(plan.kv)).view(stretches, -1)
    full = wide[row].view(stretches, -1, BLOCK).all(-1)
    at, block = torch.meshgrid(
        torch.arange(full.numel()), torch.arange(blocks // stretches), indexing="ij"
    )
    tiles = Tiles(at.flatten(), block.flatten(), full.flatten()[at.flatten()])
    view = Chosen(chosen.to(scope.device), places, col.shape[1], stretches)
    return grid(view, row, col, tiles, torch.ones_like(full), rule, scope)


def _below(local: Tensor, length: int) -> Tensor:
    return local.where((local >= 0) & (local < length), -1)
