"""Which alternative alleles can be scored, and in a word why the others cannot."""

from __future__ import annotations

from typing import Literal

import numpy as np

from domains.genomics.contig import UNKNOWN, encode
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
    "NOT_SNV": "REF or ALT is not one base",
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
_UNSEEN = ("<*>", "<NON_REF>")

Policy = Literal["skip", "fail", "flip"]


def judge(record: Record, sequence: np.ndarray | None, flip: bool) -> list[tuple[str, int]]:
    """SCORED, SCORED_FLIPPED or the reason against it of each alternative (one where there is
    none), with the code of the base that the FASTA's becomes (-1 without a score).

    Args:
        sequence: uint8 codes of the record's contig, None where the contig is unknown.
        flip: an alternative that is the FASTA's base where REF is not is read the other way
            round.
    """
    reason = judge_record(record, sequence)
    if not record.alts:
        return [(reason or "NO_ALTERNATE", -1)]
    if reason == "REF_MISMATCH" and flip and sequence is not None:
        return [_flipped(record, alt, int(sequence[record.pos - 1])) for alt in record.alts]
    if reason is not None or sequence is None:
        return [(reason or "UNKNOWN_CONTIG", -1)] * len(record.alts)
    found = int(sequence[record.pos - 1])
    return [judge_allele(record.ref, alt, found) for alt in record.alts]


def judge_record(record: Record, sequence: np.ndarray | None) -> str | None:
    """Why no allele of the record can be scored as it stands, or None."""
    if sequence is None:
        return "UNKNOWN_CONTIG"
    start, ref = record.pos - 1, record.ref
    if not ref or not _NUCLEOTIDES.issuperset(ref):
        return "REF_NOT_BASES"
    if start < 0 or start + len(ref) > len(sequence):
        return "OUT_OF_RANGE"
    given, found = encode(ref), sequence[start : start + len(ref)]
    # N on either side contradicts nothing (VCF 4.3 section 1.6.1.4 maps ambiguity codes).
    if ((given != found) & (given != UNKNOWN) & (found != UNKNOWN)).any():
        return "REF_MISMATCH"
    return None


def judge_allele(ref: str, alt: str, found: int) -> tuple[str, int]:
    """As `judge`, for an allele of a record that is sound.

    Args:
        found: code of the FASTA's base at POS.
    """
    if alt == "*":
        return "OVERLAPPING_DELETION", -1
    if alt in _UNSEEN:
        return "ANY_ALLELE", -1
    if any(c in alt for c in "<>[]"):
        return "SYMBOLIC", -1
    if len(ref) != 1 or len(alt) != 1:
        return "NOT_SNV", -1
    if found == UNKNOWN or encode(ref)[0] == UNKNOWN:
        return "N_REFERENCE", -1
    base = int(encode(alt)[0])
    if base == UNKNOWN:
        return "AMBIGUOUS_ALT", -1
    return ("ALT_EQUALS_REF", -1) if base == found else (SCORED, base)


def _flipped(record: Record, alt: str, found: int) -> tuple[str, int]:
    single = len(record.ref) == 1 and len(alt) == 1
    if single and found != UNKNOWN and int(encode(alt)[0]) == found:
        return FLIPPED, int(encode(record.ref)[0])
    return "REF_MISMATCH", -1
