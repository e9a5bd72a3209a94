"""What a substitution does to the gene, as a Sequence Ontology term and its rank.

A small classifier over codon sites and splice channels, on which the floor `consequence_rank`
rests. Terms: SO:0001819 synonymous_variant, SO:0001583 missense_variant, SO:0001587 stop_gained,
SO:0001578 stop_lost, SO:0002012 start_lost, SO:0001629 splice_site_variant (two bases of the
intron at either end), SO:0001627 intron_variant, and intergenic_variant for all else.
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
_RANK = {
    "intergenic_variant": 0,
    "intron_variant": 0,
    "synonymous_variant": 0,
    "missense_variant": 1,
    "stop_lost": 2,
    "start_lost": 3,
    "splice_site_variant": 3,
    "stop_gained": 4,
}
SPLICE_BASES = 2


def consequence(
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


def rank_of(terms: np.ndarray) -> np.ndarray:
    """float64 [n] gravity of indices into TERMS: synonymous and intron 0, stop gained 4."""
    return np.array([_RANK[t] for t in TERMS], dtype=np.float64)[terms]
