"""The floor `kmer`: a linear model of the k-mers around a substitution and its alternative base.

A linear model of k-mers is the usual first thing to try on sequence (its refined form: gkm-SVM,
Ghandi et al. 2014).
"""

from __future__ import annotations

import numpy as np
import polars as pl
from scipy import sparse

from domains.genomics.contig import UNKNOWN
from domains.genomics.source import Reference

LENGTHS = (1, 3, 5)
FLANK = max(LENGTHS) // 2
_LETTERS = UNKNOWN + 1  # an unknown base, or a place beyond the contig, is a letter of its own


def kmer_floor(
    reference: Reference, train: pl.DataFrame, test: pl.DataFrame, classes: bool
) -> np.ndarray:
    """float64 [n test]: the probability that logistic regression gives (of 0/1 labels), or the
    number of ridge regression; penalty 1, weights of labels as in training.

    Args:
        train, test: columns chrom, pos (0-based), alt (code; below 0 of what is no substitution),
            label and weight.
    """
    label, weight = (train[c].to_numpy().astype(np.float64) for c in ("label", "weight"))
    if np.ptp(label) == 0:  # nothing to tell apart
        return np.full(len(test), label[0])
    from sklearn.linear_model import LogisticRegression, Ridge

    known, asked = kmer_features(reference, train), kmer_features(reference, test)
    weight = weight / weight.mean()
    if classes:
        fitted = LogisticRegression(max_iter=1000).fit(known, label.astype(int), weight)
        return fitted.predict_proba(asked)[:, 1]
    # Not `auto`, which leaves the method to the library's version.
    return Ridge(solver="sparse_cg").fit(known, label, weight).predict(asked)


def kmer_features(reference: Reference, alleles: pl.DataFrame) -> sparse.csr_matrix:
    """float64 [n, columns]: for each k of 1, 3 and 5 a 1 in the column of the k-mer about the site
    together with its alternative base."""
    letters = _letters_around(reference, alleles)
    alt = alleles["alt"].to_numpy().astype(np.int64)
    alt = np.where(alt < 0, UNKNOWN, alt)
    columns, first = [], 0
    for k in LENGTHS:
        code = alt
        for i in range(FLANK - k // 2, FLANK + k // 2 + 1):
            code = code * _LETTERS + letters[:, i]
        columns.append(first + code)
        first += _LETTERS ** (k + 1)
    places = np.stack(columns, axis=1)
    rows = np.repeat(np.arange(len(places)), len(LENGTHS))
    ones = np.ones(places.size)
    return sparse.csr_matrix((ones, (rows, places.ravel())), shape=(len(places), first))


def _letters_around(reference: Reference, alleles: pl.DataFrame) -> np.ndarray:
    """int64 [n, 2 * FLANK + 1] base codes."""
    chrom, pos = alleles["chrom"].to_numpy(), alleles["pos"].to_numpy()
    out = np.full((len(alleles), 2 * FLANK + 1), UNKNOWN, dtype=np.int64)
    for name in alleles["chrom"].unique():
        here, bases = np.flatnonzero(chrom == name), reference.sequence(name)
        at = pos[here, None] + np.arange(-FLANK, FLANK + 1)
        inside = (at >= 0) & (at < len(bases))
        out[here] = np.where(inside, bases[at.clip(0, len(bases) - 1)], UNKNOWN)
    return out
