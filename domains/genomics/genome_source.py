"""A genome to learn from as it is: stretches of its contigs are the rows."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from core.errors import ConfigError
from domains.genomics.allele import SET_ASIDE
from domains.genomics.config import GenomicsConfig
from domains.genomics.contig import UNKNOWN
from domains.genomics.homology import KnownSequence
from domains.genomics.source import Reference, open_reference
from domains.genomics.split import with_groups
from domains.genomics.stretch import Chosen, runs_of

STRETCH = 4096


class GenomeSource:
    """Stretches of a genome.

    Attributes:
        reference: sequence; the gene channels of what comes from it are not read.
        stretches: row, chrom, pos (first base, 0-based), end, known (bases that are no N), group,
            outer (0 is held out), ordered by row.

    Raises:
        ConfigError: labels or a split that this task has no use for, or an unknown contig.
    """

    def __init__(self, config: GenomicsConfig) -> None:
        data, masked = config.data, config.masked
        for name in ("annotation", "variants"):
            if getattr(data, name) is not None:
                raise ConfigError(
                    f"data.{name}: found {getattr(data, name)!r} with task=mlm, which reads the "
                    "sequence alone; leave it out"
                )
        if data.split.kind == "info":
            raise ConfigError(
                "data.split.kind: found info with task=mlm, expected contig, blocks or stretches"
            )
        self.config = config
        self.reference: Reference = open_reference(data)
        contigs = self.reference.genome.contigs
        self.test = {self._contig(name, "masked.test") for name in masked.test}
        left_out = {self._contig(name, "masked.leave_out") for name in masked.leave_out}
        size = STRETCH if data.split.kind == "contig" else data.split.block
        rows = [
            (name, start, min(start + size, len(bases)))
            for name, bases in contigs.items()
            if name not in left_out
            for start in range(0, len(bases), size)
        ]
        schema = {"chrom": pl.String, "pos": pl.Int64, "end": pl.Int64}
        frame = pl.DataFrame(rows, schema=schema, orient="row").with_row_index("row")
        known = [int((contigs[c][a:b] != UNKNOWN).sum()) for c, a, b in rows]
        frame = frame.with_columns(
            pl.col("row").cast(pl.Int64), pl.Series("known", known), group_field=pl.lit(None)
        )
        self.stretches = self._grouped(frame.filter(pl.col("known") > 0))

    def _contig(self, name: str, setting: str) -> str:
        found = self.reference.genome.resolve(name)
        if found is None:
            known = ", ".join(list(self.reference.genome.contigs)[:5])
            raise ConfigError(
                f"{setting}: found {name!r}, but {self.reference.genome.path} has no such contig; "
                f"it has {known}"
            )
        return found

    def _grouped(self, frame: pl.DataFrame) -> pl.DataFrame:
        grouped = with_groups(frame, self.config.data.split)
        if not self.test:
            return grouped
        held = pl.col("chrom").is_in(sorted(self.test))
        return grouped.with_columns(outer=pl.when(held).then(0).otherwise(1).cast(pl.Int64))

    def select(self, rows: pl.Series) -> pl.DataFrame:
        """`stretches` of these row ids, ordered by row."""
        return self.stretches.filter(pl.col("row").is_in(rows.implode()))

    def parts(self, judged: pl.DataFrame) -> dict[str, Chosen]:
        """Bases of these stretches that are judged on their own as well: `not_masked` (upper case)
        and, where all are held out, `not_shared` (not within sequence that the others have too)."""

        def not_shared(contig: str) -> np.ndarray:
            return ~self.known_sequence.covers(self.reference.sequence(contig))

        genome = self.reference.genome
        parts: dict[str, Chosen] = {"not_masked": lambda contig: ~genome.soft_masked(contig)}
        if (judged["outer"] == 0).all():
            parts["not_shared"] = not_shared
        return parts

    @cached_property
    def known_sequence(self) -> KnownSequence:
        """Of the stretches that are not held out."""
        learned = runs_of(self.stretches.filter(pl.col("outer") != 0))
        contigs = self.reference.genome.contigs
        return KnownSequence(contigs[run.contig][run.start : run.end] for run in learned)

    def fingerprint(self) -> str:
        """SHA-256 over the bytes of the FASTA and over how it is cut."""
        data = self.config.data
        digest = hashlib.sha256(Path(data.fasta or "").read_bytes())
        how = {"split": asdict(data.split), "masked": asdict(self.config.masked)}
        digest.update(json.dumps(how, sort_keys=True).encode())
        return digest.hexdigest()

    def rows(self) -> pl.LazyFrame:
        """Columns row, group, locus (contig:1-based position), label and weight: the number of
        known bases, each of which is one thing to foresee."""
        locus = pl.col("chrom") + ":" + (pl.col("pos") + 1).cast(pl.String)
        known = pl.col("known").cast(pl.Float64)
        return self.stretches.lazy().select(
            "row", "group", locus.alias("locus"), known.alias("label"), known.alias("weight")
        )

    def set_aside(self) -> pl.LazyFrame:
        """Nothing: stretches of N alone are no rows."""
        return pl.DataFrame(schema=SET_ASIDE).lazy()

    def fields(self, rows: pl.Series) -> pl.DataFrame:
        """Of these stretches: share of G and C among the known bases, and of N."""
        chosen = self.select(rows)
        contigs = self.reference.genome.contigs
        counts = np.array(
            [
                np.bincount(contigs[c][a:b], minlength=UNKNOWN + 1)
                for c, a, b in chosen.select("chrom", "pos", "end").iter_rows()
            ]
        ).reshape(-1, UNKNOWN + 1)
        known = np.maximum(counts[:, :UNKNOWN].sum(1), 1)
        return pl.DataFrame(
            {
                "gc": (counts[:, 1] + counts[:, 2]) / known,
                "unknown": counts[:, UNKNOWN] / np.maximum(counts.sum(1), 1),
            }
        )
