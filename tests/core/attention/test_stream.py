"""Streams of chunks against one pass."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from core.attention import (
    Causal,
    Dilated,
    Fixed,
    Global,
    HeadGroups,
    Pattern,
    Random,
    StreamState,
    Strided,
    TopK,
    Window,
    attend,
    longformer,
)
from core.attention.patterns import BasePattern
from core.attention.retention import retention
from core.attention.saved import from_bytes, to_bytes
from core.errors import ConfigError
from tests.core.attention.helpers import PATTERNS, assert_same, inputs

LEARNED = {
    "topk": TopK(3, block=8),
    "topk-longformer": longformer(4, (0, 30)) | TopK(4, block=8),
    "topk-two": TopK(4, block=8) | TopK(2, block=16) | Random(1, seed=0, block=8),
    "topk-cut": (TopK(4, block=8) & Window(30)) | Strided(7),
}
HEADS: dict[str, Pattern] = {  # of two heads of keys
    "heads": HeadGroups(((Window(5), 1), (longformer(40, (0, 30)), 1))),
    "heads-learned": HeadGroups(((TopK(2, block=8) | Window(3), 1), (Fixed(12, 2), 1))),
}
CAUSAL = {name: pattern & Causal() for name, pattern in (PATTERNS | LEARNED | HEADS).items()}
LENGTHS = [1, 17, 63, 111, 128, 129, 300]


@dataclass(frozen=True)
class Even(BasePattern):
    """A pattern that streams know nothing of."""

    kind = "even-in-stream-test"

    def allowed(self, i: Tensor, j: Tensor) -> Tensor:
        return (i + j) % 2 == 0


def one_pass(pattern: Pattern, q: Tensor, k: Tensor, v: Tensor, low: Tensor | None = None):
    """The reference over everything; `low` [B, N] is the first key a query may see."""
    n = q.shape[2]
    bounds = None if low is None else torch.stack((low, torch.full_like(low, n)), -1).int()
    plan = pattern.plan(range(n), range(n))
    with torch.no_grad():
        return attend(q, k, v, plan, bounds, backend="reference")


def streamed(
    state: StreamState, q: Tensor, k: Tensor, v: Tensor, sizes: Iterable[int], low=None
) -> Tensor:
    """The sizes in turn, again and again, until everything has passed."""
    outs, at, sizes = [], 0, list(sizes)
    while at < q.shape[2]:
        for size in sizes:
            now = slice(at, min(at + size, q.shape[2]))
            start = None if low is None else low[:, now]
            outs.append(state.attend(q[:, :, now], k[:, :, now], v[:, :, now], start=start))
            at = now.stop
    return torch.cat(outs, 2)


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("pattern", CAUSAL.values(), ids=CAUSAL.keys())
def test_chunks_equal_one_pass(pattern: Pattern, n: int) -> None:
    q, k, v = inputs(n)
    expected = one_pass(pattern, q, k, v)
    for sizes in ([1, 7, 64, 0, 23], [129]):
        out = streamed(StreamState(pattern, block=16), q, k, v, sizes)
        assert_same([out], [expected])


@pytest.mark.parametrize("n", [17, 129])
@pytest.mark.parametrize("pattern", CAUSAL.values(), ids=CAUSAL.keys())
def test_event_by_event_equals_one_pass(pattern: Pattern, n: int) -> None:
    q, k, v = inputs(n, batch=1)
    out = streamed(StreamState(pattern), q, k, v, [1])
    assert_same([out], [one_pass(pattern, q, k, v)])


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 90), min_size=1, max_size=6).filter(any),
    name=st.sampled_from(sorted(CAUSAL)),
    n=st.integers(1, 260),
)
def test_any_split_equals_one_pass(sizes: list[int], name: str, n: int) -> None:
    q, k, v = inputs(n, batch=1)
    out = streamed(StreamState(CAUSAL[name], block=8), q, k, v, sizes)
    assert_same([out], [one_pass(CAUSAL[name], q, k, v)])


SOME = ["window-causal", "global", "bigbird", "fixed", "everything-causal", "topk-two", "topk-cut"]


@pytest.mark.parametrize("name", SOME)
def test_shared_keys_equal_one_pass(name: str) -> None:
    q, k, v = inputs(150)
    k, v = k[:, :1], v[:, :1]
    out = streamed(StreamState(CAUSAL[name]), q, k, v, [31, 1])
    assert_same([out], [one_pass(CAUSAL[name], q, k, v)])


@pytest.mark.parametrize("sizes", [[1], [31, 1]], ids=repr)
def test_groups_of_heads_that_share_keys_equal_one_pass(sizes: list[int]) -> None:
    groups = ((Window(9), 1), (Global((0, 40)) | Window(3), 2), (TopK(2, block=8), 1))
    pattern = HeadGroups(groups) & Causal()
    seeds = (range(4), range(4, 6), range(6, 8))  # 8 heads of queries, 4 of keys
    q, k, v = (torch.cat([inputs(90, seed=seed)[0] for seed in some], 1) for some in seeds)
    out = streamed(StreamState(pattern), q, k, v, sizes)
    assert_same([out], [one_pass(pattern, q, k, v)])


@pytest.mark.parametrize("sizes", [[1], [37, 5]], ids=repr)
@pytest.mark.parametrize("name", [*SOME, *HEADS])
def test_rows_that_start_later_and_packed_documents_equal_one_pass(name: str, sizes) -> None:
    n = 140
    q, k, v = inputs(n, batch=3)
    low = torch.zeros(3, n, dtype=torch.int64)
    low[1] = 57  # padding before
    for first in (9, 80, 131):
        low[2, first:] = first
    out = streamed(StreamState(CAUSAL[name]), q, k, v, sizes, low)
    assert_same([out], [one_pass(CAUSAL[name], q, k, v, low)])
    assert bool((out[1, :, :57] == 0).all())


def test_a_start_a_sequence_is_the_same_as_one_a_token() -> None:
    q, k, v = inputs(20)
    state, same = StreamState(Causal()), StreamState(Causal())
    start = torch.tensor([0, 12])
    assert torch.equal(
        state.attend(q, k, v, start=start),
        same.attend(q, k, v, start=start[:, None].expand(-1, 20)),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", [*SOME, *HEADS])
def test_a_saved_stream_goes_on_with_the_same_bits(name: str, dtype: torch.dtype) -> None:
    q, k, v = inputs(230, dtype=dtype)
    state = StreamState(CAUSAL[name])
    streamed(state, *(x[:, :, :130] for x in (q, k, v)), [50, 1, 1])
    other = StreamState.from_bytes(state.to_bytes())
    rest = [x[:, :, 130:] for x in (q, k, v)]
    assert torch.equal(streamed(state, *rest, [1, 9]), streamed(other, *rest, [1, 9]))
    assert (other.rows, other.seen) == (state.rows, 230)


def test_a_saved_stream_shares_no_memory_and_may_be_new() -> None:
    q, k, v = inputs(30)
    state = StreamState(Window(50) & Causal())
    new = StreamState.from_bytes(state.to_bytes())
    streamed(state, q, k, v, [30])
    saved = state.state_dict()
    saved["0.tail.rows"].zero_()
    expected = one_pass(Window(50) & Causal(), *(torch.cat((x, x), 2) for x in (q, k, v)))
    assert_same([state.attend(q, k, v)], [expected[:, :, 30:]])
    assert_same([new.attend(q, k, v)], [expected[:, :, :30]])


BOUNDED = {
    "window": (Window(20), 20),
    "dilated": (Dilated(5, 4), 20),
    "random": (Random(2, seed=3, block=8) & Window(20), 20),
    "global": (Global((5, 40)) & Window(20), 20),
    "longformer": (longformer(20, (0, 7, 130)), 20 + 3),
    "fixed": (Fixed(21, 1), 20 + 2000 // 21 + 1),
    "heads": (HeadGroups(((Window(2), 1), (longformer(200, (0, 7)), 1))), 2 + 200 + 2),
}


@pytest.mark.parametrize("chunk", [1, 13])
@pytest.mark.parametrize("name", BOUNDED)
def test_memory_is_bounded_by_reach_and_chunk(name: str, chunk: int) -> None:
    pattern, kept = BOUNDED[name]
    state = StreamState(pattern & Causal())
    q, k, v = inputs(2000, batch=1, dtype=torch.float32)
    streamed(state, q, k, v, [chunk])
    assert state.rows <= 4 * (kept + chunk)
    saved = from_bytes(state.to_bytes())
    held = sum(x.shape[3] for name, x in saved.items() if name.endswith(".rows"))
    assert held <= kept


def test_steps_of_a_stream_share_their_plans() -> None:
    pattern = (Window(30) | Fixed(8, 2) | Global((3,))) & Causal()
    kept, places = retention(pattern), set()
    for seen in range(100, 400):
        q, kv = range(seen, seen + 5), range(kept.first_kept(seen), seen + 5)
        there = kept.placed(q, kv)
        places.add(there)
        at, moved = ((torch.tensor(a)[:, None], torch.tensor(b)) for a, b in ((q, kv), there))
        assert torch.equal(pattern.allowed(*at), pattern.allowed(*moved))
    assert len(places) == 8


def test_a_refused_chunk_leaves_the_state_as_it_was() -> None:
    q, k, v = inputs(40)
    state = StreamState(Causal())
    with pytest.raises(ConfigError, match="backend"):
        state.attend(q, k, v, backend="magic")
    with pytest.raises(ConfigError, match="expected torch"):
        state.attend(q.float(), k, v)
    streamed(state, *(x[:, :, :25].float() for x in (q, k, v)), [25])
    with pytest.raises(ConfigError, match="as in the first chunk"):
        state.attend(q, k, v)
    with pytest.raises(ConfigError, match="backend"):
        state.attend(*(x[:, :, 25:].float() for x in (q, k, v)), backend="magic")
    rest = state.attend(*(x[:, :, 25:].float() for x in (q, k, v)))
    expected = one_pass(Causal(), *(x.float() for x in (q, k, v)))[:, :, 25:]
    assert_same([rest], [expected], 1e-5)


def test_a_chunk_that_the_last_group_refuses_leaves_all_as_they_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise ConfigError("refused")

    q, k, v = inputs(40)
    state = StreamState(CAUSAL["heads"])
    for size in (25, 15):
        now = [x[:, :, state.seen : state.seen + size] for x in (q, k, v)]
        with monkeypatch.context() as patch, pytest.raises(ConfigError, match="refused"):
            patch.setattr(state._pasts[1], "attend", refuse)
            state.attend(*now)
        out = state.attend(*now)
    assert_same([out], [one_pass(CAUSAL["heads"], q, k, v)[:, :, 25:]])


def test_what_a_stream_cannot_follow_is_refused_with_a_sentence() -> None:
    q, k, v = inputs(9)
    for name in ("window", "lopsided", "global", "random", "strided", "fixed", "log", "dense"):
        with pytest.raises(ConfigError, match=r"sees tokens after it.*& Causal"):
            StreamState(PATTERNS[name])
    with pytest.raises(ConfigError, match="no rule for what of the past stays visible"):
        StreamState(Even() & Causal())
    with pytest.raises(ConfigError, match=r"sees tokens after it.*& Causal"):
        StreamState(HeadGroups(((Causal(), 1), (Window(3), 1))))
    with pytest.raises(ConfigError, match="k: got 1 heads, expected 2 as in the groups"):
        StreamState(CAUSAL["heads"]).attend(q, k[:, :1], v[:, :1])
    state = StreamState(Causal())
    with pytest.raises(ConfigError, match="equal tokens"):
        state.attend(q, k[:, :, 1:], v[:, :, 1:])
    with pytest.raises(ConfigError, match="stream start"):
        state.attend(q, k, v, start=torch.zeros(3, dtype=torch.int64))
    state.attend(q, k, v)
    for wrong in (k[:1], k[:, :1], k[..., :2], k.half()):
        with pytest.raises(ConfigError, match="as in the first chunk"):
            state.attend(q[: len(wrong)], wrong, wrong)
    with pytest.raises(ConfigError, match="no safetensors file"):
        StreamState.from_bytes(b"something else")
    with pytest.raises(ConfigError, match="expected 'stream'"):
        StreamState.from_bytes(to_bytes({"x": q.detach()}))
