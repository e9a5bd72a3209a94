"""Keyed views against a plain loop over events."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from torch import Tensor

from core.attention import keyed_attend, keyed_index
from core.errors import ConfigError
from tests.core.attention.helpers import assert_same, gradients

N = 61
DELAY = 4.0


def stream(n: int = N) -> tuple[Tensor, Tensor]:
    """Keys of very different frequency; times with ties."""
    generator = torch.Generator().manual_seed(2)
    keys = (torch.rand(n, generator=generator) ** 3 * 6).long() * 11 - 20
    times = (torch.rand(n, generator=generator, dtype=torch.float64) * 30).round().sort().values
    return keys, times


def leaves(count: int = 5, n: int = N, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    made = [torch.randn(2, n, 4, generator=generator, dtype=torch.float64) for _ in range(count)]
    return [x.to(dtype).requires_grad_() for x in made]


def event_by_event(
    keys: Tensor, times: Tensor, window: int | None, tensors: list[Tensor], delay: float | None
) -> tuple[Tensor, Tensor]:
    """The definition, one event at a time."""
    q, k, v, *labelled = tensors
    outs, levels = [], []
    for i in range(len(keys)):
        past = [j for j in range(i + 1) if keys[j] == keys[i]]
        past = past if window is None else past[-window - 1 :]
        known = [delay is not None and bool(times[j] <= times[i] - delay) for j in past]
        k_past, v_past = (
            torch.stack(
                [
                    (labelled[side] if old else plain)[:, j]
                    for j, old in zip(past, known, strict=True)
                ],
                1,
            )
            for side, plain in enumerate((k, v))
        )
        scores = (k_past @ q[:, i, :, None])[..., 0] / 2
        outs.append((scores.softmax(-1)[:, None] @ v_past)[:, 0])
        levels.append(scores.logsumexp(-1))
    return torch.stack(outs, 1), torch.stack(levels, 1)


@pytest.mark.parametrize("window", [0, 3, 1000, None])
def test_equals_the_loop_over_events(window: int | None) -> None:
    tensors, (keys, times) = leaves(3), stream()
    index = keyed_index(keys, times, window)
    out, lse = keyed_attend(*tensors, index, return_lse=True)
    expected, level = event_by_event(keys, times, window, tensors, None)
    assert_same([out, lse], [expected, level.detach()])
    assert_same(gradients(out, tensors), gradients(expected, tensors))


@pytest.mark.parametrize("window", [3, None])
def test_matured_labels_equal_the_loop_over_events(window: int | None) -> None:
    tensors, (keys, times) = leaves(), stream()
    index = keyed_index(keys, times, window, DELAY)
    out = keyed_attend(*tensors[:3], index, labelled=(tensors[3], tensors[4]))
    expected, _ = event_by_event(keys, times, window, tensors, DELAY)
    assert_same([out, *gradients(out, tensors)], [expected, *gradients(expected, tensors)])


@pytest.mark.parametrize("delay", [1e-30, 1, 4])
def test_no_label_reaches_an_event_before_it_is_known(delay: float) -> None:
    tensors, (keys, times) = leaves(), stream()
    index = keyed_index(keys, times, None, delay)
    out = keyed_attend(*tensors[:3], index, labelled=(tensors[3], tensors[4]))
    for i in range(0, N, 7):
        (grad,) = torch.autograd.grad(out[:, i].sum(), tensors[4], retain_graph=True)
        used = grad.abs().sum((0, 2)) > 0
        assert used.tolist() == [
            bool(j < i and keys[j] == keys[i] and times[j] <= times[i] - delay) for j in range(N)
        ]


@pytest.mark.parametrize("events", [1, 9, 40])
def test_a_suffix_of_queries_equals_the_full_pass(events: int) -> None:
    keys, times = stream()
    tensors = leaves(dtype=torch.float32)
    index = keyed_index(keys, times, 5, DELAY)
    labelled = (tensors[3], tensors[4])
    query = torch.arange(N - events, N)
    full, level = keyed_attend(*tensors[:3], index, labelled=labelled, return_lse=True)
    q = tensors[0][:, query]
    out, lse = keyed_attend(
        q, *tensors[1:3], index, labelled=labelled, query=query, return_lse=True
    )
    assert_same([out, lse], [full[:, query], level[:, query]], tolerance=1e-5)
    assert_same(gradients(out, tensors), gradients(full[:, query], tensors), tolerance=1e-5)


REPEATS = {
    "two": [50, 50],
    "one of many": [*range(40, 50), 41],
    "some of many": [*range(40, 50), 3, 41, 60, 41],
    "as many again": [*range(N), *reversed(range(N))],
    "one event": [50] * 40,
    "backwards, thrice": list(range(N))[::-2] * 3,
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("labels", [False, True], ids=["plain", "labelled"])
@pytest.mark.parametrize("query", REPEATS.values(), ids=REPEATS)
def test_an_event_may_be_asked_for_more_than_once(
    query: list[int], labels: bool, dtype: torch.dtype
) -> None:
    """Each time with a query of its own, as if one after the other."""
    (keys, times), (_, k, v, *kv) = stream(), leaves(dtype=dtype)
    index, labelled = keyed_index(keys, times, 5, DELAY), (kv[0], kv[1]) if labels else None
    q, tolerance = leaves(1, len(query), dtype)[0], 1e-9 if dtype == torch.float64 else 1e-5
    used = [q, k, v, *kv] if labels else [q, k, v]

    def ask(first: int, last: int) -> tuple[Tensor, Tensor]:
        at = torch.tensor(query[first:last])
        some = q[:, first:last]
        return keyed_attend(some, k, v, index, labelled=labelled, query=at, return_lse=True)

    for seen in (1, len(query)):  # of the outputs, by the loss
        alone = [ask(at, at + 1) for at in range(len(query))]
        expected, level = (torch.cat(one, 1) for one in zip(*alone, strict=True))
        out, lse = ask(0, len(query))
        assert_same([out, lse], [expected, level], tolerance)
        twins = (gradients(x[:, :seen], used) for x in (out, expected))
        assert_same(*twins, tolerance=tolerance)


def test_queries_may_come_in_any_order() -> None:
    (keys, times), tensors = stream(), leaves(3)
    index, query = keyed_index(keys, times, None), torch.tensor([50, 3, 17])
    out = keyed_attend(tensors[0][:, query], *tensors[1:], index, query=query)
    assert_same([out], [keyed_attend(*tensors, index)[:, query]])


def test_renaming_keys_changes_nothing() -> None:
    (keys, times), tensors = stream(), leaves(3)
    renamed = torch.unique(keys, return_inverse=True)[1] * -7
    assert_same(
        [keyed_attend(*tensors, keyed_index(renamed, times, 4))],
        [keyed_attend(*tensors, keyed_index(keys, times, 4))],
    )


def test_later_events_change_nothing() -> None:
    (keys, times), tensors = stream(), leaves(3)
    start = [x[:, :40] for x in tensors]
    alone = keyed_attend(*start, keyed_index(keys[:40], times[:40], 4))
    assert_same([alone], [keyed_attend(*tensors, keyed_index(keys, times, 4))[:, :40]])


def test_integer_times_keep_their_precision() -> None:
    times = 1_700_000_000_000_000_000 + torch.arange(4)
    index = keyed_index(torch.zeros(4, dtype=torch.int64), times, None, delay=2)
    assert index.mature is not None and index.mature.tolist() == [0, 0, 1, 2]


def test_unusable_streams_say_why() -> None:
    keys, times = stream()
    with pytest.raises(ConfigError, match="time order"):
        keyed_index(keys, times.flip(0), 3)
    with pytest.raises(ConfigError, match="above 0"):
        keyed_index(keys, times, 3, delay=0)
    with pytest.raises(ConfigError, match="1 NaN among 61, expected a number for every event"):
        keyed_index(keys, torch.cat((times[:-1], torch.tensor([torch.nan]))), 3)
    with pytest.raises(ConfigError, match=r"window 1\.5, expected an integer"):
        keyed_index(keys, times, cast(int, 1.5))
    with pytest.raises(ConfigError, match="integer keys"):
        keyed_index(times, times, 3)
    tensors = leaves()
    with pytest.raises(ConfigError, match="index with a delay"):
        index = keyed_index(keys, times, 3)
        keyed_attend(*tensors[:3], index, labelled=(tensors[3], tensors[4]))
    with pytest.raises(ConfigError, match="q: got shape"):
        keyed_attend(tensors[0][:, 1:], *tensors[1:3], keyed_index(keys, times, 3))
    with pytest.raises(ConfigError, match="keys and values: got shapes"):
        longer = (tensors[3].repeat(1, 2, 1), tensors[4])
        index = keyed_index(keys, times, 3, DELAY)
        keyed_attend(*tensors[:3], index, labelled=longer)


@pytest.mark.parametrize("n", [N, 200])
def test_events_to_score_are_those_of_the_stream(n: int) -> None:
    """One query among many events gathers, among few it goes through the band."""
    index = keyed_index(torch.zeros(n, dtype=torch.int64), torch.arange(n), 3)
    q, k, v = leaves(n=n)[:3]
    for event in (-1, n):
        with pytest.raises(ConfigError, match=f"got events {event} to {event}, .* the {n} of"):
            keyed_attend(q[:, :1], k, v, index, query=torch.tensor([event]))
    for wrong in (torch.tensor([1.0]), torch.tensor([[1]]), torch.tensor([True])):
        with pytest.raises(ConfigError, match="expected int64"):
            keyed_attend(q[:, :1], k, v, index, query=wrong)


def test_an_empty_stream_gives_nothing() -> None:
    index = keyed_index(torch.zeros(0, dtype=torch.int64), torch.zeros(0), 3, DELAY)
    tensors = leaves(5, n=0)
    out = keyed_attend(*tensors[:3], index, labelled=(tensors[3], tensors[4]))
    assert out.shape == (2, 0, 4)
