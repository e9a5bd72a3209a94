"""The benchmark of engines: what it weighs, what it compares, what it models."""

import sys

import pytest

from benchmarks import scale
from benchmarks.processes import Ran, run_measured
from benchmarks.scale_jobs import Scoring
from core.errors import ConfigError, LongstrandError

ONE = {"job": "toy", "workers": 1, "items": 1000, "partitions": 10}
LOCAL = {**ONE, "engine": "local", "seconds": 27.0, "prepare": 2.0, "score": 20.0, "write": 1.0}
RAY = {**ONE, "engine": "ray", "seconds": 40.0, "prepare": 2.0, "score": 29.0, "write": 1.0}


def test_memory_is_of_a_command_and_of_what_it_starts(tmp_path):
    child = "x = bytearray(60_000_000); import time; time.sleep(1.5)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}]); print(7)"
    ran = run_measured([sys.executable, "-c", parent], tmp_path)
    assert ran.last_line == "7" and ran.seconds > 1.5 and 60 < ran.peak_mb < 200


def test_a_cluster_reads_and_writes_by_one_and_scores_by_all():
    once, hundred = scale.cluster([LOCAL, RAY])
    # 8 s until reading begins, 9 s to start the workers; 3 s by one; 10 partitions of 2 s.
    assert once["seconds"] == pytest.approx(8 + 9 + 3 + 2)
    assert hundred["seconds"] == pytest.approx(8 + 9 + 300 + 50 * 2)
    assert hundred["items"] == 100_000
    assert list(scale.cluster([LOCAL])) == []


def test_files_that_differ_end_the_benchmark(tmp_path, monkeypatch):
    said = "".join(
        f'{{"stage": "{stage}", "state": "done", "seconds": 1.0}}\n' for stage in scale.STAGES
    )

    def run(command, folder):
        output = next(a.split("=")[1] for a in command if a.startswith("output="))
        with open(output, "w") as file:
            file.write("other" if "engine=ray" in command else "same")
        return Ran('{"rows": 10, "partitions": 2}', said, 2.0, 300.0)

    monkeypatch.setattr(scale, "run_measured", run)
    job = Scoring(tmp_path / "bundle", tmp_path / "in.csv", ".csv")
    found = scale.measure("toy", job, scale.Settings(), tmp_path)
    rows = [next(found), next(found)]
    assert [row["workers"] for row in rows] == [1, 2] and rows[0]["per_second"] == 5.0
    with pytest.raises(LongstrandError, match="engine=ray workers=1 gave other bytes"):
        next(found)


def test_unknown_jobs_are_refused():
    with pytest.raises(ConfigError, match=r"jobs: got \['mail'\]"):
        scale.Settings(jobs="mail")
