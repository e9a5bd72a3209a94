"""Codons are read by the configured genetic code, for amino acids and consequences alike."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from core.bundle import load_bundle
from core.errors import ConfigError
from domains.genomics.codon import AMINO_ACIDS, amino_acid_tables, coding_sites, translate
from domains.genomics.config import GenomicsConfig
from domains.genomics.consequence import consequences
from domains.genomics.contig import BASES
from domains.genomics.csq import ConsequenceCaller
from domains.genomics.data_config import GenomicsData
from domains.genomics.genetic_code import GENETIC_CODES
from domains.genomics.source import Reference, open_reference
from tests.domains.genomics.conftest import rebundled, run_score

CODONS = [a + b + c for a in "ACGT" for b in "ACGT" for c in "ACGT"]
SHORT = "ATG" + "TGA" + "AAATAA"


def _files(folder: Path, coding: str, code: int) -> GenomicsData:
    """One gene without introns; csq takes no notice of the first bases of a contig, so 30 lead."""
    first, last = 31, 30 + len(coding)
    told = [("gene", ".", "ID=gene:G1;Name=G1"), ("mRNA", ".", "ID=transcript:T1;Parent=gene:G1")]
    told += [(kind, phase, "Parent=transcript:T1") for kind, phase in (("exon", "."), ("CDS", "0"))]
    rows = [f"c\tx\t{kind}\t{first}\t{last}\t.\t+\t{phase}\t{ids}\n" for kind, phase, ids in told]
    (folder / "g.gff3").write_text("##gff-version 3\n" + "".join(rows))
    (folder / "g.fa").write_text(f">c\n{'C' * 30}{coding}{'C' * 60}\n")
    files = {"fasta": str(folder / "g.fa"), "annotation": str(folder / "g.gff3")}
    return GenomicsData(source="files", genetic_code=code, **files)


def _third_bases(reference: Reference) -> pl.DataFrame:
    """All substitutions of the third base of every codon but the first and the last."""
    sequence = reference.sequence("c")
    places = range(30 + 5, len(sequence) - 60 - 3, 3)
    rows = [(p, BASES[sequence[p]], alt) for p in places for alt in "ACGT"]
    changed = [(i, "c", *row) for i, row in enumerate(rows) if row[1] != row[2]]
    return pl.DataFrame(changed, schema=["key", "contig", "pos", "ref", "alt"], orient="row")


@pytest.mark.parametrize("code", [1, 2, 4, 12, 25, 27, 31, 33])
def test_the_network_and_bcftools_read_every_codon_alike(tmp_path: Path, code: int) -> None:
    inner = [codon for codon in CODONS if AMINO_ACIDS[_before(codon, code)] != "*"]
    data = _files(tmp_path, "ATG" + "".join(inner) + "TAA", code)
    reference = open_reference(data)
    alleles = _third_bases(reference)
    called = ConsequenceCaller(reference).call(alleles)
    before, after = amino_acid_tables(code)
    sites = reference.sites("c")
    for key, pos, alt in alleles.select("key", "pos", "alt").iter_rows():
        old = AMINO_ACIDS[before[sites[pos]]]
        new = AMINO_ACIDS[after[sites[pos], BASES.index(alt)]]
        number = (pos - 30) // 3 + 1
        told = called[key][0].split("|")[5]
        assert told == (f"{number}{old}" if old == new else f"{number}{old}>{number}{new}")


def _before(codon: str, code: int) -> int:
    index = sum(BASES.index(base) * 4**power for base, power in zip(codon, (2, 1, 0), strict=True))
    return int(amino_acid_tables(code)[0][1 + index])


def test_tga_is_a_stop_in_code_1_and_tryptophan_in_code_4(tmp_path: Path) -> None:
    proteins, terms = [], []
    for code in (1, 4):
        reference = open_reference(_files(tmp_path, SHORT, code))
        transcript = reference.transcripts["c"][0]
        proteins.append(translate(reference.sequence("c"), transcript, code))
        to_tgg = _third_bases(reference).filter(pl.col("pos") == 35, pl.col("alt") == "G")
        terms.append(consequences(ConsequenceCaller(reference), to_tgg)["consequence"][0])
        assert np.array_equal(
            coding_sites(reference.sequence("c"), [transcript]), reference.sites("c")
        )
    assert proteins == ["M*K*", "MWK*"]
    assert terms == ["stop_lost", "synonymous_variant"]


def test_a_bundle_keeps_its_code_and_scores_by_it(
    tmp_path: Path, bundle: Path, simulated: GenomicsConfig
) -> None:
    from pipelines.train import plain

    data = _files(tmp_path, SHORT, 4)
    files = {"source": "files", "fasta": data.fasta, "annotation": data.annotation}
    lines = ["##fileformat=VCFv4.3", "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
    lines += ["c\t36\t.\tA\tG\t.\t.\t.", "c\t100\t.\tC\tG\t.\t.\t."]
    (tmp_path / "in.vcf").write_text("\n".join(lines) + "\n")
    tables = {}
    for code in (1, 4):
        config = replace(simulated, data=replace(simulated.data, genetic_code=code))
        kept = rebundled(bundle, tmp_path / f"bundle{code}", config=plain(config))
        assert load_bundle(kept).config["data"]["genetic_code"] == code
        run_score(kept, tmp_path / "in.vcf", tmp_path / "o.parquet", data=files)
        tables[code] = pl.read_parquet(tmp_path / "o.parquet")
    assert tables[1]["csq"][0].startswith("stop_lost|") and "p.Ter2Trp" not in tables[4]["csq"][0]
    assert tables[4]["csq"][0].startswith("synonymous_variant|")
    effects: list[Any] = [tables[code]["effect"].to_list() for code in (1, 4)]
    assert abs(effects[0][0] - effects[1][0]) > 1e-4  # of the codon
    assert effects[0][1] == effects[1][1]  # out of the gene's reach


def test_the_codes_are_those_of_ncbi_that_csq_has_and_others_are_refused() -> None:
    from Bio.Data import CodonTable

    assert set(CodonTable.unambiguous_dna_by_id) - {32} == set(GENETIC_CODES)
    for code in (0, 7, 32, -1):
        with pytest.raises(ConfigError, match=f"data.genetic_code: found {code}, expected a tra"):
            GenomicsData(genetic_code=code)
    with pytest.raises(ConfigError, match="simulated, whose genes are of code 1"):
        GenomicsData(genetic_code=4)


def test_a_lost_start_is_named_met1_whatever_its_codon(tmp_path: Path) -> None:
    reference = open_reference(_files(tmp_path, "GTGAAATAA", 11))
    alleles = pl.DataFrame(
        [(0, "c", 30, "G", "C"), (1, "c", 32, "G", "A"), (2, "c", 33, "A", "C")],
        schema=["key", "contig", "pos", "ref", "alt"],
        orient="row",
    )
    called = consequences(ConsequenceCaller(reference), alleles)["csq"].to_list()
    assert called == [
        "start_lost|G1|T1|c.1G>C|p.Met1?",
        "start_lost&synonymous_variant|G1|T1|c.3G>A|p.Met1?",
        "missense_variant|G1|T1|c.4A>C|p.Lys2Gln",
    ]
