"""The benchmark of variants a second: what it counts and how it thins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import variants_speed
from benchmarks.scale_jobs import untrained
from benchmarks.variant_data import QUICK, opened
from core.bundle import load_bundle, restore
from domains.genomics import domain
from pipelines import build


def test_a_quick_run_has_a_figure_of_every_kind(tmp_path: Path) -> None:
    variants_speed.benchmark(variants_speed.Settings(threads=1, quick=True, out=str(tmp_path)))
    rows = json.loads((tmp_path / "variants_speed.json").read_text())["rows"]
    assert [r["metric"] for r in rows] == ["tiles"] * 3 + ["centred", "end_to_end"]
    dense, _, sparse, centred, whole = rows
    assert dense["one_in"] == 1 and dense["alleles"] == 12_000
    assert sparse["alleles"] == centred["alleles"] == 4
    assert sparse["one_in"] >= variants_speed.THIN
    assert whole["alleles"] == 900 and whole["peak_mb"] > 0
    for row in rows:
        assert row["per_second"] == row["alleles"] / row["seconds"]


def test_thinned_variants_lie_apart() -> None:
    reference: Any = None
    sites = np.array([0, 10, 999, 1000, 1999, 2500, 3499, 3500])
    some = variants_speed.Stretch("all", reference, "c", sites, 20)
    sparse = variants_speed.thinned(some)
    assert sparse.sites.tolist() == [0, 1000, 2500, 3500]
    assert (sparse.data, sparse.alleles) == ("all, thinned", 4)


def test_an_ensemble_is_timed_with_all_its_members(tmp_path: Path) -> None:
    config, source, task = opened(QUICK, 1)
    tokenizer = task.fit_tokenizer(source, source.variants["row"])
    encoder = build.encoder(config, build.pattern(config.attention))
    carried, path = domain.carried(task.config), Path(str(task.config.data.variants))
    told = ("genomics", task, tokenizer, encoder, carried, path, ".vcf", tmp_path)
    job = untrained(*told, members=3)
    assert restore(load_bundle(job.bundle), task)[1].trainings == 3
