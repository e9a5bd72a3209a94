"""What `benchmarks.reporter` puts beside the network: regressions that saw nothing of the element
whose variants they tell, and the spread of their figures over elements."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from benchmarks.reporter_data import DELETION, SUBSTITUTION
from domains.genomics.contig import UNKNOWN, encode
from domains.genomics.event import letters_of

Scores = dict[tuple[str, str], np.ndarray]
"""By model and by what it learned from."""

BOTH = "both"
DRAWS = 1000


def one_hot(rows: pl.DataFrame, sequences: dict[str, np.ndarray], reach: int) -> np.ndarray:
    """Of substitutions: bases up to `reach` away, and the alternative; float64
    [n, 4 * (2 * reach + 2)]."""
    out = []
    padded = {name: np.pad(s, reach, constant_values=UNKNOWN) for name, s in sequences.items()}
    table = np.eye(UNKNOWN + 1)[:, :UNKNOWN]
    for name, pos, alt in rows.select("chrom", "start", "inserted").iter_rows():
        around = padded[name][pos : pos + 2 * reach + 1]
        out.append(table[np.append(around, encode(alt))].ravel())
    return np.array(out)


def kmer_change(rows: pl.DataFrame, sequences: dict[str, np.ndarray], k: int) -> Any:
    """How many more there are of each run of k bases, on either strand; sparse [n, 4^k]."""
    from scipy import sparse

    place, column, value = [], [], []
    units = 4 ** np.arange(k)
    columns = ("chrom", "start", "end", "inserted")
    for row, (name, start, end, inserted) in enumerate(rows.select(columns).iter_rows()):
        sequence = sequences[name]
        left, right = sequence[max(0, start - k + 1) : start], sequence[end : end + k - 1]
        for middle, sign in ((encode(inserted), 1.0), (sequence[start:end], -1.0)):
            window = np.concatenate([left, middle, right]).astype(np.int64)
            if len(window) < k:
                continue
            runs = np.lib.stride_tricks.sliding_window_view(window, k)
            runs = runs[(runs != UNKNOWN).all(axis=1)]
            index = np.minimum(runs @ units[::-1], (3 - runs) @ units)
            place += [row] * len(index)
            column += index.tolist()
            value += [sign] * len(index)
    return sparse.csr_matrix((value, (place, column)), shape=(len(rows), 4**k))


def fitted(
    rows: pl.DataFrame, features: Any, label: str, strength: float, learned: str = BOTH
) -> np.ndarray:
    """Ridge regression's number of each row, by one that learned from rows of that kind outside of
    its element."""
    from sklearn.linear_model import Ridge

    element, y = rows["chrom"].to_numpy(), rows[label].to_numpy()
    used = np.full(len(rows), True) if learned == BOTH else (rows["kind"] == learned).to_numpy()
    out = np.empty(len(rows))
    for name in np.unique(element):
        here = element == name
        model = Ridge(alpha=strength, solver="sparse_cg" if features.shape[1] > 1000 else "auto")
        seen = used & ~here
        out[here] = model.fit(features[seen], y[seen]).predict(features[here])
    return out


def places(rows: pl.DataFrame, sequences: dict[str, np.ndarray]) -> np.ndarray:
    """Share of the element before the middle of the event, its square and its distance from the
    middle of the element."""
    length = np.array([len(sequences[name]) for name in rows["chrom"]])
    share = (rows["start"] + rows["end"]).to_numpy() / 2 / length
    return np.column_stack([share, share**2, np.abs(share - 0.5)])


def kinds(rows: pl.DataFrame, sequences: dict[str, np.ndarray]) -> np.ndarray:
    """One-hot: the bases that become other ones; of a deletion the whole run."""
    columns = ("chrom", "start", "end", "inserted")
    told = [
        f"{letters_of(sequences[name][start:end])}>{inserted}"
        for name, start, end, inserted in rows.select(columns).iter_rows()
    ]
    return pl.Series("kind", told).to_dummies().to_numpy()


def measured(rows: pl.DataFrame) -> np.ndarray:
    """Of each deletion the mean of what was measured of substitutions at its bases, in the same
    experiment. No floor: it knows the element."""
    place = pl.int_ranges("start", "end").alias("start")
    deleted = rows.filter(pl.col("kind") == DELETION).with_row_index("event")
    bases = deleted.select("event", "chrom", place).explode("start")
    known = rows.filter(pl.col("kind") == SUBSTITUTION).select("chrom", "start", "label")
    found = bases.join(known, on=["chrom", "start"], how="left")
    return found.group_by("event").agg(pl.col("label").mean()).sort("event")["label"].to_numpy()


def floors(rows: pl.DataFrame, sequences: dict[str, np.ndarray]) -> tuple[Scores, Scores]:
    """Scores of substitutions, and of deletions, each [rows of that kind]; of these also what
    substitutions of the same element tell."""
    single = (rows["kind"] == SUBSTITUTION).to_numpy()
    out: tuple[Scores, Scores] = ({}, {})
    kmers = kmer_change(rows, sequences, 6)
    for learned in (SUBSTITUTION, DELETION, BOTH):
        told = fitted(rows, kmers, "label", 100.0, learned)
        out[0]["ridge_6mers", learned], out[1]["ridge_6mers", learned] = told[single], told[~single]
    for scores, kind in zip(out, (SUBSTITUTION, DELETION), strict=True):
        own = rows.filter(pl.col("kind") == kind)
        scores["kind", kind] = fitted(own, kinds(own, sequences), "label", 1.0)
        scores["place", kind] = fitted(own, places(own, sequences), "label", 1.0)
    own = rows.filter(single)
    around = one_hot(own, sequences, 5)
    out[1]["measured", "element"] = measured(rows)
    out[0]["ridge_11_bases", SUBSTITUTION] = fitted(own, around, "coef", 100.0)
    return out


def by_element(rows: pl.DataFrame, score: np.ndarray) -> np.ndarray:
    """Pearson's r within each element, 0 where all scores are one; elements by name."""
    element, coef = rows["chrom"].to_numpy(), rows["coef"].to_numpy()
    each = []
    for name in np.unique(element):
        a, b = score[element == name], coef[element == name]
        each.append(float(np.corrcoef(a, b)[0, 1]) if np.ptp(a) > 0 else 0.0)
    return np.array(each)


def mean_over(each: np.ndarray) -> dict[str, Any]:
    """Mean over elements and its interval, which resamples them."""
    draw = np.random.default_rng(0).integers(0, len(each), (DRAWS, len(each)))
    low, high = np.percentile(each[draw].mean(axis=1), [2.5, 97.5])
    value = {"value": float(each.mean()), "low": float(low), "high": float(high)}
    return {"metric": "mean_pearson", **value, "elements": [round(r, 3) for r in each.tolist()]}
