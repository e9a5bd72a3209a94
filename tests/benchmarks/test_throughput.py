"""The benchmark of throughput: its input and its figures."""

from datetime import datetime, timedelta

import polars as pl
import pytest

from benchmarks import throughput
from benchmarks.processes import Ran
from benchmarks.scale_jobs import write_copies
from core.errors import LongstrandError


def test_copies_follow_each_other_and_repeat_no_id(tmp_path):
    start = datetime(2024, 1, 1)
    times = [start + timedelta(hours=hour) for hour in range(30)]
    stretch = pl.DataFrame({"transaction_id": [str(i) for i in range(30)], "time": times})
    write_copies(stretch, 2, 100, tmp_path / "copies.parquet")
    found = pl.read_parquet(tmp_path / "copies.parquet")
    assert len(found) == found["transaction_id"].n_unique() == 100
    assert found["time"].is_sorted()
    assert found["time"][30] == start + timedelta(days=2)


def test_a_run_that_leaves_rows_out_is_no_figure(monkeypatch):
    monkeypatch.setattr(throughput, "run_measured", lambda *_: Ran('{"scored": 9}', "", 2.0, 300.0))
    assert throughput.timed("ours", 1, 9, ["it"])["per_second"] == 4.5
    with pytest.raises(LongstrandError, match="scored 9 rows, expected all 10"):
        throughput.timed("ours", 1, 10, ["it"])


def test_a_median_run_has_the_speed_of_its_seconds():
    runs = [
        {"rows": 12, "seconds": s, "per_second": 0.0, "peak_mb": p} for s, p in ((6, 1), (2, 3))
    ]
    assert throughput.medians(runs) == {
        "rows": 12, "seconds": 4, "per_second": 3.0, "peak_mb": 3, "runs": 2
    }  # fmt: skip
