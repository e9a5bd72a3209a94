"""The attention benchmarks run and say what their columns say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend

from benchmarks import attention, layer, memory
from benchmarks.patterns import patterns
from core.errors import ConfigError


def test_a_quick_run_writes_every_figure(tmp_path: Path) -> None:
    settings = attention.Settings(
        dtypes="float32", patterns="window,topk", quick=True, out=str(tmp_path)
    )
    attention.benchmark(settings)
    rows = json.loads((tmp_path / "attention.json").read_text())["rows"]
    timed = [row for row in rows if "seconds" in row]
    assert len(timed) == 4 and len(rows) == 8
    for row in timed:
        assert row["seconds"] > 0 and row["dense_seconds"] > 0 and row["peak_mb"] >= 0
        assert row["speedup"] == pytest.approx(row["dense_seconds"] / row["seconds"])
        assert row["eta_pairs"] <= row["eta"] and row["predicted_seconds"] > 0


def test_where_a_pattern_overtakes_dense() -> None:
    def row(n: int, speedup: float | None) -> attention.Row:
        return {"pattern": "window", "dtype": "f", "pass": "p", "n": n, "speedup": speedup}

    rows = [row(1, 1.5), row(2, 0.9), row(4, 1.1), row(8, 3.0), row(16, None)]
    assert [found["overtakes_dense_at"] for found in attention.overtakes(rows)] == [4]
    assert attention.overtakes(rows[1:2])[0]["overtakes_dense_at"] is None


def test_memory_is_measured_in_a_process_of_its_own(tmp_path: Path) -> None:
    memory.benchmark(memory.Settings(patterns="window", quick=True, out=str(tmp_path)))
    rows = json.loads((tmp_path / "memory.json").read_text())["rows"]
    assert [row["n"] for row in rows] == [256, 512]
    assert all(0 < row["peak_mb"] < row["total_mb"] for row in rows)


def test_a_layer_is_timed(tmp_path: Path) -> None:
    settings = layer.Settings(dim=64, patterns="window,strided", quick=True, out=str(tmp_path))
    layer.benchmark(settings)
    rows = json.loads((tmp_path / "layer.json").read_text())["rows"]
    assert [row["pattern"] for row in rows] == ["window", "strided"]
    for row in rows:
        assert row["tokens_per_second"] == pytest.approx(512 / row["seconds"])


def test_an_unknown_pattern_is_refused() -> None:
    with pytest.raises(ConfigError, match="spiral"):
        attention.Settings(patterns="spiral").chosen("patterns", list(patterns(1024)))


def test_the_patterns_see_about_as_many_keys() -> None:
    n = 4096
    for name, pattern in patterns(n).items():
        seen = pattern.plan(range(n), range(n)).pairs() / n
        assert name == "sparse_transformer" or 400 < seen < 850, (name, seen)


def test_a_gpu_without_a_kernel_is_timed_by_the_others() -> None:
    q = torch.zeros(1, 1, 4, 8)

    def cudnn() -> None:
        attention.dense_by(SDPBackend.CUDNN_ATTENTION)(q, q, q)  # which a CPU doesn't have

    def broken() -> None:
        raise RuntimeError("out of memory")

    assert list(attention.available({"plain": lambda: None, "cudnn": cudnn})) == ["plain"]
    with pytest.raises(RuntimeError, match="out of memory"):
        attention.available({"broken": broken})
