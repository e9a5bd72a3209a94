"""The scale of facts, learned from training rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from core.errors import ConfigError
from domains.genomics.fact import change_facts, site_facts

if TYPE_CHECKING:
    from domains.genomics.source import Reference

_APART = 64  # bases between alleles that are looked up apart
_LEAST = 1e-6  # spread of a fact that says nothing


def facts_at(reference: Reference, contig: str, pos: pl.Series, alt: pl.Series) -> np.ndarray:
    """float32 [n, facts] of alleles, facts of a base first."""
    sheet, order = reference.facts(contig), np.argsort(pos.to_numpy(), kind="stable")
    at, becomes = pos.to_numpy()[order], alt.to_numpy()[order]
    told = []
    for rows in np.split(np.arange(len(at)), np.flatnonzero(np.diff(at) > _APART) + 1):
        start = int(at[rows[0]])
        site, change = sheet.window(start, int(at[rows[-1]]) + 1)
        here = at[rows] - start
        told.append(np.concatenate([site[here], change[here, becomes[rows]]], axis=1))
    return np.concatenate(told)[np.argsort(order)]


@dataclass(frozen=True)
class FactScale:
    """Mean and standard deviation of each fact over training rows, facts of a base first.

    Attributes:
        names: `site_facts`, then `change_facts`.
    """

    names: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]

    @property
    def sites(self) -> int:
        """How many are facts of a base."""
        return len(self.names) - len(change_facts())

    @staticmethod
    def fit(reference: Reference, rows: pl.DataFrame) -> FactScale:
        """Args: rows: training rows with chrom, pos (0-based), alt (codes)."""
        told = []
        for (name,), part in rows.group_by("chrom", maintain_order=True):
            told.append(facts_at(reference, str(name), part["pos"], part["alt"]))
        facts = np.concatenate(told).astype(np.float64)
        known = ~np.isnan(facts)
        count = np.maximum(known.sum(axis=0), 1)
        mean = np.where(known, facts, 0).sum(axis=0) / count
        spread = np.sqrt(np.where(known, (facts - mean) ** 2, 0).sum(axis=0) / count)
        scale = np.where(spread > _LEAST, spread, 1.0)
        names = (*site_facts(tuple(t.name for t in reference.tracks)), *change_facts())
        return FactScale(names, tuple(mean.tolist()), tuple(scale.tolist()))

    @staticmethod
    def from_dict(state: Mapping[str, Any], tracks: tuple[str, ...]) -> FactScale:
        """Raises ConfigError where the facts are not those this version tells."""
        names = (*site_facts(tracks), *change_facts())
        found = tuple(state["names"])
        if found != names:
            unknown = sorted(set(found) ^ set(names))
            raise ConfigError(
                f"tokenizer.json: the facts differ from this version's ({', '.join(unknown)}); "
                "retrain, or use the version of longstrand that wrote the bundle"
            )
        return FactScale(names, tuple(state["mean"]), tuple(state["scale"]))

    def to_dict(self) -> dict[str, Any]:
        return {"names": list(self.names), "mean": list(self.mean), "scale": list(self.scale)}
