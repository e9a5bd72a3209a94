"""Which key blocks each row of query blocks chooses, by pooled queries and keys, without gradient.

Shape suffixes: B batch, H heads, N queries, M keys, D head size, R block rows, C key blocks,
S slots, T tokens of a block. O((n / block)^2 D) time, O(n) memory.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from core.attention.bounds import check_bounds
from core.attention.static import known
from core.errors import ConfigError

_SCORES = 1 << 20  # scores, or elements of gathered tokens, that are held at a time


@torch.no_grad()
def select_blocks(
    q_BHND: Tensor,
    k_BHMD: Tensor,
    at: range,
    kv: range,
    *,
    blocks: int,
    block: int,
    causal: bool,
    bounds: Tensor | None = None,
    earlier: Tensor | None = None,
) -> Tensor:
    """The choice of `TopK`: see there for what is pooled and what can be chosen.

    Args:
        q_BHND, k_BHMD: queries at the positions `at`, keys at the positions `kv`; H may be a
            multiple of the heads of k.
        blocks: how many, the own one included, of `block` tokens.
        bounds: as in `attend`.
        earlier: queries [B, H, E, D] at the E positions before `at`, where `at` doesn't start a
            sequence: causal up to 2 * block - 1 of them, else those of an unfinished block.

    Returns:
        int64 [B, H, R, S]: for block row at.start // block and those after it, `blocks` numbers
        of key blocks, the own one first, then the best first; -1 where there is none.

    Raises:
        ConfigError: sizes that don't fit, `earlier` lacks queries that the choice needs, or `at`
            ends inside a block whose other queries would choose with it.
    """
    _check(q_BHND, k_BHMD, at, kv, blocks, block)
    check_bounds(bounds, q_BHND)
    first = at.start // block
    rows = -(-at.stop // block) - first if len(at) else 0
    if not (rows and len(kv) and known(q_BHND.shape[0], 1)):
        return torch.full((*q_BHND.shape[:2], rows, blocks), -1, device=q_BHND.device)
    if not causal and at.stop % block and kv.stop > at.stop:
        raise ConfigError(
            f"TopK: got queries up to {at.stop} and keys up to {kv.stop}, expected queries up to "
            f"a multiple of block {block}: a block row chooses by the mean of all its queries"
        )
    selecting = first - 1 if causal else first  # the block row whose queries choose for `first`
    q, start = _joined(earlier, q_BHND, at.start, max(0, selecting) * block)
    queries, asked = _grid(q, start, selecting, rows, block)
    key_first = kv.start // block
    keys, present = _grid(k_BHMD, kv.start, key_first, -(-kv.stop // block) - key_first, block)
    chooser = _Chooser(queries, asked, keys, present, selecting, key_first, causal)
    reach = None if bounds is None else _reach(bounds, at, kv, first, rows, block)
    found = [chooser.rows(r, blocks - 1, reach) for r in chooser.steps(reach is not None)]
    own = torch.arange(first, first + rows, device=q.device)
    own = own.where((own >= key_first) & (own < key_first + keys.shape[2]), -1)
    others = torch.cat(found, 2)
    return torch.cat((own[None, None, :, None].expand(*others.shape[:3], 1), others), -1)


def _check(q: Tensor, k: Tensor, at: range, kv: range, blocks: int, block: int) -> None:
    if blocks < 1 or block < 1:
        raise ConfigError(f"select: got {blocks} blocks of {block} tokens, expected 1 of 1 or more")
    if q.ndim != 4 or q.shape[2] != len(at):
        raise ConfigError(
            f"q: got shape {tuple(q.shape)}, expected [batch, heads, {len(at)}, size] as in {at}"
        )
    fits = k.ndim == 4 and (k.shape[0], *k.shape[2:]) == (q.shape[0], len(kv), q.shape[3])
    if not fits or not k.shape[1] or q.shape[1] % k.shape[1]:
        raise ConfigError(
            f"k: got shape {tuple(k.shape)}, expected [{q.shape[0]}, a divisor of {q.shape[1]}, "
            f"{len(kv)}, {q.shape[3]}] (keys at {kv})"
        )


class _Chooser:
    """Queries [B, H, R, T, D] that choose, row by row, among keys [B, K, C, T, D] (K divides H)."""

    def __init__(
        self,
        queries: Tensor,
        asked: Tensor,
        keys: Tensor,
        present: Tensor,
        selecting: int,
        key_first: int,
        causal: bool,
    ) -> None:
        self.queries, self.asked, self.keys = queries, asked, keys
        self.selecting, self.key_first, self.causal = selecting, key_first, causal
        self.block = queries.shape[3]
        self.dtype = torch.float64 if queries.dtype == torch.float64 else torch.float32
        self.means = keys.sum(3, dtype=self.dtype) / present.sum(1)[:, None]

    def steps(self, bounded: bool) -> list[slice]:
        """Stretches of rows whose scores fit."""
        batch, heads, rows, tokens, size = self.queries.shape
        row = known(batch, 1) * heads * max(self.keys.shape[2], tokens * size if bounded else 0)
        step = max(1, _SCORES // row)
        return [slice(at, min(at + step, rows)) for at in range(0, rows, step)]

    def rows(self, some: slice, count: int, reach: tuple[Tensor, Tensor] | None) -> Tensor:
        """int64 [B, H, some, count]."""
        row = torch.arange(some.start, some.stop, device=self.keys.device)
        own = (row + self.selecting + self.causal)[:, None]
        ends = None if reach is None else (reach[0][:, some], reach[1][:, some])
        mean, choosing = self._mean(some, ends)  # [B, K, H / K, R, D] and [B or 1, R]
        scores = mean @ self.means[:, :, None].transpose(-1, -2)
        block = torch.arange(self.keys.shape[2], device=self.keys.device) + self.key_first
        eligible = choosing[..., None] & (block < own if self.causal else block != own)
        if ends is not None:
            low, high = ends
            for end in (low, high - 1):  # the blocks that an end cuts are pooled over what is left
                self._repool(scores, mean, end, low, high)
            start = block * self.block
            eligible &= (start < high[..., None]) & (start + self.block > low[..., None])
        scores = scores.flatten(1, 2).masked_fill_(~eligible[:, None], -torch.inf)
        best = scores.topk(min(count, scores.shape[-1]), dim=-1)
        chosen = (best.indices + self.key_first).masked_fill(best.values == -torch.inf, -1)
        return F.pad(chosen, (0, count - chosen.shape[-1]), value=-1)

    def _mean(self, some: slice, ends: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
        """The mean query of each row, and whether it has any."""
        queries, asked = self.queries[:, :, some], self.asked[some][None]
        if ends is not None:
            low, high = (end[..., None] for end in ends)
            first = (some.start + self.selecting) * self.block
            position = torch.arange(asked[0].numel(), device=low.device) + first
            position = position.view_as(asked[0])
            asked = asked & (position >= low) & (position < high)
            queries = queries.masked_fill(~asked[:, None, ..., None], 0)
        count = asked.sum(-1)
        mean = queries.sum(3, dtype=self.dtype) / count.clamp_min(1)[:, None, :, None]
        return mean.unflatten(1, (self.keys.shape[1], -1)), count > 0

    def _repool(self, scores: Tensor, mean: Tensor, end: Tensor, low: Tensor, high: Tensor) -> None:
        """Scores, in place, of the key blocks that hold the positions `end` [B or 1, R]."""
        at = end.div(self.block, rounding_mode="floor") - self.key_first
        at = at.clamp(0, self.keys.shape[2] - 1).expand(len(scores), -1)
        position = (at + self.key_first)[..., None] * self.block
        position = position + torch.arange(self.block, device=at.device)
        inside = (position >= low[..., None]) & (position < high[..., None])  # [B, R, T]
        _, heads, _, tokens, size = self.keys.shape
        index = at[:, None, :, None, None].expand(-1, heads, -1, tokens, size)
        keys = self.keys.gather(2, index).masked_fill(~inside[:, None, ..., None], 0)
        pooled = keys.sum(3, dtype=self.dtype) / inside.sum(-1).clamp_min(1)[:, None, :, None]
        again = (mean * pooled[:, :, None]).sum(-1, keepdim=True)
        scores.scatter_(-1, at[:, None, None, :, None].expand_as(again), again)


def _joined(earlier: Tensor | None, q: Tensor, position: int, needed: int) -> tuple[Tensor, int]:
    """Queries from position `needed` on, where `q` starts at `position`."""
    missing = position - needed
    if missing <= 0:
        return q, position
    batch, heads, _, size = q.shape
    fits = earlier is not None and earlier.ndim == 4 and earlier.shape[2] >= missing
    if earlier is None or not fits or earlier[:, :, :1].shape != (batch, heads, 1, size):
        got = None if earlier is None else tuple(earlier.shape)
        raise ConfigError(
            f"TopK: got queries from position {position} on and earlier {got}, expected earlier "
            f"[{batch}, {heads}, {missing} or more, {size}]: those before them, from position "
            f"{needed} on, have a say in what the first ones see"
        )
    return torch.cat((earlier[:, :, -missing:].to(q.dtype), q), 2), needed


def _grid(x: Tensor, start: int, first: int, count: int, size: int) -> tuple[Tensor, Tensor]:
    """Tokens [..., tokens, D] from position `start` on as blocks [..., count, size, D] from block
    `first` on, zeros where there is none; and where there is one, bool [count, size]."""
    low = first * size
    begin = min(max(low, start), low + count * size)
    end = max(begin, min(low + count * size, start + x.shape[-2]))
    pad = (begin - low, low + count * size - end)
    x = x[..., begin - start : end - start, :] if end > begin else x[..., :0, :]
    x = F.pad(x, (0, 0, *pad)) if any(pad) else x
    position = torch.arange(low, low + count * size, device=x.device)
    here = (position >= begin) & (position < end)
    return x.unflatten(-2, (count, size)), here.view(count, size)


def _reach(
    bounds: Tensor, at: range, kv: range, first: int, rows: int, block: int
) -> tuple[Tensor, Tensor]:
    """The smallest interval of positions [low, high) that holds all that a block row's queries
    may see: two int64 [B or 1, R]."""
    each, _ = _grid(bounds.long().clamp(0, len(kv)), at.start, first, rows, block)
    low, high = each.unbind(-1)
    empty = low >= high
    low = low.masked_fill(empty, len(kv)).amin(-1)
    return low + kv.start, high.masked_fill(empty, 0).amax(-1) + kv.start
