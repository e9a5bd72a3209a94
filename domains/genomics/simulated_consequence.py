"""What a substitution does to the gene in the simulator's world, where each term has its effect.

Rules of our own over codon sites and splice channels, so that the truth of a simulation rests on
no other program. Real consequences come from `domains.genomics.consequence`.
"""

from __future__ import annotations

import numpy as np

from domains.genomics.channel import CHANNELS, UNIT, splice_level
from domains.genomics.codon import AMINO_ACIDS, NO_AMINO_ACID, amino_acid_tables
from domains.genomics.source import Reference

TERMS = (
    "intergenic_variant",
    "intron_variant",
    "synonymous_variant",
    "missense_variant",
    "stop_lost",
    "start_lost",
    "splice_site_variant",
    "stop_gained",
)
SPLICE_BASES = 2


def simulated_consequence(
    reference: Reference, contig: str, positions: np.ndarray, alts: np.ndarray
) -> np.ndarray:
    """int64 [n] index into TERMS, the gravest one where several hold.

    Args:
        positions: int64 [n], 0-based.
        alts: int64 [n] codes of the alternative bases.
    """
    before, after = amino_acid_tables()
    site = reference.sites(contig)[positions]
    channels = reference.channels(contig)[positions]
    old, new = before[site].astype(int), after[site, alts].astype(int)
    coding = old != NO_AMINO_ACID
    stop = AMINO_ACIDS.index("*")
    column = {name: channels[:, i] for i, name in enumerate(CHANNELS)}
    near = np.rint(UNIT * splice_level(np.array(SPLICE_BASES - 1)))
    splice = np.zeros(len(positions), dtype=bool)
    for name in ("plus_donor", "plus_acceptor", "minus_donor", "minus_acceptor"):
        splice |= column[name] >= near
    start = (column["plus_start"] > 0) | (column["minus_start"] > 0)
    intron = (column["plus_intron"] > 0) | (column["minus_intron"] > 0)
    found = np.zeros(len(positions), dtype=np.int64)
    # Later lines override earlier ones: the order is that of gravity.
    for term, holds in (
        ("intron_variant", intron),
        ("synonymous_variant", coding & (old == new)),
        ("missense_variant", coding & (old != new)),
        ("stop_lost", coding & (old == stop) & (new != stop)),
        ("start_lost", coding & start & (old != new)),
        ("splice_site_variant", splice),
        ("stop_gained", coding & (old != stop) & (new == stop)),
    ):
        found[holds] = TERMS.index(term)
    return found
