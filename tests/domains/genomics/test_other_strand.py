"""A score that is the mean of both strands' readings is the same on either strand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pysam
import pytest
import torch
from omegaconf import OmegaConf

from core.errors import ConfigError
from domains.genomics import domain
from domains.genomics.config import GenomicsConfig
from domains.genomics.contig import Genome, complement
from domains.genomics.contig_name import ContigNames
from domains.genomics.genetic_code import STANDARD
from domains.genomics.model import EffectModule
from domains.genomics.other_strand import other_strand
from domains.genomics.source import Reference
from domains.genomics.strand_model import StrandEffectModule
from domains.genomics.tile import score_positions
from domains.genomics.transcript import Transcript
from domains.genomics.window import Span, stack_windows
from pipelines.build import restored_config
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


@pytest.mark.parametrize("strand", [1, -1])
def test_bases_as_near_to_one_splice_site_as_to_another_are_told_alike_on_both_strands(
    strand: int,
) -> None:
    """Exons and introns are so short that donors, and acceptors, lie close together."""
    codes = np.random.default_rng(0).integers(0, 4, LENGTH).astype(np.uint8)
    exons = [(30, 90), (150, 191), (260, 301), (350, 380)]
    told = []
    for turned in (False, True):
        spans, side = exons, strand
        if turned:
            codes, side = complement(codes)[::-1], -strand
            spans = [(LENGTH - b, LENGTH - a) for a, b in reversed(exons)]
        genome = Genome(Path("none.fa"), {"c": codes}, ContigNames(("c",), {}), "")
        told.append(Reference(genome, [Transcript("t", "c", side, spans, spans[::side])]))
    here, there = (_batch(reference, [(0, LENGTH)], LENGTH) for reference in told)
    for name, found in other_strand(here).items():
        torch.testing.assert_close(found, there[name], equal_nan=True, atol=1e-5, rtol=0)


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
    bundle = trained_bundle(simulated, encoder, tmp_path / "bundle")
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


def _effects(bundle: Path, folder: Path, strand: str | None) -> tuple[list[float], list[float]]:
    """Scores of every substitution of a genome, and of the same ones of its mirror image."""
    told = []
    for mirrored in (False, True):
        name = f"{'mirror' if mirrored else 'genome'}.{strand}"
        fasta, genes = _written(folder / name, mirrored)
        data, out = {"annotation": str(genes)}, folder / f"{name}.parquet"
        given = {"strand": strand} if strand else {}
        summary = run_score(bundle, fasta, out, data=data, scoring={"saturate": "all"}, **given)
        assert summary["scored"] == 3 * (LENGTH - 1), summary
        told.append(pl.read_parquet(out)["effect"].to_list())
    # The last base comes first, and its alternatives A C G T are T G C A there.
    return told[0], told[1][::-1]


def _written(folder: Path, mirrored: bool) -> tuple[Path, Path]:
    folder.mkdir()
    reference = _gene(mirrored=mirrored)
    fasta, genes = folder / "g.fa", folder / "g.gff3"
    fasta.write_text(">c\n" + "".join("ACGTN"[b] for b in reference.sequence("c")) + "\n")
    (gene,), done = reference.transcripts["c"], 0
    sign, low, high = "+-"[gene.strand < 0], gene.exons[0][0], gene.exons[-1][1]
    rows = [("mRNA", low, high, ".", "ID=t")]
    rows += [("exon", *span, ".", "Parent=t") for span in gene.exons]
    for start, end in gene.cds:  # in the gene's direction
        rows.append(("CDS", start, end, str(-done % 3), "Parent=t"))
        done += end - start
    lines = [f"c\t.\t{k}\t{a + 1}\t{b}\t.\t{sign}\t{p}\t{at}" for k, a, b, p, at in rows]
    genes.write_text("##gff-version 3\n" + "\n".join(lines) + "\n")
    return fasta, genes


def test_by_default_a_genome_and_its_mirror_image_have_the_same_scores(
    bundle: Path, tmp_path: Path
) -> None:
    here, there = _effects(bundle, tmp_path, None)
    assert len(set(here)) > LENGTH
    np.testing.assert_allclose(here, there, atol=1e-5, rtol=0)
    here, there = _effects(bundle, tmp_path, "plus")
    assert np.abs(np.subtract(here, there)).max() > 1e-3


def test_a_task_that_reads_both_strands_is_not_asked_to_read_one() -> None:
    assert GenomicsConfig().strand == GenomicsConfig(task="mlm", reader="strands").strand == "both"
    with pytest.raises(ConfigError, match=r"domain\.strand: found plus with domain\.task=mlm"):
        GenomicsConfig(task="mlm", reader="strands", strand="plus")
    with pytest.raises(ConfigError, match=r"domain\.strand: found .minus"):
        GenomicsConfig(strand="minus")


@pytest.mark.parametrize(
    ("saved", "expected"),
    [
        ({"task": "mlm", "reader": "strands", "strand": "plus"}, "both"),
        ({"task": "effect"}, "plus"),
        ({"task": "effect", "strand": "plus"}, "plus"),
        ({"task": "effect", "strand": "both"}, "both"),
    ],
)
def test_an_older_bundle_reads_the_strands_that_it_was_trained_on(
    saved: dict[str, str], expected: str
) -> None:
    config = restored_config(domain, saved, OmegaConf.create({}))  # type: ignore[arg-type]
    assert config.strand == expected
