"""The learning-rate schedule and what decays."""

from __future__ import annotations

import itertools

import pytest
from torch import nn

from core.training.lightning import decay_groups, warmup_cosine
from core.training.module import SequenceModule


def test_the_learning_rate_rises_to_its_peak_and_falls_to_its_final_share() -> None:
    factors = [warmup_cosine(k, 100, 0.1, 0.05) for k in range(101)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9] == factors[10] == 1.0
    assert all(a > b for a, b in itertools.pairwise(factors[10:]))
    assert factors[100] == pytest.approx(0.05)


def test_only_matrices_that_are_no_embeddings_decay() -> None:
    class Net(SequenceModule):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(5, 4)
            self.linear = nn.Linear(4, 3)
            self.norm = nn.LayerNorm(3)

    net = Net()
    decayed, plain = decay_groups(net, 0.1)
    assert [id(p) for p in decayed["params"]] == [id(net.linear.weight)]
    assert len(plain["params"]) == 4
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)
