"""Contig ranges of a file of variants: what one worker scores at a time."""

from __future__ import annotations

from collections.abc import Iterable


def cut_ranges(records: Iterable[bytes], most: int) -> list[int]:
    """Numbers of the records at which ranges begin, and of the end; one range at least.

    A range holds `most` records at most. It ends with its contig unless that would leave fewer
    than half as many: short contigs stay together. No index is needed, and none is believed.

    Args:
        records: VCF lines.
    """
    borders, contig, number = [0], b"", 0
    for line in records:
        here, held = line.partition(b"\t")[0], number - borders[-1]
        if held == most or (here != contig and 2 * held >= most):
            borders.append(number)
        contig, number = here, number + 1
    return [*borders, number]
