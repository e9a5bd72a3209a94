"""A plan as FlexAttention's BlockMask: which blocks of keys a block of queries looks at.

The mask always carries the exact rule of the pattern as its mask_mod: without one, flex run
eagerly ignores the list of blocks and attends to everything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask

from core.attention.tiles.rules import Scope, term_rule, union
from core.attention.tiles.terms import Sides, term_tiles
from core.attention.tiles.tiles import block_mask, lists, split, turned, united
from core.errors import ConfigError

if TYPE_CHECKING:
    from core.attention.plan import Plan


def to_block_mask(plan: Plan, block: int, device: torch.device | str) -> BlockMask:
    """See `Plan.to_block_mask`."""
    if plan.learned:
        raise ConfigError(
            f"to_block_mask: got {plan.learned[0].base!r}, whose blocks the data choose: they are "
            "known in a call only. Expected a pattern without learned blocks; `attend` takes any"
        )
    scope = Scope(plan.q, plan.kv, torch.device(device))
    terms = plan.pattern.terms()
    sides = Sides(plan.q, plan.kv, block)
    rows, cols = len(sides.i0), len(sides.j0)
    tiles = united((term_tiles(term, sides) for term in terms), cols)
    seen = lists(tiles, 1, rows, cols).to(scope.device)
    seen_by = lists(turned(tiles, rows, cols), 1, cols, rows).to(scope.device)
    rule = union(term_rule(term, scope) for term in terms)
    first_row, first_col = scope.number(plan.q.start), scope.number(plan.kv.start)

    def mask_mod(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return rule(query + first_row, key + first_col, query, key)

    blocks, blocks_by = (split(x, x.held()[None], x.full[None]) for x in (seen, seen_by))
    return block_mask(blocks, blocks_by, (len(plan.q), len(plan.kv)), block, mask_mod)
