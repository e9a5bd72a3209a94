"""LS_LLR: what a network without labels says of alternatives, in both forms."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from core.errors import ConfigError
from domains.genomics import domain
from domains.genomics.config import GenomicsConfig, ScoringConfig
from domains.genomics.data_config import GenomicsData
from domains.genomics.masked_model import MaskedModule
from domains.genomics.masked_scoring import MaskedScorer
from domains.genomics.scoring import AlleleScorer

LENGTH = 300
SITES = (1, 2, 150, 299, 300)  # 1-based, ends included


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llr")
    bases = "".join(np.random.default_rng(3).choice(list("ACGT"), LENGTH))
    (folder / "genome.fa").write_text(f">a\n{bases}\n")
    lines = ["##fileformat=VCFv4.3", "##contig=<ID=a>", "#CHROM POS ID REF ALT QUAL FILTER INFO"]
    for site in SITES:
        others = ",".join(b for b in "ACGT" if b != bases[site - 1])
        lines.append(f"a {site} . {bases[site - 1]} {others} . . .")
    lines.append(f"a 200 . {bases[199]} {bases[199]}A . . .")
    text = "\n".join([lines[0], lines[1], *(line.replace(" ", "\t") for line in lines[2:])])
    (folder / "in.vcf").write_text(text + "\n")
    return folder


def _scorer(files: Path, encoder: Any, form: str) -> tuple[MaskedScorer, MaskedModule]:
    config = GenomicsConfig(
        task="mlm",
        reader="strands",
        window=64,
        data=GenomicsData(source="files", fasta=str(files / "genome.fa")),
        scoring=ScoringConfig(llr=form),
    )
    task = domain.task(config)
    torch.manual_seed(0)
    module = MaskedModule(encoder).eval()
    torch.nn.init.normal_(module.reader.kmer.weight)
    bundle = SimpleNamespace(
        config={},
        encoder=encoder,
        tokenizer={"bases": "ACGTN"},
        version="abc",
        state_dict=module.state_dict,
        task="mlm",
    )
    source = domain.open(config, "score", input=files / "in.vcf")
    return cast(MaskedScorer, task.scorer(cast(Any, bundle), cast(Any, source))), module


def _written(scorer: AlleleScorer, out: Path) -> dict[int, list[str]]:
    parts = scorer.source.partitions()
    scorer.write((scorer.score(part, None)[0] for part in parts), out)
    found = {}
    for line in out.read_text().splitlines():
        if not line.startswith("#"):
            cells = line.split("\t")
            tags = dict(tag.split("=") for tag in cells[7].split(";"))
            found[int(cells[1])] = tags["LS_LLR"].split(",")
    return found


def _levels(module: MaskedModule, base: np.ndarray) -> np.ndarray:
    """[N, 4] of a whole sequence in one pass."""
    with torch.no_grad():
        return module.each({"base": torch.from_numpy(base)[None]})[0, 0].double().numpy()


def test_masked_ratios_are_those_of_one_pass_over_the_contig(
    files: Path, encoder: Any, tmp_path: Path
) -> None:
    scorer, module = _scorer(files, encoder, "masked")
    found = _written(scorer, tmp_path / "out.vcf")
    base = scorer.source.reference.sequence("a").astype(np.int64)
    level = _levels(module, base)
    for site in SITES:
        own = base[site - 1]
        naive = [level[site - 1, b] - level[site - 1, own] for b in range(4) if b != own]
        np.testing.assert_allclose([float(x) for x in found[site]], naive, atol=1e-4)
    assert found[200] == ["."]
    text = (tmp_path / "out.vcf").read_text()
    assert "##INFO=<ID=LS_LLR,Number=A,Type=Float" in text and "LS_EFFECT" not in text
    assert "##longstrandStrand=both strands" in text


def test_unmasked_ratios_are_those_of_whole_sequences(
    files: Path, encoder: Any, tmp_path: Path
) -> None:
    scorer, module = _scorer(files, encoder, "unmasked")
    found = _written(scorer, tmp_path / "out.vcf")
    base = scorer.source.reference.sequence("a").astype(np.int64)

    def total(sequence: np.ndarray) -> float:
        return float(_levels(module, sequence)[np.arange(LENGTH), sequence].sum())

    for site in SITES:
        naive = []
        for other in range(4):
            if other != base[site - 1]:
                changed = base.copy()
                changed[site - 1] = other
                naive.append(total(changed) - total(base))
        np.testing.assert_allclose([float(x) for x in found[site]], naive, atol=1e-3)


def test_the_other_strand_has_the_same_ratios(files: Path, encoder: Any) -> None:
    for form in ("masked", "unmasked"):
        scorer, _ = _scorer(files, encoder, form)
        reference = scorer.source.reference
        sites = np.array([0, 40, 299])
        from domains.genomics.masked_scoring import masked_levels, sequence_levels

        levels = masked_levels if form == "masked" else sequence_levels
        given = levels(scorer.network, reference, "a", sites, 64)
        forth = reference.genome.contigs["a"]
        turned = replace(reference.genome, contigs={"a": (3 - forth)[::-1].copy()})
        other = cast(Any, SimpleNamespace(sequence=turned.contigs.__getitem__))
        back = levels(scorer.network, other, "a", np.sort(LENGTH - 1 - sites), 64)
        np.testing.assert_allclose(given, back[::-1, ::-1], atol=1e-3)


def test_a_table_has_the_ratio(files: Path, encoder: Any, tmp_path: Path) -> None:
    import polars as pl

    scorer, _ = _scorer(files, encoder, "masked")
    parts = scorer.source.partitions()
    out = tmp_path / "out.parquet"
    scorer.write((scorer.score(part, None)[0] for part in parts), out)
    table = pl.read_parquet(out)
    assert table["llr"].is_null().sum() == 1 and "effect" not in table.columns


def test_the_form_is_refused_where_there_are_no_ratios() -> None:
    with pytest.raises(ConfigError, match=r"scoring\.llr: found unmasked with domain\.task=effect"):
        GenomicsConfig(scoring=ScoringConfig(llr="unmasked"))
