"""Alleles to score that are no single-base substitutions: the event, or why it has no score."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl

from domains.genomics.contig import UNKNOWN, encode
from domains.genomics.event import Event, event_of, letters_of
from domains.genomics.source import Reference
from domains.genomics.verdict import SCORED


class Judged(NamedTuple):
    """One allele: SCORED or the reason against it.

    Attributes:
        base: code of the base that the FASTA's becomes, -1 where there is no score or an event.
        site: 0-based place of `base`, or start of the event.
        end, inserted: the rest of the event (letters), None of a single-base substitution.
    """

    reason: str
    base: int
    site: int
    end: int | None = None
    inserted: str | None = None


def judge_event(
    contig: str, sequence: np.ndarray, pos: int, ref: str, alt: str, longest: int
) -> Judged:
    """Of an allele whose REF agrees with the FASTA; `pos` is 0-based.

    Args:
        longest: bases of an event above which it is not scored.
    """
    found, given, new = sequence[pos : pos + len(ref)], encode(ref), encode(alt)
    if UNKNOWN in found or UNKNOWN in given:
        return Judged("N_REFERENCE", -1, pos)
    if UNKNOWN in new or not len(new):
        return Judged("AMBIGUOUS_ALT", -1, pos)
    if np.array_equal(found, new):
        return Judged("ALT_EQUALS_REF", -1, pos)
    event = event_of(contig, sequence, pos, found, new)
    if event.substitution:
        return Judged(SCORED, int(event.alt[0]), event.start)
    if event.length > longest:
        return Judged("INDEL_TOO_LONG", -1, pos)
    return Judged(SCORED, -1, event.start, event.end, letters_of(event.alt))


def judged_events(reference: Reference, alleles: pl.DataFrame) -> list[Event]:
    """The events of `VariantFile.alleles` that have one, in order."""
    out = []
    columns = ("contig", "site", "end", "inserted")
    chosen = alleles.filter(pl.col("inserted").is_not_null())
    for contig, start, end, inserted in chosen.select(columns).iter_rows():
        sequence = reference.sequence(contig)
        out.append(event_of(contig, sequence, start, sequence[start:end], encode(inserted)))
    return out
