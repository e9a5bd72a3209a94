"""Codons: where each base stands in a codon, and what a substitution makes of it.

A *site* is a small integer a base: 0 outside coding sequence, else
1 + 64 * (3 * minus + place) + codon, with the codon read 5' to 3' on the gene's strand
(first base most significant, A 0 C 1 G 2 T 3) and `place` 0, 1, 2 inside it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from domains.genomics.contig import BASES, UNKNOWN
from domains.genomics.genetic_code import STANDARD
from domains.genomics.transcript import Transcript

SITES = 1 + 2 * 3 * 64
STRANDS_APART = (SITES - 1) // 2  # a site of one strand is that of the other so far away
AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY*"
NO_AMINO_ACID = len(AMINO_ACIDS)
DISTANCES = (
    "hydropathy",
    "hydropathy_size",
    "mass",
    "mass_size",
    "charge",
    "charge_size",
    "blosum62",
    "same",
    "stop_gained",
    "stop_lost",
)


@cache
def opposite_sites() -> np.ndarray:
    """int16 [SITES]: for each site the same codon and place in it, on the other strand."""
    sites = np.arange(SITES, dtype=np.int16)
    turned = np.where(sites > STRANDS_APART, sites - STRANDS_APART, sites + STRANDS_APART)
    return np.where(sites > 0, turned, sites).astype(np.int16)


@cache
def amino_acid_of_codon(code: int = STANDARD) -> np.ndarray:
    """uint8 [64] index into AMINO_ACIDS; a codon that is read both as stop and as an amino acid
    (codes 27, 28 and 31) is the amino acid, as in bcftools csq."""
    from Bio.Data import CodonTable

    table = CodonTable.unambiguous_dna_by_id[code]
    letters = [a + b + c for a in BASES[:4] for b in BASES[:4] for c in BASES[:4]]
    return np.array(
        [AMINO_ACIDS.index(table.forward_table.get(c, "*")) for c in letters], dtype=np.uint8
    )


@cache
def amino_acid_tables(code: int = STANDARD) -> tuple[np.ndarray, np.ndarray]:
    """What each site codes for.

    Args:
        code: number of the genetic code (`domains.genomics.genetic_code`).

    Returns:
        uint8 [SITES] amino acid of the reference, and uint8 [SITES, 4] amino acid after the base
        of the contig's plus strand became A, C, G or T; NO_AMINO_ACID outside coding sequence.
    """
    translate = amino_acid_of_codon(code)
    before = np.full(SITES, NO_AMINO_ACID, dtype=np.uint8)
    after = np.full((SITES, 4), NO_AMINO_ACID, dtype=np.uint8)
    for minus in (0, 1):
        for place in (0, 1, 2):
            codons = np.arange(64)
            site = 1 + 64 * (3 * minus + place) + codons
            unit = 4 ** (2 - place)
            before[site] = translate[codons]
            for alt in range(4):
                sense = 3 - alt if minus else alt
                changed = codons - (codons // unit % 4) * unit + sense * unit
                after[site, alt] = translate[changed]
    return before, after


@cache
def amino_acid_distances() -> np.ndarray:
    """How unlike two amino acids are, before a model has seen any label.

    Returns:
        float32 [22, 22, len(DISTANCES)] from (row) to (column): change and size of change of
        hydropathy (Kyte & Doolittle 1982), of residue mass and of charge at pH 7; BLOSUM62
        (Henikoff & Henikoff 1992); same, stop gained, stop lost. All 0 for NO_AMINO_ACID.
    """
    from Bio.Align import substitution_matrices
    from Bio.Data.IUPACData import protein_weights
    from Bio.SeqUtils.ProtParamData import kd

    charge = {"D": -1.0, "E": -1.0, "K": 1.0, "R": 1.0, "H": 0.1}
    blosum: Any = substitution_matrices.load("BLOSUM62")
    out = np.zeros((NO_AMINO_ACID + 1, NO_AMINO_ACID + 1, len(DISTANCES)), dtype=np.float32)
    for i, a in enumerate(AMINO_ACIDS):
        for j, b in enumerate(AMINO_ACIDS):
            if a == b:
                out[i, j, DISTANCES.index("same")] = 1
            elif "*" in (a, b):
                out[i, j, DISTANCES.index("stop_gained" if b == "*" else "stop_lost")] = 1
            else:
                water = (kd[b] - kd[a]) / 4.5
                mass = (protein_weights[b] - protein_weights[a]) / 60
                volt = charge.get(b, 0.0) - charge.get(a, 0.0)
                sizes = (water, abs(water), mass, abs(mass), volt, abs(volt))
                out[i, j, :7] = (*sizes, blosum[a][b] / 4)
    return out


def coding_sites(sequence: np.ndarray, transcripts: list[Transcript]) -> np.ndarray:
    """Sites of one contig; where coding sequences overlap, the longest one decides.

    Args:
        sequence: uint8 [length] codes of the contig.

    Returns:
        int16 [length].
    """
    return sites_within(0, len(sequence), transcripts, lambda place: sequence[place])


def sites_within(
    start: int,
    end: int,
    transcripts: list[Transcript],
    base_at: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """Sites of the bases [start, end) of a contig, as in `coding_sites`.

    Args:
        base_at: codes of the contig at places of any shape, also outside [start, end).

    Returns:
        int16 [end - start].
    """
    sites = np.zeros(end - start, dtype=np.int16)
    by_length = sorted(transcripts, key=lambda t: sum(b - a for a, b in t.cds))
    for transcript in by_length:
        positions = transcript.coding_positions()
        codons = positions[: len(positions) // 3 * 3].reshape(-1, 3)
        inside = (codons >= start) & (codons < end)
        codons, inside = codons[inside.any(axis=1)], inside[inside.any(axis=1)]
        bases = base_at(codons).astype(np.int16)
        known = (bases != UNKNOWN).all(axis=1)
        minus = transcript.strand < 0
        sense = 3 - bases if minus else bases
        index = sense @ np.array([16, 4, 1], dtype=np.int16)
        for place in (0, 1, 2):
            site = 1 + 64 * (3 * int(minus) + place) + index
            here = known & inside[:, place]
            sites[codons[here, place] - start] = site[here]
    return sites


def translate(sequence: np.ndarray, transcript: Transcript, code: int = STANDARD) -> str:
    """The protein of a transcript, one letter a whole codon, X where a base is unknown."""
    positions = transcript.coding_positions()
    codons = sequence[positions[: len(positions) // 3 * 3].reshape(-1, 3)].astype(np.int64)
    known = (codons != UNKNOWN).all(axis=1)
    sense = 3 - codons if transcript.strand < 0 else codons
    index = np.where(known, sense @ np.array([16, 4, 1]), 0)
    letters = np.array(list(AMINO_ACIDS))[amino_acid_of_codon(code)[index]]
    return "".join(np.where(known, letters, "X"))
