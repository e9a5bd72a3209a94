"""The encoders' benchmark, at sizes that tell nothing about speed."""

import json

import pytest
from torch import nn

from benchmarks import encoders
from benchmarks.results import folder
from core.errors import ConfigError


def test_a_quick_run_prints_both_sides_and_writes_flat_rows(tmp_path, capsys):
    encoders.run(encoders.Settings(quick=True, out=str(tmp_path)))
    saved = json.loads((tmp_path / "encoders.json").read_text())
    rows, size = saved["rows"], encoders.QUICK
    assert saved["benchmark"] == "encoders" and "transformers" in saved["versions"]
    assert {"model", "n", "pass", "seconds", "repeats", "pattern"} <= rows[0].keys()
    lengths = {"hf_longformer": size.sparse, "hf_bigbird": size.sparse, "torch_dense": size.dense}
    expected = {(m, n, p) for m, ns in lengths.items() for n in ns for p in encoders.PASSES}
    assert {(r["model"], r["n"], r["pass"]) for r in rows if r["model"] != "ours"} == expected
    assert sum(r["model"] == "ours" for r in rows) == len(expected) == len(rows) / 2
    assert all(r["seconds"] > 0 and r["repeats"] >= 1 for r in rows)
    printed = capsys.readouterr().out
    assert printed.count("hf_bigbird") == len(size.sparse) * 2 and "ratio" in printed


def test_bfloat16_is_timed_where_its_outputs_differ_and_has_a_file_of_its_own(tmp_path):
    """Its rounding is no other function: these are compared in float32."""
    encoders.run(encoders.Settings(quick=True, dtype="bfloat16", out=str(tmp_path)))
    saved = json.loads((tmp_path / "encoders.bfloat16.json").read_text())
    assert {r["dtype"] for r in saved["rows"]} == {"bfloat16"}


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


def test_encoders_that_are_not_the_same_function_are_not_timed():
    contest = encoders.longformer(encoders.QUICK, 64)
    nn.init.normal_(contest.models["ours"].layers[0].ffn[0].bias)
    with pytest.raises(ConfigError, match="hf_longformer at n=64: outputs differ"):
        next(encoders.measure(contest, encoders.Settings()))


def test_a_quick_run_does_not_replace_measured_figures():
    assert folder(quick=True, out="") != folder(quick=False, out="")


def test_an_unknown_dtype_is_refused():
    with pytest.raises(ConfigError, match="dtype: got 'float8'"):
        encoders.run(encoders.Settings(dtype="float8"))
