"""Figures of counted rows are those of the rows repeated, ties and missing rows included."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import rankdata

from domains.genomics.counted import CountedRanks
from domains.genomics.figures import Figure, auprc, auroc, counted, spearman


def _drawn(n: int, seed: int, values: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    label, score = draw.integers(0, values, n) / 7, draw.integers(0, values, n) / 3
    return label, score, np.bincount(draw.integers(0, n, n), minlength=n)


@pytest.mark.parametrize("values", [2, 5, 1000])
@pytest.mark.parametrize("n", [2, 17, 63, 111])
def test_ranks_are_those_of_repeated_numbers(n: int, values: int) -> None:
    for seed in range(5):
        numbers, _, times = _drawn(n, seed, values)
        rows = np.repeat(np.arange(n), times)
        np.testing.assert_array_equal(CountedRanks(numbers)(times)[rows], rankdata(numbers[rows]))


@pytest.mark.parametrize("values", [2, 5, 1000])
@pytest.mark.parametrize("n", [2, 17, 63, 111])
@pytest.mark.parametrize("figure", [spearman, auroc, auprc])
def test_a_figure_is_that_of_repeated_rows(figure: Figure, n: int, values: int) -> None:
    for seed in range(5):
        label, score, times = _drawn(n, seed, values)
        if figure is not spearman:
            label = (label > np.median(label)).astype(float)
        rows = np.repeat(np.arange(n), times)
        expected = figure(label[rows], score[rows])
        found = counted(figure, label, score)(times)
        np.testing.assert_allclose(found, expected, atol=1e-12, rtol=0)


def test_what_has_no_figure_when_repeated_has_none_when_counted() -> None:
    label, score = np.array([0.0, 1.0, 1.0]), np.array([0.3, 0.1, 0.2])
    for times in (np.array([2, 0, 0]), np.array([0, 1, 2]), np.array([0, 1, 0])):
        assert np.isnan(counted(auroc, label, score)(times))
        assert counted(spearman, label, score)(times) == 0.0
