"""GenBank tells a gene's isoforms apart and names them as GFF3 would."""

from __future__ import annotations

import logging
import random
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from domains.genomics.consequence import consequences
from domains.genomics.csq import ConsequenceCaller
from domains.genomics.data_config import GenomicsData
from domains.genomics.genbank import read_genbank
from domains.genomics.source import Reference, open_reference
from domains.genomics.transcript import Transcript

Spans = tuple[tuple[int, int], ...]  # 1-based, both ends in
LENGTH = 330
# The donor of the first lies within the intron of the second, which begins in its exon.
EXONS: dict[str, Spans] = {"NM_1": ((21, 120), (221, 290)), "NM_2": ((21, 80), (181, 290))}
CDS: dict[str, Spans] = {"NM_1": ((31, 120), (221, 271)), "NM_2": ((31, 80), (181, 271))}
PROTEIN = {"NM_1": "NP_1", "NM_2": "NP_2"}


def _sequence() -> str:
    draw = random.Random(5)
    bases = [draw.choice("ACGT") for _ in range(LENGTH)]
    for start, text in (
        (31, "ATG"),
        (121, "GT"),
        (81, "GT"),
        (219, "AG"),
        (179, "AG"),
        (269, "TAA"),
    ):
        bases[start - 1 : start - 1 + len(text)] = text
    return "".join(bases)


def _placed(spans: Spans, strand: int) -> Spans:
    if strand > 0:
        return spans
    return tuple((LENGTH + 1 - b, LENGTH + 1 - a) for a, b in reversed(spans))


def _write(
    path: Path, sequence: str, features: list[tuple[str, Spans, int, dict[str, Any]]]
) -> None:
    from Bio.Seq import Seq
    from Bio.SeqFeature import CompoundLocation, SeqFeature, SimpleLocation
    from Bio.SeqIO import write
    from Bio.SeqRecord import SeqRecord

    record = SeqRecord(Seq(sequence), id="c", name="c")
    record.annotations["molecule_type"] = "DNA"
    for kind, spans, strand, told in features:
        parts = [SimpleLocation(a - 1, b, strand) for a, b in spans][::strand]
        place = CompoundLocation(parts) if len(parts) > 1 else parts[0]
        qualifiers = {name: [value] for name, value in told.items()}
        record.features.append(SeqFeature(place, kind, qualifiers=qualifiers))
    write(record, path, "genbank")


def _gff3(strand: int) -> str:
    sign = "+" if strand > 0 else "-"
    (start, end), *_ = _placed(((21, 290),), strand)
    lines = [f"c\tx\tgene\t{start}\t{end}\t.\t{sign}\t.\tID=g;Name=X"]
    for name, exons in EXONS.items():
        lines.append(f"c\tx\tmRNA\t{start}\t{end}\t.\t{sign}\t.\tID={name};Parent=g")
        for kind, spans in (("exon", exons), ("CDS", CDS[name])):
            lines += [
                f"c\tx\t{kind}\t{a}\t{b}\t.\t{sign}\t.\tParent={name}"
                for a, b in _placed(spans, strand)
            ]
    return "\n".join(["##gff-version 3", *lines]) + "\n"


def _every_substitution(reference: Reference, sequence: str) -> list[str]:
    alleles = [(p, r, a) for p, r in enumerate(sequence) for a in "ACGT" if a != r]
    frame = pl.DataFrame(alleles, schema=["pos", "ref", "alt"], orient="row").select(
        pl.int_range(pl.len()).alias("key"), pl.lit("c").alias("contig"), "pos", "ref", "alt"
    )
    return consequences(ConsequenceCaller(reference), frame)["csq"].to_list()


@pytest.mark.parametrize("strand", [1, -1])
def test_isoforms_have_the_consequences_that_they_have_in_gff3(tmp_path: Path, strand: int) -> None:
    sequence = _sequence()
    if strand < 0:
        sequence = sequence[::-1].translate(str.maketrans("ACGT", "TGCA"))
    (tmp_path / "g.fa").write_text(f">c\n{sequence}\n")
    (tmp_path / "g.gff3").write_text(_gff3(strand))
    messengers = [
        ("mRNA", _placed(EXONS[name], strand), strand, {"gene": "X", "transcript_id": name})
        for name in ("NM_2", "NM_1")  # not in the order of the CDS
    ]
    coding = [
        ("CDS", _placed(CDS[name], strand), strand, {"gene": "X", "protein_id": PROTEIN[name]})
        for name in EXONS
    ]
    _write(tmp_path / "g.gb", sequence, [*messengers, *coding])
    told = []
    for name in ("g.gff3", "g.gb"):
        data = GenomicsData(
            source="files", fasta=str(tmp_path / "g.fa"), annotation=str(tmp_path / name)
        )
        told.append(_every_substitution(open_reference(data), sequence))
    assert told[0] == told[1]
    assert any(text.startswith("splice_donor_variant|X|NM_1|c.90+2T>") for text in told[1])
    assert any(text.startswith("splice_donor_variant|X|NM_2|c.50+2T>") for text in told[1])


