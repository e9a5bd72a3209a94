"""Saturation mutagenesis in reporter assays (Kircher et al. 2019, doi:10.1038/s41467-019-11526-w):
21 elements, one experiment an element, substitutions and deletions of a base."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

from core.errors import ConfigError
from domains.genomics.contig import encode
from domains.genomics.event import event_of, letters_of

# Several experiments of one element: the first is taken.
LEFT_OUT = (
    "LDLR.2",
    "PKLR-48h",
    "SORT1-flip",
    "SORT1.2",
    "TERT-GAa",
    "TERT-GSc",
    "TERT-HEK",
    "ZRSh-13h2",
)
TAGS = 10
SUBSTITUTION, DELETION = "substitution", "deletion"
_EVENT = ("chrom", "start", "end", "inserted", "pos", "ref", "alt", "kind")


def read(where: Path) -> tuple[pl.DataFrame, dict[str, np.ndarray]]:
    """One row an event, and sequences (codes) by element.

    Returns:
        chrom (the element), start, end (0-based; bases that become `inserted`, of a deletion in a
        run of one base the whole run), pos (0-based), ref, alt (letters, the spelling furthest to
        the left), kind, and as of `events`; in order of the file.

    Raises:
        ConfigError: the data is not held there.
    """
    import pysam

    if not where.is_dir():
        raise ConfigError(
            f"data: found no reporter assays at {where}; set LONGSTRAND_DATA to the folder that "
            "holds genomics/mpra_satmut (docs/data.md)"
        )
    with pysam.FastxFile(str(where / "elements_hg38.fa")) as contigs:
        sequences = {str(c.name): encode(c.sequence or "") for c in contigs}
    rows = []
    with pysam.VariantFile(str(where / "satmut.elements.vcf.gz")) as records:
        for record in records:
            info, alts = record.info, record.alts or ()
            for alt in alts if info["EXP"] not in LEFT_OUT else ():
                told = _spelled(sequences, record.chrom, record.pos - 1, record.ref or "", alt)
                rows.append((*told, info["COEF"], info["TAGS"]))
    alleles = pl.DataFrame(rows, schema=[*_EVENT, "coef", "tags"], orient="row")
    # A deletion behind the one N has no base to hold on to: training takes none such.
    known = ~pl.col("ref").str.contains("N")
    return events(alleles.filter(pl.col("tags") >= TAGS, known)), sequences


def _spelled(
    sequences: Mapping[str, np.ndarray], chrom: str, pos: int, ref: str, alt: str
) -> tuple[str | int, ...]:
    """Columns `_EVENT` of an allele."""
    sequence = sequences[chrom]
    event = event_of(chrom, sequence, pos, encode(ref), encode(alt))
    kind = SUBSTITUTION if event.substitution else DELETION
    place = (chrom, event.start, event.end, letters_of(event.alt))
    return (*place, *event.spelled(sequence), kind)


def events(alleles: pl.DataFrame) -> pl.DataFrame:
    """Spellings of one deletion are one event: their `coef` is averaged by `tags`, which add up.

    Returns:
        the event's columns; coef; tags; spellings, how many alleles it was measured as; and label,
        coef in shares of the standard deviation of its element's substitutions.
    """
    coef, tags = pl.col("coef"), pl.col("tags")
    mean = pl.when(pl.len() == 1).then(coef.first()).otherwise((coef * tags).sum() / tags.sum())
    frame = alleles.group_by(_EVENT, maintain_order=True).agg(
        mean.alias("coef"), tags.sum(), pl.len().alias("spellings")
    )
    spread = coef.filter(pl.col("kind") == SUBSTITUTION).std().over("chrom")
    return frame.with_columns(label=coef / spread)
