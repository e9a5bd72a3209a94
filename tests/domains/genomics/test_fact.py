"""Facts: as the tables say, alike on both strands and assemblies, scaled by training rows alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from core.errors import ConfigError
from domains.genomics import domain
from domains.genomics.codon import AMINO_ACIDS
from domains.genomics.config import GenomicsConfig
from domains.genomics.contig import UNKNOWN, Genome
from domains.genomics.contig_name import ContigNames
from domains.genomics.data_config import GenomicsData, SplitConfig
from domains.genomics.fact import change_facts, site_facts
from domains.genomics.fact_config import FactsConfig
from domains.genomics.fact_scale import FactScale, facts_at
from domains.genomics.residue import EXCHANGES, exchanges, grantham_distance
from domains.genomics.source import LabelledSource, Reference, open_reference
from domains.genomics.splice_site import acceptor_weights, donor_weights, gain_of_site
from domains.genomics.tile import score_positions
from domains.genomics.tokenizer import EffectTokenizer
from domains.genomics.track import Track
from domains.genomics.transcript import Transcript
from domains.genomics.window import stack_of
from tests.domains.genomics.conftest import run_score

LENGTH = 400
SITE, CHANGE = site_facts(("t",)), change_facts()
HG38_LESS_HG19 = 1_847_983 - 43_000_000 + 41_100_000


def _gene(mirrored: bool = False, seed: int = 0) -> Reference:
    """Two exons of 120 and 150 bases and an intron of 60, all known to a track but some; or the
    same on the other strand of a contig that is read from its other end."""
    draw = np.random.default_rng(seed)
    codes = draw.integers(0, 4, LENGTH).astype(np.uint8)
    codes[5] = UNKNOWN
    values = draw.normal(size=LENGTH).astype(np.float32)
    values[draw.random(LENGTH) < 0.2] = np.nan
    exons, strand = [(30, 150), (210, 360)], 1
    if mirrored:
        codes = np.where(codes == UNKNOWN, UNKNOWN, 3 - codes)[::-1].astype(np.uint8)
        values, strand = values[::-1].copy(), -1
        exons = [(LENGTH - b, LENGTH - a) for a, b in reversed(exons)]
    genome = Genome(Path("none.fa"), {"c": codes}, ContigNames(("c",), {}), "")
    cds = exons[::strand]
    return Reference(
        genome, [Transcript("t", "c", strand, exons, cds)], [Track("t", 2.0, {"c": values})]
    )


def _named(told: np.ndarray, names: tuple[str, ...], name: str) -> np.ndarray:
    return told[..., names.index(name)]


def test_published_distances_of_amino_acids_are_met() -> None:
    # Grantham 1974, table 2.
    for pair, distance in {"LI": 5, "CW": 215, "SR": 110, "DE": 45, "KM": 95, "GW": 184}.items():
        assert grantham_distance(*pair) == pytest.approx(distance, abs=1.0)
    leu, trp = AMINO_ACIDS.index("L"), AMINO_ACIDS.index("W")
    table = exchanges()
    assert table[leu, trp, EXCHANGES.index("blosum62")] == -2 / 4
    assert np.allclose(table, table.transpose(1, 0, 2))
    assert not table[AMINO_ACIDS.index("*")].any()


@pytest.mark.parametrize("weights", [donor_weights(), acceptor_weights()])
def test_gain_of_a_splice_site_is_that_of_a_naive_twin(weights: np.ndarray) -> None:
    width, n = len(weights), 25
    codes = np.random.default_rng(0).integers(0, 4, n + 2 * (width - 1))

    def best(at: int, base: int) -> float:
        changed = codes.copy()
        changed[at] = base
        windows = [changed[s : s + width] for s in range(at - width + 1, at + 1)]
        return max(float(sum(weights[i, c] for i, c in enumerate(w))) for w in windows)

    found = gain_of_site(codes, weights)
    for i in range(n):
        at = i + width - 1
        for base in range(4):
            expected = max(0.0, best(at, base) - best(at, int(codes[at])))
            assert found[i, base] == pytest.approx(expected, abs=1e-4)
    assert found.max() > 1


def test_facts_of_a_gene_are_those_of_the_gene_on_the_other_strand() -> None:
    site, change = _gene().facts("c").window(0, LENGTH)
    turned_site, turned_change = _gene(mirrored=True).facts("c").window(0, LENGTH)
    assert site.shape == (LENGTH, len(SITE)) and change.shape == (LENGTH, 4, len(CHANGE))
    np.testing.assert_allclose(turned_site[::-1], site, atol=1e-5)
    np.testing.assert_allclose(turned_change[::-1, ::-1], change, atol=1e-5)
    # All but what this contig has none of says something.
    spread = [*np.nanstd(site, axis=0), *np.nanstd(change.reshape(-1, len(CHANGE)), axis=0)]
    still = {name for name, s in zip((*SITE, *CHANGE), spread, strict=True) if s == 0}
    assert still == {"utr5", "utr3"}


def test_facts_do_not_depend_on_the_window() -> None:
    sheet = _gene().facts("c")
    whole = sheet.window(0, LENGTH)
    for start, end in ((0, 1), (3, 40), (140, 230), (355, LENGTH)):
        for part, all_of_it in zip(sheet.window(start, end), whole, strict=True):
            np.testing.assert_allclose(part, all_of_it[start:end], atol=1e-6)


def test_facts_tell_what_a_change_means() -> None:
    reference = _gene()
    site, change = reference.facts("c").window(0, LENGTH)
    codes = reference.sequence("c").astype(int)
    gt, after = 150, 151  # first bases of the intron
    assert _named(site, SITE, "donor_at_+1")[gt] == 1 and _named(site, SITE, "splice_core")[after]
    assert _named(site, SITE, "acceptor_at_+2")[208] == 1
    assert _named(site, SITE, "acceptor_at_-1")[210] == 1
    lost = _named(change, CHANGE, "donor_change")[gt]
    assert lost[codes[gt]] == 0 and np.argmax(lost) == 2
    from Bio.Seq import Seq

    letters = "".join("ACGTN"[c] for c in codes)
    text = letters[30:150] + letters[210:360]
    protein = str(Seq(text).translate())
    at, place = divmod(150 - 30 + (213 - 210), 3)  # base 213 of the contig
    for alt in range(4):
        mutated = list(text)
        mutated[3 * at + place] = "ACGT"[alt]
        becomes = str(Seq("".join(mutated)).translate())[at]
        stop = becomes == "*" and protein[at] != "*"
        assert _named(change, CHANGE, "stop_gained")[213, alt] == stop
        assert _named(change, CHANGE, "synonymous")[213, alt] == (becomes == protein[at])
    assert _named(change, CHANGE, "start_lost")[30].sum() >= 2
    assert not _named(change, CHANGE, "start_lost")[33:].any()
    values = reference.tracks[0].values["c"]
    whole_codon = [
        30 + 3 * k for k in range(40) if not np.isnan(values[30 + 3 * k : 33 + 3 * k]).any()
    ]
    first = whole_codon[0]
    assert _named(site, SITE, "t_codon_highest")[first + 1] == values[first : first + 3].max()
    assert _named(site, SITE, "t_mean2")[100] == pytest.approx(np.nanmean(values[98:103]))


def test_facts_of_brca1_agree_on_two_assemblies(genomics_data: Path) -> None:
    folder = genomics_data / "brca1_sge"

    def told(build: str, genes: str, labels: str) -> tuple[pl.DataFrame, np.ndarray]:
        fasta, annotation = (str(folder / n) for n in (f"brca1_{build}_slice.fa", genes))
        data = GenomicsData(source="files", fasta=fasta, annotation=annotation)
        data.variants, data.label, data.label_kind = str(folder / labels), "CLASS", "classification"
        data.positive, data.split = ["LOF"], SplitConfig(kind="info", field="EXON", folds=13)
        rows = LabelledSource(GenomicsConfig(data=data)).variants
        contig = rows["chrom"][0]
        return rows, facts_at(open_reference(data), contig, rows["pos"], rows["alt"])

    rows, hg19 = told("hg19", "brca1.slice.gff3", "brca1_sge.slice.vcf.gz")
    others, hg38 = told("hg38", "brca1.hg38slice.gff3", "brca1_sge.hg38slice.vcf.gz")
    assert others["pos"].equals(rows["pos"] + HG38_LESS_HG19) and len(rows) == 3893
    np.testing.assert_array_equal(hg38, hg19)


@pytest.fixture(scope="module")
def told(simulated: GenomicsConfig) -> GenomicsConfig:
    return replace(simulated, facts=FactsConfig(hidden=8))


def test_the_scale_of_facts_is_of_training_rows_and_returns_from_json(told: GenomicsConfig) -> None:
    source = domain.open(told, "train")
    task, fold = domain.task(told), domain.task(told).folds(source)[0]
    tokenizer = task.fit_tokenizer(source, fold.train)
    facts = tokenizer.facts
    assert facts is not None
    rows = source.select(fold.train)
    each = [
        facts_at(source.reference, c, part["pos"], part["alt"])
        for (c,), part in rows.group_by("chrom")
    ]
    np.testing.assert_allclose(facts.mean, np.nanmean(np.concatenate(each), axis=0), atol=1e-4)
    other = FactScale.fit(source.reference, source.select(fold.test))
    assert not np.allclose(other.mean, facts.mean, atol=1e-3)
    state = json.loads(json.dumps(tokenizer.to_dict()))
    assert EffectTokenizer.from_dict(state, {}) == tokenizer
    state["facts"]["names"][0] = "other"
    with pytest.raises(ConfigError, match="the facts differ from this version's"):
        EffectTokenizer.from_dict(state, {})
    plain = domain.task(replace(told, facts=FactsConfig())).fit_tokenizer(source, fold.train)
    assert "facts" not in plain.to_dict()


def test_facts_alone_decide_at_first_and_tiles_do_not_matter(
    told: GenomicsConfig, encoder: Any
) -> None:
    source = domain.open(told, "train")
    task = domain.task(told)
    torch.manual_seed(0)
    tokenizer = task.fit_tokenizer(source, source.variants["row"])
    module, stack = task.module(tokenizer, encoder).eval(), stack_of(tokenizer)
    whole = np.arange(100, 500)
    full = score_positions(module, source.reference, "sim1", whole, 4000, stack)
    few = np.array([100, 101, 288, 499])
    apart = score_positions(module, source.reference, "sim1", few, 64, stack)
    np.testing.assert_allclose(apart, full[few - 100], atol=1e-5)
    assert module.facts is not None and full.std() > 0.01
    sheet = source.reference.facts("sim1")
    site, change = (torch.from_numpy(f)[None] for f in sheet.window(100, 500))
    with torch.no_grad():
        np.testing.assert_allclose(full, module.facts(site, change)[0], atol=1e-5)
    module.ensemble([module, module]).load_state_dict(
        module.ensemble([module, module]).state_dict()
    )


def test_a_bundle_with_facts_scores_and_saturates(
    told: GenomicsConfig, encoder: Any, tmp_path: Path
) -> None:
    from tests.domains.genomics.conftest import trained_bundle

    bundle = trained_bundle(told, encoder, tmp_path / "bundle")
    assert told.data.variants and told.data.fasta
    out = tmp_path / "scored.parquet"
    summary = run_score(bundle, Path(told.data.variants), out)
    assert summary["scored"] == summary["rows"] == 3000
    every = tmp_path / "every.parquet"
    run_score(bundle, Path(told.data.fasta), every, scoring={"saturate": "sim1:101-200"})
    key = ["chrom", "pos", "ref", "alt"]
    both = pl.read_parquet(out).join(pl.read_parquet(every), on=key, suffix="_every")
    assert len(both) > 5 and pl.read_parquet(every).height == 300
    assert (both["effect"] - both["effect_every"]).abs().max() < 1e-5  # type: ignore[operator]


def test_a_training_does_not_begin_from_a_bundle_of_other_facts(
    told: GenomicsConfig, encoder: Any
) -> None:
    source = domain.open(told, "train")
    task, plain = domain.task(told), domain.task(replace(told, facts=FactsConfig()))
    rows = source.variants["row"]
    with pytest.raises(ConfigError, match=r"hidden: found 8 with a bundle .* without facts"):
        task.module(plain.fit_tokenizer(source, rows), encoder)
    with pytest.raises(ConfigError, match=r"hidden: found 0 with a bundle .* with facts"):
        plain.module(task.fit_tokenizer(source, rows), encoder)


def test_an_encoder_of_no_share_is_neither_asked_nor_trained(
    told: GenomicsConfig, encoder: Any
) -> None:
    config = replace(told, facts=FactsConfig(hidden=8, encoder=0.0))
    source, task = domain.open(config, "train"), domain.task(config)
    tokenizer = task.fit_tokenizer(source, source.variants["row"])
    module = task.module(tokenizer, encoder).train()
    batch = next(iter(task.loader(source, tokenizer, source.variants["row"], 0, 1)))
    torch.nn.init.constant_(module.head.out.bias, torch.nan)
    module.loss(batch).backward()
    trained = {name.split(".")[0] for name, p in module.named_parameters() if p.grad is not None}
    assert trained == {"facts"}
    with pytest.raises(ConfigError, match=r"facts\.hidden: found 8 with domain\.task=mlm"):
        replace(told, task="mlm", reader="strands")


def test_the_refit_learns_from_what_was_held_back(told: GenomicsConfig) -> None:
    data = replace(told.data, split=replace(told.data.split, validation=0.4, refit=True))
    config = replace(told, data=data)
    source, task = domain.open(config, "train"), domain.task(config)
    fold = task.folds(source)[0]
    assert fold.refit is not None and set(fold.validation) <= set(fold.refit)
    assert not set(fold.refit) & set(fold.test)
    with pytest.raises(ConfigError, match=r"data\.split\.refit: found true"):
        SplitConfig(validation=0, refit=True)
