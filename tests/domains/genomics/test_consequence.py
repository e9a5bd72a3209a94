"""Consequences are those of bcftools csq, named as a geneticist names them."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from core.contract import Fold
from core.errors import DataContractError
from domains.genomics import domain
from domains.genomics.config import GenomicsConfig
from domains.genomics.consequence import consequences, labelled_alleles, plain_alleles, rank_of
from domains.genomics.csq import ConsequenceCaller
from domains.genomics.data_config import GenomicsData, SplitConfig
from domains.genomics.floor import floors_of
from domains.genomics.hgvs import coding_name, protein_name
from domains.genomics.source import LabelledSource, open_reference
from domains.genomics.transcript import Transcript

# ATG AAA GT..AG CTT TAA with 3 bases of UTR before and 4 after; an intron of 40. csq misses the
# splice sites of an exon in the first 8 bases of a contig, so 20 bases lead.
GENE = "C" * 23 + "ATGAAA" + "GT" + "C" * 36 + "AG" + "CTTTAA" + "GGGG" + "C" * 60
EXONS = ((21, 29), (70, 79))
CDS = ((24, 29, "0"), (70, 75, "0"))


def _gff3(cds: tuple[tuple[int, int, str], ...] = CDS) -> str:
    lines = ["c\tx\tgene\t21\t79\t.\t+\t.\tID=gene:G1;Name=ABC1"]
    lines.append("c\tx\tmRNA\t21\t79\t.\t+\t.\tID=transcript:T1;Parent=gene:G1")
    lines += [f"c\tx\texon\t{a}\t{b}\t.\t+\t.\tParent=transcript:T1" for a, b in EXONS]
    lines += [f"c\tx\tCDS\t{a}\t{b}\t.\t+\t{p}\tParent=transcript:T1" for a, b, p in cds]
    return "\n".join(["##gff-version 3", *lines]) + "\n"


def _gtf() -> str:
    told = 'gene_id "G1"; gene_name "ABC1"; transcript_id "T1";'
    lines = [f"c\tx\texon\t{a}\t{b}\t.\t+\t.\t{told}" for a, b in EXONS]
    lines += [f"c\tx\tCDS\t24\t29\t.\t+\t0\t{told}", f"c\tx\tCDS\t70\t72\t.\t+\t0\t{told}"]
    return "\n".join([*lines, f"c\tx\tstop_codon\t73\t75\t.\t+\t0\t{told}"]) + "\n"


def _called(folder: Path, text: str, name: str, alleles: list[tuple[int, str, str]]) -> list[str]:
    (folder / "g.fa").write_text(f">c\n{GENE}\n")
    (folder / name).write_text(text)
    data = GenomicsData(source="files", fasta=str(folder / "g.fa"), annotation=str(folder / name))
    frame = pl.DataFrame(
        [(i, "c", pos - 1, ref, alt) for i, (pos, ref, alt) in enumerate(alleles)],
        schema=["key", "contig", "pos", "ref", "alt"],
        orient="row",
    )
    return consequences(ConsequenceCaller(open_reference(data)), frame)["csq"].to_list()


ALLELES = [
    (108, "C", "A"),
    (22, "C", "A"),
    (24, "A", "C"),
    (27, "A", "T"),
    (29, "A", "G"),
    (30, "G", "A"),
    (35, "C", "T"),
    (73, "T", "C"),
    (77, "G", "A"),
    (27, "AA", "A"),
]
EXPECTED = [
    "intergenic_variant||||",
    "5_prime_UTR_variant|ABC1|T1|c.-2C>A|",
    "start_lost|ABC1|T1|c.1A>C|p.Met1?",
    "stop_gained&splice_region_variant|ABC1|T1|c.4A>T|p.Lys2Ter",
    "splice_region_variant&synonymous_variant|ABC1|T1|c.6A>G|p.Lys2=",
    "splice_donor_variant|ABC1|T1|c.6+1G>A|",
    "splice_region_variant|ABC1|T1|c.6+6C>T|",
    "stop_lost|ABC1|T1|c.10T>C|p.Ter4GlnextTer?",
    "3_prime_UTR_variant|ABC1|T1|c.*2G>A|",
    "frameshift_variant&splice_region_variant|ABC1|T1||",
]


@pytest.mark.parametrize(("text", "name"), [(_gff3(), "g.gff3"), (_gtf(), "g.gtf")])
def test_gff3_and_gtf_give_the_same_names(tmp_path: Path, text: str, name: str) -> None:
    assert _called(tmp_path, text, name, ALLELES) == EXPECTED


def test_all_spellings_of_a_deletion_have_the_same_consequence(tmp_path: Path) -> None:
    """TAC GAA becomes TAA whether ACG or CGA is taken out; csq sees the stop in the first alone.
    Beside an unknown base, which it cannot read, the spelling is the file's."""
    sequence = "C" * 30 + "ATG" + "TACGAA" + "CTT" * 8 + "TAA" + "G" * 20 + "NATATAT" + "C" * 30
    lines = ["c\tx\tmRNA\t31\t66\t.\t+\t.\tID=T1", "c\tx\texon\t31\t66\t.\t+\t.\tParent=T1"]
    lines.append("c\tx\tCDS\t31\t66\t.\t+\t0\tParent=T1")
    (tmp_path / "g.fa").write_text(f">c\n{sequence}\n")
    (tmp_path / "g.gff3").write_text("\n".join(["##gff-version 3", *lines]) + "\n")
    files = {"fasta": str(tmp_path / "g.fa"), "annotation": str(tmp_path / "g.gff3")}
    reference = open_reference(GenomicsData(source="files", **files))
    given = [(33, "TACG", "T"), (34, "ACGA", "A"), (33, "TACGAA", "TAA"), (88, "TAT", "T")]
    assert all(sequence[pos : pos + len(ref)] == ref for pos, ref, _ in given)
    alleles = pl.DataFrame(
        [(i, "c", *allele, "NOT_SNV", -1, allele[0]) for i, allele in enumerate(given)],
        schema=["key", "contig", "pos", "ref", "alt", "reason", "base", "site"],
        orient="row",
    )
    plain = plain_alleles(reference, alleles)
    terms = consequences(ConsequenceCaller(reference), plain)["consequence"].to_list()
    assert terms == ["stop_gained"] * 3 + ["intergenic_variant"]
    assert plain.select("pos", "ref", "alt").rows() == [(33, "TACG", "T")] * 3 + [given[3]]


