"""Of a contig that the annotation does not mention nothing is said, not that no gene is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from core.contract import Fold
from domains.genomics import domain
from domains.genomics.annotation import read_annotation
from domains.genomics.config import GenomicsConfig
from domains.genomics.contig import Genome, read_genome
from domains.genomics.contig_name import ContigNames
from domains.genomics.data_config import GenomicsData
from domains.genomics.edited import Editor
from domains.genomics.floor import damaging_direction, floors_of
from domains.genomics.percentile import random_events
from domains.genomics.source import LabelledSource, Reference
from domains.genomics.transcript import Transcript
from tests.domains.genomics.conftest import run_score
from tests.domains.genomics.test_consequence import GENE, _gff3, _gtf

# Of `c` there are genes; of `d` its length, of `e` a region; of `f` nothing.
MENTIONED = f"##sequence-region d 1 {len(GENE)}\ne\tx\tregion\t1\t{len(GENE)}\t.\t+\t.\tID=e:1\n"


def _files(folder: Path, annotation: str) -> dict[str, Any]:
    (folder / "g.fa").write_text("".join(f">{name}\n{GENE}\n" for name in "cdef"))
    (folder / "g.gff3").write_text(annotation)
    names = {"fasta": str(folder / "g.fa"), "annotation": str(folder / "g.gff3")}
    return {"source": "files", **names, "contig_alias": {"other_f": "f"}}


@pytest.mark.parametrize("name", ["out.vcf", "out.parquet"])
def test_scoring_says_which_contigs_have_no_annotation(
    tmp_path: Path, bundle: Path, name: str
) -> None:
    lines = ["##fileformat=VCFv4.3", "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
    for chrom, alt in [("c", "T"), ("d", "T"), ("e", "T"), ("other_f", "T,CT"), ("no", "T")]:
        lines.append(f"{chrom}\t108\t.\tC\t{alt}\t.\t.\t.")
    (tmp_path / "in.vcf").write_text("\n".join(lines) + "\n")
    data = _files(tmp_path, _gff3() + MENTIONED)
    summary = run_score(bundle, tmp_path / "in.vcf", tmp_path / name, data=data)
    assert (summary["rows"], summary["scored"]) == (6, 4)
    assert summary["reasons"] == {"CONTIG_NOT_ANNOTATED": 2, "NOT_SNV": 1, "UNKNOWN_CONTIG": 1}
    if name == "out.parquet":
        told = pl.read_parquet(tmp_path / name)["csq"].to_list()
    else:
        rows = (line for line in (tmp_path / name).read_text().splitlines() if line[0] != "#")
        cells = [row.partition("LS_CSQ=")[2].split(";")[0] for row in rows]
        told = [None if cell == "." else cell for text in cells for cell in text.split(",")]
    assert told == ["intergenic_variant||||"] * 3 + [None] * 3


def test_gff3_gtf_and_genbank_tell_which_contigs_they_mention(tmp_path: Path) -> None:
    from Bio.Seq import Seq
    from Bio.SeqFeature import SeqFeature, SimpleLocation
    from Bio.SeqIO import write
    from Bio.SeqRecord import SeqRecord

    _files(tmp_path, _gff3() + MENTIONED)
    (tmp_path / "g.gtf").write_text(_gtf() + 'd\tx\tgene\t1\t9\t.\t+\t.\tgene_id "G2";\n')
    records = [SeqRecord(Seq(GENE), id=name, name=name) for name in ("c", "e", "elsewhere")]
    for record in records:
        record.annotations["molecule_type"] = "DNA"
    records[0].features = [SeqFeature(SimpleLocation(23, 29, 1), "CDS")]
    write(records, tmp_path / "g.gb", "genbank")
    genome = read_genome(tmp_path / "g.fa")
    for name, contigs in (("g.gff3", "cde"), ("g.gtf", "cd"), ("g.gb", "ce")):
        assert read_annotation(tmp_path / name, genome).contigs == set(contigs), name


def _labelled(folder: Path, contigs: str) -> LabelledSource:
    """50 substitutions a contig within the gene of `c` or where it would be; labels fall from
    the start of the gene on."""
    places = range(20, 70)
    lines = [
        f"{contig}\t{pos + 1}\t{GENE[pos]}\t{'A' if GENE[pos] != 'A' else 'C'}\t{-pos}"
        for contig in contigs
        for pos in places
    ]
    (folder / "v.tsv").write_text("\n".join(["chrom\tpos\tref\talt\tL", *lines]) + "\n")
    data = GenomicsData(
        **_files(folder, _gff3() + MENTIONED), variants=str(folder / "v.tsv"), label="L"
    )
    return LabelledSource(GenomicsConfig(data=data))


def test_unknown_consequences_are_of_no_class_and_rank_between_known_ones(
    tmp_path: Path, few_draws: None
) -> None:
    source = _labelled(tmp_path, "cdf")
    known = source.consequences()
    assert known is not None and known["consequence"].null_count() == 50
    rows = source.variants["row"]
    task: Any = domain.task(source.config)
    floor = floors_of(source, Fold("one", rows, rows[:0], rows))["consequence_rank"]
    raw = floor["raw"].to_numpy()
    assert np.ptp(raw[100:]) == 0 and raw[100] == pytest.approx(raw[:100].mean())
    assert raw[:100].min() < raw[100] < raw[:100].max()
    protocols = [metric.protocol for metric in task.metrics(source, floor)]
    for term in ("intron_variant", "intergenic_variant"):
        assert f"held-out contig, {term}, interval over alleles" in protocols
    assert not any("None" in protocol for protocol in protocols)
    assert damaging_direction(source, source.variants) == 1


def test_without_any_known_consequence_there_is_no_floor_of_them(tmp_path: Path) -> None:
    source = _labelled(tmp_path, "f")
    rows = source.variants["row"]
    task: Any = domain.task(source.config)
    floors = floors_of(source, Fold("one", rows[:25], rows[:0], rows[25:]))
    assert set(floors) == {"position_knn", "kmer"}
    assert len(task.metrics(source, floors["position_knn"])) == 1
    assert damaging_direction(source, source.variants) == 0


def test_random_events_come_from_contigs_that_the_annotation_mentions() -> None:
    draw = np.random.default_rng(0)
    contigs = {name: draw.integers(0, 4, 2000).astype(np.uint8) for name in "abc"}
    genome = Genome(Path("a.fa"), contigs, ContigNames(contigs, {}), "")
    gene = Transcript("t", "a", 1, [(0, 90)], [(0, 90)])
    reference = Reference(genome, [gene], annotated=["b"])
    drawn = random_events(Editor(reference, 20), (2, 0), 100, 50)
    assert {event.contig for event in drawn} == {"a", "b"}
