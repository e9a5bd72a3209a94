"""Coding length as waves: as the formula says, alike on both strands, and nothing off genes."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from core.bundle import begin_from
from core.errors import ConfigError
from domains.genomics import domain
from domains.genomics.channel import CHANNELS, opposite_channels
from domains.genomics.codon import NO_AMINO_ACID
from domains.genomics.config import GenomicsConfig
from domains.genomics.effect import EffectTask
from domains.genomics.genetic_code import STANDARD
from domains.genomics.length_waves import LengthWaves
from domains.genomics.model import EffectModule
from domains.genomics.source import LabelledSource

PLUS, MINUS = (CHANNELS.index(f"{strand}_coding_length") for strand in ("plus", "minus"))
TRACK = 1  # further channels come after those of the annotation


def _channel(plus: Tensor, minus: Tensor) -> Tensor:
    channel = torch.randn(*plus.shape, len(CHANNELS) + TRACK)
    channel[..., PLUS], channel[..., MINUS] = plus, minus
    return channel


def _levels() -> tuple[Tensor, Tensor]:
    levels = torch.rand(2, 2, 63)
    levels[torch.rand(levels.shape) < 0.3] = 0
    return levels[0], levels[1]


def _slow(waves: LengthWaves, plus: float, minus: float) -> Tensor:
    """[D] of one base."""
    told = []
    for level in (plus, minus):
        turns = [math.pi * 2**k * level for k in range(len(waves.turns))]
        told += [math.sin(x) if level else 0.0 for x in turns]
        told += [math.cos(x) if level else 0.0 for x in turns]
    return torch.tensor(told) @ waves.mix.weight.T


def test_waves_are_those_of_the_formula() -> None:
    torch.manual_seed(0)
    waves, (plus, minus) = LengthWaves(5, 8), _levels()
    found = waves(_channel(plus, minus))
    expected = torch.stack(
        [
            torch.stack([_slow(waves, float(p), float(m)) for p, m in zip(*rows, strict=True)])
            for rows in zip(plus, minus, strict=True)
        ]
    )
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert (found[(plus == 0) & (minus == 0)] == 0).all()


def test_a_gene_can_differ_from_a_shorter_and_a_longer_one() -> None:
    """Which one number in a linear layer cannot: hundredths are far enough apart."""
    waves = LengthWaves(5, 3)
    levels = torch.tensor([0.62, 0.63, 0.64])
    told = waves(_channel(levels, torch.zeros(3)))
    with torch.no_grad():
        angle = levels[:, None] * waves.turns
        seen = torch.cat((angle.sin(), angle.cos()), -1)
        wanted = torch.tensor([[0.0], [1.0], [0.0]])
        assert torch.linalg.matrix_rank(seen, rtol=1e-3) == 3
        assert (
            seen @ torch.linalg.lstsq(seen, wanted, driver="gelsd").solution - wanted
        ).abs().max() < 1e-3
    assert told.shape == (3, 3)


def _module(encoder: Any, waves: int, channels: int = len(CHANNELS)) -> EffectModule:
    torch.manual_seed(0)
    return EffectModule(encoder, channels, False, 0.0, True, STANDARD, length_waves=waves).eval()


def test_strands_change_places(encoder: Any) -> None:
    """What the waves make of a gene on the one strand they make of it on the other with the weights
    of the two strands changed."""
    waves, (plus, minus) = LengthWaves(3, 8), _levels()
    channel = _channel(plus, minus)
    turned = channel[..., opposite_channels(channel.shape[-1])]
    other = LengthWaves(3, 8)
    other.mix.weight.data = waves.mix.weight.roll(6, 1)
    torch.testing.assert_close(other(turned), waves(channel))


def test_without_waves_a_network_is_what_it_was(encoder: Any) -> None:
    assert not [name for name in _module(encoder, 0).state_dict() if "length" in name]
    told = set(_module(encoder, 2).state_dict()) - set(_module(encoder, 0).state_dict())
    parts = ("stem.length", "head.gene_change", "head.gene_hidden")
    assert told == {f"{part}.mix.weight" for part in parts}


def test_a_gene_decides_how_much_a_change_matters_in_it(encoder: Any) -> None:
    """A factor of 0 in one gene leaves the bias there, and outside genes nothing is changed."""
    head = _module(encoder, 2).head
    assert head.gene_hidden is not None
    x, base = torch.randn(1, 20, encoder.dim), torch.randint(4, (1, 20))
    channel, real = torch.zeros(1, 20, len(CHANNELS)), torch.ones(1, 20, dtype=torch.bool)
    channel[:, 5:12, PLUS] = 1  # half a turn of the first wave: its cosine is -1
    acid = torch.full((1, 20, 4), NO_AMINO_ACID)
    told = x, base, acid[..., 0], acid, real, channel
    plain = head(*told)
    head.gene_hidden.mix.weight.data[:, 2] = 1  # of the cosine of the plus strand's first wave
    found = head(*told)
    inside = channel[..., PLUS] > 0
    torch.testing.assert_close(found[~inside], plain[~inside], atol=0, rtol=0)
    torch.testing.assert_close(found[inside], head.out.bias.expand(7, 4))
    assert not torch.equal(found, plain)


def test_training_reaches_the_waves_and_scores_follow_the_length(
    simulated: GenomicsConfig, encoder: Any
) -> None:
    task, source = _opened(replace(simulated, length_waves=4))
    rows = source.variants["row"]
    tokenizer = task.fit_tokenizer(source, rows)
    module = task.module(tokenizer, encoder)
    batch = next(iter(task.loader(source, tokenizer, rows, 0, 1)))
    module.train().loss(batch).backward()
    for part in (module.stem.length, module.head.gene_change, module.head.gene_hidden):
        assert part is not None
        gradient = part.mix.weight.grad
        assert gradient is not None and (gradient != 0).any()
    assert (batch["channel"][..., PLUS] != 0).any() or (batch["channel"][..., MINUS] != 0).any()


def test_a_bundle_with_other_waves_is_not_trained_on(
    simulated: GenomicsConfig, encoder: Any
) -> None:
    task, source = _opened(simulated)
    rows = source.variants["row"]
    tokenizer = task.fit_tokenizer(source, rows)
    bundle = SimpleNamespace(
        path="b",
        task="effect",
        config={},
        tokenizer=tokenizer.to_dict(),
        state_dict=task.module(tokenizer, encoder).state_dict,
    )
    later, _ = _opened(replace(simulated, length_waves=4))
    with pytest.raises(ConfigError, match=r"stem\.length\.mix\.weight it has shape none"):
        begin_from(
            cast(Any, bundle), later, encoder, *later.take_over(cast(Any, bundle), source, rows)
        )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"length_waves": -1}, r"domain\.length_waves: found -1, expected at least 0"),
        ({"length_waves": 5, "reader": "strands"}, r"domain\.length_waves: .* expected reader="),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        GenomicsConfig(**settings)


def _opened(config: GenomicsConfig) -> tuple[EffectTask, LabelledSource]:
    task, source = domain.task(config), domain.open(config, "train")
    assert isinstance(task, EffectTask) and isinstance(source, LabelledSource)
    return task, source
