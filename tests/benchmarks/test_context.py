"""The benchmark of context: what its rows are given, and that they are complete."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.context import MEASURED, Settings, benchmark, configured, planned, timed
from benchmarks.context_data import composed
from core.attention import Dense, Window
from core.errors import ConfigError
from pipelines import build

Rows = list[dict[str, Any]]


def _planned(overrides: str = "", longest: int = 8192, **told: Any) -> Rows:
    return list(planned(Settings(**told), composed("", overrides, []), longest))


def _run(folder: Path, **told: Any) -> Rows:
    benchmark(Settings(threads=1, quick=True, out=str(folder), **told))
    return json.loads((folder / "context.json").read_text())["rows"]


def test_a_quick_run_has_a_row_a_pattern_and_window(tmp_path: Path) -> None:
    rows = _run(tmp_path, windows="64,4096,8192", dense=1, overrides="attention.radius=16")
    assert [(r["attention"], r["window"], r["used"]) for r in rows] == [
        (kind, *each)
        for kind in ("window", "dense")
        for each in ((64, 64), (4096, 4000), (8192, 4000))
    ]
    short, long, again, dense, wide, _ = rows
    for row in (short, long, dense):
        assert all(row[name] is not None for name in MEASURED if name != "note")
        assert (row["metric"], row["unit"]) == ("spearman", "alleles")
        assert row["low"] <= row["value"] <= row["high"]
        assert row["per_second"] > 0 and row["seconds_train"] > 0
    # One layer of that radius, and five bases by convolutions.
    assert [(r["radius"], r["reach"]) for r in (short, long)] == [(4, 9), (250, 255)]
    assert (dense["radius"], dense["reach"]) == (None, 32)
    assert short["note"] is None and long["note"] == "cut to 4000 bases, all there are"
    assert again["note"] == "left out: cut to 4000 bases, as window 4096 is"
    assert "billion pairs, expected at most dense=1" in wide["note"]
    assert again["value"] is wide["value"] is None


def test_a_genome_without_labels_is_judged_by_bits_a_base(tmp_path: Path) -> None:
    (row,) = _run(tmp_path, windows="64,", dense=0, overrides="task=mlm domain.window=64")
    assert (row["metric"], row["unit"], row["radius"]) == ("bits_per_base", "bases", 64)
    assert row["low"] <= row["value"] <= row["high"]


def test_tokens_a_step_are_equal_and_no_fewer_than_the_experiment_has() -> None:
    told = {"windows": "64,256,1024", "dense": 0}
    assert [r["batch_size"] for r in _planned(**told)] == [16, 4, 1]
    assert {r["tokens_step"] for r in _planned(**told)} == {1024}
    assert {r["tokens_step"] for r in _planned(**told, tokens=4096)} == {4096}
    assert {r["tokens_step"] for r in _planned("domain.batch_size=32", **told)} == {8192}
    cut = _planned(longest=2000, windows="256,1024,2048,32768", dense=0)
    assert [r["tokens_step"] for r in cut] == [2048, 2048, 2000, 2000]


def test_a_radius_grows_with_the_window_or_stays() -> None:
    told = {"windows": "64,256,1024", "dense": 0}
    assert [r["radius"] for r in _planned(**told)] == [16, 64, 256]
    assert [r["radius"] for r in _planned(**told, radius="stays")] == [64] * 3
    without = _planned("attention=strided", **told, radius="stays")
    assert [r["radius"] for r in without] == [None] * 3


def test_a_row_is_the_experiment_with_its_window_and_attention(tmp_path: Path) -> None:
    config = composed("", "attention.radius=8 trainer.steps=7", [])
    sparse, dense = planned(Settings(windows="128,"), config, 8192)
    patterns = [build.pattern(configured(r, config, tmp_path).attention) for r in (sparse, dense)]
    assert patterns == [Window(4), Dense()]
    made = configured(sparse, config, tmp_path)
    assert (made.domain.window, made.domain.batch_size, made.trainer.steps) == (128, 8, 7)
    assert (config.domain.window, config.attention.radius) == (256, 8)


@pytest.mark.parametrize(
    ("overrides", "told", "said"),
    [
        ("", {"windows": "8,64"}, "windows: found '8,64'"),
        ("", {"windows": ","}, "windows: found ','"),
        ("", {"radius": "both"}, "expected grows or stays"),
        ("", {"tokens": 512}, "expected at least a window of 8192"),
        ("attention=strided", {}, "attention=strided, which has none"),
        ("attention=dense", {}, "attention: found dense"),
        ("attention=auto attention.budget.share_of_dense=0.1", {}, "attention: found auto"),
        ("nonsense=1", {}, "experiment, overrides: "),
        ("'nonsense", {}, "experiment, overrides: No closing quotation"),
        ("domain.facts={hidden:8,encoder:0}", {}, "domain.facts.encoder: found 0"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    overrides: str, told: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        _planned(overrides, **told)


def test_a_long_pass_is_timed_once_and_a_short_one_three_times() -> None:
    passes: list[int] = []
    assert timed(lambda: passes.append(0), enough=60.0) > 0
    assert len(passes) == 3
    timed(lambda: passes.append(0), enough=0.0)
    assert len(passes) == 4
