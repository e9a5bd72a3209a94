"""A score that is the mean of both strands' readings is the same on either strand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pysam
import pytest
import torch

from core.errors import ConfigError
from domains.genomics.config import DifferenceConfig, GenomicsConfig
from domains.genomics.genetic_code import STANDARD
from domains.genomics.model import EffectModule
from domains.genomics.other_strand import other_strand
from domains.genomics.source import Reference
from domains.genomics.strand_model import StrandEffectModule
from domains.genomics.tile import score_positions
from domains.genomics.window import Span, stack_windows
from tests.domains.genomics.conftest import run_score, trained_bundle
from tests.domains.genomics.test_fact import LENGTH, _gene

SPANS = ((0, 40), (100, 233), (LENGTH - 31, LENGTH))


def _batch(reference: Reference, spans: Any, width: int = 140) -> dict[str, Any]:
    return stack_windows(reference, [Span("c", *s) for s in spans], width, facts=True)


def _module(kind: type[EffectModule], encoder: Any, reference: Reference, both: bool) -> Any:
    torch.manual_seed(0)
    channels = len(reference.channel_names)
    module = kind(encoder, channels, False, 0.0, True, STANDARD).eval()
    module.both_strands = both
    return module


def test_a_batch_as_the_other_strand_reads_it_is_that_of_the_mirrored_genome() -> None:
    batch = _batch(_gene(), SPANS)
    expected = _batch(_gene(mirrored=True), [(LENGTH - b, LENGTH - a) for a, b in SPANS])
    turned = other_strand(batch)
    for name, found in turned.items():
        torch.testing.assert_close(found, expected[name], equal_nan=True, atol=1e-5, rtol=0)
    assert set(expected) - set(turned) == {"tokens"}


def test_the_other_strand_of_the_other_strand_is_the_first() -> None:
    batch = _batch(_gene(), SPANS)
    batch |= {name: torch.randn(3, 140, 4) for name in ("label", "weight")}
    again = other_strand(other_strand(batch))
    for name, found in again.items():
        torch.testing.assert_close(found, batch[name], equal_nan=True, atol=0, rtol=0)


@pytest.mark.parametrize("kind", [EffectModule, StrandEffectModule])
@pytest.mark.parametrize("window", [64, 111])
def test_scores_are_the_same_on_the_other_strand(
    kind: type[EffectModule], window: int, encoder: Any
) -> None:
    genome, mirror = _gene(), _gene(mirrored=True)
    positions = np.array([0, 1, 17, 35, 149, 150, 211, 212, 359, LENGTH - 2, LENGTH - 1])
    there = (LENGTH - 1 - positions)[::-1].copy()
    apart = []
    for both in (True, False):
        module = _module(kind, encoder, genome, both)
        here = score_positions(module, genome, "c", positions, window)
        other = score_positions(module, mirror, "c", there, window)[::-1, ::-1]
        apart.append(float(np.abs(here - other).max()))
    assert apart[0] < 1e-5 < 1e-3 < apart[1]


def test_training_reads_either_strand_with_its_labels(
    encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    genome = _gene()
    module = _module(EffectModule, replace(encoder, dropout=0.0), genome, True).train()
    batch = _batch(genome, SPANS)
    batch |= {"label": torch.randn(3, 140, 4), "weight": torch.rand(3, 140, 4)}
    losses = {}
    for drawn in (0.2, 0.7):
        monkeypatch.setattr(torch, "rand", lambda *_, drawn=drawn, **__: torch.tensor(drawn))
        losses[drawn] = module.loss(batch)
    module.both_strands = False
    assert losses[0.7] == module.loss(batch)
    assert losses[0.2] == module.loss(other_strand(batch)) != losses[0.7]


def test_a_bundle_of_both_strands_says_so_and_scores_by_their_mean(
    simulated: GenomicsConfig, encoder: Any, tmp_path: Path
) -> None:
    bundle = trained_bundle(replace(simulated, strand="both"), encoder, tmp_path / "bundle")
    variants = Path(str(simulated.data.variants))
    effects = []
    for strand in ("both", "plus"):
        out = tmp_path / f"{strand}.vcf"
        run_score(bundle, variants, out, strand=strand)
        told = "both strands" if strand == "both" else "its plus strand"
        assert any("##longstrandStrand" in x and told in x for x in out.read_text().splitlines())
        with pysam.VariantFile(str(out)) as records:
            effects.append([record.info["LS_EFFECT"][0] for record in records])
    assert len(effects[0]) == len(effects[1]) > 100 and effects[0] != effects[1]


@pytest.mark.parametrize(
    "other",
    [{"task": "mlm", "reader": "strands"}, {"head": "difference"}],
    ids=["mlm", "difference"],
)
def test_what_reads_both_strands_anyhow_is_not_asked_to(other: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"domain\.strand: found both"):
        GenomicsConfig(strand="both", difference=DifferenceConfig(), **other)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"domain\.strand: found .minus"):
        GenomicsConfig(strand="minus")
