"""Variants of many files, such as one a chromosome, each scored into a file of its own."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pysam
import pytest

from core.errors import ConfigError
from domains.genomics.variant_folder import variant_files
from tests.domains.genomics.conftest import run_score
from tests.domains.genomics.test_input import COLUMNS, HEADER, _record

CONTIGS = {"c": "ACGT" * 30, "d": "GGCAT" * 30}


@pytest.fixture
def data(tmp_path: Path) -> dict[str, Any]:
    text = "".join(f">{name}\n{bases}\n" for name, bases in CONTIGS.items())
    (tmp_path / "g.fa").write_text(text)
    return {"source": "files", "fasta": str(tmp_path / "g.fa"), "annotation": None}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A VCF a contig, one of them deeper and compressed, and files that are none."""
    given = tmp_path / "in"
    (given / "more").mkdir(parents=True)
    header = HEADER + "##contig=<ID=d,length=150>\n" + COLUMNS
    (given / "c.vcf").write_text(header + _record(1, "A", "C,G") + _record(2, "C", "CT"))
    second = header + _record(4, "A", "C", "d") + _record(10, "T", "TA,G", "d")
    with pysam.BGZFile(str(given / "more" / "d.vcf.gz"), "wb") as f:
        f.write(second.encode())
    pysam.tabix_index(str(given / "more" / "d.vcf.gz"), preset="vcf")
    (given / "README.txt").write_text("who made this, and when\n")
    (given / ".c.vcf.swp").write_text("not yet")
    return given


@pytest.mark.parametrize("given", ["", "**/*.vcf*", "*"])
def test_each_file_has_the_scores_of_a_run_of_its_own(
    tmp_path: Path, bare_bundle: Path, folder: Path, data: dict[str, Any], given: str
) -> None:
    if given == "*":
        (folder / "README.txt").unlink()
    summary = run_score(bare_bundle, folder / given, tmp_path / "out", data=data)
    expected = {"inputs": 2, "rows": 6, "scored": 4, "set_aside": 2, "partitions": 2, "resumed": 0}
    assert {key: summary[key] for key in expected} == expected
    for name in ("c.vcf", "more/d.vcf.gz"):
        alone = tmp_path / "alone" / name
        run_score(bare_bundle, folder / name, alone, data=data)
        assert (tmp_path / "out" / name).read_bytes() == alone.read_bytes()
    written = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.*")}
    assert written == {"c.vcf", "more/d.vcf.gz", "more/d.vcf.gz.tbi"}
    assert {str(tmp_path / "out" / name) for name in written} == set(summary["files"])
    assert not (tmp_path / "out.parts").exists()


def test_what_is_finished_is_not_scored_again(
    tmp_path: Path, bare_bundle: Path, folder: Path, data: dict[str, Any]
) -> None:
    """The second file breaks; once it is mended, the first is done, unless it was changed since."""
    whole = (folder / "more" / "d.vcf.gz").read_bytes()
    (folder / "more" / "d.vcf.gz").write_bytes(whole[:40])
    for _ in range(2):
        refused = run_score(bare_bundle, folder, tmp_path / "out", data=data)
        assert refused["exit_code"] == 2 and "d.vcf.gz" in refused["error"]
    first = tmp_path / "out" / "c.vcf"
    scored, when = first.read_bytes(), first.stat().st_mtime_ns
    assert json.loads((tmp_path / "out.parts" / "c.vcf.json").read_text())["found"]["rows"] == 3
    (folder / "more" / "d.vcf.gz").write_bytes(whole)
    summary = run_score(bare_bundle, folder, tmp_path / "out", data=data)
    assert (summary["scored"], summary["partitions"], summary["resumed"]) == (4, 2, 1)
    assert (first.read_bytes(), first.stat().st_mtime_ns) == (scored, when)


@pytest.mark.parametrize("changed", ["input", "output", "model"])
def test_what_was_finished_of_something_else_is_scored_again(
    tmp_path: Path,
    bare_bundle: Path,
    folder: Path,
    data: dict[str, Any],
    changed: str,
) -> None:
    broken = folder / "more" / "d.vcf.gz"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:40])
    run_score(bare_bundle, folder, tmp_path / "out", data=data)
    if changed == "input":
        text = (folder / "c.vcf").read_text()
        (folder / "c.vcf").write_text(text.replace("C,G", "T,G"))
    elif changed == "output":
        (tmp_path / "out" / "c.vcf").write_text("")
    else:
        data |= {"contig_alias": {"chrC": "c"}}
    broken.write_bytes(whole)
    summary = run_score(bare_bundle, folder, tmp_path / "out", data=data)
    assert (summary["scored"], summary["resumed"]) == (4, 0)
    run_score(bare_bundle, folder / "c.vcf", tmp_path / "alone.vcf", data=data)
    assert (tmp_path / "out" / "c.vcf").read_bytes() == (tmp_path / "alone.vcf").read_bytes()


@pytest.mark.parametrize(
    ("given", "out", "told"),
    [
        ("", "out.vcf", r"output: found .*out\.vcf for 2 files, expected a folder"),
        ("**/*.vcf*", "g.fa", r"output: found .*g\.fa for 2 files, expected a folder"),
        ("", "in", r"output: .*in/c\.vcf is an input; name another folder"),
        ("X*.vcf", "out", r"input: found nothing at .*/X\*\.vcf"),
        ("more/*.tbi", "out", r"more/\*\.tbi: found no variants, expected files in \.vcf"),
        ("READ*", "out", r"README\.txt:1: "),
    ],
)
def test_a_folder_that_cannot_be_scored_says_why(
    tmp_path: Path,
    bare_bundle: Path,
    folder: Path,
    data: dict[str, Any],
    given: str,
    out: str,
    told: str,
) -> None:
    summary = run_score(bare_bundle, folder / given, tmp_path / out, data=data)
    assert summary["exit_code"] == 2 and re.search(told, summary["error"]), summary
    assert {p.name for p in tmp_path.iterdir()} <= {"in", "g.fa", "out.parts"}


def test_bcf_becomes_a_vcf_whose_name_no_other_output_may_have(tmp_path: Path) -> None:
    (tmp_path / "a.bcf").touch()
    assert variant_files(tmp_path) == {"a.vcf.gz": tmp_path / "a.bcf"}
    with gzip.open(tmp_path / "a.vcf.gz", "wb"):
        pass
    with pytest.raises(
        ConfigError, match=r"the scores of a\.bcf and of another file would both be"
    ):
        variant_files(tmp_path)


def test_names_count_from_where_the_glob_looks_beside_a_folder_called_like_it(
    tmp_path: Path,
) -> None:
    for name in ("x1", "x[1]"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.vcf").touch()
    assert variant_files(tmp_path / "x[1]" / "*.vcf") == {"x1/a.vcf": tmp_path / "x1" / "a.vcf"}
