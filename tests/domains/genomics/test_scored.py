"""The scored file says what its numbers mean, what each allele does, and where it came from."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.domains.genomics.conftest import run_score
from tests.domains.genomics.test_consequence import GENE, _gff3

RECORDS = [
    (24, "A", "C,G"),
    (26, "G", "A"),
    (28, "A", "T"),
    (29, "A", "G"),
    (70, "C", "T,<DEL>"),
    (110, "C", "CA,N"),
]


@pytest.fixture
def scored(tmp_path: Path, bundle: Path) -> Any:
    (tmp_path / "g.fa").write_text(f">c\n{GENE}\n")
    (tmp_path / "g.gff3").write_text(_gff3())
    lines = [f"chr_c\t{pos}\t.\t{ref}\t{alt}\t.\t.\t." for pos, ref, alt in RECORDS]
    header = ["##fileformat=VCFv4.3", "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
    (tmp_path / "in.vcf").write_text("\n".join([*header, *lines]) + "\n")
    data = {
        "source": "files",
        "fasta": str(tmp_path / "g.fa"),
        "annotation": str(tmp_path / "g.gff3"),
        "contig_alias": {"chr_c": "c"},
    }

    def run(name: str) -> dict[str, Any]:
        return run_score(bundle, tmp_path / "in.vcf", tmp_path / name, data=data)

    return run


def test_each_allele_has_its_consequence_and_shared_codons_a_warning(
    tmp_path: Path, scored: Any
) -> None:
    import pysam

    assert scored("out.vcf.gz")["scored"] == 6
    with pysam.VariantFile(str(tmp_path / "out.vcf.gz")) as variants:
        assert variants.header.info["LS_CSQ"].number == "A"
        records = list(variants)
    told = [r.info["LS_CSQ"] for r in records]
    assert told[0] == (
        "start_lost|ABC1|T1|c.1A>C|p.Met1?",
        "start_lost|ABC1|T1|c.1A>G|p.Met1?",
    )
    assert told[3] == ("splice_region_variant&synonymous_variant|ABC1|T1|c.6A>G|p.Lys2%3D",)
    assert told[4][1] == "."
    assert told[5] == ("intergenic_variant||||", ".")
    warned = [r.info.get("LS_WARNING") for r in records]
    assert warned == [("SAME_CODON",)] * 4 + [None] * 2


def test_the_header_says_unit_direction_reference_strand_and_use(
    tmp_path: Path, scored: Any, bundle: Path
) -> None:
    from core.bundle import load_bundle

    scored("out.vcf")
    text = (tmp_path / "out.vcf").read_text()
    effect = next(line for line in text.splitlines() if "ID=LS_EFFECT" in line)
    assert "in the unit of EFFECT" in effect and "higher is more damaging" in effect
    for line in (
        f"##longstrandModel={load_bundle(bundle).version}",
        "##longstrandReference=g.fa",
        "##longstrandUse=Research use only",
        "##longstrandStrand=",
    ):
        assert text.count(line) == 1


def test_parquet_has_the_scores_of_the_vcf_with_keys(tmp_path: Path, scored: Any) -> None:
    import pysam

    summary, again = scored("out.parquet"), scored("out.vcf")
    assert (summary["rows"], summary["scored"], summary["reasons"]) == (
        again["rows"],
        again["scored"],
        again["reasons"],
    )
    table = pl.read_parquet(tmp_path / "out.parquet")
    assert "##longstrandModel" in pl.read_parquet_metadata(tmp_path / "out.parquet")["longstrand"]
    assert table.select("record", "alternative", "chrom", "pos", "alt").rows()[:3] == [
        (1, 1, "chr_c", 24, "C"),
        (1, 2, "chr_c", 24, "G"),
        (2, 1, "chr_c", 26, "A"),
    ]
    with pysam.VariantFile(str(tmp_path / "out.vcf")) as variants:
        effects = [e for r in variants for e in r.info["LS_EFFECT"]]
    assert [e is None for e in effects] == table["effect"].is_null().to_list()
    assert [e for e in effects if e is not None] == pytest.approx(
        table["effect"].drop_nulls().to_list(), rel=1e-5
    )
    assert table["consequence"][0] == "start_lost"
    assert table["csq"][4].endswith("|p.Lys2=")  # not coded as INFO needs it


def test_contigs_have_the_md5_that_samtools_tells(
    tmp_path: Path, bare_bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import pysam.samtools

    bases = "acgtNNRYkACGT" * 9
    (tmp_path / "g.fa").write_text(f">chr1 of a test\n{bases}\n>2\n{bases[::-1]}\n>3\nACGT\n")
    told = str(pysam.samtools.dict(str(tmp_path / "g.fa")))
    expected = [line.split("M5:")[1].split("\t")[0] for line in told.splitlines()[1:]]
    contigs = [
        "<ID=1,length=117>",
        '<length=117,ID=2,note="a">',
        f"<ID=3,md5={'0' * 32}>",
        "<ID=4>",
    ]
    header = ["##fileformat=VCFv4.3", *(f"##contig={c}" for c in contigs)]
    header.append("#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO")
    (tmp_path / "in.vcf").write_text("\r\n".join([*header, "1\t1\t.\tA\tC\t.\t.\t."]) + "\r\n")
    data = {"source": "files", "fasta": str(tmp_path / "g.fa"), "annotation": None}
    run_score(bare_bundle, tmp_path / "in.vcf", tmp_path / "out.vcf", data=data)
    lines = (tmp_path / "out.vcf").read_bytes().decode().split("\r\n")
    assert lines[1:5] == [
        f"##contig=<ID=1,length=117,md5={expected[0]}>",
        f'##contig=<length=117,ID=2,note="a",md5={expected[1]}>',
        *header[3:5],
    ]
    whole = hashlib.md5("".join(expected).encode(), usedforsecurity=False).hexdigest()
    assert f"##longstrandReferenceMd5={whole}" in lines
    warned = [record.getMessage() for record in caplog.records if "md5" in record.getMessage()]
    assert len(warned) == 1 and f"expected {expected[2]}" in warned[0]
