"""Which alternative alleles can be scored, and in a word why the others cannot."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from domains.genomics.contig import UNKNOWN, encode
from domains.genomics.spelling import trimmed
from domains.genomics.vcf import Record

SCORED = "SCORED"
FLIPPED = "SCORED_FLIPPED"
REASONS = {
    "UNKNOWN_CONTIG": "CHROM is no contig of the FASTA and no other name of one",
    "OUT_OF_RANGE": "POS lies outside the contig",
    "REF_NOT_BASES": "REF is not made of nucleotide codes",
    "REF_MISMATCH": "REF differs from the FASTA",
    "NO_ALTERNATE": "ALT is missing",
    "SYMBOLIC": "ALT is symbolic or a breakend",
    "ANY_ALLELE": "ALT is <*> or <NON_REF>, any allele that was not seen",
    "OVERLAPPING_DELETION": "ALT is *",
    "NOT_SNV": "REF or ALT is not one base, without the bases that both have",
    "INDEL_TOO_LONG": "longer than domain.difference.longest, with all over which it can be moved",
    "INDEL_UNCALIBRATED": "scored, but without random ones to compare it with: LS_PERCENTILE is .",
    "N_REFERENCE": "the reference base is N or ambiguous",
    "AMBIGUOUS_ALT": "ALT is not A, C, G or T",
    "ALT_EQUALS_REF": "ALT is the reference base",
    "MALFORMED_RECORD": "fewer than 8 columns or POS is no number; the line is left as it is",
}
UNCALIBRATED = "INDEL_UNCALIBRATED"
# What an allele of several plain bases may be told, scored or not.
OF_SEVERAL = (SCORED, "NOT_SNV", "INDEL_TOO_LONG", UNCALIBRATED)
FLIPPED_MEANS = "REF and ALT change places: the number is of the FASTA's base becoming REF"
_NUCLEOTIDES = frozenset("ACGTUNRYSWKMBDHVacgtunryswkmbdhv")
_BRACKETS = frozenset("<>[]")
_UNSEEN = ("<*>", "<NON_REF>")
# Most alleles are one base, for which an array would take longer than all the rest.
_CODES = {base: int(encode(base)[0]) for base in _NUCLEOTIDES}

Policy = Literal["skip", "fail", "flip"]


class Verdict(NamedTuple):
    """SCORED, SCORED_FLIPPED or the reason against it.

    Attributes:
        base: code of the base that the FASTA's becomes, -1 without a score.
        site: 0-based place of that base; POS where REF and ALT do not come down to one base.
    """

    reason: str
    base: int
    site: int


def judge(record: Record, sequence: np.ndarray | None, flip: bool) -> list[Verdict]:
    """Of each alternative; one where there is none.

    Args:
        sequence: uint8 codes of the record's contig, None where the contig is unknown.
        flip: an alternative that is what the FASTA has where REF is not is read the other way
            round.
    """
    reason, site = judge_record(record, sequence), record.pos - 1
    if not record.alts:
        return [Verdict(reason or "NO_ALTERNATE", -1, site)]
    if reason == "REF_MISMATCH" and flip and sequence is not None:
        return [_flipped(record, alt, sequence) for alt in record.alts]
    if reason is not None or sequence is None:
        return [Verdict(reason or "UNKNOWN_CONTIG", -1, site)] * len(record.alts)
    return [judge_allele(record, alt, sequence) for alt in record.alts]


def judge_record(record: Record, sequence: np.ndarray | None) -> str | None:
    """Why no allele of the record can be scored as it stands, or None."""
    if sequence is None:
        return "UNKNOWN_CONTIG"
    start, ref = record.pos - 1, record.ref
    if not ref or not _NUCLEOTIDES.issuperset(ref):
        return "REF_NOT_BASES"
    if start < 0 or start + len(ref) > len(sequence):
        return "OUT_OF_RANGE"
    if len(ref) == 1:
        pair = _CODES[ref], int(sequence[start])
        return "REF_MISMATCH" if pair[0] != pair[1] and UNKNOWN not in pair else None
    given, found = encode(ref), sequence[start : start + len(ref)]
    # N on either side contradicts nothing (VCF 4.3 section 1.6.1.4 maps ambiguity codes).
    if ((given != found) & (given != UNKNOWN) & (found != UNKNOWN)).any():
        return "REF_MISMATCH"
    return None


def judge_allele(record: Record, alt: str, sequence: np.ndarray) -> Verdict:
    """Of an alternative of a record that is sound."""
    reason = _no_bases(alt)
    if reason is not None:
        return Verdict(reason, -1, record.pos - 1)
    site, ref, new = trimmed(record.pos - 1, record.ref, alt)
    if len(ref) != 1 or len(new) != 1:
        return Verdict("NOT_SNV", -1, record.pos - 1)
    found, base = int(sequence[site]), _CODES.get(new, UNKNOWN)
    if found == UNKNOWN or _CODES[ref] == UNKNOWN:
        return Verdict("N_REFERENCE", -1, site)
    if base == UNKNOWN:
        return Verdict("AMBIGUOUS_ALT", -1, site)
    return Verdict("ALT_EQUALS_REF", -1, site) if base == found else Verdict(SCORED, base, site)


def _no_bases(alt: str) -> str | None:
    """What an alternative is that stands for something else than its bases."""
    if alt == "*":
        return "OVERLAPPING_DELETION"
    if alt in _UNSEEN:
        return "ANY_ALLELE"
    return "SYMBOLIC" if not _BRACKETS.isdisjoint(alt) else None


def _flipped(record: Record, alt: str, sequence: np.ndarray) -> Verdict:
    start = record.pos - 1
    site, ref, new = trimmed(start, record.ref, alt)
    agrees = np.array_equal(encode(alt), sequence[start : start + len(alt)])
    if not (agrees and len(ref) == len(new) == 1) or _CODES.get(new, UNKNOWN) == UNKNOWN:
        return Verdict("REF_MISMATCH", -1, start)
    return Verdict(FLIPPED, _CODES[ref], site)
