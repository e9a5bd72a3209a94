"""Labelled alleles that are no single-base substitutions, as events."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import polars as pl

from domains.genomics.contig import BASES, Genome, encode
from domains.genomics.event import Event, event_of, letters_of
from domains.genomics.spelling import trimmed
from domains.genomics.vcf import Record
from domains.genomics.verdict import judge_record

if TYPE_CHECKING:
    from domains.genomics.source import Reference

_PLAIN = re.compile("[ACGTacgt]+")
_COLUMNS = {
    "pos": pl.Int64,
    "ref": pl.String,
    "alt": pl.String,
    "end": pl.Int64,
    "inserted": pl.String,
}


def with_events(frame: pl.DataFrame, genome: Genome, longest: int) -> pl.DataFrame:
    """Adds end and inserted (letters): null but for alleles of several plain bases that agree with
    the FASTA and whose event has at most `longest` bases. Of these pos becomes the event's start,
    ref and alt its shortest spelling. A substitution of a single base that is written with bases
    around it loses these, whatever `longest` is.

    Args:
        frame: chrom (FASTA name or null), pos (0-based), ref, alt.
    """
    told = []
    for chrom, pos, ref, alt in frame.select("chrom", "pos", "ref", "alt").iter_rows():
        if _sound(genome, chrom, pos, ref, alt):
            site, one, other = trimmed(pos, ref, alt)
            if len(one) == len(other) == 1:
                told.append((site, one, other, None, None))
                continue
        event = _event(genome, chrom, pos, ref, alt)
        if event is None or event.length > longest:
            told.append((pos, ref, alt, None, None))
            continue
        _, ref, alt = event.spelled(genome.contigs[chrom])
        told.append((event.start, ref, alt, event.end, letters_of(event.alt)))
    return frame.with_columns(pl.DataFrame(told, schema=_COLUMNS, orient="row"))


def _sound(
    genome: Genome, chrom: str | None, pos: int | None, ref: str | None, alt: str | None
) -> bool:
    """Whether an allele of several bases has them as the FASTA has."""
    if chrom is None or pos is None or ref is None or alt is None or len(ref) == len(alt) == 1:
        return False
    record = Record(chrom, pos + 1, ref, (alt,))
    return alt.isalpha() and judge_record(record, genome.contigs[chrom]) is None


def _event(
    genome: Genome, chrom: str | None, pos: int | None, ref: str | None, alt: str | None
) -> Event | None:
    """Of an allele of several plain bases at its place in the FASTA; None of any other."""
    if chrom is None or pos is None or ref is None or alt is None or len(ref) == len(alt) == 1:
        return None
    if not (_PLAIN.fullmatch(ref) and _PLAIN.fullmatch(alt)) or ref.upper() == alt.upper():
        return None
    sequence = genome.contigs[chrom]
    found = sequence[pos : pos + len(ref)] if pos >= 0 else sequence[:0]
    if len(found) < len(ref) or (found != encode(ref)).any():
        return None
    return event_of(chrom, sequence, pos, encode(ref), encode(alt))


def events_of(reference: Reference, rows: pl.DataFrame) -> Sequence[Event]:
    """Events of labelled rows: chrom, pos, alt (code) and, where some are no single-base
    substitutions, end and inserted."""
    if "inserted" not in rows.columns:
        nothing = pl.lit(None, pl.Int64), pl.lit(None, pl.String)
        rows = rows.with_columns(nothing[0].alias("end"), nothing[1].alias("inserted"))
    out = []
    columns = ("chrom", "pos", "alt", "end", "inserted")
    for contig, start, alt, end, inserted in rows.select(columns).iter_rows():
        end, inserted = (start + 1, BASES[alt]) if inserted is None else (end, inserted)
        sequence = reference.sequence(contig)
        out.append(event_of(contig, sequence, start, sequence[start:end], encode(inserted)))
    return out


def spelled(reference: Reference, rows: pl.DataFrame) -> pl.DataFrame:
    """pos (0-based), ref and alt (letters) of labelled rows, in order: of each its shortest
    spelling, furthest to the left."""
    told = [e.spelled(reference.sequence(e.contig)) for e in events_of(reference, rows)]
    return pl.DataFrame(told, schema={n: _COLUMNS[n] for n in ("pos", "ref", "alt")}, orient="row")
