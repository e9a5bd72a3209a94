"""Promises of core.model.keyed."""

from __future__ import annotations

import pytest
import torch

from core.errors import ConfigError
from core.model.keyed import KeyedEncoder, KeyedEncoderConfig, Memory
from core.model.views import NO_EVENT, UNKNOWN, KeyedView

DELAY = 40


def gathered(config, events, times, labels, keys):
    """Every event as a target, its windows written out by the definition."""
    memory = []
    for view, key in zip(config.views, keys, strict=True):
        rows, states, slots = [], [], []
        for i in range(len(times)):
            past = [j for j in range(i + 1) if key[j] == key[i]]
            past = past if view.window is None else past[-view.window :]
            slots.append(range(len(rows), len(rows) + len(past)))
            rows += past
            states += [int(labels[j]) if times[j] <= times[i] - DELAY else UNKNOWN for j in past]
        width = max(len(s) for s in slots)
        table = torch.tensor([[NO_EVENT] * (width - len(s)) + list(s) for s in slots])
        memory.append(Memory(events[rows], times[rows], torch.tensor(states), table))
    return memory


def example(dtype, windows=(5, None, 7), n=83):
    torch.manual_seed(0)
    views = tuple(KeyedView(f"v{i}", w, labels=i != 1) for i, w in enumerate(windows))
    config = KeyedEncoderConfig(views, dim=24, heads=4, rounds=2, ffn=32, time_unit=50.0)
    encoder = KeyedEncoder(config).to(dtype).eval()
    events = torch.randn(n, 24, dtype=dtype)
    times = torch.randint(0, 300, (n,)).sort().values + 1_500_000_000
    labels = torch.randint(0, 3, (n,))
    keys = [torch.randint(0, k, (n,)) for k in (6, 11, 1)]
    return encoder, events, times, labels, keys


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-5), (torch.float64, 1e-9)])
def test_gathered_targets_equal_the_stream(dtype, close):
    encoder, events, times, labels, keys = example(dtype)
    memory = gathered(encoder.config, events, times, labels, keys)
    with torch.no_grad():
        by_target = encoder.targets(events, times, memory)
        by_stream = encoder.stream(events, times, labels, keys, DELAY)
        some = torch.tensor([80, 3, 41])
        asked = encoder.stream(events, times, labels, keys, DELAY, query=some)
    torch.testing.assert_close(by_stream, by_target, rtol=close, atol=close)
    torch.testing.assert_close(asked, by_target[some], rtol=close, atol=close)


def test_later_events_and_unknown_labels_change_nothing():
    encoder, events, times, labels, keys = example(torch.float64)
    now = 50
    other_events, other_labels = events.clone(), labels.clone()
    other_events[now + 1 :] = 9.0
    other_labels[times > times[now] - DELAY] = 1
    with torch.no_grad():
        before = encoder.stream(events, times, labels, keys, DELAY)[: now + 1]
        after = encoder.stream(other_events, times, other_labels, keys, DELAY)[: now + 1]
    assert torch.equal(before[now], after[now])


def test_matured_labels_are_seen():
    encoder, events, times, labels, keys = example(torch.float64)
    with torch.no_grad():
        before = encoder.stream(events, times, labels, keys, DELAY)
        after = encoder.stream(events, times, (labels + 1) % 3, keys, DELAY)
    assert (before[-1] - after[-1]).abs().max() > 1e-3


def test_moving_all_times_together_changes_nothing():
    encoder, events, times, labels, keys = example(torch.float64)
    with torch.no_grad():
        before = encoder.stream(events, times, labels, keys, DELAY)
        after = encoder.stream(events, times + 123_457, labels, keys, DELAY)
    torch.testing.assert_close(before, after, rtol=1e-7, atol=1e-7)


def test_every_parameter_of_targets_gets_a_gradient():
    encoder, events, times, labels, keys = example(torch.float64)
    encoder.targets(events, times, gathered(encoder.config, events, times, labels, keys)).pow(
        2
    ).sum().backward()
    dead = [n for n, p in encoder.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    assert not dead


@pytest.mark.parametrize(
    "wrong", [{"dim": 30, "heads": 4}, {"heads": 1}, {"rounds": 0}, {"views": ()}]
)
def test_unusable_sizes_are_refused(wrong):
    views = (KeyedView("a", 4), KeyedView("b", 4))
    with pytest.raises(ConfigError):
        KeyedEncoderConfig(**{"views": views, **wrong})
