"""Promises of core.model.gathered and core.model.ages."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from core.errors import ConfigError
from core.model.ages import DAILY, KNOTS, daily_features, fine_features, hat_sum, hats, steps
from core.model.gathered import GatheredConfig, GatheredEncoder
from core.model.landmarks import DEVIATIONS, FEWEST, NARROWEST
from core.model.slots import FEATURES, Seen, write_features
from core.model.views import UNKNOWN, KeyedView

TARGETS, CARRIED = 5, 3


def example(windows=(7, 4), forget=0.0):
    torch.manual_seed(0)
    views = tuple(KeyedView(f"v{i}", w, labels=i == 0) for i, w in enumerate(windows))
    config = GatheredConfig(views, dim=16, heads=5, ffn=24, forget=forget, carried=CARRIED)
    encoder = GatheredEncoder(config).double().eval()
    inputs = [torch.randn(TARGETS, n, dtype=torch.float64) for n in (16, CARRIED)]
    seen = [windowful(encoder, v, w) for v, w in enumerate(windows)]
    return encoder, *inputs, seen


def windowful(encoder, view, width):
    """A view of random events; each target lacks its first few."""
    events = torch.randn(TARGETS * width, 8, dtype=torch.float64, requires_grad=True)
    states = torch.randint(0, 3, (TARGETS, width))
    if not encoder.config.views[view].labels:
        states = torch.full_like(states, UNKNOWN)
    pair = encoder.remember(view, events, states.flatten())
    keys, values = (part.unflatten(0, (TARGETS, width)) for part in pair)
    ages = torch.rand(TARGETS, width, dtype=torch.float64).sort(dim=1, descending=True).values * 60
    ages[:, -1] = 0
    bias = torch.zeros(TARGETS, width, dtype=torch.float64)
    bias[torch.arange(width) < torch.arange(TARGETS)[:, None] - 1] = -math.inf
    bias[:, -1] = 0
    carried = torch.randn(TARGETS, width, CARRIED, dtype=torch.float64)
    values = torch.cat([values, carried], dim=-1)
    return Seen(keys, values, ages, ages.round().long(), states, bias)


def by_definition(encoder, events, numbers, seen):
    """One target, one round, one head, one event at a time."""
    out = []
    for t in range(TARGETS):
        hidden = events[t]
        for layer in encoder.rounds:
            query = layer.query(layer.norm(hidden)).view(encoder.config.heads, -1)
            read, head = [], 0
            for v, view in enumerate(seen):
                for _ in range(encoder.config.heads_of(v)):
                    read.append(read_one(query[head], layer.sink[head], numbers[t], view, t))
                    head += 1
            hidden = hidden + layer.out(torch.cat(read))
            hidden = hidden + layer.ffn(hidden)
        out.append(encoder.norm(hidden))
    return torch.stack(out)


def read_one(query, sink, number, view, t):
    size, mass = view.keys.shape[-1], torch.zeros((), dtype=torch.float64)
    total = torch.zeros(size + FEATURES, dtype=torch.float64)
    beyond, weights = [], []
    for w in range(view.keys.shape[1]):
        if view.bias[t, w] == -math.inf:
            continue
        state = torch.eye(3, dtype=torch.float64)[view.states[t, w]]
        day = daily_features(torch.float64)[view.days[t, w].clamp(max=KNOTS[-1])]
        age = torch.cat([state, day, torch.stack(fine_features(view.ages[t, w]))])
        weight = torch.exp(
            query[:size] @ view.keys[t, w] / math.sqrt(size) + query[size:] @ age + view.bias[t, w]
        )
        mass = mass + weight
        total = total + weight * torch.cat([view.values[t, w, :size], age])
        beyond.append(number - view.values[t, w, size:])
        weights.append(weight)
    values, age = (total / mass).split([size, len(age)])
    scaled = torch.cat([age[:-1], age[-1:] / 14])
    alone = torch.zeros(len(number) * len(DEVIATIONS), dtype=torch.float64)
    others = len(weights) - 1
    told = compared(beyond[:others], weights[:others], mass) if others else alone
    found = torch.cat([values, scaled, told, hats(age[-1], DAILY)])
    return torch.cat([found * torch.sigmoid(mass.log() - sink), mass.log()[None] / 4])


def compared(beyond, weights, mass):
    """Differences from the mean of the other events, then standard scores; weak where a head looked
    at hardly any of them."""
    beyond, weights = torch.stack(beyond), torch.stack(weights)
    share = weights / weights.sum()
    mean = (share[:, None] * beyond).sum(0)
    spread = ((share[:, None] * (beyond - mean) ** 2).sum(0) + NARROWEST**2).sqrt()
    scores = steps(torch.asinh(mean / spread), DEVIATIONS).flatten()
    return torch.cat([mean, scores]) * (weights.sum() / mass / FEWEST).clamp_max(1)


def test_values_and_gradients_equal_the_definition():
    encoder, events, numbers, seen = example()
    inputs = [events.requires_grad_(), numbers.requires_grad_(), *encoder.parameters()]
    weight = torch.randn(TARGETS, 16, dtype=torch.float64)
    ours, twin = encoder(events, numbers, seen), by_definition(encoder, events, numbers, seen)
    torch.testing.assert_close(ours, twin, rtol=1e-10, atol=1e-10)
    found, expected = (
        torch.autograd.grad((x * weight).sum(), inputs, retain_graph=True) for x in (ours, twin)
    )
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    assert all(g.abs().sum() > 0 for g in found)


def test_what_is_not_there_changes_no_bit():
    encoder, events, numbers, seen = example()
    other = []
    for view in seen:
        empty = view.bias == -math.inf
        assert empty.any()
        parts = {
            name: getattr(view, name).masked_fill(empty[..., None], 50.0)
            for name in ("keys", "values")
        }
        other.append(replace(view, ages=view.ages.masked_fill(empty, 50.0), **parts))
    assert torch.equal(encoder(events, numbers, seen), encoder(events, numbers, other))


def test_a_view_without_labels_does_not_see_them():
    encoder, *_ = example()
    events = torch.randn(6, 8, dtype=torch.float64)
    zero, one = torch.zeros(6, dtype=torch.long), torch.ones(6, dtype=torch.long)
    assert torch.equal(encoder.remember(1, events, zero)[0], encoder.remember(1, events, one)[0])
    assert not torch.equal(
        encoder.remember(0, events, zero)[0], encoder.remember(0, events, one)[0]
    )


def test_the_states_of_a_view_without_labels_change_no_bit():
    encoder, events, numbers, seen = example()
    before = encoder(events, numbers, seen)
    for view, hidden in ((1, True), (0, False)):
        other = list(seen)
        other[view] = replace(seen[view], states=(seen[view].states + 1) % 3)
        assert torch.equal(encoder(events, numbers, other), before) == hidden


def test_sums_of_daily_values_are_the_linear_map_of_hats():
    torch.manual_seed(0)
    ages = torch.tensor([[0.0, 0.25, 41.5], [42.0, 49.0, 56.0], [70.0, 84.0, 1000.0]]).double()
    weight, values = (torch.randn(size, dtype=torch.float64) for size in ((3, 3), (3, 45, 4)))
    expected = torch.einsum("th,thk,hkd->td", weight, hats(ages, DAILY), values)
    torch.testing.assert_close(hat_sum(ages, weight, values), expected)


def test_features_written_in_place_are_those_laid_out():
    _, _, _, seen = example()
    size, expected = seen[0].keys.shape[-1], seen[0].laid_out(True).content
    written = expected.detach().clone()
    written[..., size : size + FEATURES] = math.nan
    write_features(written, size, seen[0].ages, seen[0].days, seen[0].states)
    assert torch.equal(written, expected)


def test_hats_are_linear_between_knots_and_constant_outside():
    x = torch.tensor([-3.0, 0.0, 3.0, 20.0, 1000.0], dtype=torch.float64)
    line = hats(x) @ torch.tensor(KNOTS, dtype=torch.float64)
    torch.testing.assert_close(line, x.clamp(KNOTS[0], KNOTS[-1]))
    assert torch.equal(hats(x).count_nonzero(dim=-1), torch.tensor([1, 1, 2, 2, 1]))


@pytest.mark.parametrize("wrong", [{"dim": 18}, {"heads": 1}, {"rounds": 0}, {"views": ()}])
def test_unusable_sizes_are_refused(wrong):
    views = (KeyedView("a", 4), KeyedView("b", 4))
    with pytest.raises(ConfigError):
        GatheredConfig(**{"views": views, **wrong})
