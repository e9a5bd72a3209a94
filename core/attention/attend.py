"""`attend`: attention over a plan. The pure function under every attention module here.

Shape suffixes: B batch, H heads, N queries, M keys, D head size.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, overload

import torch
from torch import Tensor

from core.attention.backends import sdpa as dense
from core.attention.backends.cpu import cpu
from core.attention.backends.flex import DTYPES, flex
from core.attention.backends.reference import reference
from core.attention.backends.source import Source
from core.attention.bounds import check_bounds
from core.attention.heads import HeadPlan, split_heads
from core.attention.learned import choose
from core.attention.plan import Plan
from core.attention.static import uncompiled
from core.errors import ConfigError

BACKENDS = ("auto", "reference", "cpu", "flex", "sdpa")
KINDS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
REFERENCE_PAIRS = 4096**2  # the most query-key pairs for which `auto` takes the quadratic reference
SourceTuple = tuple[Tensor, Tensor, Plan | HeadPlan, Tensor | None]
_log = logging.getLogger(__name__)


@overload
def attend(
    q_BHND: Tensor,
    k_BHMD: Tensor,
    v_BHMD: Tensor,
    plan: Plan | HeadPlan,
    bounds: Tensor | None = None,
    *,
    backend: str = "auto",
    scale: float | None = None,
    earlier: Tensor | None = None,
    return_lse: Literal[False] = False,
) -> Tensor: ...
@overload
def attend(
    q_BHND: Tensor,
    k_BHMD: Tensor,
    v_BHMD: Tensor,
    plan: Plan | HeadPlan,
    bounds: Tensor | None = None,
    *,
    backend: str = "auto",
    scale: float | None = None,
    earlier: Tensor | None = None,
    return_lse: Literal[True],
) -> tuple[Tensor, Tensor]: ...
def attend(
    q_BHND: Tensor,
    k_BHMD: Tensor,
    v_BHMD: Tensor,
    plan: Plan | HeadPlan,
    bounds: Tensor | None = None,
    *,
    backend: str = "auto",
    scale: float | None = None,
    earlier: Tensor | None = None,
    return_lse: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """softmax(scale * q k^T) v over the pairs of `plan` that `bounds` allow.

    Args:
        q_BHND: queries, row n at position plan.q[n].
        k_BHMD, v_BHMD: keys and values, row m at position plan.kv[m]; the dtype of q. They may
            have fewer heads: with H / 2, query heads 0 and 1 share head 0, and so on.
        plan: from `Pattern.plan`; what never depends on the batch. Where heads differ
            (`HeadGroups`), k_BHMD has as many heads as the groups, and they run one by one.
        bounds: int32 [B or 1, N, 2]: query n of a sequence may see rows low <= m < high of the
            key TENSOR (index 0 is its first row, whatever its position). Padding, packed
            documents, same key after a sort and label maturity are all such intervals.
        backend: "auto" or one of `BACKENDS`; an explicit one runs or raises, never falls back.
        scale: factor of the scores, D ** -0.5 where None. A number: no gradient flows to it, so
            a learned temperature is to be multiplied into q.
        earlier: queries [B, H, E, D] at the E positions before plan.q, which learned patterns
            choose by in a chunk of a sequence; see `select_blocks`.
        return_lse: also return the log-sum-exp of the scores.

    Returns:
        out_BHND in q's dtype, and with `return_lse` lse_BHN (float32, float64 for float64
        inputs), which carries no gradient. A query without keys has out 0, lse -inf and sends
        gradient 0. Half precision is computed in float32.

    Raises:
        ConfigError: shapes, dtypes or devices that don't fit, a scale that is no finite number, or
            a backend that can't do this.
    """
    sources = [(k_BHMD, v_BHMD, plan, bounds)]
    if return_lse:
        return attend_sources(
            q_BHND, sources, backend=backend, scale=scale, earlier=earlier, return_lse=True
        )
    return attend_sources(q_BHND, sources, backend=backend, scale=scale, earlier=earlier)


@overload
def attend_sources(
    q_BHND: Tensor,
    sources: Sequence[SourceTuple],
    *,
    backend: str = "auto",
    scale: float | None = None,
    earlier: Tensor | None = None,
    return_lse: Literal[False] = False,
) -> Tensor: ...
@overload
def attend_sources(
    q_BHND: Tensor,
    sources: Sequence[SourceTuple],
    *,
    backend: str = "auto",
    scale: float | None = None,
    earlier: Tensor | None = None,
    return_lse: Literal[True],
) -> tuple[Tensor, Tensor]: ...
@uncompiled
def attend_sources(
    q_BHND: Tensor,
    sources: Sequence[SourceTuple],
    *,
    backend: str = "auto",
    scale: float | None = None,
    earlier: Tensor | None = None,
    return_lse: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """One softmax of the same queries over several sets of keys (k, v, plan, bounds).

    Every allowed pair of every source counts once: sources that hold the same event twice, such
    as with and without its label, need bounds that keep them apart. Otherwise as `attend`.
    """
    if not sources:
        raise ConfigError("attend_sources: got no sources, expected at least one")
    _check_queries(q_BHND)
    if any(isinstance(plan, HeadPlan) for _, _, plan, _ in sources):
        return _by_group(q_BHND, sources, backend, scale, earlier, return_lse)
    checked = [_checked(q_BHND, *source, earlier) for source in sources]
    factor = _factor(q_BHND, scale)
    if backend == "auto":
        backend = _choose(q_BHND, checked, return_lse)
        _log_choice(q_BHND.device.type, backend)
    if backend == "sdpa":
        if return_lse:
            raise ConfigError("backend 'sdpa' has no log-sum-exp: use another, such as 'reference'")
        return dense.sdpa(q_BHND, checked, factor)
    if backend == "cpu":
        if q_BHND.device.type != "cpu":
            raise ConfigError(f"backend 'cpu': got tensors on {q_BHND.device}, expected CPU")
        out, lse = cpu(q_BHND, checked, factor)
    elif backend == "flex":
        out, lse = flex(q_BHND, checked, factor)
    elif backend == "reference":
        out, lse = reference(q_BHND, checked, factor)
    else:
        raise ConfigError(f"backend: got {backend!r}, expected one of {BACKENDS}")
    return (out, lse) if return_lse else out


def _choose(q: Tensor, sources: Sequence[Source], return_lse: bool) -> str:
    if q.device.type == "cpu":
        return "cpu"
    if dense.suits(sources, return_lse):
        return "sdpa"
    if q.device.type == "cuda" and q.dtype in DTYPES:
        return "flex"
    pairs = q.shape[2] * sum(source.k.shape[2] for source in sources)
    if pairs <= REFERENCE_PAIRS:
        return "reference"
    raise ConfigError(
        f"no sparse backend for {q.device.type} tensors of {q.dtype}: got {pairs} query-key pairs, "
        f"and 'auto' takes the quadratic 'reference' up to {REFERENCE_PAIRS}. Backends: 'cpu' "
        "(sparse, CPU tensors), 'flex' (sparse, CUDA tensors of at most 32 bits), 'sdpa' (dense "
        "plans), 'reference' (any device): move the tensors, shorten the sequence, or ask for "
        "'reference' by name"
    )


@lru_cache
def _log_choice(device: str, backend: str) -> None:
    _log.info("attention on %s uses backend %r", device, backend)


def _by_group(
    q: Tensor,
    sources: Sequence[SourceTuple],
    backend: str,
    scale: float | None,
    earlier: Tensor | None,
    return_lse: bool,
) -> Tensor | tuple[Tensor, Tensor]:
    """Heads that differ, a group at a time."""
    outs: list[Tensor] = []
    levels: list[Tensor] = []
    for some, given in split_heads(q, sources):
        before = None if earlier is None else earlier[:, some]
        options = {"backend": backend, "scale": scale, "earlier": before}
        if return_lse:
            out, level = attend_sources(q[:, some], given, **options, return_lse=True)
            levels.append(level)
        else:
            out = attend_sources(q[:, some], given, **options)
        outs.append(out)
    out = torch.cat(outs, 1)
    return (out, torch.cat(levels, 1)) if return_lse else out


def _checked(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    plan: Plan | HeadPlan,
    bounds: Tensor | None,
    earlier: Tensor | None,
) -> Source:
    if not isinstance(plan, Plan):  # `_by_group` splits a HeadPlan
        raise ConfigError(
            f"plan: got {plan!r}, expected what its pattern.plan(q, kv) gives for the positions "
            "of queries and keys"
        )
    _check(q, k, v, plan, bounds)
    return Source(k, v, plan, bounds, choose(plan, q, k, bounds, earlier))


def _factor(q: Tensor, scale: float | None) -> float:
    factor: object = q.shape[-1] ** -0.5 if scale is None else scale
    if not isinstance(factor, int | float) or not math.isfinite(factor):
        raise ConfigError(f"scale: got {factor!r}, expected a finite number, or None")
    return factor


def _check_queries(q: Tensor) -> None:
    if q.ndim != 4 or not q.shape[3]:
        raise ConfigError(
            f"q: got shape {tuple(q.shape)}, expected [batch, heads, queries, size] with a size of "
            "at least 1"
        )
    if q.dtype not in KINDS:
        raise ConfigError(f"q: got {q.dtype}, expected one of {', '.join(map(str, KINDS))}")


def _check(q: Tensor, k: Tensor, v: Tensor, plan: Plan, bounds: Tensor | None) -> None:
    batch, heads, queries, size = q.shape
    shared = k.shape[1] if k.ndim == 4 else heads
    if shared < 1 or heads % shared:
        raise ConfigError(f"k: got {shared} heads, expected a divisor of q's {heads} heads")
    expected = (batch, shared, len(plan.kv), size)
    if queries != len(plan.q):
        raise ConfigError(f"q: got {queries} queries, expected {len(plan.q)} as in plan.q {plan.q}")
    for name, tensor in (("k", k), ("v", v)):
        if tuple(tensor.shape) != expected:
            got = tuple(tensor.shape)
            raise ConfigError(f"{name}: got shape {got}, expected {expected} (plan.kv {plan.kv})")
        if tensor.dtype != q.dtype or tensor.device != q.device:
            raise ConfigError(
                f"{name}: got {tensor.dtype} on {tensor.device}, expected {q.dtype} on {q.device}"
            )
    check_bounds(bounds, q)
