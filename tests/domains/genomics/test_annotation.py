"""Gene models become codon places, sites and proteins, on either strand."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from core.errors import ConfigError, DataContractError
from domains.genomics.annotation import read_annotation
from domains.genomics.channel import CHANNELS, UNIT
from domains.genomics.codon import (
    AMINO_ACIDS,
    amino_acid_tables,
    coding_sites,
    translate,
)
from domains.genomics.contig import encode, read_genome
from domains.genomics.data_config import GenomicsData
from domains.genomics.source import open_reference


def _reverse_complement(sequence: str) -> str:
    return sequence[::-1].translate(str.maketrans("ACGT", "TGCA"))


def _reference(folder: Path, sequence: str, annotation: str, suffix: str = "gff3"):  # type: ignore[no-untyped-def]
    (folder / "g.fa").write_text(f">c\n{sequence}\n")
    (folder / f"g.{suffix}").write_text(annotation)
    data = GenomicsData(
        source="files", fasta=str(folder / "g.fa"), annotation=str(folder / f"g.{suffix}")
    )
    return open_reference(data)


# A gene of two exons, coding from base 4: ATG GC|T TAA with the codon GCT across the intron.
GENE = "CCCATGGC" + "GTAAAAAAAAAAAAAG" + "TTAACC"


def test_minus_strand_codon_across_an_intron_translates(tmp_path: Path) -> None:
    sequence = "TT" + _reverse_complement(GENE) + "AAAA"
    n = len(GENE)

    def span(a: int, b: int) -> str:  # transcript [a, b) -> 1-based inclusive columns
        return f"{2 + n - b + 1}\t{2 + n - a}"

    rows = [
        f"c\tx\texon\t{span(24, 30)}\t.\t-\t.\tParent=t",
        f"c\tx\texon\t{span(0, 8)}\t.\t-\t.\tParent=t",
        f"c\tx\tCDS\t{span(24, 28)}\t.\t-\t1\tParent=t",
        f"c\tx\tCDS\t{span(3, 8)}\t.\t-\t0\tParent=t",
    ]
    reference = _reference(tmp_path, sequence, "##gff-version 3\n" + "\n".join(rows) + "\n")
    (transcript,) = reference.transcripts["c"]
    assert translate(reference.sequence("c"), transcript) == "MA*"
    channels = dict(zip(CHANNELS, reference.channels("c").T, strict=True))
    first_coding = 2 + n - 1 - 3
    assert channels["minus_codon0"][first_coding] == UNIT
    assert channels["minus_codon1"][first_coding - 1] == UNIT
    assert channels["minus_utr5"][first_coding + 1] == UNIT
    assert channels["plus_exon"].sum() == 0
    assert channels["minus_donor"].max() == channels["minus_acceptor"].max() == UNIT
    donor = int(channels["minus_donor"].argmax())
    assert donor == 2 + n - 1 - 8  # the first base of the intron, 5' to 3'


def test_gtf_and_gff3_give_the_same_sites(tmp_path: Path) -> None:
    # GTF leaves the stop codon out of the CDS.
    gff = "c\tx\tCDS\t4\t12\t.\t+\t0\tID=t\n"
    gtf = (
        'c\tx\tCDS\t4\t9\t.\t+\t0\tgene_id "g"; transcript_id "t";\n'
        'c\tx\tstop_codon\t10\t12\t.\t+\t0\tgene_id "g"; transcript_id "t";\n'
    )
    sequence = "CCCATGGCTTAACC"
    one = _reference(tmp_path, sequence, gff)
    two = _reference(tmp_path, sequence, gtf, "gtf")
    assert (one.sites("c") == two.sites("c")).all()
    assert translate(two.sequence("c"), two.transcripts["c"][0]) == "MA*"


def test_substitution_table_equals_translating_the_changed_sequence() -> None:
    from domains.genomics.transcript import Transcript

    before, after = amino_acid_tables()
    draw = np.random.default_rng(3)
    for strand in (1, -1):
        sequence = draw.integers(0, 4, 31).astype(np.uint8)
        gene = Transcript("t", "c", strand, [(0, 31)], [(2, 29)])
        sites = coding_sites(sequence, [gene])
        protein = translate(sequence, gene)
        for pos in range(2, 29):
            codon = (pos - 2 if strand > 0 else 28 - pos) // 3
            assert AMINO_ACIDS[before[sites[pos]]] == protein[codon]
            for alt in range(4):
                changed = sequence.copy()
                changed[pos] = alt
                assert AMINO_ACIDS[after[sites[pos], alt]] == translate(changed, gene)[codon]


def test_genbank_slippage_join_reads_through_both_frames(tmp_path: Path) -> None:
    from Bio.Seq import Seq
    from Bio.SeqFeature import CompoundLocation, SeqFeature, SimpleLocation
    from Bio.SeqIO import write
    from Bio.SeqRecord import SeqRecord

    # Base 9 (0-based 8) ends one codon and begins the next: -1 slippage.
    sequence = "ATGGCTAAA" + "GCTAA"
    slipped = CompoundLocation([SimpleLocation(0, 9, 1), SimpleLocation(8, 14, 1)])
    minus = CompoundLocation([SimpleLocation(20, 24, -1), SimpleLocation(15, 17, -1)])
    tail = "C" + "CC" + "GGG" + _reverse_complement("ATGT") + "A"
    record = SeqRecord(Seq(sequence + tail), id="c", name="c")
    record.annotations["molecule_type"] = "DNA"
    record.features = [
        SeqFeature(slipped, "CDS", qualifiers={"gene": ["slip"]}),
        SeqFeature(minus, "CDS", qualifiers={"gene": ["minus"]}),
    ]
    path = tmp_path / "g.gb"
    write(record, path, "genbank")
    genome = read_genome(path)
    slip, other = read_annotation(path, genome).transcripts
    name = next(iter(genome.contigs))
    assert translate(genome.contigs[name], slip) == "MAKS*"
    assert slip.introns() == []
    assert translate(genome.contigs[name], other) == "MW"


def test_annotation_of_other_contigs_is_refused_with_the_names(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"other.*contig_alias"):
        _reference(tmp_path, "ACGTACGT", "other\tx\tCDS\t1\t6\t.\t+\t0\tID=t\n")


def test_feature_past_the_contig_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataContractError, match="same assembly"):
        _reference(tmp_path, "ACGTACGT", "c\tx\tCDS\t1\t60\t.\t+\t0\tID=t\n")


def test_malformed_line_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataContractError, match=r"g\.gff3:2: .*whole numbers"):
        _reference(tmp_path, "ACGT", "##gff-version 3\nc\tx\tCDS\tone\t3\t.\t+\t0\tID=t\n")


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("g.gff3", b"\x93\x00\xff" * 50, "no UTF-8 text"),
        ("g.gff3.gz", b"c\tx\tCDS\t1\t3\t.\t+\t0\tID=t\n", "asks for whole gzip data"),
        ("g.gtf.gz", gzip.compress(b"#\n" * 500)[:-9], "asks for whole gzip data"),
        ("h.gff3.gz", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03" + b"\xff" * 40, "whole gzip"),
        ("g.gff", gzip.compress(b"#\n" * 500), "must end in .gz"),
    ],
    ids=["binary", "no gzip", "cut gzip", "damaged gzip", "gzip without its suffix"],
)
def test_what_is_no_text_annotation_is_refused_with_a_sentence(
    tmp_path: Path, name: str, content: bytes, told: str
) -> None:
    (tmp_path / "g.fa").write_text(">c\nACGT\n")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataContractError, match=told):
        read_annotation(tmp_path / name, read_genome(tmp_path / "g.fa"))


def test_brca1_minus_strand_translates_to_1863_amino_acids(genomics_data: Path) -> None:
    folder = genomics_data / "brca1_sge"
    reference = open_reference(
        GenomicsData(
            source="files",
            fasta=str(folder / "brca1_hg19_slice.fa"),
            annotation=str(folder / "brca1.slice.gff3"),
        )
    )
    ((contig, (gene,)),) = reference.transcripts.items()
    protein = translate(reference.sequence(contig), gene)
    assert len(protein) == 1864 and protein.index("*") == 1863 and protein[0] == "M"
    sites = reference.sites(contig)
    assert (sites > 0).sum() == 1864 * 3


def test_sars2_genbank_has_both_frames_at_the_slippage_site(genomics_data: Path) -> None:
    folder = genomics_data / "sars2"
    reference = open_reference(
        GenomicsData(
            source="files",
            fasta=str(folder / "NC_045512.2.fa"),
            annotation=str(folder / "reference.gb"),
            contig_alias={"MN908947": "NC_045512.2"},
        )
    )
    contig = "NC_045512.2"
    proteins = {
        t.gene: translate(reference.sequence(contig), t) for t in reference.transcripts[contig]
    }
    assert all(p.count("*") == 1 and p.endswith("*") for p in proteins.values())
    assert len(proteins["S"]) == 1274
    channels = dict(zip(CHANNELS, reference.channels(contig).T, strict=True))
    both = [channels[f"plus_codon{place}"][13467] == UNIT for place in range(3)]
    assert sum(both) == 2  # ORF1a and ORF1b overlap here in two frames


def test_lower_case_and_ambiguous_bases() -> None:
    assert encode("acgtNRx").tolist() == [0, 1, 2, 3, 4, 4, 4]
