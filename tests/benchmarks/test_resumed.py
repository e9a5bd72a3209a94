"""The benchmark of a scoring that is killed: it is killed at work, and its bytes are compared."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

from benchmarks import resumed
from benchmarks.processes import run_killed
from core.errors import ConfigError, LongstrandError
from domains.genomics.variant_file import RECORDS_A_PARTITION

TWO_PARTS = """
import subprocess, sys, time
for wait in (0, 0.3):
    time.sleep(wait)
    print('{"message": "scored"}', file=sys.stderr, flush=True)
"""
# The process that it starts holds the same standard error, which is read to its end.
AND_ANOTHER = f"""
{TWO_PARTS}
subprocess.run([sys.executable, "-c", "import time; time.sleep(60)"])
"""


def test_a_quick_run_ends_with_the_bytes_of_one_that_was_not_killed(tmp_path: Path) -> None:
    resumed.benchmark(resumed.Settings(quick=True, out=str(tmp_path)))
    rows = json.loads((tmp_path / "resumed.json").read_text())["rows"]
    assert [row["step"] for row in rows] == ["saturate", "score", "resumed"]
    made, whole, broken = rows
    for row in rows:
        assert (row["records"], row["alleles"], row["parts"]) == (6000, 18_000, 6)
        assert row["per_second"] == row["alleles"] / row["seconds"] and row["peak_mb"] > 0
    assert made["taken_over"] == whole["taken_over"] == 0
    assert broken["taken_over"] >= 3 and len(broken["killed_after"]) == 1
    assert whole["sha256"] == broken["sha256"]


def test_a_kill_reaches_all_that_the_command_started(tmp_path: Path) -> None:
    began = time.perf_counter()
    assert run_killed([sys.executable, "-c", AND_ANOTHER], tmp_path, 2, 1.0) > 1
    assert time.perf_counter() - began < 30


def test_a_part_that_is_done_sooner_than_expected_ends_the_wait(tmp_path: Path) -> None:
    command = [sys.executable, "-c", f"{TWO_PARTS}\ntime.sleep(60)"]
    assert run_killed(command, tmp_path, 1, 40.0) < 30


def test_a_command_that_ends_before_its_kill_ends_the_benchmark(tmp_path: Path) -> None:
    with pytest.raises(LongstrandError, match="exit 0 after 2 of 3 parts"):
        run_killed([sys.executable, "-c", TWO_PARTS], tmp_path, 3, 0.0)


def test_other_bytes_end_the_benchmark(tmp_path: Path) -> None:
    one, other = tmp_path / "one.vcf.gz", tmp_path / "other.vcf.gz"
    for path in (one, other):
        path.write_bytes(b"scored")
        path.with_name(f"{path.name}.tbi").write_bytes(b"index")
    resumed.require_same_bytes(one, other)
    other.with_name("other.vcf.gz.tbi").write_bytes(b"other index")
    with pytest.raises(LongstrandError, match=r"other bytes .*one\.vcf\.gz\.tbi"):
        resumed.require_same_bytes(one, other)
    other.write_bytes(b"other")
    with pytest.raises(LongstrandError, match=r"other bytes .*one\.vcf\.gz [0-9a-f]{64}"):
        resumed.require_same_bytes(one, other)


def test_parts_are_the_pipelines_own_where_there_are_enough() -> None:
    assert resumed.scoring(6 * RECORDS_A_PARTITION)[1:] == ["-m", "pipelines.score"]
    assert "RECORDS_A_PARTITION = 17\n" in resumed.scoring(100)[-1]


def test_more_records_than_bases_and_too_few_are_refused(tmp_path: Path) -> None:
    bundle = resumed.untrained_bundle(tmp_path, quick=True)
    assert resumed.stretch(bundle, 6000)[1].endswith(":1-6000")
    with pytest.raises(ConfigError, match="records: found 6001, expected 6000 at most"):
        resumed.stretch(bundle, 6001)
    with pytest.raises(ConfigError, match="records: found 5, expected 6 or more"):
        resumed.Settings(records=5)
