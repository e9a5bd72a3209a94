"""Natural variants of yeast beside substitutions that nobody has seen: are they told apart?

Every observed substitution (SGRP, by Ensembl) has a control on the same chromosome, of the same
trinucleotide and alternative. Natural variants are denser where selection is weaker, so that a
score of places alone would do well; the pairwise figure asks it of an observed one and the
nearest control within PAIRED bases instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.paired import estimates
from core.errors import ConfigError
from domains.genomics.contig import Genome, encode
from domains.genomics.figures import auroc

PAIRED = 500  # bases between the two of a pair, at most
BLOCK = 10_000  # bases that a draw of the bootstrap takes together
DENSE = 200  # bases on either side; of 25 to 500 the best on chromosomes I to XIV
DRAWS = 100
FEWEST = 20  # of either kind, for a figure of a consequence
Row = dict[str, Any]


@dataclass(frozen=True)
class Natural:
    """Rows of the held-out contigs, and pairs of them.

    Attributes:
        rows: row (of the file), chrom, pos (0-based), ref, alt (codes), observed, consequence,
            group (block), shared (whether the site lies in sequence that is learned from too).
        pairs: int64 [k, 2] row numbers: an observed substitution and the nearest control.
        floors: scores by name, higher where a substitution is rather to be found.
        gains: of a score that the pair itself has a part in, by name: float64 [k], by how much the
            observed one's is higher without that part.
    """

    rows: pl.DataFrame
    pairs: np.ndarray
    floors: Mapping[str, np.ndarray]
    gains: Mapping[str, np.ndarray] = field(default_factory=dict)


def read_natural(path: Path, genome: Genome, test: list[str]) -> Natural:
    """Rows of the contigs `test`; floors learn from all others. An allele that is there twice is
    left out.

    Raises:
        ConfigError: a row whose REF is not the genome's.
    """
    table = pl.read_csv(path, separator="\t", schema_overrides={"chrom": pl.String})
    codes = {c: encode("".join(table[c])) for c in ("ref", "alt")}
    table = table.with_row_index("row").with_columns(
        pl.col("row").cast(pl.Int64),
        pl.col("pos") - 1,
        *(pl.Series(name, of) for name, of in codes.items()),
    )
    _check(path, table, genome)
    twice = pl.struct("chrom", "pos", "alt").is_duplicated()
    table = table.filter(~twice).sort("chrom", "pos", "alt")
    held = pl.col("chrom").is_in(test)
    rows = table.filter(held).with_columns(
        group=pl.col("chrom") + ":" + (pl.col("pos") // BLOCK).cast(pl.String)
    )
    shares = table.filter(~held).group_by("consequence").agg(pl.col("observed").mean())
    rank = dict(shares.iter_rows())
    floors = {
        "consequence_rank": rows["consequence"].replace_strict(rank).to_numpy(),
        "snv_density": density(rows).astype(np.float64),
    }
    pairs = pairs_of(rows)
    first, second = floors["snv_density"][pairs.T]
    pos = rows["pos"].to_numpy()[pairs]
    # The observed one is no other to itself, so it is none to its control.
    near = np.abs(pos[:, 0] - pos[:, 1]) <= DENSE
    return Natural(rows, pairs, floors, {"snv_density": first - (second - near)})


def _check(path: Path, table: pl.DataFrame, genome: Genome) -> None:
    for (name,), part in table.group_by("chrom"):
        wrong = genome.contigs[str(name)][part["pos"].to_numpy()] != part["ref"].to_numpy()
        if wrong.any():
            raise ConfigError(
                f"{path}: found {int(wrong.sum())} rows of {name} whose ref is not in {genome.path}"
            )


def pairs_of(rows: pl.DataFrame) -> np.ndarray:
    """int64 [k, 2]: every observed row with a control within PAIRED bases, and the nearest one."""
    found = []
    chrom, observed = rows["chrom"].to_numpy(), rows["observed"].to_numpy() == 1
    pos = rows["pos"].to_numpy()
    for name in rows["chrom"].unique(maintain_order=True):
        real = np.flatnonzero((chrom == name) & observed)
        control = np.flatnonzero((chrom == name) & ~observed)
        right = np.minimum(np.searchsorted(pos[control], pos[real]), len(control) - 1)
        left = np.maximum(right - 1, 0)
        gaps = [np.abs(pos[control[side]] - pos[real]) for side in (left, right)]
        nearest = np.where(gaps[0] <= gaps[1], left, right)
        near = np.minimum(*gaps) <= PAIRED
        found.append(np.stack([real[near], control[nearest[near]]], axis=1))
    return np.concatenate(found)


def density(rows: pl.DataFrame) -> np.ndarray:
    """[n] observed substitutions at other sites within DENSE bases."""
    out = np.zeros(len(rows), dtype=np.int64)
    chrom, pos = rows["chrom"].to_numpy(), rows["pos"].to_numpy()
    for name in rows["chrom"].unique():
        here = chrom == name
        sites = np.unique(rows.filter((pl.col("chrom") == name) & (pl.col("observed") == 1))["pos"])
        around = np.searchsorted(sites, pos[here] + DENSE, side="right")
        around -= np.searchsorted(sites, pos[here] - DENSE)
        out[here] = around - np.isin(pos[here], sites)
    return out


def measure(natural: Natural, scores: Mapping[str, np.ndarray], protocol: str) -> list[Row]:
    """A row a score and figure: pairs, AUROC, AUROC within each consequence and the mean of those;
    pairs once more without sites in shared sequence.

    Args:
        scores: [n] by name of the model.
    """
    rows, out = natural.rows, []
    group, label = rows["group"].to_numpy(), rows["observed"].to_numpy()
    first, second = natural.pairs.T
    gain = {name: score[first] - score[second] for name, score in scores.items()}
    gain |= {name: of for name, of in natural.gains.items() if name in scores}
    own = ~rows["shared"].to_numpy()
    for title, chosen in (("", slice(None)), ("_not_shared", own[first] & own[second])):
        of = {name: g[chosen] for name, g in gain.items()}
        where = group[first][chosen]
        out += _told(protocol, f"pairwise_{PAIRED}{title}", _won, np.ones(len(where)), where, of)
    out += _told(protocol, "auroc", auroc, label, group, scores)
    classes: dict[str, list[float]] = {}
    for name in sorted(rows["consequence"].unique()):
        here = (rows["consequence"] == name).to_numpy()
        if min(label[here].sum(), (1 - label[here]).sum()) < FEWEST:
            continue
        of = {m: score[here] for m, score in scores.items()}
        each = _told(protocol, f"auroc_{name}", auroc, label[here], group[here], of)
        for row in each:
            classes.setdefault(row["model"], []).append(row["value"])
        out += each
    for model, values in classes.items():
        mean = {"metric": "macro_auroc", "value": float(np.mean(values)), "low": None, "high": None}
        out.append({"data": "yeast_sgrp", "protocol": protocol, "model": model, **mean})
    return out


def _won(_: np.ndarray, gain: np.ndarray) -> float:
    """Share of pairs in which the observed one has the higher score; a tie is half."""
    return float(((gain > 0) + 0.5 * (gain == 0)).mean())


def _told(
    protocol: str,
    metric: str,
    figure: Any,
    label: np.ndarray,
    group: np.ndarray,
    scores: Mapping[str, np.ndarray],
) -> list[Row]:
    found = estimates(label, group, scores, figure, draws=DRAWS)
    shared = {"data": "yeast_sgrp", "protocol": protocol}
    return [{**shared, "model": m, "metric": metric, **vars(e)} for m, e in found.items()]
