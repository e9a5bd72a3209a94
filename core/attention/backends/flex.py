"""Block-sparse attention by FlexAttention: compiled for CUDA, its plain definition on a CPU.

A plan is a few grids of 128 x 128 blocks (`core.attention.tiles`), a call each. One kernel serves
every length and every pattern of the same kind: what may differ are tensors, and lengths are
padded to buckets. Findings of grids and of sources are merged by log-sum-exp; gradients flow
through the merge by autograd, since flex has a gradient of its log-sum-exp too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, reduce
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import AuxRequest, BlockMask, flex_attention

from core.attention.backends.source import Source
from core.attention.tiles.chosen import chosen_mask
from core.attention.tiles.compiled import compiled
from core.attention.tiles.few import Few, padded
from core.attention.tiles.grid import Grid
from core.attention.tiles.grids import grids_of
from core.attention.tiles.views import Chosen, View
from core.errors import ConfigError

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
PLAIN_SCORES = 1 << 28  # scores of a grid on a CPU, where all of them are held at once
_LEAST_SIZE = 16  # channels of a head that the kernel needs
_EVEN = {"IS_DIVISIBLE": True}  # all lengths are multiples of 128, known or not
# Tiles that were fastest on an H200 for 64 channels. A rule of more than a band leaves 128 x 128
# scores of torch's own choice no registers: 10 to 20 times slower.
_BAND_TILES = {
    **{"bwd_BLOCK_M1": 32, "bwd_BLOCK_N1": 128, "bwd_BLOCK_M2": 128, "bwd_BLOCK_N2": 32},
    **{"bwd_num_warps": 4, "bwd_num_stages": 3},
}
_SMALL_TILES = {"fwd_BLOCK_M": 64, "fwd_BLOCK_N": 64, "fwd_num_warps": 4, "fwd_num_stages": 3}


def flex(q: Tensor, sources: Sequence[Source], scale: float) -> tuple[Tensor, Tensor]:
    """One softmax over all sources. Returns out_BHND in q's dtype and lse_BHN without gradient.

    Raises:
        ConfigError: no kernel for the device or dtype. On a CPU flex is the plain definition, all
            scores at once and no gradients: too long, or gradients asked for.
    """
    _refuse(q, sources)
    found = [_of_source(_wide(q), source, scale) for source in sources]
    out, lse = _merged(found, q.device)
    queries, size = q.shape[2:]
    return out[:, :, :queries, :size].to(q.dtype), lse[:, :, :queries].detach()


def _of_source(q: Tensor, source: Source, scale: float) -> tuple[Tensor, Tensor]:
    """out and lse of a bucket's length."""
    grids = grids_of(source.plan, q.device)
    k, v = _wide(source.k), _wide(source.v)
    found: list[tuple[Tensor, Tensor]] = []
    for grid in grids.merged:
        mask = grid.mask(source.bounds)
        parts = _run(grid.view, mask, q, k, v, scale, grid.plain and source.bounds is None)
        out, lse = map(grid.view.back, parts)
        found.append((out, lse))
    if grids.columns is not None:
        columns = grids.columns.attention(q, k, v, source.bounds, scale)
        found.append(padded(columns, grids.length))
    if grids.rows is not None:
        out, lse = _merged(found, q.device)
        chosen, (some, level) = _rows(grids.rows, source, q, k, v, scale)
        found = [(out.index_copy(2, chosen, some), lse.index_copy(2, chosen, level))]
    for at in range(len(source.choices)):
        view, mask = chosen_mask(source.plan, source.choices, at, source.bounds)
        found.append(_run(view, mask, q, k, v, scale))
    return _merged(found, q.device)