@pytest.mark.parametrize("names", [("a,b", "a>b"), ("1", "0"), ("10", "9")])
def test_any_name_of_a_contig_has_consequences(tmp_path: Path, names: tuple[str, str]) -> None:
    """Two contigs of one sequence; the second has its gene 10 bases further on."""
    plain = _gff3().split("\n", 1)[1]
    moved = "".join(
        "\t".join([c, x, kind, str(int(a) + 10), str(int(b) + 10), *rest])
        for line in plain.replace("T1", "T2").replace("G1", "G2").splitlines(keepends=True)
        for c, x, kind, a, b, *rest in [line.split("\t")]
    )
    (tmp_path / "g.fa").write_text(f">{names[0]}\n{GENE}\n>{names[1]}\n{'C' * 10}{GENE}\n")
    genes = plain.replace("c\tx", f"{names[0]}\tx") + moved.replace("c\tx", f"{names[1]}\tx")
    (tmp_path / "g.gff3").write_text(genes)
    files = {"fasta": str(tmp_path / "g.fa"), "annotation": str(tmp_path / "g.gff3")}
    reference = open_reference(GenomicsData(source="files", **files))
    alleles = [
        (name, pos - 1 + 10 * i, ref, alt)
        for pos, ref, alt in ALLELES
        for i, name in enumerate(names)
    ]
    frame = pl.DataFrame(alleles, schema=["contig", "pos", "ref", "alt"], orient="row")
    called = consequences(ConsequenceCaller(reference), frame.with_row_index("key"))
    expected = [t for text in EXPECTED for t in (text, text.replace("T1", "T2"))]
    assert called["csq"].to_list() == expected


def test_phases_that_do_not_add_up_are_refused_with_the_transcript(tmp_path: Path) -> None:
    text = _gff3(((24, 29, "0"), (70, 75, "1")))
    with pytest.raises(
        DataContractError, match=r"transcript:T1, CDS 70-75: found phase 1, expected 0 after the 6"
    ):
        _called(tmp_path, text, "g.gff3", ALLELES[:1])


def test_intron_positions_count_from_the_nearer_exon_on_the_gene_strand() -> None:
    minus = Transcript("t", "c", -1, [(0, 10), (30, 40)], [(30, 36), (2, 10)])
    assert coding_name(minus, 29, "A", "G") == "c.6+1T>C"
    assert coding_name(minus, 10, "A", "G") == "c.7-1T>C"
    assert coding_name(minus, 36, "A", "G") == "c.-1T>C"
    assert coding_name(minus, 1, "A", "G") == "c.*1T>C"
    assert coding_name(minus, 45, "A", "G") == "" and coding_name(minus, 5, "AC", "A") == ""
    assert coding_name(Transcript("t", "c", 1, [(5, 10)]), 7, "A", "G") == "n.3A>G"
    assert protein_name("12TK>12N") == ""


def _brca1(folder: Path) -> LabelledSource:
    folder = folder / "brca1_sge"
    data = GenomicsData(
        source="files",
        fasta=str(folder / "brca1_hg19_slice.fa"),
        annotation=str(folder / "brca1.slice.gff3"),
        variants=str(folder / "brca1_sge.slice.vcf.gz"),
        label="CLASS",
        label_kind="classification",
        positive=["LOF"],
        split=SplitConfig(kind="info", field="EXON"),
    )
    return domain.open(GenomicsConfig(data=data), "train")


