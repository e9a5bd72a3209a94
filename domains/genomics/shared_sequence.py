"""Audit of folds: does the sequence of held-out alleles tell of labels that training saw?

No position may be on both sides. Sequence that is there twice (repeats, paralogous genes) may be,
and is told of, so that figures can be read without it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl

from core.contract import Fold
from core.errors import LongstrandError
from domains.genomics.homology import K, KnownSequence
from domains.genomics.source import LabelledSource

_PLACE = ("chrom", "pos")


def refuse_shared_positions(source: LabelledSource, fold: Fold) -> None:
    """Raises LongstrandError where a position is tested that the fold's model, its calibration
    included, has seen."""
    both = _seen(source, fold).join(source.select(fold.test), on=_PLACE, how="semi")
    if not both.is_empty():
        chrom, pos = both.sort("row").select(_PLACE).row(0)
        raise LongstrandError(
            f"fold {fold.name}: found {chrom}:{pos + 1} both held out and learned from, expected "
            "no such position: its figures would be too good"
        )


def shared_rows(source: LabelledSource, folds: Sequence[Fold]) -> pl.Series:
    """Row ids of held-out alleles whose position lies in a run of K bases that is there again, on
    either strand, within K - 1 bases of a position that their fold has seen.

    Positions nearer than K bases to each other share such a run by lying so near: with
    `data.split.purge` at K - 1 or more there are none.
    """
    found = [source.variants["row"].clear()]
    for fold in folds:
        known = KnownSequence(run for *_, run in _runs(source, _seen(source, fold)))
        test = source.select(fold.test)
        places = [test.select(_PLACE).clear()]
        for name, pos, run in _runs(source, test):
            hit = pos[known.covers(run)[pos - max(0, int(pos[0]) - K + 1)]]
            places.append(pl.DataFrame({"chrom": [name] * len(hit), "pos": hit}, places[0].schema))
        found.append(test.join(pl.concat(places), on=_PLACE, how="semi")["row"])
    return pl.concat(found).unique().sort()


def _seen(source: LabelledSource, fold: Fold) -> pl.DataFrame:
    return source.select(pl.concat([fold.learned, fold.validation]).unique())


def _runs(
    source: LabelledSource, rows: pl.DataFrame
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Contig, positions, and the bases from K - 1 before the first to K - 1 after the last of them,
    for each stretch in which such surroundings meet."""
    for (name,), part in rows.group_by("chrom", maintain_order=True):
        sequence = source.reference.sequence(str(name))
        pos = np.unique(part["pos"].to_numpy())
        for some in np.split(pos, np.flatnonzero(np.diff(pos) > 2 * K - 2) + 1):
            yield str(name), some, sequence[max(0, int(some[0]) - K + 1) : int(some[-1]) + K]
