"""A substitution of one base has its score however many bases the record spells around it."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from domains.genomics.spelling import trimmed
from tests.domains.genomics.conftest import run_score
from tests.domains.genomics.test_consequence import GENE, _gff3
from tests.domains.genomics.test_input import COLUMNS, HEADER, _alleles, _record


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((9, "AA", "CA"), (9, "A", "C")),
        ((9, "AA", "AC"), (10, "A", "C")),
        ((9, "TACGT", "TACTT"), (12, "G", "T")),
        ((9, "aAu", "aCT"), (10, "A", "C")),
        ((9, "CAA", "CA"), (9, "CA", "C")),
        ((9, "CAT", "CAGAT"), (9, "C", "CAG")),
        ((9, "ACG", "TCA"), (9, "ACG", "TCA")),
        ((9, "AC", "AC"), (9, "A", "A")),
        ((9, "A", "AC"), (9, "A", "AC")),
    ],
)
def test_what_ref_and_alt_share_is_taken_off(
    given: tuple[int, str, str], expected: tuple[int, str, str]
) -> None:
    assert trimmed(*given) == expected


def test_a_record_as_merging_writes_it_has_the_scores_of_its_alleles_alone(
    tmp_path: Path, bundle: Path
) -> None:
    at = 29  # within the coding sequence
    ref = GENE[at : at + 3]
    other = ["C" if base != "C" else "G" for base in ref]
    alone = [(at + 1 + i, ref[i], other[i]) for i in range(3)]
    over = [ref[:i] + other[i] + ref[i + 1 :] for i in range(3)]
    record = _record(at + 1, ref, ",".join([*over, ref[0], "*"]))
    (tmp_path / "g.fa").write_text(f">c\n{GENE}\n")
    (tmp_path / "g.gff3").write_text(_gff3())
    (tmp_path / "merged.vcf").write_text(HEADER + COLUMNS + record)
    (tmp_path / "alone.vcf").write_text(HEADER + COLUMNS + "".join(_record(*a) for a in alone))
    files = {"fasta": str(tmp_path / "g.fa"), "annotation": str(tmp_path / "g.gff3")}
    told = {}
    for name in ("merged", "alone"):
        for out in (f"{name}.parquet", f"{name}.out.vcf"):
            run_score(bundle, tmp_path / f"{name}.vcf", tmp_path / out, data=files)
        table = pl.read_parquet(tmp_path / f"{name}.parquet")
        told[name] = table.select("reason", "effect", "consequence", "csq")
    assert told["merged"][:3].equals(told["alone"])
    assert told["merged"]["reason"].to_list()[3:] == ["NOT_SNV", "OVERLAPPING_DELETION"]
    written = (tmp_path / "merged.out.vcf").read_text().splitlines()[-1].split("\t")
    assert written[:7] == record.split("\t")[:7]
    tags = dict(tag.split("=") for tag in written[7].split(";"))
    assert [tags[f"LS_{t}"].count(",") for t in ("EFFECT", "REASON", "CSQ")] == [4, 4, 4]


def test_a_padded_record_is_flipped_as_a_plain_one_is(tmp_path: Path) -> None:
    text = HEADER + COLUMNS + _record(1, "GC", "AC,TC,AG") + _record(1, "G", "A")
    told = _alleles(tmp_path, text, ref_mismatch="flip")
    assert [(a["reason"], a["base"], a["site"]) for a in told] == [
        ("SCORED_FLIPPED", 2, 0),
        ("REF_MISMATCH", -1, 0),
        ("REF_MISMATCH", -1, 0),
        ("SCORED_FLIPPED", 2, 0),
    ]
