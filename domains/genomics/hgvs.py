"""Names of single-base substitutions on a transcript and of the change in its protein (HGVS).

Recommendations: den Dunnen et al. 2016, hgvs-nomenclature.org. `c.` counts exonic bases from the
start codon: c.-12 lies before it, c.*34 after the stop codon, c.88+4 in an intron after base 88;
a transcript without coding sequence has `n.`.
"""

from __future__ import annotations

import re

from Bio.SeqUtils import seq3

from domains.genomics.transcript import Transcript

_COMPLEMENT = str.maketrans("ACGT", "TGCA")
_CHANGE = re.compile(r"([0-9]+)([A-Z*])>\1([A-Z*])")
_SAME = re.compile(r"([0-9]+)([A-Z*])")


def coding_name(transcript: Transcript, pos: int, ref: str, alt: str) -> str:
    """`c.` (or `n.`) name of a substitution, empty for other alleles and outside the transcript.

    Args:
        pos: 0-based, inside a contig whose plus strand ref and alt are of.
    """
    place = _place(transcript, pos)
    if len(ref) != 1 or len(alt) != 1 or place is None:
        return ""
    if transcript.strand < 0:
        ref, alt = ref.translate(_COMPLEMENT), alt.translate(_COMPLEMENT)
    exonic, offset = place
    beyond = f"{offset:+d}" if offset else ""
    if not transcript.cds:
        return f"n.{exonic + 1}{beyond}{ref}>{alt}"
    first, last = transcript.cds[0], transcript.cds[-1]
    start = _exonic(transcript, first[0] if transcript.strand > 0 else first[1] - 1)
    stop = _exonic(transcript, last[1] - 1 if transcript.strand > 0 else last[0])
    if exonic < start:
        number = f"-{start - exonic}"
    elif exonic > stop:
        number = f"*{exonic - stop}"
    else:
        number = str(exonic - start + 1)
    return f"c.{number}{beyond}{ref}>{alt}"


def protein_name(change: str) -> str:
    """`1777R>1777H` of bcftools csq -> `p.Arg1777His`; empty for what is no substitution."""
    same, other = _SAME.fullmatch(change), _CHANGE.fullmatch(change)
    if same:
        return f"p.{_three(same[2])}{same[1]}="
    if not other:
        return ""
    number, old, new = other[1], other[2], other[3]
    if number == "1" and old == "M":
        return "p.Met1?"
    if old == "*":
        return f"p.Ter{number}{_three(new)}extTer?"
    return f"p.{_three(old)}{number}{_three(new)}"


def _three(letter: str) -> str:
    return "Ter" if letter == "*" else seq3(letter)


def _exonic(transcript: Transcript, pos: int) -> int:
    """How many exonic bases of the transcript lie before the base at `pos`, 5' to 3'."""
    if transcript.strand > 0:
        return sum(min(b, pos) - a for a, b in transcript.exons if a < pos)
    return sum(b - max(a, pos + 1) for a, b in transcript.exons if b > pos + 1)


def _place(transcript: Transcript, pos: int) -> tuple[int, int] | None:
    """(exonic index, 0 or signed distance into the intron) of a position, None outside."""
    exons = transcript.exons
    if not exons[0][0] <= pos < exons[-1][1]:
        return None
    for (a, b), following in zip(exons, [*exons[1:], (pos + 1, 0)], strict=True):
        if a <= pos < b:
            return _exonic(transcript, pos), 0
        if b <= pos < following[0]:
            left, right = pos - (b - 1), following[0] - pos
            # In the middle of an intron the 5' exon is the nearer one.
            near_left = left <= right if transcript.strand > 0 else left < right
            anchor = b - 1 if near_left else following[0]
            distance = left if near_left else -right
            return _exonic(transcript, anchor), distance * transcript.strand
    return None
