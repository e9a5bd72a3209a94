"""Exported attention: a program takes any batch, and decides again what the data decide."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from core.attention import (
    Causal,
    HeadGroups,
    LogSparse,
    Pattern,
    Strided,
    TopK,
    Window,
    attend,
    bigbird,
    chosen_blocks,
    longformer,
)
from tests.core.attention.helpers import inputs

CHOSEN: dict[str, Pattern] = {
    "topk": TopK(2, block=16),
    "topk-causal": TopK(2, block=16) & Causal(),
    "window": TopK(3, block=16) | Window(20),
    "longformer-causal": (longformer(5, (0, 50)) | TopK(3, block=16)) & Causal(),
    "two": TopK(3, block=8) | TopK(2, block=32),
    "cut": TopK(4, block=16) & Window(40),
}


class Attention(nn.Module):
    """Attention of n tokens, as a module that can be exported."""

    def __init__(self, pattern: Pattern, n: int) -> None:
        super().__init__()
        self.plan = pattern.plan(range(n), range(n))

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attend(q, k, v, self.plan, backend="cpu")


def given(n: int, seed: int, dtype: torch.dtype, batch: int = 2) -> tuple[Tensor, ...]:
    return tuple(x.detach() for x in inputs(n, seed=seed, dtype=dtype, batch=batch))


@pytest.mark.parametrize(
    ("n", "dtype"), [(1, torch.float64), (131, torch.float64), (64, torch.float32)]
)
@pytest.mark.parametrize("name", CHOSEN)
def test_an_exported_choice_is_made_anew_for_other_inputs(
    name: str, n: int, dtype: torch.dtype
) -> None:
    module, traced = Attention(CHOSEN[name], n), given(n, 0, dtype)
    program = torch.export.export(module, traced).module()
    tolerance = 1e-12 if dtype == torch.float64 else 2e-6
    for seed in range(3):
        other = given(n, seed, dtype)
        found, expected = program(*other), module(*other)
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
        before, now = (chosen_blocks(module.plan, x[0], x[1]) for x in (traced, other))
        same = all(torch.equal(*tables) for tables in zip(before, now, strict=True))
        assert same == (seed == 0 or n == 1)


FIXED = bigbird(6, 1, (0, 50)) | LogSparse() | Strided(16)


@pytest.mark.parametrize(
    "pattern",
    [FIXED, CHOSEN["longformer-causal"], CHOSEN["two"], CHOSEN["cut"]],
    ids=["fixed", "longformer-causal", "two", "cut"],
)
def test_a_program_takes_any_number_of_sequences(pattern: Pattern) -> None:
    module, batch = Attention(pattern, 70), torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(
        module, given(70, 0, torch.float64), dynamic_shapes=({0: batch},) * 3
    ).module()
    for sequences in (1, 2, 9):
        x = given(70, sequences, torch.float64, sequences)
        torch.testing.assert_close(program(*x), module(*x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("pattern", [FIXED, HeadGroups(((Window(5), 1), (FIXED, 1)))])
def test_a_program_takes_parts_of_larger_tensors(pattern: Pattern) -> None:
    """One sequence's heads lie side by side, those of several don't: no copy is made of the one."""
    module, batch = Attention(pattern, 70), torch.export.Dim("batch")
    traced = given(70, 0, torch.float64)
    program = torch.export.export(module, traced, dynamic_shapes=({0: batch},) * 3).module()
    for sequences in (1, 3):
        q, k, v = torch.stack(given(70, sequences, torch.float64, sequences))
        assert k.storage_offset()
        torch.testing.assert_close(program(q, k, v), module(q, k, v), rtol=1e-12, atol=1e-12)
