"""The kernels' benchmark, at sizes that tell nothing about speed."""

import json

import pytest
import torch

from benchmarks import kernels
from core.errors import LongstrandError


def test_a_quick_run_times_every_kernel_on_every_shape(tmp_path, capsys):
    kernels.run(kernels.Settings(quick=True, out=str(tmp_path)))
    rows = json.loads((tmp_path / "kernels.json").read_text())["rows"]
    shapes = ["band 32 x 96", "band 48 x 112", "slab 16 x 64"]
    ways = {"float32": ["tiled", "flash", "composed"]}
    ways["bfloat16"] = [*ways["float32"], "flash in float32"]
    expected = [
        (dtype, kind, *case)
        for dtype, names in ways.items()
        for kind in kernels.PASSES
        for case in [("dense 256", "flash"), *((s, name) for s in shapes for name in names)]
    ]
    assert [(r["dtype"], r["pass"], r["shape"], r["kernel"]) for r in rows] == expected
    assert all(0 < row["kept"] <= row["gflops"] and row["seconds"] > 0 for row in rows)
    assert capsys.readouterr().out.count("flash in float32") == 6


def test_rates_count_the_pairs_computed_and_the_pairs_that_count():
    band = next(kernels.shapes(kernels.QUICK))
    assert band.part.area() == band.part.count * 32 * 96
    assert band.kept == band.part.count * 32 * 65
    row = [r for r in kernels.measure(kernels.QUICK, "float32", "backward")][2]
    assert row["gflops"] * row["seconds"] == pytest.approx(10 * 16 * 2 * band.part.area() / 1e9)
    assert row["kept"] / row["gflops"] == pytest.approx(65 / 96)


def test_kernels_that_are_not_the_same_function_are_not_timed():
    shape = next(kernels.shapes(kernels.QUICK))
    x = torch.ones(1, 2, 3)
    with pytest.raises(LongstrandError, match=r"composed on band 32 x 96: got 0\.5"):
        kernels.compare(shape, {"flash": lambda: (x,), "composed": lambda: (x / 2,)}, 0.1)
