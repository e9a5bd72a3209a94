"""Transcripts from their parts, as the lines of GFF3 and GTF tell them.

A transcript or gene may have several coding sequences (ORF1ab and ORF1a of SARS-CoV-2 are of one
gene): the lines of one have the same ID in GFF3 and the same protein_id in GTF. Each is a
transcript of its own then.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from core.errors import DataContractError
from domains.genomics.transcript import SHORTEST_INTRON, Span, Transcript, merged

log = logging.getLogger(__name__)


class Owner(NamedTuple):
    """What a line belongs to: a transcript (or gene). NCBI's GTF calls transcripts of several genes
    `unknown_transcript_1`, so there the gene counts too."""

    name: str
    gene: str


class Told(NamedTuple):
    """What a line's last column says: `own` is the same for all lines of one coding sequence."""

    owners: tuple[Owner, ...]
    own: str
    trans_spliced: bool


@dataclass(frozen=True)
class Feature:
    """An exon, part of a CDS or (in GTF) of a stop codon; start and end 0-based half-open."""

    kind: str
    contig: str
    start: int
    end: int
    strand: int
    phase: str
    told: Told

    @property
    def span(self) -> Span:
        return self.start, self.end


def assemble(path: Path, features: Iterator[Feature], genes: dict[Owner, str]) -> list[Transcript]:
    """Transcripts in the order of the file; trans-spliced ones are left out, with a warning.

    Args:
        genes: name of the gene of a transcript.

    Raises:
        DataContractError: phases that do not add up.
    """
    parts: dict[tuple[Owner, str], dict[str, list[Feature]]] = {}
    for feature in features:
        for owner in feature.told.owners:
            kinds = parts.setdefault((owner, feature.contig), {})
            kinds.setdefault(feature.kind, []).append(feature)
    found = []
    for (owner, _), kinds in parts.items():
        codings = _codings(kinds.get("CDS", []), kinds.get("exon", []))
        for cds in codings or [[]]:
            name = cds[0].told.own if len(codings) > 1 else owner.name
            if any(f.told.trans_spliced or f.strand != cds[0].strand for f in cds):
                log.warning(
                    "%s: transcript %s is trans-spliced (told so, or coding on both strands), "
                    "which is not read; it is left out, as if there were no gene",
                    path,
                    name,
                )
                continue
            found += _transcripts(path, name, genes.get(owner, ""), cds, kinds)
    return found


def _codings(cds: list[Feature], exons: list[Feature]) -> list[list[Feature]]:
    """The lines of each coding sequence of a transcript or gene."""
    by_own: dict[str, list[Feature]] = {}
    for feature in cds:
        by_own.setdefault(feature.told.own, []).append(feature)
    if len(by_own) < 2 or "" in by_own:
        return [cds] if cds else []
    alone = all(len(lines) == 1 for lines in by_own.values())
    # Some programs number the lines of one coding sequence, against the rules of GFF3.
    return [cds] if alone and _spliced(cds, exons) else list(by_own.values())


def _spliced(cds: list[Feature], exons: list[Feature]) -> bool:
    """Whether lines of different names can be one coding sequence: on one strand, apart, and with
    no exon over what lies between two."""
    spans = sorted(f.span for f in cds)
    gaps = [(a[1], b[0]) for a, b in pairwise(spans)]
    introns = [(a, b) for a, b in gaps if b - a >= SHORTEST_INTRON]
    within = any(e.start <= a and b <= e.end for a, b in introns for e in exons)
    one_strand = len({f.strand for f in cds}) == 1
    return one_strand and not within and all(a <= b for a, b in gaps)


def _transcripts(
    path: Path, name: str, gene: str, cds: list[Feature], kinds: dict[str, list[Feature]]
) -> list[Transcript]:
    """One of the strand of `cds`; of a transcript without, one for each strand of its exons."""
    exons = kinds.get("exon", [])
    found = []
    for strand in [cds[0].strand] if cds else dict.fromkeys(f.strand for f in exons):
        ordered = sorted(cds, key=lambda f: f.start)[::strand]
        stops = [f for f in kinds.get("stop_codon", []) if _of_coding(f, cds)]
        spans = _with_stop([f.span for f in ordered], [f.span for f in stops], strand)
        first = ordered[0].phase if ordered else "."
        frame = int(first) if first in ("0", "1", "2") else 0
        _check_phases(path, name, ordered, frame)
        around = sorted(f.span for f in exons if f.strand == strand) or merged(spans)
        contig = (cds or exons)[0].contig
        found.append(Transcript(name, contig, strand, around, spans, frame, gene))
    return found


def _of_coding(stop: Feature, cds: list[Feature]) -> bool:
    return bool(cds) and stop.strand == cds[0].strand and stop.told.own in ("", cds[0].told.own)


def _with_stop(cds: list[Span], stops: list[Span], strand: int) -> list[Span]:
    """`cds`, in the order of translation, and the bases of the stop codon that it lacks. Its own
    parts are not joined: in ribosomal slippage they overlap, and a base is read twice."""
    out = list(cds)
    for start, end in sorted(stops)[::strand]:
        low, high = out[-1]
        if low <= start and end <= high:
            continue
        beside = start <= high and low <= end
        out[-1:] = [(min(low, start), max(high, end))] if beside else [out[-1], (start, end)]
    return out


def _check_phases(path: Path, name: str, cds: list[Feature], frame: int) -> None:
    """`cds` in the order of translation; a phase of `.` says nothing and is let pass."""
    done = 0
    for part in cds:
        expected = str((frame - done) % 3)
        if part.phase not in (expected, "."):
            raise DataContractError(
                f"{path}: transcript {name}, CDS {part.start + 1}-{part.end}: found phase "
                f"{part.phase}, expected {expected} after the {done} coding bases before it; "
                "correct the phases, or leave the transcript out"
            )
        done += part.end - part.start