def _read(folder: Path, features: list[tuple[str, Spans, int, dict[str, Any]]]) -> list[Transcript]:
    _write(folder / "g.gb", "ACGT" * 100, features)
    return read_genbank(folder / "g.gb").transcripts


@pytest.mark.parametrize(
    ("told", "names"),
    [
        ({"gene": "X", "locus_tag": "L1", "protein_id": "P1", "transcript_id": "T1"}, ("T1", "X")),
        ({"gene": "X", "locus_tag": "L1", "protein_id": "P1"}, ("P1", "X")),
        ({"gene": "X", "locus_tag": "L1"}, ("L1", "X")),
        ({"locus_tag": "L1"}, ("L1", "L1")),
        ({"gene": "X"}, ("X", "X")),
        ({}, ("CDS", "")),
    ],
    ids=["transcript", "protein", "locus", "locus alone", "gene alone", "nothing"],
)
def test_a_transcript_has_the_most_exact_name_and_its_gene(
    tmp_path: Path, told: dict[str, str], names: tuple[str, str]
) -> None:
    (found,) = _read(tmp_path, [("CDS", ((1, 90),), 1, told)])
    assert (found.name, found.gene) == names


def test_transcripts_of_one_name_are_numbered(tmp_path: Path) -> None:
    genes = ["X", "Y", "X", "X_1"]
    features = [("CDS", ((1, 90 + i),), 1, {"gene": gene}) for i, gene in enumerate(genes)]
    found = _read(tmp_path, features)
    assert [t.name for t in found] == ["X_2", "Y", "X_3", "X_1"]
    assert [t.gene for t in found] == genes


def test_isoforms_that_differ_outside_the_cds_keep_their_own_exons(tmp_path: Path) -> None:
    one, two, cds = ((1, 10), (21, 99)), ((1, 12), (21, 99)), ((31, 90),)
    messengers = [("mRNA", one, 1, {"gene": "X"}), ("mRNA", two, 1, {"gene": "X"})]
    plain = _read(tmp_path, [*messengers, *[("CDS", cds, 1, {"gene": "X"})] * 2])
    assert [t.exons for t in plain] == [[(0, 10), (20, 99)], [(0, 12), (20, 99)]]
    named = [
        (kind, spans, 1, {"gene": "X", "transcript_id": name})
        for kind, spans, name in (
            ("mRNA", one, "T1"),
            ("mRNA", two, "T2"),
            ("CDS", cds, "T2"),
            ("CDS", cds, "T1"),
        )
    ]
    assert [(t.name, t.exons[0][1]) for t in _read(tmp_path, named)] == [("T2", 12), ("T1", 10)]


def test_an_mrna_that_is_not_of_the_cds_is_left_alone(tmp_path: Path) -> None:
    cds = ("CDS", ((31, 60), (91, 120)), 1, {"gene": "X"})
    others = [
        ("mRNA", ((21, 60), (81, 130)), 1, {"gene": "X"}),  # another acceptor
        ("mRNA", ((21, 60), (91, 110)), 1, {"gene": "X"}),  # ends within the CDS
        ("mRNA", ((21, 60), (91, 130)), -1, {"gene": "X"}),
        ("mRNA", ((21, 60), (91, 130)), 1, {"gene": "Y"}),
    ]
    (alone,) = _read(tmp_path, [*others, cds])
    assert alone.exons == [(30, 60), (90, 120)]
    own = ("mRNA", ((21, 60), (91, 130)), 1, {"gene": "X", "locus_tag": "L"})
    (found,) = _read(tmp_path, [*others, own, cds])
    assert found.exons == [(20, 60), (90, 130)]


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([(20, 60, -1), (100, 161, 1)], id="two strands, as rps12"),
        pytest.param([(300, 330, 1), (0, 31, 1)], id="over the origin"),
        pytest.param([(0, 31, -1), (300, 330, -1)], id="over the origin, minus strand"),
    ],
)
def test_a_coding_sequence_that_turns_back_is_left_out_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, parts: list[tuple[int, int, int]]
) -> None:
    from Bio.Seq import Seq
    from Bio.SeqFeature import CompoundLocation, SeqFeature, SimpleLocation
    from Bio.SeqIO import write
    from Bio.SeqRecord import SeqRecord

    record = SeqRecord(Seq(_sequence()), id="c", name="c")
    record.annotations["molecule_type"] = "DNA"
    turned = CompoundLocation([SimpleLocation(*part) for part in parts])
    straight = CompoundLocation([SimpleLocation(270, 290, -1), SimpleLocation(200, 240, -1)])
    for place, gene in ((turned, "rps12"), (straight, "rpoC1")):
        record.features.append(SeqFeature(place, "CDS", qualifiers={"gene": [gene]}))
    write(record, tmp_path / "g.gb", "genbank")
    with caplog.at_level(logging.WARNING):
        found = read_genbank(tmp_path / "g.gb").transcripts
    assert [(t.name, t.cds) for t in found] == [("rpoC1", [(270, 290), (200, 240)])]
    assert "CDS rps12: its parts do not follow each other" in caplog.text
