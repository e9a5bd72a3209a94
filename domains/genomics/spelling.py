"""An allele without the bases that REF and ALT share.

A record of several alternatives spells all of them over one REF (VCF 4.3 section 5.1), so that a
substitution of one base comes with bases that it leaves as they are.
"""

from __future__ import annotations


def trimmed(pos: int, ref: str, alt: str) -> tuple[int, str, str]:
    """Place, REF and ALT without the bases in common, first at the end and then at the start; one
    base stays on either side, so that an insertion or deletion keeps the base it holds on to.

    `pos` moves with the start, whatever it counts from. Case is ignored, U is T.

    Args:
        ref, alt: letters of nucleotides, as written.
    """
    if len(ref) == 1 or len(alt) == 1:
        return pos, ref, alt
    one, other = _plain(ref), _plain(alt)
    start, ends = 0, (len(ref), len(alt))
    while min(ends) > 1 and one[ends[0] - 1] == other[ends[1] - 1]:
        ends = ends[0] - 1, ends[1] - 1
    while start < min(ends) - 1 and one[start] == other[start]:
        start += 1
    return pos + start, ref[start : ends[0]], alt[start : ends[1]]


def _plain(letters: str) -> str:
    return letters.upper().replace("U", "T")
