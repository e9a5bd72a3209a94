"""Promises of core.model.landmarks."""

from __future__ import annotations

import math
from itertools import pairwise

import torch

from core.model.ages import DAILY, steps
from core.model.gathered import GatheredConfig, GatheredEncoder
from core.model.landmarks import DEVIATIONS, NARROWEST, against_others, landmark_width, landmarks
from core.model.slots import Seen
from core.model.views import LEGITIMATE, POSITIVE, UNKNOWN, KeyedView

TARGETS, WIDTH = 64, 9


def windows():
    """Ages, days, states and which slots hold an event; the last is the target."""
    torch.manual_seed(0)
    ages = (torch.rand(TARGETS, WIDTH, dtype=torch.float64) * 60).sort(descending=True).values
    ages[:, -1] = 0
    states = torch.randint(0, 3, (TARGETS, WIDTH))
    states[:8, :-1] = torch.arange(8)[:, None] // 3
    there = torch.rand(TARGETS, WIDTH) < 0.8
    there[:, -1] = True
    return ages, ages.floor().long(), states, there


def by_definition(ages, days, states, there):
    """Of one target, in order of age."""
    parts = [part[:-1] for part in (ages, days, states, there)]
    past = sorted(
        (float(age), int(day), int(state))
        for age, day, state, is_there in zip(*parts, strict=True)
        if is_there
    )
    positive = [day for _, day, state in past if state == POSITIVE]
    legitimate = [day for _, day, state in past if state == LEGITIMATE]
    known = [state for _, _, state in past if state != UNKNOWN]
    run = []
    for _, day, state in past:
        if state == LEGITIMATE and run:
            break
        if state == POSITIVE:
            run.append(day)
    marks = [sorted(positive + legitimate)[:1], positive[:1], legitimate[:1]]
    marks += [positive[-1:], run[-1:]]
    told = []
    for mark in marks:
        knots = pairwise(DAILY)
        rise = [min(max((mark[0] - a) / (b - a), 0), 1) if mark else 0 for a, b in knots]
        told += [*rise, len(mark)]
    told.append(known[:1] == [POSITIVE])
    told += [math.log1p(len(part)) / 3 for part in (positive, legitimate, past)]
    return torch.tensor(told, dtype=torch.float64)


def test_landmarks_equal_the_definition_in_any_order_of_slots():
    inputs = windows()
    expected = torch.stack([by_definition(*parts) for parts in zip(*inputs, strict=True)])
    torch.testing.assert_close(landmarks(*inputs, labels=True), expected)
    order = torch.cat([torch.randperm(WIDTH - 1), torch.tensor([WIDTH - 1])])
    mixed = [part[:, order] for part in inputs]
    assert torch.equal(landmarks(*mixed, labels=True), landmarks(*inputs, labels=True))
    assert expected.shape[1] == landmark_width(labels=True)


def test_landmarks_of_a_view_without_labels_count_events_only():
    ages, days, states, there = windows()
    found = landmarks(ages, days, states, there, labels=False)
    assert torch.equal(found, landmarks(ages, days, (states + 1) % 3, there, labels=False))
    assert found.shape[1] == landmark_width(labels=False)
    torch.testing.assert_close(torch.expm1(3 * found[:, 0]), there[:, :-1].sum(1).double())


def test_the_target_itself_is_no_part_of_what_it_is_scored_against():
    torch.manual_seed(0)
    numbers = torch.randn(3, 2, dtype=torch.float64)
    carried = torch.randn(3, 6, 2, dtype=torch.float64)
    carried[:, -1] = numbers
    share = torch.rand(3, 4, 6, dtype=torch.float64).softmax(-1)
    found = against_others(numbers, share, carried)
    others = share[..., :-1] / share[..., :-1].sum(-1, keepdim=True)
    mean = others @ carried[:, :-1]
    spread = (others @ carried[:, :-1] ** 2 - mean**2 + NARROWEST**2).sqrt()
    difference = numbers[:, None] - mean
    score = steps(torch.asinh(difference / spread), DEVIATIONS).flatten(-2)
    torch.testing.assert_close(found, torch.cat([difference, score], -1))


def test_a_target_without_history_is_scored_against_nothing():
    share = torch.tensor([[[0.0, 0.0, 1.0]]])
    found = against_others(torch.tensor([[7.0]]), share, torch.tensor([[[1.0], [2.0], [7.0]]]))
    assert not found.any()


def test_an_encoder_for_few_labels_tells_an_open_run_from_one_that_ended():
    """Untrained, and with the same counts of labels: the order of the two is all that differs."""
    torch.manual_seed(0)
    encoder = GatheredEncoder(
        GatheredConfig((KeyedView("a", 4),), dim=16, heads=4, carried=1, few_labels=True)
    ).eval()
    ages = torch.tensor([[9.0, 8.0, 0.0]]).expand(2, 3)
    states = torch.tensor([[0, 1, 2], [1, 0, 2]])
    blank = torch.zeros(2, 3, 4)
    values = torch.zeros(2, 3, 5)
    seen = Seen(blank, values, ages, ages.long(), states, torch.zeros(2, 3))
    with torch.no_grad():
        for layer in encoder.rounds:
            layer.out.weight.zero_()  # Only the landmarks are left.
        one, other = encoder(torch.zeros(2, 16), torch.zeros(2, 1), [seen])
    assert not torch.allclose(one, other, atol=1e-3)
