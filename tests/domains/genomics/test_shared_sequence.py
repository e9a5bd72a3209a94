"""What held-out alleles have in common with what their fold learned from."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from core.errors import LongstrandError
from domains.genomics.config import GenomicsConfig
from domains.genomics.data_config import GenomicsData, SplitConfig
from domains.genomics.effect import EffectTask
from domains.genomics.homology import K
from domains.genomics.shared_sequence import refuse_shared_positions, shared_rows
from domains.genomics.source import LabelledSource

BASES = "".join(np.random.default_rng(0).choice(list("ACGT"), 400))
TURNED = BASES[100:200][::-1].translate(str.maketrans("ACGT", "TGCA"))


def _source(folder: Path) -> LabelledSource:
    """Contig b ends with the bases 100 to 199 of contig a, on the other strand: b's base 300 + i is
    a's 199 - i."""
    contigs = {"a": BASES, "b": BASES[::-1][:300] + TURNED}
    (folder / "g.fa").write_text("".join(f">{n}\n{bases}\n" for n, bases in contigs.items()))
    lines = ["chrom\tpos\tref\talt\tLABEL"]
    for name, places in (("a", range(60, 200, 20)), ("b", (50, 290, 300, 310, 329, 345, 399))):
        for at in places:
            ref = contigs[name][at]
            lines.append(f"{name}\t{at + 1}\t{ref}\t{'A' if ref != 'A' else 'C'}\t{at / 100}")
    (folder / "v.tsv").write_text("\n".join(lines) + "\n")
    split = SplitConfig(kind="contig", folds=2, validation=0)
    data = GenomicsData("files", str(folder / "g.fa"), label="LABEL", split=split)
    data.variants = str(folder / "v.tsv")
    source = LabelledSource(GenomicsConfig(data=data))
    return source


def test_a_run_that_is_there_twice_is_shared_on_either_strand(tmp_path: Path) -> None:
    source = _source(tmp_path)
    folds = EffectTask(source.config).folds(source)
    shared = source.select(shared_rows(source, folds)).select("chrom", "pos").rows()
    # by hand: an own run of K bases over the position is there again within K - 1 of a seen one
    seen = {name: {p for c, p in source.variants.select("chrom", "pos").rows() if c == name}
            for name in "ab"}  # fmt: skip
    twin = {("b", 300 + i): ("a", 199 - i) for i in range(100)}
    twin |= {there: here for here, there in twin.items()}

    def naive(name: str, pos: int) -> bool:
        other = "b" if name == "a" else "a"
        near = {p + d for p in seen[other] for d in range(1 - K, K)}
        runs = (range(start, start + K) for start in range(pos - K + 1, pos + 1))
        return any(all(twin.get((name, p), ("", -1))[1] in near for p in run) for run in runs)

    expected = [row for row in source.variants.select("chrom", "pos").rows() if naive(*row)]
    assert shared == expected
    assert ("b", 310) in shared and ("b", 50) not in shared and ("a", 60) not in shared


def test_figures_without_what_is_shared(tmp_path: Path) -> None:
    source = _source(tmp_path)
    task = EffectTask(source.config)
    told = source.variants.select(
        "row", "label", "chrom", "pos", "group", raw=pl.col("label"), fold=pl.lit("fold0")
    )
    share, *figures = task.parts(source, told)
    shared = len(shared_rows(source, task.folds(source)))
    assert 0 < shared < len(told)
    assert (share.metric, share.value) == ("shared_sequence", pytest.approx(shared / len(told)))
    assert [(m.metric, m.value) for m in figures if m.metric == "spearman"] == [("spearman", 1.0)]
    assert all("not shared" in m.protocol for m in figures)
    assert task.parts(source, told.with_columns(fold=pl.lit("evaluated"))) == []
    assert task.parts(source, told.drop("chrom", "pos")) == []


def test_a_position_on_both_sides_is_a_fault(tmp_path: Path) -> None:
    source = _source(tmp_path)
    fold = EffectTask(source.config).folds(source)[0]
    for side in ("train", "validation"):
        mixed = dataclasses.replace(fold, **{side: fold.test[:1]})
        with pytest.raises(LongstrandError, match="both held out and learned from"):
            refuse_shared_positions(source, mixed)
