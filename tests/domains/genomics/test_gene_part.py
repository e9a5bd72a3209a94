"""Gene models as NCBI, Ensembl and others write them: several coding sequences of one gene,
ribosomal slippage, transcripts of one name, trans-splicing, coded contig names."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from core.errors import DataContractError
from domains.genomics.annotation import read_annotation
from domains.genomics.codon import translate
from domains.genomics.contig import Genome, read_genome
from domains.genomics.transcript import Transcript

# Read from base 1: ATG GCT AAA, then one base back: A|GC TAA (0-based [0, 9) and [8, 14)). Without
# slippage ATG GCT AAA GCT AAC TAG.
SLIPS = "ATGGCTAAAGCTAACTAGCC"


def _read(
    folder: Path, sequence: str, rows: list[str], suffix: str = "gff3", name: str = "c"
) -> tuple[Genome, list[Transcript]]:
    (folder / "g.fa").write_text(f">{name}\n{sequence}\n")
    path = folder / f"g.{suffix}"
    path.write_text("".join(row.replace(" ", "\t", 8) + "\n" for row in rows))
    genome = read_genome(folder / "g.fa")
    return genome, read_annotation(path, genome).transcripts


def _proteins(genome: Genome, transcripts: list[Transcript]) -> dict[str, str]:
    (sequence,) = genome.contigs.values()
    return {f"{t.gene} {t.name}": translate(sequence, t) for t in transcripts}


def _reverse_complement(sequence: str) -> str:
    return sequence[::-1].translate(str.maketrans("ACGT", "TGCA"))


def test_two_coding_sequences_of_a_gene_are_two_transcripts(tmp_path: Path) -> None:
    # As NCBI writes ORF1ab and ORF1a: the gene is Parent of both, lines of one have its ID.
    rows = [
        "c x gene 1 18 . + . ID=gene-1;Name=ORF1ab",
        "c x CDS 1 9 . + 0 ID=cds-ab;Parent=gene-1;exception=ribosomal slippage",
        "c x CDS 9 14 . + 0 ID=cds-ab;Parent=gene-1;exception=ribosomal slippage",
        "c x CDS 1 18 . + 0 ID=cds-a;Parent=gene-1",
    ]
    found = _proteins(*_read(tmp_path, SLIPS, rows))
    assert found == {"ORF1ab cds-ab": "MAKS*", "ORF1ab cds-a": "MAKAN*"}


def test_numbered_lines_of_one_coding_sequence_stay_together(tmp_path: Path) -> None:
    sequence = "ATGGC" + "GT" + "A" * 12 + "AG" + "TTAAC"
    rows = [
        "c x exon 1 5 . + . Parent=t",
        "c x exon 22 26 . + . Parent=t",
        "c x CDS 1 5 . + 0 ID=t.cds1;Parent=t",
        "c x CDS 22 25 . + 1 ID=t.cds2;Parent=t",
    ]
    assert _proteins(*_read(tmp_path, sequence, rows)) == {" t": "MA*"}


def test_coding_sequences_in_one_exon_are_apart(tmp_path: Path) -> None:
    # An operon: two genes' products on one messenger.
    sequence = "ATGGCTTAA" + "C" * 12 + "ATGAAATAA"
    rows = [
        "c x exon 1 30 . + . Parent=t",
        "c x CDS 1 9 . + 0 ID=one;Parent=t",
        "c x CDS 22 30 . + 0 ID=two;Parent=t",
    ]
    assert _proteins(*_read(tmp_path, sequence, rows)) == {" one": "MA*", " two": "MK*"}


@pytest.mark.parametrize("strand", [1, -1])
def test_slippage_survives_the_stop_codon_of_a_gtf(tmp_path: Path, strand: int) -> None:
    def row(kind: str, start: int, end: int) -> str:
        if strand < 0:
            start, end = len(SLIPS) + 1 - end, len(SLIPS) + 1 - start
        told = 'gene_id "g"; transcript_id "t"; protein_id "p";'
        return f"c x {kind} {start} {end} . {'+' if strand > 0 else '-'} 0 {told}"

    rows = [row("CDS", 1, 9), row("CDS", 9, 11), row("stop_codon", 12, 14)]
    sequence = SLIPS if strand > 0 else _reverse_complement(SLIPS)
    assert _proteins(*_read(tmp_path, sequence, rows, "gtf")) == {"g t": "MAKS*"}


def test_a_stop_codon_in_the_next_exon_of_a_gtf_is_taken_in(tmp_path: Path) -> None:
    sequence = "ATGGCT" + "T" + "GT" + "A" * 12 + "AG" + "AACC"
    told = 'gene_id "g"; transcript_id "t";'
    rows = [f"c x {kind} {place} . + 0 {told}" for kind, place in (("CDS", "1 6"), ("exon", "1 7"))]
    rows += [f"c x {kind} {place} . + 0 {told}" for kind, place in (("exon", "24 27"),)]
    rows += [f"c x stop_codon {place} . + 0 {told}" for place in ("7 7", "24 25")]
    assert _proteins(*_read(tmp_path, sequence, rows, "gtf")) == {"g t": "MA*"}


def test_transcripts_of_one_name_belong_to_their_genes_in_a_gtf(tmp_path: Path) -> None:
    # NCBI calls what has no messenger `unknown_transcript_1`, in all genes of a virus.
    sequence = "ATGGCTTAA" + "C" * 12 + "ATGAAATAA"
    name = 'transcript_id "unknown_transcript_1"'
    rows = [
        f'c x CDS 1 6 . + 0 gene_id "one"; {name}; protein_id "YP_1";',
        f'c x stop_codon 7 9 . + 0 gene_id "one"; {name}; protein_id "YP_1";',
        f'c x CDS 22 27 . + 0 gene_id "two"; {name}; protein_id "YP_2";',
        f'c x stop_codon 28 30 . + 0 gene_id "two"; {name}; protein_id "YP_2";',
    ]
    found = _proteins(*_read(tmp_path, sequence, rows, "gtf"))
    assert found == {"one unknown_transcript_1": "MA*", "two unknown_transcript_1": "MK*"}


def test_a_trans_spliced_transcript_is_left_out_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # As chloroplast rps12: its first exon lies on the other strand.
    rows = [
        "c x CDS 1 9 . - 0 ID=cds-rps12;Parent=gene-rps12;exception=trans-splicing;part=1",
        "c x CDS 13 18 . + 0 ID=cds-rps12;Parent=gene-rps12;exception=trans-splicing;part=2",
        "c x CDS 1 18 . + 0 ID=cds-a;Parent=gene-a",
    ]
    with caplog.at_level(logging.WARNING):
        found = _proteins(*_read(tmp_path, SLIPS, rows))
    assert list(found) == [" gene-a"]
    assert "transcript gene-rps12 is trans-spliced" in caplog.text


def test_a_coded_contig_name_is_read(tmp_path: Path) -> None:
    rows = [
        "##sequence-region HLA%2CA 1 20",
        "HLA%2CA x CDS 1 18 . + 0 ID=a",
    ]
    genome, found = _read(tmp_path, SLIPS, rows, name="HLA,A")
    assert [t.contig for t in found] == ["HLA,A"]
    assert read_annotation(tmp_path / "g.gff3", genome).contigs == {"HLA,A"}


def test_gtf_under_the_name_of_gff3_is_refused_at_its_line(tmp_path: Path) -> None:
    rows = ['c x CDS 1 18 . + 0 gene_id "g"; transcript_id "t";']
    with pytest.raises(DataContractError, match=r"g\.gff:1: .*expected Parent, ID or Name"):
        _read(tmp_path, SLIPS, rows, "gff")


def test_a_gene_over_the_origin_of_a_circle_is_left_out_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # GFF3 counts on past the last base there, as NCBI does for hepatitis B virus.
    rows = [
        "c x region 1 20 . + . ID=c:1..20;Is_circular=true",
        "c x CDS 16 24 . + 0 ID=cds-P;Parent=gene-P",
        "c x CDS 1 18 . + 0 ID=cds-X;Parent=gene-X",
    ]
    with caplog.at_level(logging.WARNING):
        found = _proteins(*_read(tmp_path, SLIPS, rows))
    assert list(found) == [" gene-X"]
    assert "gene-P lies over the origin of the circular contig c" in caplog.text
