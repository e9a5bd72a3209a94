"""Batches are a pure function of (seed, step), and a loader goes on where it was."""

from __future__ import annotations

import torch

from core.training.loader import StepLoader, generator_at


def _draw(step: int) -> int:
    return int(torch.randint(10**9, (1,), generator=generator_at(3, step)))


def test_a_restored_loader_yields_the_unseen_batches_in_order() -> None:
    whole = list(StepLoader(_draw, 10))
    first = StepLoader(_draw, 10)
    iterator = iter(first)
    seen = [next(iterator) for _ in range(4)]
    second = StepLoader(_draw, 10)
    second.load_state_dict(first.state_dict())
    assert seen + list(second) == whole


def test_neighbouring_seeds_and_steps_draw_differently() -> None:
    draws = {
        int(torch.randint(10**9, (1,), generator=generator_at(seed, step)))
        for seed in range(20)
        for step in range(20)
    }
    assert len(draws) == 400
