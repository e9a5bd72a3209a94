"""Folds: disjoint, whole groups, purged."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from core.errors import ConfigError, TooFewLabelsError
from domains.genomics.config import SplitConfig
from domains.genomics.split import make_folds, with_groups


def _variants(contigs: int = 2, length: int = 600) -> pl.DataFrame:
    pos = np.tile(np.arange(length), contigs)
    chrom = np.repeat([f"c{i}" for i in range(contigs)], length)
    return pl.DataFrame(
        {
            "row": np.arange(len(pos)),
            "chrom": chrom,
            "pos": pos,
            "group_field": [f"x{p // 100}" for p in pos],
        }
    )


SPLITS = [
    SplitConfig(kind="blocks", block=100, folds=3, purge=7),
    SplitConfig(kind="info", field="EXON", folds=2, purge=7),
    SplitConfig(kind="contig", folds=2, purge=7),
]


@pytest.mark.parametrize("split", SPLITS, ids=lambda s: s.kind)
def test_folds_are_disjoint_purged_and_of_whole_groups(split: SplitConfig) -> None:
    variants = with_groups(_variants(5), split)
    folds = make_folds(variants, split)
    assert [f.name for f in folds] == [*(f"fold{i}" for i in range(split.folds)), "all"]
    tested = pl.concat([f.test for f in folds])
    assert sorted(tested) == variants["row"].to_list()
    assert folds[-1].test.is_empty()
    by_row = {r["row"]: r for r in variants.to_dicts()}
    for fold in folds:
        parts = {n: [by_row[r] for r in getattr(fold, n)] for n in ("train", "validation", "test")}
        assert parts["train"] and parts["validation"]
        groups = {n: {r["group"] for r in rows} for n, rows in parts.items()}
        assert not groups["train"] & groups["test"] and not groups["train"] & groups["validation"]
        assert not groups["validation"] & groups["test"]
        for near, far in (("train", "test"), ("validation", "test"), ("train", "validation")):
            taken = {(r["chrom"], r["pos"]) for r in parts[far]}
            for r in parts[near]:
                around = range(r["pos"] - split.purge, r["pos"] + split.purge + 1)
                assert not any((r["chrom"], p) in taken for p in around)


def test_block_fold_is_the_published_formula() -> None:
    split = SplitConfig(kind="blocks", block=150, folds=5)
    variants = with_groups(_variants(1, 3000), split)
    pos1 = variants["pos"].to_numpy() + 1
    assert (variants["outer"].to_numpy() == ((pos1 - 1) // 150) % 5).all()


def test_fewer_groups_than_folds_is_refused() -> None:
    split = SplitConfig(kind="contig", folds=3)
    with pytest.raises(TooFewLabelsError, match="2 groups"):
        make_folds(with_groups(_variants(2), split), split)


def test_info_split_needs_its_field() -> None:
    with pytest.raises(ConfigError, match=r"data\.split"):
        SplitConfig(kind="info")
