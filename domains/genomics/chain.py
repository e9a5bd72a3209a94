"""The residues of a contig's coding sequences, in the order of translation, and what lies around
each in its protein."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from domains.genomics.codon import NO_AMINO_ACID, amino_acid_of_codon
from domains.genomics.contig import UNKNOWN
from domains.genomics.residue import PROPERTIES, STOP, residue_properties
from domains.genomics.transcript import Transcript

GAP = 8  # places without a residue between two proteins, more than any reach below
MEAN_REACH = 3  # residues on either side
MEAN_PROPERTIES = ("hydropathy", "charge", "helix", "sheet", "disorder")
# Degrees between two residues, seen along a helix and along a strand.
TURNS = {"helix": 100.0, "sheet": 170.0}
TURN_REACH = 7
CONTEXT = (
    *(f"{name}_near" for name in MEAN_PROPERTIES),
    *(f"{name}_side" for name in TURNS),
)


@dataclass(frozen=True)
class Chain:
    """Residues of a contig, `GAP` empty places before, between and after proteins.

    Attributes:
        place: int32 [length] residue a base codes for, -1 for none.
        strand: int8 [length] of the gene a base codes in, 0 for none.
        acid: uint8 [R], `NO_AMINO_ACID` in gaps and where a base of the codon is unknown.
        codon: int64 [R, 3] bases of each residue, -1 in gaps.
        first: bool [R], start codons.
        context: float32 [R, len(CONTEXT)].
    """

    place: np.ndarray
    strand: np.ndarray
    acid: np.ndarray
    codon: np.ndarray
    first: np.ndarray
    context: np.ndarray


def chain_of(sequence: np.ndarray, transcripts: list[Transcript], code: int) -> Chain:
    """Where coding sequences overlap, the longest one decides, as in `codon.coding_sites`."""
    translate = amino_acid_of_codon(code)
    place = np.full(len(sequence), -1, dtype=np.int32)
    strand = np.zeros(len(sequence), dtype=np.int8)
    acids, codons = [np.full(GAP, NO_AMINO_ACID, dtype=np.uint8)], [np.full((GAP, 3), -1)]
    starts, size = list[int](), GAP
    for transcript in sorted(transcripts, key=lambda t: sum(b - a for a, b in t.cds)):
        positions = transcript.coding_positions()
        codon = positions[: len(positions) // 3 * 3].reshape(-1, 3)
        if not len(codon):
            continue
        bases = sequence[codon].astype(np.int64)
        known = (bases != UNKNOWN).all(axis=1)
        index = (3 - bases if transcript.strand < 0 else bases) @ np.array([16, 4, 1])
        acids.append(np.where(known, translate[np.where(known, index, 0)], NO_AMINO_ACID))
        number = size + np.arange(len(codon), dtype=np.int32)
        place[codon[known]] = number[known][:, None]
        strand[codon[known]] = transcript.strand
        starts.append(size)
        codons += [codon, np.full((GAP, 3), -1)]
        acids.append(np.full(GAP, NO_AMINO_ACID, dtype=np.uint8))
        size += len(codon) + GAP
    acid = np.concatenate(acids).astype(np.uint8)
    first = np.zeros(len(acid), dtype=bool)
    first[starts] = True
    return Chain(place, strand, acid, np.concatenate(codons), first, _context(acid))


def _context(acid: np.ndarray) -> np.ndarray:
    """What lies around each residue: means, and the mean hydropathy on its own side of a helix and
    of a strand."""
    known = residue_properties()[acid]
    real = (acid < STOP).astype(np.float32)
    column = {name: known[:, i] for i, name in enumerate(PROPERTIES)}
    even = dict.fromkeys(range(-MEAN_REACH, MEAN_REACH + 1), 1.0)
    parts = [_mean(column[name], real, even) for name in MEAN_PROPERTIES]
    for turn in TURNS.values():
        steps = [k for k in range(-TURN_REACH, TURN_REACH + 1) if k]
        sided = {k: float(np.cos(np.deg2rad(turn) * k)) for k in steps}
        parts.append(_mean(column["hydropathy"], real, sided))
    return np.stack(parts, axis=1).astype(np.float32)


def _shifted(values: np.ndarray, by: int) -> np.ndarray:
    """The value `by` places on; 0 past the ends."""
    out = np.zeros_like(values)
    if by >= 0:
        out[: len(values) - by] = values[by:]
    else:
        out[-by:] = values[:by]
    return out


def _mean(values: np.ndarray, real: np.ndarray, weights: dict[int, float]) -> np.ndarray:
    """Mean over neighbours that are residues, by weights whose sizes are counted."""
    total = sum(w * _shifted(values * real, k) for k, w in weights.items())
    mass = sum(abs(w) * _shifted(real, k) for k, w in weights.items())
    return np.asarray(total) / np.maximum(np.asarray(mass), 1e-6)
