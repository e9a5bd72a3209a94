"""Pairs of natural variants and controls, and what is told of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks.natural_variants import Natural, density, measure, pairs_of, read_natural
from core.errors import ConfigError
from domains.genomics.contig import read_genome

ROWS = pl.DataFrame(
    [
        ("a", 100, 1, "missense", "a:0"),
        ("a", 130, 0, "missense", "a:0"),
        ("a", 150, 0, "synonymous", "a:0"),
        ("a", 160, 1, "synonymous", "a:0"),
        ("a", 661, 1, "synonymous", "a:0"),
        ("b", 100, 1, "missense", "b:0"),
        ("b", 610, 0, "missense", "b:0"),
    ],
    schema=["chrom", "pos", "observed", "consequence", "group"],
    orient="row",
)


def test_a_pair_is_the_nearest_control_within_500_bases() -> None:
    # The last observed one of a is 511 from its control, that of b 510.
    assert pairs_of(ROWS).tolist() == [[0, 1], [3, 2]]


def test_density_counts_the_others_that_were_seen() -> None:
    assert density(ROWS).tolist() == [1, 2, 2, 1, 0, 0, 0]


def test_pairs_and_classes_are_told_apart() -> None:
    draw = np.random.default_rng(0)
    n = 400
    label = np.arange(n) % 2
    rows = pl.DataFrame(
        {
            "chrom": ["a"] * n,
            "pos": np.arange(n) * 7,
            "observed": label,
            "consequence": np.where(np.arange(n) < 200, "missense", "synonymous"),
            "group": [f"a:{i // 20}" for i in range(n)],
            "shared": np.arange(n) >= 380,
        }
    )
    natural = Natural(rows, pairs_of(rows), {})
    scores = {"good": label + draw.normal(0, 0.1, n), "tied": np.zeros(n)}
    found = {(r["model"], r["metric"]): r["value"] for r in measure(natural, scores, "p")}
    assert found["good", "pairwise_500"] == 1 and found["tied", "pairwise_500"] == 0.5
    assert found["good", "auroc_missense"] == 1 and found["tied", "macro_auroc"] == 0.5
    assert found["good", "pairwise_500_not_shared"] == 1


def test_a_table_of_another_genome_is_refused(tmp_path: Path) -> None:
    (tmp_path / "g.fa").write_text(">a\nACGTACGT\n>b\nACGT\n")
    head = "chrom\tpos\tref\talt\tobserved\tconsequence\n"
    good = "a\t2\tC\tT\t1\tmissense\nb\t1\tA\tT\t1\tmissense\nb\t2\tC\tT\t0\tmissense\n"
    (tmp_path / "t.tsv").write_text(head + good)
    genome = read_genome(tmp_path / "g.fa")
    natural = read_natural(tmp_path / "t.tsv", genome, ["b"])
    assert natural.rows["pos"].to_list() == [0, 1] and natural.pairs.tolist() == [[0, 1]]
    assert natural.floors["consequence_rank"].tolist() == [1.0, 1.0]
    (tmp_path / "t.tsv").write_text(head + good.replace("a\t2\tC", "a\t3\tC"))
    with pytest.raises(ConfigError, match="found 1 rows of a whose ref is not"):
        read_natural(tmp_path / "t.tsv", genome, ["b"])