def _rows(
    rows: Grid[Chosen] | Few, source: Source, q: Tensor, k: Tensor, v: Tensor, scale: float
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Which queries have rows apart, and what those find."""
    if isinstance(rows, Few):
        assert rows.rows is not None
        return rows.rows, rows.attention(q, k, v, source.bounds, scale)
    parts = _run(rows.view, rows.mask(source.bounds), q, k, v, scale)
    out, lse = _kernels(q.device.type).merge(*map(rows.view.back, parts))
    count = len(rows.view.chosen)
    return rows.view.chosen, (out[:, :, :count], lse[:, :, :count])


def _run(
    view: View,
    mask: BlockMask,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: float,
    plain: bool = False,
) -> tuple[Tensor, Tensor]:
    """What one grid finds, frames apart; `plain`: its rule is a band."""
    out, aux = _kernels(q.device.type).attention(
        view.queries(q),
        view.keys(k),
        view.keys(v),
        block_mask=mask,
        scale=scale,
        enable_gqa=True,
        return_aux=AuxRequest(lse=True),
        kernel_options=_options(q, plain),
    )
    return out, aux.lse


def _options(q: Tensor, plain: bool) -> Any:
    if q.dtype == torch.float32 or q.shape[3] > 64:
        return _EVEN
    return _EVEN | (_BAND_TILES if plain else _SMALL_TILES)


def merge(out_PBHND: Tensor, lse_PBHN: Tensor) -> tuple[Tensor, Tensor]:
    """One softmax over P disjoint sets of keys, from what it found over each."""
    peak = lse_PBHN.detach().amax(0)
    peak = peak.masked_fill(peak == -torch.inf, 0.0)
    share = (lse_PBHN - peak).exp()
    total = share.sum(0)
    empty = total == 0
    total = total.masked_fill(empty, 1.0)  # no gradient of a logarithm of nothing
    out = (out_PBHND * (share / total)[..., None]).sum(0)
    return out.to(out_PBHND.dtype), (peak + total.log()).masked_fill(empty, -torch.inf)


def join(out: Tensor, lse: Tensor, other: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
    """`merge` of two sets, read where they lie."""
    peak = torch.maximum(lse, level).detach()
    peak = peak.masked_fill(peak == -torch.inf, 0.0)
    share, rest = (lse - peak).exp(), (level - peak).exp()
    total = share + rest
    empty = total == 0
    total = total.masked_fill(empty, 1.0)
    both = out * (share / total)[..., None] + other * (rest / total)[..., None]
    return both.to(out.dtype), (peak + total.log()).masked_fill(empty, -torch.inf)


def _merged(found: Sequence[tuple[Tensor, Tensor]], device: torch.device) -> tuple[Tensor, Tensor]:
    kernel = _kernels(device.type).join
    return reduce(lambda some, more: kernel(*some, *more), found)


class _Kernels(NamedTuple):
    attention: Callable[..., Any]
    merge: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    join: Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


@lru_cache
def _kernels(device: str) -> _Kernels:
    """Uncompiled on a CPU, where compiled flex has no log-sum-exp."""
    attention = compiled(flex_attention, device, dynamic=None)
    return _Kernels(attention, compiled(merge, device), compiled(join, device))


def _wide(x: Tensor) -> Tensor:
    """Heads of at least as many channels as the kernel needs, the added ones 0."""
    if not torch.is_grad_enabled():  # on a CPU flex looks at the flag of a tensor alone
        x = x.detach()
    missing = _LEAST_SIZE - x.shape[3]
    return F.pad(x, (0, missing)) if missing > 0 else x


def _refuse(q: Tensor, sources: Sequence[Source]) -> None:
    """Raises ConfigError for what flex can't do."""
    device = q.device.type
    if device == "cuda":
        if q.dtype not in DTYPES:
            raise ConfigError(f"backend 'flex': got {q.dtype} on CUDA, expected one of {DTYPES}")
        return
    if device != "cpu":
        raise ConfigError(f"backend 'flex': got tensors on {q.device}, expected CUDA or CPU")
    wanted = any(x.requires_grad for source in sources for x in (q, source.k, source.v))
    if torch.is_grad_enabled() and wanted:
        raise ConfigError(
            "backend 'flex': got CPU tensors that require gradients, which flex has on CUDA only. "
            "Expected torch.no_grad() or backend 'cpu'"
        )
    scores = q.shape[0] * q.shape[1] * q.shape[2] * max(source.k.shape[2] for source in sources)
    if scores > PLAIN_SCORES:
        raise ConfigError(
            f"backend 'flex': got {scores} scores on a CPU, where flex holds all of them, expected "
            f"at most {PLAIN_SCORES}: use backend 'cpu', shorten the sequence, or move it to CUDA"
        )
