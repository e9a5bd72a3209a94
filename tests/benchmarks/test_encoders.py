"""The encoders' benchmark, at sizes that tell nothing about speed."""

import json
import platform

import pytest
from torch import nn

from benchmarks import encoder_contests, encoders
from benchmarks.results import folder
from core.errors import ConfigError


def test_a_quick_run_prints_both_sides_and_writes_flat_rows(tmp_path, capsys):
    encoders.run(encoders.Settings(quick=True, out=str(tmp_path)))
    saved = json.loads((tmp_path / "encoders.json").read_text())
    rows, size = saved["rows"], encoders.QUICK
    assert saved["benchmark"] == "encoders" and "transformers" in saved["versions"]
    assert {"model", "n", "memory", "pass", "seconds", "repeats", "pattern"} <= rows[0].keys()
    lengths = {"hf_longformer": size.sparse, "hf_bigbird": size.sparse, "torch_dense": size.dense}
    memories = [encoders.PLAIN, encoders.KEPT] if kept() else [encoders.PLAIN]
    expected = {
        (m, n, w, p)
        for m, ns in lengths.items()
        for n in ns
        for w in memories
        for p in encoders.PASSES
    }
    found = [(r["model"], r["n"], r["memory"], r["pass"]) for r in rows]
    assert {row for row in found if row[0] in lengths} == expected
    for alongside in ("ours", encoders.LINEAR):
        assert sum(row[0] == alongside for row in found) == len(expected) == len(rows) / 3
    assert all(r["seconds"] > 0 and r["repeats"] >= 1 for r in rows)
    printed = capsys.readouterr().out
    assert (
        printed.count("hf_bigbird") == 2 * len(size.sparse) * len(memories) and "ratio" in printed
    )


def test_bfloat16_is_timed_where_its_outputs_differ_and_has_a_file_of_its_own(tmp_path):
    """Its rounding is no other function: these are compared in float32."""
    encoders.run(encoders.Settings(quick=True, dtype="bfloat16", out=str(tmp_path)))
    saved = json.loads((tmp_path / "encoders.bfloat16.json").read_text())
    assert {r["dtype"] for r in saved["rows"]} == {"bfloat16"}


def kept() -> bool:
    return platform.libc_ver()[0] == "glibc"


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [([0.5, 2, 3], "from n = 2 on"), ([2, 0.5, 3], "from n = 3 on"), ([2, 2, 0.9], "at no length")],
)
def test_the_length_from_which_ours_is_faster_has_no_loss_after_it(ratios, expected):
    lines = [
        {"against": "torch_dense", "pass": "forward", "n": n, "ratio": ratio}
        for n, ratio in enumerate(ratios, 1)
    ]
    others = [{"against": "hf_bigbird", "pass": "forward", "n": 9, "ratio": 0.1}]
    assert expected in encoders.overtaking([*others, *reversed(lines)], "forward")


def test_a_length_at_which_ours_is_slower_in_one_memory_does_not_count():
    lines = [
        {"against": "torch_dense", "pass": "forward", "n": n, "ratio": ratio}
        for n, ratio in [(1, 0.9), (1, 2.0), (2, 2.0), (2, 1.1)]
    ]
    assert "from n = 2 on" in encoders.overtaking(lines, "forward")
    assert "from n = 2 on" in encoders.overtaking(lines[::-1], "forward")


def test_encoders_that_are_not_the_same_function_are_not_timed():
    contest = encoder_contests.longformer(encoders.QUICK, 64)
    nn.init.normal_(contest.models["ours"].layers[0].ffn[0].bias)
    with pytest.raises(ConfigError, match="hf_longformer at n=64: outputs differ"):
        next(encoders.measure(contest, encoders.Settings()))


def test_a_quick_run_does_not_replace_measured_figures():
    assert folder(quick=True, out="") != folder(quick=False, out="")


def test_an_unknown_dtype_is_refused():
    with pytest.raises(ConfigError, match="dtype: got 'float8'"):
        encoders.run(encoders.Settings(dtype="float8"))