def test_brca1_names_are_those_published(genomics_data: Path) -> None:
    source = _brca1(genomics_data)
    alleles = labelled_alleles(source.reference, source.variants)
    called = consequences(ConsequenceCaller(source.reference), alleles)
    ours = {
        (pos + 1 + 41_100_000, ref, alt): csq.split("|")
        for pos, ref, alt, csq in alleles.join(called, on="key")
        .select("pos", "ref", "alt", "csq")
        .iter_rows()
    }
    with gzip.open(genomics_data / "brca1_sge" / "brca1_sge.tsv.gz", "rt") as f:
        rows = list(csv.DictReader(f, delimiter="\t"))
    assert len(rows) == len(ours) == 3893
    wrong = [r for r in rows if ours[int(r["pos_hg19"]), r["ref"], r["alt"]][3] != r["hgvs_c"]]
    assert not wrong, wrong[:3]
    assert source.consequences() is source.consequences()


def test_sars2_slippage_is_no_splice_site_and_overlaps_keep_all_genes(genomics_data: Path) -> None:
    folder = genomics_data / "sars2"
    data = GenomicsData(
        source="files",
        fasta=str(folder / "NC_045512.2.fa"),
        annotation=str(folder / "reference.gb"),
        contig_alias={"MN908947": "NC_045512.2"},
    )
    reference = open_reference(data)
    sequence = reference.sequence("NC_045512.2")
    places = [13466, 13467, 13468, 28299]  # the slippage, and ORF9b inside N
    frame = pl.DataFrame(
        {
            "key": range(4),
            "contig": "NC_045512.2",
            "pos": places,
            "ref": ["ACGT"[sequence[p]] for p in places],
            "alt": ["ACGT"[(sequence[p] + 1) % 4] for p in places],
        }
    )
    called = consequences(ConsequenceCaller(reference), frame)
    assert not any("splice" in text for text in called["csq"])
    genes = [entry.split("|")[1] for entry in called["csq"][3].split("/")]
    assert {"N", "ORF9b"} <= set(genes)


def test_metrics_are_of_each_consequence_and_their_mean(
    genomics_data: Path, few_draws: None
) -> None:
    source = _brca1(genomics_data)
    task = domain.task(source.config)
    every = source.variants["row"].gather_every(4)
    half = len(every) // 2
    fold = Fold("one", every[:half], every[:0], every[half:])
    floors = floors_of(source, fold)
    assert set(floors) == {"position_knn", "kmer", "consequence_rank"}
    metrics = task.metrics(source, floors["consequence_rank"])
    found = {(m.metric, m.protocol.removeprefix("held-out info").strip(", ")): m for m in metrics}
    assert found["auroc", ""].value > 0.7
    assert all(m.value == 0.5 for (n, p), m in found.items() if n == "auroc" and p != "")
    assert found["macro_auroc", ""].value == 0.5
    assert ("auroc", "missense_variant") in found


def test_whole_brca1_rank_is_the_published_floor(genomics_data: Path) -> None:
    from sklearn.metrics import roc_auc_score

    source = _brca1(genomics_data)
    known: Any = source.consequences()
    joined = source.variants.join(known, on="row")
    rank = rank_of(joined["consequence"]).to_numpy()
    assert round(float(roc_auc_score(joined["label"].to_numpy(), rank)), 3) >= 0.76


@pytest.mark.parametrize("strand", [1, -1])
def test_bases_of_a_codon_cut_short_are_coding_sequence(tmp_path: Path, strand: int) -> None:
    # Bases 11 to 30 are coded for, one before the first whole codon and one behind the last, as of
    # a transcript that is known in part; csq calls them intronic, or no part of the gene.
    sign = "+" if strand > 0 else "-"
    lines = [
        f"c\tx\tmRNA\t11\t30\t.\t{sign}\t.\tID=T1",
        f"c\tx\texon\t11\t30\t.\t{sign}\t.\tParent=T1",
        f"c\tx\tCDS\t11\t30\t.\t{sign}\t1\tParent=T1",
    ]
    alleles = [(11, "C", "A"), (12, "C", "A"), (29, "A", "C"), (30, "G", "C")]
    found = _called(tmp_path, "\n".join(lines) + "\n", "g.gff3", alleles)
    terms = [text.split("|")[0] for text in found]
    assert terms[0] == terms[3] == "coding_sequence_variant"
    assert terms[1] in ("missense_variant", "synonymous_variant", "stop_gained")
    assert found[0].split("|")[3] == ("c.1C>A" if strand > 0 else "c.20G>T")
