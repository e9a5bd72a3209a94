"""VCF in, VCF out: every byte kept, every allele accounted for."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from core.calibration import Calibration
from core.contract import Summary
from core.errors import ConfigError
from domains.genomics import domain, scoring, variant_file
from domains.genomics.config import GenomicsConfig
from domains.genomics.data_config import GenomicsData
from domains.genomics.tokenizer import EffectTokenizer

SEQUENCE = "ACGTACGTACNRACGTACGTACGTACGTACGT" * 4
HEADER = (
    "##fileformat=VCFv4.3\n##weird=kept as it is\n##contig=<ID=c,length=128>\n"
    "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tS\n"
)
RECORDS = [
    "c\t1\trs1\tA\tC\t100.00\tPASS\tUNDEFINED=1;FLAG\tGT:XX\t0/1:7",
    "c\t2\t.\tC\tG,T,*,<DEL>,CA\t.\t.\t.\tGT\t1|2",
    "c\t3\t.\tg\tt\t1e-3\tq10\tA=1;LS_EFFECT=9;LS_REASON=OLD;B=2\tGT\t.",
    "c\t4\t.\tA\tC\t.\t.\t.\tGT\t.",
    "c\t5\t.\tA\t.\t.\t.\tX=1\tGT\t.",
    "c\t11\t.\tN\tA\t.\t.\t.\tGT\t.",
    "c\t12\t.\tA\tC\t.\t.\t.\tGT\t.",
    "c\t13\t.\tA\tN\t.\t.\t.\tGT\t.",
    "c\t13\t.\tA\tA\t.\t.\t.\tGT\t.",
    "c\t14\t.\tCG\tC\t.\t.\t.\tGT\t.",
    "c\t500\t.\tA\tC\t.\t.\t.\tGT\t.",
    "other\t1\t.\tA\tC,G\t.\t.\t.\tGT\t.",
]
REASONS = {
    "ALT_EQUALS_REF": 1,
    "AMBIGUOUS_ALT": 1,
    "NOT_SNV": 2,
    "NO_ALTERNATE": 1,
    "N_REFERENCE": 2,
    "OUT_OF_RANGE": 1,
    "OVERLAPPING_DELETION": 1,
    "REF_MISMATCH": 1,
    "SYMBOLIC": 1,
    "UNKNOWN_CONTIG": 2,
}
OURS = ("LS_EFFECT=", "LS_REASON=", "LS_PROB=")


@pytest.fixture
def config(tmp_path: Path) -> GenomicsConfig:
    (tmp_path / "g.fa").write_text(f">c\n{SEQUENCE}\n")
    data = GenomicsData(source="files", fasta=str(tmp_path / "g.fa"), label="FIT")
    return GenomicsConfig(data=data, window=64)


def _score(
    config: GenomicsConfig, encoder: Any, path: Path, out: Path, kind: str = "regression"
) -> Summary:
    scorer = _scorer(config, encoder, path, kind)
    parts = scorer.source.partitions()
    return scorer.write((scorer.score(part, None)[0] for part in parts), out)


def _scorer(
    config: GenomicsConfig, encoder: Any, path: Path, kind: str = "regression"
) -> scoring.EffectScorer:
    task = domain.task(config)
    tokenizer = EffectTokenizer(kind, 0.0, 1.0, annotated=False)
    torch.manual_seed(0)
    bundle = SimpleNamespace(
        config={},
        encoder=encoder,
        tokenizer=tokenizer.to_dict(),
        calibration=Calibration("identity" if kind == "regression" else "platt", 2.0, 0.5),
        version="abc123",
        state_dict=task.module(tokenizer, encoder).state_dict,
        task="effect",
    )
    return task.scorer(bundle, domain.open(config, "score", input=path))


def _stripped(line: bytes) -> bytes:
    """A record without our tags; INFO `.` where nothing else is left."""
    content = line.rstrip(b"\r\n")
    cells = content.split(b"\t")
    kept = [p for p in cells[7].split(b";") if not p.startswith(tuple(o.encode() for o in OURS))]
    cells[7] = b";".join(kept) or b"."
    return b"\t".join(cells) + line[len(content) :]


def _write(path: Path, ending: str = "\n", final: bool = True) -> Path:
    text = (HEADER + "\n".join(RECORDS) + ("\n" if final else "")).replace("\n", ending)
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize(("ending", "final"), [("\n", True), ("\r\n", True), ("\n", False)])
def test_every_byte_outside_our_tags_survives(
    tmp_path: Path, config: GenomicsConfig, encoder: Any, ending: str, final: bool
) -> None:
    path = _write(tmp_path / "in.vcf", ending, final)
    summary = _score(config, encoder, path, tmp_path / "out.vcf")
    given = path.read_bytes().splitlines(keepends=True)
    got = (tmp_path / "out.vcf").read_bytes().splitlines(keepends=True)
    md5 = f"128,md5={hashlib.md5(SEQUENCE.encode(), usedforsecurity=False).hexdigest()}>".encode()
    assert [line for line in got if line.startswith(b"#")][:3] == [
        line.replace(b"128>", md5) for line in given[:3]
    ]
    records = [line for line in got if not line.startswith(b"#")]
    expected = [_stripped(line) for line in given if not line.startswith(b"#")]
    assert [_stripped(line) for line in records] == expected
    assert b"\t100.00\t" in records[0]
    assert all(line.endswith(ending.encode()) for line in got[:-1])
    assert summary.files == [str(tmp_path / "out.vcf")]


def test_every_alternative_is_scored_or_has_a_reason(
    tmp_path: Path, config: GenomicsConfig, encoder: Any
) -> None:
    import pysam

    path = _write(tmp_path / "in.vcf")
    summary = _score(config, encoder, path, tmp_path / "out.vcf.gz")
    assert dict(summary.reasons) == REASONS
    assert summary.rows == 17 and summary.scored == 17 - sum(REASONS.values())
    assert summary.files == [str(tmp_path / f"out.vcf.gz{s}") for s in ("", ".tbi")]
    with pysam.VariantFile(str(tmp_path / "out.vcf.gz")) as scored:
        assert scored.header.info["LS_EFFECT"].number == "A"
        multiallelic = next(r for r in scored if r.pos == 2)
    effects, reasons = multiallelic.info["LS_EFFECT"], multiallelic.info["LS_REASON"]
    assert reasons == ("SCORED", "SCORED", "OVERLAPPING_DELETION", "SYMBOLIC", "NOT_SNV")
    assert [e is not None for e in effects] == [True, True, False, False, False]


def test_header_says_model_reference_and_context(
    tmp_path: Path, config: GenomicsConfig, encoder: Any
) -> None:
    _score(config, encoder, _write(tmp_path / "in.vcf"), tmp_path / "out.vcf")
    text = (tmp_path / "out.vcf").read_text()
    for told in ("##source=longstrand", "Model=abc123", "ReferenceMd5=", "21 bases either side"):
        assert text.count(told) == 1
    assert text.index("##longstrandModel") < text.index("#CHROM")


def test_lower_case_and_partitions_change_no_score(
    tmp_path: Path, config: GenomicsConfig, encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _write(tmp_path / "in.vcf")
    _score(config, encoder, path, tmp_path / "one.vcf")
    path.write_text(HEADER + "\n".join(r.replace("\tA\tC\t", "\ta\tc\t") for r in RECORDS) + "\n")
    monkeypatch.setattr(variant_file, "RECORDS_A_PARTITION", 2)
    _score(config, encoder, path, tmp_path / "two.vcf")
    one, two = (_tags(tmp_path / name) for name in ("one.vcf", "two.vcf"))
    assert [t["LS_REASON"] for t in one] == [t["LS_REASON"] for t in two]
    for first, second in zip(one, two, strict=True):
        assert _floats(first) == pytest.approx(_floats(second), abs=1e-5)


def _tags(path: Path) -> list[dict[str, str]]:
    records = [r for r in path.read_text().splitlines() if not r.startswith("#")]
    infos = [r.split("\t")[7] for r in records]
    return [dict(t.split("=") for t in i.split(";") if t.startswith("LS_")) for i in infos]


def _floats(tags: dict[str, str]) -> list[float]:
    return [-99.0 if v == "." else float(v) for v in tags.get("LS_EFFECT", ".").split(",")]


def test_a_partition_can_be_scored_out_of_order(
    tmp_path: Path, config: GenomicsConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variant_file, "RECORDS_A_PARTITION", 5)
    source = domain.open(config, "score", input=_write(tmp_path / "in.vcf"))
    parts = source.partitions()
    assert [p.key for p in parts] == [f"records-{i:06d}" for i in range(3)]
    backwards = [source.alleles(p)["record"].to_list() for p in parts[::-1]]
    assert sorted({r for part in backwards for r in part}) == list(range(len(RECORDS)))


def test_compressed_input_gives_the_same_output(
    tmp_path: Path, config: GenomicsConfig, encoder: Any
) -> None:
    import pysam

    path = _write(tmp_path / "in.vcf")
    (tmp_path / "plain.vcf.gz").write_bytes(gzip.compress(path.read_bytes()))
    pysam.tabix_compress(str(path), str(tmp_path / "block.vcf.gz"))
    outputs = []
    for name in ("in.vcf", "plain.vcf.gz", "block.vcf.gz"):
        _score(config, encoder, tmp_path / name, tmp_path / "out.vcf")
        outputs.append((tmp_path / "out.vcf").read_bytes())
    assert outputs[0] == outputs[1] == outputs[2]


def test_unsorted_input_is_scored_without_an_index_and_said_so(
    tmp_path: Path, config: GenomicsConfig, encoder: Any
) -> None:
    path = tmp_path / "in.vcf"
    path.write_text(HEADER + "\n".join(RECORDS[::-1]) + "\n")
    (tmp_path / "out.vcf.gz.tbi").write_bytes(b"of an earlier file")
    summary = _score(config, encoder, path, tmp_path / "out.vcf.gz")
    assert summary.reasons["NOT_INDEXED_UNSORTED"] == 1
    assert summary.files == [str(tmp_path / "out.vcf.gz")]
    assert not (tmp_path / "out.vcf.gz.tbi").exists()


def test_a_blank_line_is_no_record_and_costs_no_index(
    tmp_path: Path, config: GenomicsConfig, encoder: Any
) -> None:
    lines = [HEADER.rstrip("\n"), RECORDS[0], "", RECORDS[1], "\r", ""]
    (tmp_path / "blank.vcf").write_text("\n".join(lines) + "\n")
    (tmp_path / "in.vcf").write_text("\n".join([lines[0], *RECORDS[:2]]) + "\n")
    summary = _score(config, encoder, tmp_path / "blank.vcf", tmp_path / "blank.vcf.gz")
    plain = _score(config, encoder, tmp_path / "in.vcf", tmp_path / "out.vcf.gz")
    assert (summary.rows, dict(summary.reasons)) == (plain.rows, dict(plain.reasons))
    assert summary.files == [str(tmp_path / f"blank.vcf.gz{s}") for s in ("", ".tbi")]
    assert (tmp_path / "blank.vcf.gz").read_bytes() == (tmp_path / "out.vcf.gz").read_bytes()


def test_malformed_records_stay_as_they_are(
    tmp_path: Path, config: GenomicsConfig, encoder: Any
) -> None:
    path = tmp_path / "in.vcf"
    path.write_text(HEADER + "c\t1\t.\tA\tC\t.\t.\nc\tone\t.\tA\tC\t.\t.\t.\tGT\t.\n")
    summary = _score(config, encoder, path, tmp_path / "out.vcf")
    assert dict(summary.reasons) == {"MALFORMED_RECORD": 2} and summary.scored == 0
    assert (tmp_path / "out.vcf").read_bytes().endswith(path.read_bytes().split(b"S\n")[1])


def test_classification_adds_a_calibrated_probability(
    tmp_path: Path, config: GenomicsConfig, encoder: Any
) -> None:
    import math

    path = _write(tmp_path / "in.vcf")
    _score(config, encoder, path, tmp_path / "out.vcf", kind="classification")
    first = next(
        line for line in (tmp_path / "out.vcf").read_text().splitlines() if line.startswith("c\t1")
    )
    tags = dict(p.split("=") for p in first.split("\t")[7].split(";") if p.startswith("LS_"))
    expected = 1 / (1 + math.exp(-(2.0 * float(tags["LS_EFFECT"]) + 0.5)))
    assert float(tags["LS_PROB"]) == pytest.approx(expected, abs=1e-5)


def test_a_vcf_without_records_is_written_with_its_header(
    tmp_path: Path, config: GenomicsConfig, encoder: Any
) -> None:
    (tmp_path / "in.vcf").write_text(HEADER)
    summary = _score(config, encoder, tmp_path / "in.vcf", tmp_path / "out.vcf.gz")
    assert (summary.rows, summary.scored) == (0, 0)
    assert gzip.decompress((tmp_path / "out.vcf.gz").read_bytes()).startswith(
        b"##fileformat=VCFv4.3"
    )


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "empty"),
        (b"\xef\xbb\xbf##fileformat=VCFv4.3\n", "byte order mark"),
        (b"c\t1\t.\tA\tC\t.\t.\t.\n", r"no column chrom, pos, ref, alt.*scoring\.columns"),
        (b"##fileformat=VCFv3.3\n", "expected version 4.0 to 4.5"),
        (b"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n", "expected ##fileformat"),
        (b"BZh91AY", "bunzip2"),
        (b"##fileformat=VCFv4.3\nc\t1\t.\tA\tC\t.\t.\t.\n", "#CHROM"),
        (b"##fileformat=VCFv4.3\n#CHROM\tPOS\n", "2 tab-separated columns"),
    ],
)
def test_what_is_no_vcf_is_refused_with_a_sentence(
    tmp_path: Path, config: GenomicsConfig, content: bytes, told: str
) -> None:
    (tmp_path / "in.vcf").write_bytes(content)
    with pytest.raises(ConfigError, match=told):
        domain.open(config, "score", input=tmp_path / "in.vcf")


def test_truncated_bgzip_is_refused(tmp_path: Path, config: GenomicsConfig) -> None:
    import pysam

    pysam.tabix_compress(str(_write(tmp_path / "in.vcf")), str(tmp_path / "in.vcf.gz"))
    whole = (tmp_path / "in.vcf.gz").read_bytes()
    (tmp_path / "in.vcf.gz").write_bytes(whole[:-28])
    with pytest.raises(ConfigError, match="cut short"):
        domain.open(config, "score", input=tmp_path / "in.vcf.gz")


def test_output_over_the_input_is_refused(
    tmp_path: Path, config: GenomicsConfig, encoder: Any
) -> None:
    path = _write(tmp_path / "in.vcf")
    with pytest.raises(ConfigError, match="the input itself"):
        _score(config, encoder, path, path)
