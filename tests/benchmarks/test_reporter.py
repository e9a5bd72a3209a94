"""The benchmark of reporter assays: what its figure and its floors are."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from benchmarks.reporter import fitted, kmer_change, mean_pearson
from domains.genomics.contig import encode


def test_the_figure_is_a_mean_over_elements_whatever_their_size() -> None:
    rows = pl.DataFrame({"chrom": ["a"] * 2 + ["b"] * 20, "coef": [0.0, 1.0, *range(20)]})
    score = np.concatenate([[0.0, 1.0], -np.arange(20.0)])
    assert mean_pearson(rows, score)["value"] == pytest.approx(0.0)
    assert mean_pearson(rows, np.zeros(22))["value"] == 0.0


def test_a_change_of_kmers_is_the_same_on_either_strand() -> None:
    rows = pl.DataFrame({"chrom": ["a", "b"], "pos": [2, 3], "alt": ["T", "A"]})
    sequences = {"a": encode("ACGGTN"), "b": encode("NACCGT")}
    change = kmer_change(rows, sequences, 2).toarray()
    np.testing.assert_array_equal(change[0], change[1])
    # CG and GG (CC) go, CT (AG) and TG (CA) come.
    assert {i: int(change[0, i]) for i in np.flatnonzero(change[0])} == {6: -1, 5: -1, 2: 1, 4: 1}


def test_a_floor_has_not_seen_the_element_that_it_tells() -> None:
    rows = pl.DataFrame({"chrom": ["a"] * 4 + ["b"] * 4, "label": [0.0] * 4 + [5.0] * 4})
    told = fitted(rows, np.ones((8, 1)), "label", 1.0)
    np.testing.assert_allclose(told, rows["label"].to_numpy()[::-1])
