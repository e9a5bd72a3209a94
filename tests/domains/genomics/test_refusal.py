"""What scoring refuses before it writes anything, and what other tools make of its output."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
import torch

from core.errors import ConfigError, LongstrandError
from domains.genomics import domain
from domains.genomics.config import GenomicsConfig
from domains.genomics.data_config import GenomicsData
from tests.domains.genomics.test_scoring import REASONS, _score, _scorer, _write, config

__all__ = ["config"]  # a fixture

GFF3 = "c\tx\tCDS\t4\t12\t.\t+\t0\tID=t\n"


@pytest.mark.parametrize("kind", ["regression", "classification"])
def test_a_model_without_finite_numbers_is_refused(
    tmp_path: Path, config: GenomicsConfig, encoder: Any, kind: str
) -> None:
    scorer = _scorer(config, encoder, _write(tmp_path / "in.vcf"), kind)
    for bad in (float("nan"), float("inf")):
        with torch.no_grad():
            scorer.module.head.out.bias.fill_(bad)
        with pytest.raises(LongstrandError, match=r"^c:1: .*diverged.*trainer\.lr"):
            scorer.score(scorer.source.partitions()[0], None)


def test_fingerprint_changes_with_every_file_that_scores_depend_on(
    tmp_path: Path, config: GenomicsConfig
) -> None:
    path = _write(tmp_path / "in.vcf")

    def fingerprint(**data: str) -> str:
        files = {"fasta": config.data.fasta, **data}
        opened = GenomicsData(source="files", label="FIT", **files)
        return domain.open(GenomicsConfig(data=opened), "score", input=path).fingerprint()

    annotation = tmp_path / "g.gff3"
    annotation.write_text(GFF3)
    plain, annotated = fingerprint(), fingerprint(annotation=str(annotation))
    assert plain == fingerprint() and annotated == fingerprint(annotation=str(annotation))
    annotation.write_text(GFF3.replace("12", "9"))
    other_genes = fingerprint(annotation=str(annotation))
    fasta = Path(str(config.data.fasta))
    fasta.write_text(fasta.read_text().lower())
    other_bytes = fingerprint()
    path.write_text(path.read_text() + "c\t1\t.\tA\tC\t.\t.\t.\tGT\t.\n")
    assert len({plain, annotated, other_genes, other_bytes, fingerprint()}) == 5


def test_unusable_outputs_are_refused_before_scoring(
    tmp_path: Path, config: GenomicsConfig, encoder: Any
) -> None:
    path = _write(tmp_path / "in.vcf")
    (tmp_path / "folder.vcf").mkdir()
    scorer = _scorer(config, encoder, path)
    cases = {"o.bcf": "BCF", "o.BCF": "BCF", "folder.vcf": "folder", "in.vcf": "the input itself"}
    for name, told in (cases | {"in.vcf/deep/o.vcf": "in.vcf is a file"}).items():
        with pytest.raises(ConfigError, match=told):
            scorer.check(tmp_path / name)
    for name in ("o.vcf", "new/folder/o.vcf.gz", "o.vcf.bgz"):
        scorer.check(tmp_path / name)


def test_each_allele_without_a_score_is_one_row_set_aside(
    tmp_path: Path, config: GenomicsConfig
) -> None:
    source = domain.open(config, "score", input=_write(tmp_path / "in.vcf"))
    aside = source.set_aside().collect()
    assert aside.select("file", "row").unique().height == len(aside) == sum(REASONS.values())
    loci = dict(source.rows().select("row", "locus").collect().iter_rows())
    assert all(a["found"].startswith(loci[a["row"]] + " ") for a in aside.to_dicts())


def test_damaged_compressed_input_is_refused(tmp_path: Path, config: GenomicsConfig) -> None:
    whole = bytearray(gzip.compress(_write(tmp_path / "in.vcf").read_bytes()))
    whole[60:90] = b"\xff" * 30
    (tmp_path / "in.vcf.gz").write_bytes(whole)
    with pytest.raises(ConfigError, match="damaged"):
        list(domain.open(config, "score", input=tmp_path / "in.vcf.gz").partitions())


@pytest.mark.parametrize("name", ["out.vcf", "out.vcf.gz"])
@pytest.mark.parametrize("kind", ["regression", "classification"])
def test_bcftools_reads_every_scored_record(
    tmp_path: Path, config: GenomicsConfig, encoder: Any, name: str, kind: str
) -> None:
    import pysam.bcftools

    header = [
        "##fileformat=VCFv4.3",
        "##contig=<ID=c,length=128>",
        '##INFO=<ID=END,Number=1,Type=Integer,Description="e">',
        '##FORMAT=<ID=GT,Number=1,Type=String,Description="g">',
        "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tS",
    ]
    records = [
        "c\t1\trs1\tA\tC\t100\tPASS\t.\tGT\t0/1",
        "c\t2\t.\tC\tG,T,*,<DEL>,CA\t.\t.\t.\tGT\t1/2",
        "c\t5\t.\tA\t<DEL>\t.\tPASS\tEND=9\tGT\t0/1",
        "c\t6\t.\tC\t.\t.\tPASS\t.\tGT\t0/0",
        "c\t9\t.\tA\tA[c:40[\t.\tPASS\t.\tGT\t0/1",
    ]
    (tmp_path / "in.vcf").write_text("\n".join([*header, *records]) + "\n")
    out = tmp_path / name
    summary = _score(config, encoder, tmp_path / "in.vcf", out, kind)
    assert (summary.rows, summary.scored) == (9, 3)
    binary = tmp_path / "out.bcf"
    pysam.bcftools.view("-Ob", "-o", str(binary), str(out), catch_stdout=False)
    text = out.read_bytes() if out.suffix == ".vcf" else gzip.decompress(out.read_bytes())
    written = [r for r in text.decode().splitlines() if not r.startswith("#")]
    for path in (out, binary):
        assert str(pysam.bcftools.view("-H", str(path))).splitlines() == written
    assert [r.split("\t")[:5] for r in written] == [r.split("\t")[:5] for r in records]
