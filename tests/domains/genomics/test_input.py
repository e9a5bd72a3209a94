"""Variants come in as VCF, BCF or table, under any name of a contig, against the right FASTA."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from core.errors import ConfigError, DataContractError
from domains.genomics import domain
from domains.genomics.config import GenomicsConfig, ScoringConfig
from domains.genomics.contig_name import ContigNames
from domains.genomics.data_config import GenomicsData
from tests.domains.genomics.conftest import run_score

HEADER = "##fileformat=VCFv4.2\n##contig=<ID=c,length=120>\n"
COLUMNS = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"


def _alleles(folder: Path, records: str, name: str = "c", **scoring: Any) -> list[dict[str, Any]]:
    (folder / "g.fa").write_text(f">{name}\n{'ACGT' * 30}\n")
    path = folder / "v.txt"
    path.write_text(records)
    data = GenomicsData(source="files", fasta=str(folder / "g.fa"))
    config = GenomicsConfig(data=data, scoring=ScoringConfig(**scoring))
    source = domain.open(config, "score", input=path)
    return [row for part in source.partitions() for row in source.alleles(part).to_dicts()]


def _record(pos: int, ref: str, alt: str, chrom: str = "c") -> str:
    return f"{chrom}\t{pos}\t.\t{ref}\t{alt}\t.\t.\t.\n"


@pytest.mark.parametrize(
    ("contigs", "given", "found"),
    [
        (["chr1", "chr10", "chrM"], "1", "chr1"),
        (["1", "10", "MT"], "chr10", "10"),
        (["chr1", "chrX"], "NC_000023.11", "chrX"),
        (["NC_000001.11"], "chr1", "NC_000001.11"),
        (["NC_000001.11"], "NC_000001.10", None),
        (["1"], "NC_000001.10", "1"),
        (["chrM"], "NC_012920.1", "chrM"),
        (["MT"], "M", "MT"),
        (["IV", "Mito"], "chrIV", "IV"),
        (["NC_045512.2"], "NC_045512", "NC_045512.2"),
        (["1", "chr1"], "NC_000001.11", None),
        (["1", "chr1"], "chr1", "chr1"),
        (["chr1"], "chr2", None),
    ],
)
def test_a_contig_is_found_under_its_other_names(
    contigs: list[str], given: str, found: str | None
) -> None:
    assert ContigNames(contigs, {}).resolve(given) == found


def test_a_named_alias_goes_before_the_rules() -> None:
    assert ContigNames(["chr1", "other"], {"1": "other"}).resolve("1") == "other"


def test_bcf_and_tables_give_the_alleles_of_the_vcf(tmp_path: Path, bare_bundle: Path) -> None:
    import pysam.bcftools

    records = _record(1, "A", "C,G") + _record(2, "C", "T")
    (tmp_path / "g.fa").write_text(f">c\n{'ACGT' * 30}\n")
    (tmp_path / "v.vcf").write_text(HEADER + COLUMNS + records)
    for flag, name in (("-Ob", "v.bcf"), ("-Ou", "u.bcf")):
        pysam.bcftools.view(
            flag, "-o", str(tmp_path / name), str(tmp_path / "v.vcf"), catch_stdout=False
        )
    (tmp_path / "v.tsv").write_text("chr\tposition\tref\talt\nc\t1\tA\tC,G\nc\t2\tC\tT\n")
    (tmp_path / "v.csv").write_text("alt,ref,pos,chrom\nT,C,2,c\n")
    (tmp_path / "bare.tsv").write_text("c 1 rs1 A C,G\nc 2 rs2 C T\n")
    data = {"source": "files", "fasta": str(tmp_path / "g.fa"), "annotation": None}
    told = []
    for name in ("v.vcf", "v.bcf", "u.bcf", "v.tsv", "bare.tsv"):
        scoring = {"columns": ["chrom", "pos", "id", "ref", "alt"]} if name == "bare.tsv" else {}
        out = tmp_path / f"{name}.out.vcf.gz"
        summary = run_score(bare_bundle, tmp_path / name, out, data=data, scoring=scoring)
        assert (summary["rows"], summary["scored"]) == (3, 3), summary
        lines = gzip.decompress(out.read_bytes()).decode().splitlines()
        body = [line.split("\t") for line in lines if not line.startswith("#")]
        told.append([[*c[:2], *c[3:5], c[7]] for c in body])
    assert all(t == told[0] for t in told)
    assert "rs2" in gzip.decompress((tmp_path / "bare.tsv.out.vcf.gz").read_bytes()).decode()
    summary = run_score(bare_bundle, tmp_path / "v.csv", tmp_path / "o.vcf", data=data)
    assert summary["scored"] == 1


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('"chr","pos","ref","alt"\r\n"c","1","A","C,G"\r\n', id="R's write.csv"),
        pytest.param('note,chr,pos,ref,alt\n"a, b",c,1,A,"C,G"\n', id="spreadsheet"),
        pytest.param('"chr"\t"pos"\t"ref"\t"alt"\n"c"\t1\t"A"\t"C,G"\n', id="tabs"),
        pytest.param('"chr" "pos" "ref" "alt"\n"c" 1 "A" "C,G"\n', id="R's write.table"),
    ],
)
def test_quotes_around_cells_of_a_table_are_none_of_its_text(tmp_path: Path, text: str) -> None:
    # Without its quotes a list of alternatives would be two cells, and the second be lost.
    found = _alleles(tmp_path, text)
    told = [(row["chrom"], row["pos"], row["ref"], row["alt"]) for row in found]
    assert told == [("c", 0, "A", "C"), ("c", 0, "A", "G")]


def test_a_table_without_names_is_refused_with_the_key_to_set(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.scoring\.columns=\[chrom,pos,id,ref,alt\]"):
        _alleles(tmp_path, "c\t1\tA\tC\n")
    with pytest.raises(ConfigError, match=r"no column alt: config\.scoring\.columns names"):
        _alleles(tmp_path, "c\t1\tA\tC\n", columns=["chrom", "pos", "ref"])


@pytest.mark.parametrize("form", ["v.vcf", "v.vcf.gz", "v.bcf"])
def test_columns_named_for_a_vcf_are_refused(tmp_path: Path, bare_bundle: Path, form: str) -> None:
    import pysam.bcftools

    (tmp_path / "g.fa").write_text(f">c\n{'ACGT' * 30}\n")
    (tmp_path / "v.vcf").write_text(HEADER + COLUMNS + _record(1, "A", "C"))
    flag = {"v.vcf": "-Ov", "v.vcf.gz": "-Oz", "v.bcf": "-Ob"}[form]
    given = tmp_path / form
    if form != "v.vcf":
        pysam.bcftools.view(flag, "-o", str(given), str(tmp_path / "v.vcf"), catch_stdout=False)
    summary = run_score(
        bare_bundle,
        given,
        tmp_path / "out.vcf",
        data={"source": "files", "fasta": str(tmp_path / "g.fa"), "annotation": None},
        scoring={"columns": ["chrom", "pos", "id", "ref", "alt"]},
    )
    assert summary["exit_code"] == 2 and "leave config.scoring.columns out" in summary["error"]
    assert not (tmp_path / "out.vcf").exists()


def test_a_commented_line_of_names_leads_to_the_key_that_reads_the_table(tmp_path: Path) -> None:
    table = "#CHROM\tPOS\tREF\tALT\nc\t1\tA\tC\n"
    with pytest.raises(ConfigError, match=r"if it is a table.*config\.scoring\.columns=\[chrom"):
        _alleles(tmp_path, table)
    told = _alleles(tmp_path, table, columns=["chrom", "pos", "ref", "alt"])
    assert [(a["record"], a["reason"]) for a in told] == [(0, "SCORED")]


def test_the_unseen_and_the_damaged_have_reasons(tmp_path: Path) -> None:
    records = _record(1, "A", "C,<*>,<NON_REF>,*,<DEL>") + _record(2, "Q", "A")
    records += _record(10**19, "A", "C") + "c\t3\n"
    reasons = [a["reason"] for a in _alleles(tmp_path, HEADER + COLUMNS + records)]
    assert reasons[:5] == ["SCORED", "ANY_ALLELE", "ANY_ALLELE", "OVERLAPPING_DELETION", "SYMBOLIC"]
    assert reasons[5:] == ["REF_NOT_BASES", "MALFORMED_RECORD", "MALFORMED_RECORD"]


def test_a_mismatch_is_skipped_refused_or_flipped_as_asked(tmp_path: Path) -> None:
    text = HEADER + COLUMNS + _record(1, "G", "A,T") + _record(2, "C", "A")
    skipped = _alleles(tmp_path, text)
    assert [(a["reason"], a["base"]) for a in skipped] == [
        ("REF_MISMATCH", -1),
        ("REF_MISMATCH", -1),
        ("SCORED", 0),
    ]
    flipped = _alleles(tmp_path, text, ref_mismatch="flip")
    assert [(a["reason"], a["base"]) for a in flipped] == [
        ("SCORED_FLIPPED", 2),
        ("REF_MISMATCH", -1),
        ("SCORED", 0),
    ]
    with pytest.raises(DataContractError, match=r"record 1 \(c:1\), column REF: found G"):
        _alleles(tmp_path, text, ref_mismatch="fail")


def test_another_assembly_is_noticed_before_scoring(tmp_path: Path) -> None:
    bases = "ACGT" * 30
    rows = [_record(i, bases[i - 1], "N") for i in range(1, 31)]
    wrong = [_record(i, "A" if bases[i - 1] != "A" else "C", "N") for i in range(1, 31)]
    with pytest.raises(ConfigError, match=r"wrong assembly\? 10 of the first 30"):
        _alleles(tmp_path, HEADER + COLUMNS + "".join(wrong[:10] + rows[10:]))
    assert len(_alleles(tmp_path, HEADER + COLUMNS + "".join(wrong[:6] + rows[6:]))) == 30
    assert len(_alleles(tmp_path, HEADER + COLUMNS + "".join(wrong), most_mismatches=1.0)) == 30


@pytest.mark.parametrize("n", [3, 18])
def test_a_short_file_is_of_another_assembly_where_every_record_says_so(
    tmp_path: Path, n: int
) -> None:
    wrong = "".join(_record(4 * i + 1, "C", "G") for i in range(n))
    with pytest.raises(ConfigError, match=rf"wrong assembly\? {n} of the first {n}"):
        _alleles(tmp_path, HEADER + COLUMNS + _record(1, "A", "C", "elsewhere") + wrong)
    right = _record(2, "C", "G")
    assert len(_alleles(tmp_path, HEADER + COLUMNS + right + wrong)) == n + 1
    assert len(_alleles(tmp_path, HEADER + COLUMNS + wrong, most_mismatches=1.0)) == n
    two = HEADER + COLUMNS + _record(1, "C", "G") + _record(5, "C", "G")
    assert len(_alleles(tmp_path, two)) == 2


def test_a_contig_twice_in_a_fasta_is_refused(tmp_path: Path) -> None:
    from domains.genomics.contig import read_genome

    (tmp_path / "g.fa").write_text(">c\nAC\n>d\nA\n>c\nGT\n")
    with pytest.raises(ConfigError, match="contig c is there 2 times"):
        read_genome(tmp_path / "g.fa")


def test_standard_input_is_scored_as_the_file_is(
    tmp_path: Path, bare_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import io
    import sys

    (tmp_path / "g.fa").write_text(f">c\n{'ACGT' * 30}\n")
    text = HEADER + COLUMNS + _record(1, "A", "C,G") + _record(2, "C", "T")
    (tmp_path / "v.vcf").write_text(text)
    data = {"source": "files", "fasta": str(tmp_path / "g.fa"), "annotation": None}
    run_score(bare_bundle, tmp_path / "v.vcf", tmp_path / "file.vcf", data=data)
    piped = io.TextIOWrapper(io.BytesIO(gzip.compress(text.encode())))
    monkeypatch.setattr(sys, "stdin", piped)
    summary = run_score(bare_bundle, Path("-"), tmp_path / "pipe.vcf", data=data)
    assert summary["scored"] == 3
    assert (tmp_path / "pipe.vcf").read_bytes() == (tmp_path / "file.vcf").read_bytes()
    assert {p.name for p in tmp_path.iterdir()} == {"g.fa", "v.vcf", "file.vcf", "pipe.vcf"}
