"""Boosted trees on hand-made features of an allele: the reference for `benchmarks.variants`.

Nothing is tuned: one setting a kind of label. Whole tables are made of vectors, not allele by
allele, from the same reference, annotation and consequences that our network reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import polars as pl

from domains.genomics.channel import CHANNELS
from domains.genomics.codon import (
    AMINO_ACIDS,
    DISTANCES,
    NO_AMINO_ACID,
    amino_acid_distances,
    amino_acid_tables,
)
from domains.genomics.consequence import rank_of
from domains.genomics.contig import UNKNOWN
from domains.genomics.fact_scale import facts_at
from domains.genomics.source import LabelledSource, Reference

CODONS_NEAR = (-2, -1, 1, 2)
SEEDS = 3  # trees of a classification are the mean of so many


def coding_features(reference: Reference, rows: pl.DataFrame) -> np.ndarray:
    """Place in the codon, amino acids before and after, their properties and distances, and the
    amino acids up to two codons away on either side; float64 [n, 21], -1 outside coding sequence.
    """
    before_of, after_of = amino_acid_tables(reference.genetic_code)
    water, mass = _properties()
    distances = amino_acid_distances().astype(float)
    site, near = _codon_sites(reference, rows)
    before, after = before_of[site].astype(int), after_of[site, rows["alt"].to_numpy()].astype(int)
    columns = [
        (site - 1) // 64 % 3,
        before,
        after,
        water[before],
        water[after],
        mass[before],
        mass[after],
        *distances[before, after].T,
        *before_of[near],
    ]
    out = np.stack(columns, axis=1).astype(float)
    out[site == 0] = -1
    return out


def exchange_features(reference: Reference, rows: pl.DataFrame) -> np.ndarray:
    """Amino acids before and after and their BLOSUM62 score; float64 [n, 3], `NO_AMINO_ACID` and
    0 outside coding sequence."""
    before_of, after_of = amino_acid_tables(reference.genetic_code)
    site, _ = _codon_sites(reference, rows)
    before, after = before_of[site], after_of[site, rows["alt"].to_numpy()]
    score = amino_acid_distances()[before, after, DISTANCES.index("blosum62")]
    return np.column_stack([before, after, score]).astype(float)


def _codon_sites(reference: Reference, rows: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Codon site of each row, and of the codons near it in the direction of the gene [4, n]; 0
    past the end of the contig or of coding sequence."""
    pos = rows["pos"].to_numpy()
    site, near = np.zeros(len(rows), dtype=int), np.zeros((len(CODONS_NEAR), len(rows)), dtype=int)
    for contig, here in _by_contig(rows):
        sites = reference.sites(contig).astype(int)
        site[here] = sites[pos[here]]
        sense = np.where((site[here] - 1) // 64 >= 3, -1, 1)
        for i, codons in enumerate(CODONS_NEAR):
            at = pos[here] + 3 * codons * sense
            inside = (at >= 0) & (at < len(sites))
            near[i, here] = np.where(inside, sites[np.clip(at, 0, len(sites) - 1)], 0)
    return site, near


def base_features(reference: Reference, rows: pl.DataFrame, reach: int) -> np.ndarray:
    """Reference and alternative base, then the bases up to `reach` away; float64 [n, 2 + 2 reach],
    `UNKNOWN` past the contig's ends."""
    pos = rows["pos"].to_numpy()
    offsets = [d for d in range(-reach, reach + 1) if d]
    near = np.full((len(rows), len(offsets)), UNKNOWN, dtype=float)
    for contig, here in _by_contig(rows):
        padded = np.pad(reference.sequence(contig), reach, constant_values=UNKNOWN)
        near[here] = padded[pos[here][:, None] + reach + np.array(offsets)]
    return np.column_stack([rows["ref"].to_numpy(), rows["alt"].to_numpy(), near])


def border_features(reference: Reference, rows: pl.DataFrame) -> np.ndarray:
    """Bases to the nearest border of a coding exon, negative outside it; float64 [n, 1]."""
    pos = rows["pos"].to_numpy()
    out = np.zeros((len(rows), 1))
    for contig, here in _by_contig(rows):
        spans = [span for t in reference.transcripts.get(contig, []) for span in t.cds]
        borders = np.unique([edge for span in spans for edge in span])
        if not len(borders):
            continue
        gap = np.abs(pos[here][:, None] + 0.5 - borders).min(axis=1)
        inside = np.zeros(len(here), dtype=bool)
        for start, end in spans:
            inside |= (pos[here] >= start) & (pos[here] < end)
        out[here, 0] = np.where(inside, gap, -gap)
    return out


def length_features(reference: Reference, rows: pl.DataFrame) -> np.ndarray:
    """Length of the coding sequence, as our network is told it; float64 [n, 2], a strand each."""
    columns = [i for i, name in enumerate(CHANNELS) if name.endswith("coding_length")]
    out = np.zeros((len(rows), len(columns)))
    for contig, here in _by_contig(rows):
        out[here] = reference.channels(contig)[rows["pos"].to_numpy()[here]][:, columns]
    return out


def fact_features(reference: Reference, rows: pl.DataFrame) -> np.ndarray:
    """All facts that a network may be told (`domains.genomics.fact`); float64 [n, facts]."""
    parts = [
        (here, facts_at(reference, name, rows["pos"][here], rows["alt"][here]))
        for name, here in _by_contig(rows)
    ]
    out = np.empty((len(rows), parts[0][1].shape[1]))
    for here, told in parts:
        out[here] = told
    return out


def track_features(reference: Reference, rows: pl.DataFrame) -> np.ndarray:
    """Values of the tracks, nan where there is none; float64 [n, tracks]."""
    out = np.full((len(rows), len(reference.tracks)), np.nan)
    for contig, here in _by_contig(rows):
        for i, track in enumerate(reference.tracks):
            if contig in track.values:
                out[here, i] = track.values[contig][rows["pos"].to_numpy()[here]]
    return out


def consequence_features(source: LabelledSource, rows: pl.DataFrame) -> np.ndarray:
    """Gravity of the consequence; float64 [n, 1]."""
    known = source.consequences()
    assert known is not None
    joined = rows.select("row").join(known, on="row", how="left", maintain_order="left")
    return rank_of(joined["consequence"]).to_numpy().astype(float)[:, None]


def fit(features: np.ndarray, label: np.ndarray, classification: bool) -> list[Any]:
    """The trees, one model for a regression, SEEDS for classes."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    if not classification:
        model = HistGradientBoostingRegressor(
            max_iter=200,
            learning_rate=0.06,
            max_leaf_nodes=24,
            min_samples_leaf=40,
            l2_regularization=1.0,
            random_state=0,
        )
        return [model.fit(features, label)]
    return [
        HistGradientBoostingClassifier(
            max_iter=100,
            learning_rate=0.05,
            max_leaf_nodes=12,
            min_samples_leaf=20,
            l2_regularization=1.0,
            random_state=seed,
        ).fit(features, label)
        for seed in range(SEEDS)
    ]


def predict(models: Sequence[Any], features: np.ndarray) -> np.ndarray:
    """The label, or the share of positives; float64 [n], mean over models."""
    told = [
        m.predict_proba(features)[:, 1] if hasattr(m, "predict_proba") else m.predict(features)
        for m in models
    ]
    return np.mean(told, axis=0)


def _by_contig(rows: pl.DataFrame) -> Sequence[tuple[str, np.ndarray]]:
    chrom = rows["chrom"].to_numpy()
    return [(name, np.flatnonzero(chrom == name)) for name in rows["chrom"].unique().sort()]


@cache
def _properties() -> tuple[np.ndarray, np.ndarray]:
    """Hydropathy and residue mass of each amino acid, 0 for stop and none."""
    from Bio.Data.IUPACData import protein_weights
    from Bio.SeqUtils.ProtParamData import kd

    water, mass = (np.zeros(NO_AMINO_ACID + 1) for _ in range(2))
    for i, a in enumerate(AMINO_ACIDS):
        water[i], mass[i] = kd.get(a, 0.0), protein_weights.get(a, 0.0)
    return water, mass
