"""Keyed streams of chunks against one pass."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from core.attention import KeyedStreamState, keyed_attend, keyed_index
from core.attention.saved import from_bytes
from core.errors import ConfigError
from tests.core.attention.helpers import assert_same
from tests.core.attention.test_keyed import DELAY, N, leaves, stream


def one_pass(tensors: list[Tensor], keys: Tensor, times: Tensor, window: int | None) -> Tensor:
    q, k, v, *labelled = tensors
    index = keyed_index(keys, times, window, DELAY if labelled else None)
    with torch.no_grad():
        return keyed_attend(q, k, v, index, labelled=tuple(labelled) if labelled else None)


def streamed(
    state: KeyedStreamState,
    tensors: list[Tensor],
    keys: Tensor,
    times: Tensor,
    sizes: Sequence[int],
) -> Tensor:
    """The sizes in turn, again and again, until everything has passed."""
    outs, at = [], 0
    while at < len(keys):
        for size in sizes:
            now = slice(at, min(at + size, len(keys)))
            q, k, v, *labelled = (x[:, now] for x in tensors)
            pair = (labelled[0], labelled[1]) if labelled else None
            outs.append(state.attend(q, k, v, keys[now], times[now], labelled=pair))
            at = now.stop
    return torch.cat(outs, 1)


@pytest.mark.parametrize("sizes", [[1], [7, 0, 1, 30], [200]], ids=repr)
@pytest.mark.parametrize("window", [0, 1, 3, 1000, None])
@pytest.mark.parametrize("count", [3, 5], ids=["plain", "labelled"])
def test_chunks_equal_one_pass(count: int, window: int | None, sizes: list[int]) -> None:
    tensors, (keys, times) = leaves(count, 150), stream(150)
    state = KeyedStreamState(window, DELAY if count == 5 else None)
    out = streamed(state, tensors, keys, times, sizes)
    assert_same([out], [one_pass(tensors, keys, times, window)])


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 25), min_size=1, max_size=5).filter(any),
    keys=st.lists(st.integers(-3, 3), min_size=1, max_size=60),
    gaps=st.lists(st.integers(0, 3), min_size=60, max_size=60),
    window=st.integers(0, 6) | st.none(),
)
def test_any_stream_in_any_chunks_equals_one_pass(
    sizes: list[int], keys: list[int], gaps: list[int], window: int | None
) -> None:
    n = len(keys)
    key, time = torch.tensor(keys), torch.tensor(gaps[:n]).cumsum(0)
    tensors = leaves(5, n)
    out = streamed(KeyedStreamState(window, DELAY), tensors, key, time, sizes)
    assert_same([out], [one_pass(tensors, key, time, window)])


def test_labels_that_arrive_when_they_are_due_equal_one_pass() -> None:
    tensors, (keys, times) = leaves(), stream()
    state, outs, told = KeyedStreamState(3, DELAY), [], 0
    for at in range(N):
        due = int((times <= times[at] - DELAY).sum())
        if due > told:  # no label before an event may see it
            known = torch.arange(told, due)
            state.label(known, *(x[:, known] for x in tensors[3:]))
            told = due
        now = slice(at, at + 1)
        outs.append(state.attend(*(x[:, now] for x in tensors[:3]), keys[now], times[now]))
    assert_same([torch.cat(outs, 1)], [one_pass(tensors, keys, times, 3)])


def test_an_event_without_a_label_keeps_its_plain_keys() -> None:
    tensors, (keys, times) = leaves(3), stream()
    out = streamed(KeyedStreamState(4, DELAY), tensors, keys, times, [5])
    assert_same([out], [one_pass(tensors, keys, times, 4)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("window", [0, 3, None])
def test_a_saved_stream_goes_on_with_the_same_bits(window: int | None, dtype: torch.dtype) -> None:
    tensors, (keys, times) = leaves(dtype=dtype), stream()
    state = KeyedStreamState(window, DELAY)
    streamed(state, [x[:, :40] for x in tensors], keys[:40], times[:40], [9, 1])
    other = KeyedStreamState.from_bytes(state.to_bytes())
    late = [x[:, :3] + 1 for x in tensors[3:]]
    for one in (state, other):
        one.label(torch.tensor([2, 38, 39]), *late)
    rest = [x[:, 40:] for x in tensors], keys[40:], times[40:], [4, 1]
    assert torch.equal(streamed(state, *rest), streamed(other, *rest))
    assert other.seen == N


@pytest.mark.parametrize("chunk", [1, 50])
def test_memory_is_bounded_by_keys_and_window(chunk: int) -> None:
    n, window = 3000, 4
    generator = torch.Generator().manual_seed(1)
    keys = torch.randint(0, 20, (n,), generator=generator)
    state = KeyedStreamState(window)
    streamed(state, leaves(3, n, torch.float32), keys, torch.arange(n), [chunk])
    saved = from_bytes(state.to_bytes())
    assert len(saved["places"]) == 20 * window
    assert state.rows <= 2 * (20 * window + chunk)
    for key in range(20):
        last = (keys == key).nonzero().flatten()[-window:]
        assert torch.equal(saved["places"][saved["keys"] == key], last)


def test_a_refused_chunk_leaves_the_state_as_it_was() -> None:
    tensors, (keys, times) = leaves(3), stream()
    state = KeyedStreamState(3)
    streamed(state, [x[:, :40] for x in tensors], keys[:40], times[:40], [40])
    rest = [x[:, 40:] for x in tensors]
    with pytest.raises(ConfigError, match="time order over chunks"):
        state.attend(*rest, keys[40:], times[:21])
    with pytest.raises(ConfigError, match="time order"):
        state.attend(*rest, keys[40:], times[40:].flip(0) + 1)
    with pytest.raises(ConfigError, match="as in the first chunk"):
        state.attend(*(x.float() for x in rest), keys[40:], times[40:])
    with pytest.raises(ConfigError, match="as in the first chunk"):
        state.attend(*rest, keys[40:], times[40:].float())
    with pytest.raises(ConfigError, match="1 NaN among the times of 1 events"):
        state.attend(*(x[:, :1] for x in rest), keys[40:41], times[40:41] * torch.nan)
    with pytest.raises(ConfigError, match="backend"):
        state.attend(*rest, keys[40:], times[40:], backend="magic")
    out = state.attend(*rest, keys[40:], times[40:])
    assert_same([out], [one_pass(tensors, keys, times, 3)[:, 40:]])


def test_unusable_input_says_why() -> None:
    tensors, (keys, times) = leaves(), stream()
    q, k, v, *labelled = tensors
    with pytest.raises(ConfigError, match="above 0"):
        KeyedStreamState(3, 0)
    with pytest.raises(ConfigError, match="window -1"):
        KeyedStreamState(-1)
    with pytest.raises(ConfigError, match="expected a state with a delay"):
        KeyedStreamState(3).attend(q, k, v, keys, times, labelled=(labelled[0], labelled[1]))
    with pytest.raises(ConfigError, match="alike"):
        KeyedStreamState(3).attend(q, k, v[:, 1:], keys, times)
    with pytest.raises(ConfigError, match=r"keys torch\.float64"):
        KeyedStreamState(3).attend(q[:, :1], k[:, :1], v[:, :1], times[:1], times[:1])
    with pytest.raises(ConfigError, match=r"expected \[heads, 61, size\]"):
        KeyedStreamState(3).attend(q[:, :1], k, v, keys, times)
    state = KeyedStreamState(3, DELAY)
    with pytest.raises(ConfigError, match="events before them"):
        state.label(torch.tensor([0]), k[:, :1], v[:, :1])
    state.attend(q, k, v, keys, times)
    with pytest.raises(ConfigError, match="among the 61 seen"):
        state.label(torch.tensor([N]), k[:, :1], v[:, :1])
    with pytest.raises(ConfigError, match=r"got events torch\.float32 \(1,\), expected int64"):
        state.label(torch.tensor([0.5]), k[:, :1], v[:, :1])
    with pytest.raises(ConfigError, match=r"expected torch\.float64"):
        state.label(torch.tensor([0]), k[:, :2], v[:, :2])
