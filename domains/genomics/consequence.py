"""What an allele does to the genes it touches: Sequence Ontology terms, gravest first.

The calls are bcftools csq's (`domains.genomics.csq`); the order of gravity is Ensembl's.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise

import polars as pl

from domains.genomics.contig import BASES, UNKNOWN, encode
from domains.genomics.csq import ConsequenceCaller, numbered
from domains.genomics.event import event_of
from domains.genomics.hgvs import coding_name, protein_name
from domains.genomics.labelled_event import spelled
from domains.genomics.source import Reference
from domains.genomics.transcript import SHORTEST_INTRON, Transcript
from domains.genomics.verdict import OF_SEVERAL

# csq's name -> (Sequence Ontology term, gravity for the floor); gravest first.
_TERMS = {
    "splice_acceptor": ("splice_acceptor_variant", 5),
    "splice_donor": ("splice_donor_variant", 5),
    "stop_gained": ("stop_gained", 6),
    "frameshift": ("frameshift_variant", 6),
    "stop_lost": ("stop_lost", 4),
    "start_lost": ("start_lost", 5),
    "inframe_insertion": ("inframe_insertion", 3),
    "inframe_deletion": ("inframe_deletion", 3),
    "inframe_altering": ("protein_altering_variant", 3),
    "missense": ("missense_variant", 3),
    "splice_region": ("splice_region_variant", 2),
    "start_retained": ("start_retained_variant", 1),
    "stop_retained": ("stop_retained_variant", 1),
    "synonymous": ("synonymous_variant", 1),
    "coding_sequence": ("coding_sequence_variant", 1),
    "feature_elongation": ("feature_elongation", 1),
    "5_prime_utr": ("5_prime_UTR_variant", 1),
    "3_prime_utr": ("3_prime_UTR_variant", 1),
    "non_coding": ("non_coding_transcript_exon_variant", 0),
    "intron": ("intron_variant", 0),
    "intergenic": ("intergenic_variant", 0),
}
INTERGENIC = "intergenic_variant"
_ORDER = {name: i for i, name in enumerate(_TERMS)}
_RANK = {term: rank for term, rank in _TERMS.values()}
# bcftools csq calls a splice region up to this far from an intron's end.
_SPLICE_REGION = 8


@dataclass(frozen=True)
class _Call:
    """One transcript's part of a consequence; terms in csq's words."""

    terms: tuple[str, ...]
    transcript: Transcript
    amino_acids: str


def consequences(caller: ConsequenceCaller, alleles: pl.DataFrame) -> pl.DataFrame:
    """What each allele does.

    Args:
        alleles: as `ConsequenceCaller.call` takes them.

    Returns:
        key, consequence (the gravest term over all transcripts), csq: for each transcript
        `term&term|gene|transcript|c.|p.`, gravest first, joined by `/`; ordered as `alleles`.
        Both are null on contigs that the annotation does not mention.
    """
    calls = caller.call(alleles)
    transcripts = numbered(caller.reference)
    columns = alleles.select("key", "contig", "pos", "ref", "alt")
    unread = _unread(transcripts, set(alleles["contig"]))
    gravest: list[str | None] = []
    told: list[str | None] = []
    for key, contig, pos, ref, alt in columns.iter_rows():
        if contig not in caller.reference.annotated:
            gravest.append(None)
            told.append(None)
            continue
        substituted = len(ref) == len(alt) == 1
        beyond = unread.get((contig, pos), []) if substituted else []
        found = _calls(calls.get(key, ()), transcripts, pos, len(ref), beyond)
        gravest.append(_TERMS[found[0].terms[0]][0] if found else INTERGENIC)
        told.append("/".join(_text(c, pos, ref, alt) for c in found) or f"{INTERGENIC}||||")
    return alleles.select(
        "key",
        pl.Series("consequence", gravest, dtype=pl.String),
        pl.Series("csq", told, dtype=pl.String),
    )


def labelled_alleles(reference: Reference, rows: pl.DataFrame) -> pl.DataFrame:
    """Alleles for `consequences` from labelled variants, in their shortest spelling."""
    keys = rows.select(pl.col("row").alias("key"), pl.col("chrom").alias("contig"))
    return pl.concat([keys, spelled(reference, rows)], how="horizontal")


def plain_alleles(reference: Reference, alleles: pl.DataFrame) -> pl.DataFrame:
    """Alleles for `consequences` from judged ones (`VariantFile.alleles`, with key): those that
    are scored, read as they are scored, and those that are plain bases but no substitution, in
    their shortest spelling."""
    scored = alleles.filter(pl.col("base") >= 0)
    sequences = {name: reference.sequence(name) for name in scored["contig"].unique()}
    places = scored.select("contig", "site").iter_rows()
    substituted = scored.select(
        "key",
        "contig",
        pl.col("site").alias("pos"),
        pl.Series("ref", [BASES[sequences[c][p]] for c, p in places], dtype=pl.String),
        pl.col("base").replace_strict(dict(enumerate(BASES)), return_dtype=pl.String).alias("alt"),
    )
    upper = pl.col("ref", "alt").str.to_uppercase()
    others = (
        alleles.filter(pl.col("base") < 0, pl.col("reason").is_in(OF_SEVERAL))
        .select("key", "contig", "pos", upper)
        .filter(
            pl.col("ref").str.contains("^[ACGT]+$"),
            pl.col("alt").str.contains("^[ACGT]+$"),
            pl.col("ref") != pl.col("alt"),
        )
    )
    known = [
        bool((reference.sequence(c)[p : p + len(r)] != UNKNOWN).all())
        for c, p, r in others.select("contig", "pos", "ref").iter_rows()
    ]
    others = others.filter(pl.Series(known, dtype=pl.Boolean))
    return pl.concat([substituted, _shortest(reference, others)]).sort("key")


def _shortest(reference: Reference, alleles: pl.DataFrame) -> pl.DataFrame:
    """Key, contig, pos, ref and alt of alleles that are no substitution of a base, whichever of
    its spellings is given: what csq says may differ between two (a stop may be missed)."""
    told = []
    for key, contig, pos, ref, alt in alleles.iter_rows():
        sequence = reference.sequence(contig)
        event = event_of(contig, sequence, pos, encode(ref), encode(alt))
        spelling = event.spelled(sequence)
        # Beside an unknown base the shortest one would begin with it, which csq cannot read.
        known = BASES[UNKNOWN] not in spelling[1]
        told.append((key, contig, *(spelling if known else (pos, ref, alt))))
    return pl.DataFrame(told, schema=alleles.schema, orient="row")


def rank_of(terms: pl.Series) -> pl.Series:
    """float64 gravity of terms: intron 0, synonymous 1, missense 3, stop gained 6; null of null."""
    return terms.replace_strict(_RANK, return_dtype=pl.Float64)


def _unread(transcripts: list[Transcript], contigs: set[str]) -> dict[tuple[str, int], list[int]]:
    """Contig and position -> numbers of the transcripts that have it in a codon cut short."""
    found: defaultdict[tuple[str, int], list[int]] = defaultdict(list)
    for number, transcript in enumerate(transcripts):
        if transcript.contig in contigs:
            for position in transcript.unread():
                found[transcript.contig, position].append(number)
    return found


def _calls(
    entries: list[str] | tuple[str, ...],
    transcripts: list[Transcript],
    pos: int,
    length: int,
    unread: list[int],
) -> list[_Call]:
    """`unread`: transcripts that have the changed base in a codon cut short, of which csq speaks as
    of an intron or not at all."""
    found: dict[int, _Call] = {}
    for entry in entries:
        cells = [*entry.split("|"), "", "", ""]
        number, amino_acids = int(cells[1]), cells[5]
        terms = [t.lstrip("*") for t in cells[0].split("&")]
        if not _at_intron(transcripts[number], pos, length):
            terms = [t for t in terms if not t.startswith("splice_")]
        if not terms:
            continue
        if number in found:
            terms += found[number].terms
            amino_acids = found[number].amino_acids or amino_acids
        ordered = tuple(sorted(set(terms), key=_ORDER.__getitem__))
        found[number] = _Call(ordered, transcripts[number], amino_acids)
    for number in unread:
        terms = [t for t in found[number].terms if t != "intron"] if number in found else []
        ordered = tuple(sorted({*terms, "coding_sequence"}, key=_ORDER.__getitem__))
        found[number] = _Call(ordered, transcripts[number], "")
    return sorted(found.values(), key=lambda c: _ORDER[c.terms[0]])


def _at_intron(t: Transcript, pos: int, length: int) -> bool:
    """Whether csq may speak of splicing. It takes a ribosomal slippage (two parts of a CDS that
    overlap) for an intron; where a transcript has one, only real introns count."""
    parts = sorted(t.cds)
    if all(b[0] - a[1] >= SHORTEST_INTRON for a, b in pairwise(parts)):
        return True
    borders = [border for intron in t.introns() for border in intron]
    return any(pos < b + _SPLICE_REGION and pos + length > b - _SPLICE_REGION for b in borders)


def _text(call: _Call, pos: int, ref: str, alt: str) -> str:
    t = call.transcript
    terms = "&".join(_TERMS[name][0] for name in call.terms)
    gene = t.gene or t.name
    # The first amino acid is Met whatever start codon it is read from (GTG in bacteria).
    start = "start_lost" in call.terms and call.amino_acids
    protein = "p.Met1?" if start else protein_name(call.amino_acids)
    cells = (terms, gene, t.name, coding_name(t, pos, ref, alt), protein)
    return "|".join(_escaped(cell) for cell in cells)


def _escaped(text: str) -> str:
    """Without what separates transcripts and their parts; a writer codes what INFO cannot hold."""
    plain = text.removeprefix("transcript:").removeprefix("gene:")
    return "".join(f"%{ord(c):02X}" if c in "%|/" else c for c in plain)
