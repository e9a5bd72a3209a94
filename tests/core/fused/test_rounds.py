"""Windows read where they lie in a memory give what windows laid out give."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from core.fused.rounds import FusedEncoder, Sight
from core.fused.windows import Events, new_windows
from core.model.gathered import GatheredConfig, GatheredEncoder
from core.model.slots import Seen
from core.model.views import UNKNOWN, KeyedView

DAY, DELAY = 1000, 7000
"""Ticks of time."""


def encoder_of(dim, heads, carried, few_labels):
    torch.manual_seed(0)
    views = tuple(KeyedView(f"v{i}", None, labels=i == 0) for i in range(2))
    config = GatheredConfig(
        views, dim=dim, heads=heads, ffn=24, carried=carried, few_labels=few_labels
    )
    encoder = GatheredEncoder(config).eval()
    with torch.no_grad():
        # As far from where training begins as it may come.
        for parameter in encoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return encoder


def memory_of(encoder, view, events, rng):
    """Events in time order and their rows: every event has one with its label unknown, and some
    have a second."""
    time = np.sort(rng.integers(0, 90 * DAY, events))
    label = rng.integers(0, 3, events).astype(np.int8)
    if not encoder.config.views[view].labels:
        label[:] = UNKNOWN
    twice = label != UNKNOWN
    due = np.where(twice, time + DELAY, 1 << 62)
    row = np.cumsum(1 + twice) - 1 - twice
    width = 2 * encoder.config.head_size + encoder.config.carried
    rows = rng.standard_normal((events + twice.sum(), width)).astype(np.float32)
    day = (time // DAY).astype(np.int32)
    return Events(time, due, day, label, row, twice), rows


def seen_by(encoder, events, rows, at, have, now):
    """The same windows laid out, one slot at a time, in double precision."""
    width, size = have.max(), encoder.config.head_size
    content = np.zeros((len(at), width, rows.shape[1]))
    ages, days = np.zeros((2, len(at), width))
    states = np.full((len(at), width), UNKNOWN)
    bias = np.full((len(at), width), -np.inf)
    for i, place in enumerate(at):
        for back in range(have[i]):
            m, slot = place - back, width - 1 - back
            known = events.due[m] <= now[i]
            content[i, slot] = rows[events.row[m] + (known and events.twice[m])]
            ages[i, slot] = (now[i] - events.time[m]) / DAY
            days[i, slot] = now[i] // DAY - events.day[m]
            states[i, slot] = events.label[m] if known else UNKNOWN
            bias[i, slot] = 0
    keys, values = np.split(content, [size], axis=2)
    whole = torch.from_numpy(days).long(), torch.from_numpy(states).long()
    return Seen(*map(torch.from_numpy, (keys, values, ages)), *whole, torch.from_numpy(bias))


@pytest.mark.parametrize("longest", [1, 4, 63, 64, 65, 111])
@pytest.mark.parametrize(
    ("dim", "heads", "carried", "few_labels"),
    [
        (16, 4, 1, False),
        (48, 5, 3, False),
        (64, 16, 1, False),
        (20, 2, 0, False),
        (36, 17, 2, True),
    ],
)
def test_hidden_states_are_the_twins(dim, heads, carried, few_labels, longest):
    encoder, rng = encoder_of(dim, heads, carried, few_labels), np.random.default_rng(longest)
    targets, sights, seen = 64, [], []
    have = rng.integers(1, longest + 1, targets)
    have[0], have[-1] = longest, 1
    for view in range(2):
        events, rows = memory_of(encoder, view, 300, rng)
        at = np.sort(rng.integers(longest, 300, targets))
        now = events.time[at]
        windows = new_windows(events, at, have, now, events.day[at], DAY)
        sights.append(Sight(rows, windows))
        seen.append(seen_by(encoder, events, rows, at, have, now))
    inputs = [torch.from_numpy(rng.standard_normal((targets, n))) for n in (dim, carried)]
    single = [x.float() for x in inputs]
    with torch.no_grad():
        fused = FusedEncoder(encoder).hidden(*single, sights)
        plain = encoder.hidden(*single, encoder.laid_out([in_single(one) for one in seen]))
        exact = encoder.double()
        twin = exact.hidden(*inputs, exact.laid_out(seen))
    error, usual = fused - twin, plain - twin
    assert error.square().mean().sqrt() < 2 * usual.square().mean().sqrt() + 1e-7
    assert error.abs().max() < 5 * usual.abs().max() + 1e-6


def in_single(seen):
    return Seen(*(x.float() if x.is_floating_point() else x for x in vars(seen).values()))


def test_a_target_is_read_alike_wherever_it_stands():
    encoder, rng = encoder_of(64, 16, 1, False), np.random.default_rng(0)
    memories = [memory_of(encoder, view, 300, rng) for view in range(2)]
    at, have = np.array([250, 120]), np.array([50, 3])
    inputs = [torch.from_numpy(rng.standard_normal((2, n))).float() for n in (64, 1)]

    def found(chosen):
        sights = []
        for events, rows in memories:
            now, today = events.time[at[chosen]], events.day[at[chosen]]
            windows = new_windows(events, at[chosen], have[chosen], now, today, DAY)
            sights.append(Sight(rows, windows))
        return FusedEncoder(encoder).hidden(*(x[chosen] for x in inputs), sights)

    with torch.no_grad():
        both, swapped = found(np.array([0, 1])), found(np.array([1, 0]))
    assert torch.equal(both, swapped.flip(0))
