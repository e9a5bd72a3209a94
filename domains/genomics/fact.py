"""Facts: what is known, before any label, of a base and of what each alternative would make of it.

Numbers for the head of the effect network (`fact_head`). They are told in the direction in which
the gene is read, so that both strands of a genome tell the same. NaN stands for what does not
apply (a residue outside coding sequence) or is not known; networks see the mean there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from domains.genomics.chain import CONTEXT, Chain, chain_of
from domains.genomics.channel import CHANNELS, splice_level
from domains.genomics.codon import NO_AMINO_ACID, amino_acid_tables
from domains.genomics.contig import UNKNOWN, complement
from domains.genomics.fact_track import TRACK_FACTS, TrackFacts
from domains.genomics.residue import (
    EXCHANGES,
    PROPERTIES,
    STOP,
    exchanges,
    residue_properties,
)
from domains.genomics.splice_site import (
    WIDEST,
    acceptor_weights,
    change_of_site,
    donor_weights,
    gain_of_site,
    offsets,
)

if TYPE_CHECKING:
    from domains.genomics.source import Reference

_KINDS = ("exon", "intron", "utr5", "utr3")
_DONOR_AT = (-3, -2, -1, 1, 2, 3, 4, 5, 6)
_ACCEPTOR_AT = (-2, -1, 1, 2, 3)
_TRACT = (4, 20)  # offsets of the bases before an acceptor that are mostly C and T
_BASE = (
    *(f"base_{letter}" for letter in "ACGT"),
    "cpg",
)
_GENE = ("coding", *(f"place{i}" for i in range(3)), *_KINDS)
_SPLICE = (
    "donor_level",
    "acceptor_level",
    *(f"donor_at_{at:+d}" for at in _DONOR_AT),
    *(f"acceptor_at_{at:+d}" for at in _ACCEPTOR_AT),
    "acceptor_tract",
    "splice_core",
    "splice_region",
    "deep_intron",
)
_RESIDUE = (*(f"reference_{name}" for name in PROPERTIES), *CONTEXT)
_SCALES = PROPERTIES[:7]  # those that are numbers, not kinds
_CHANGE = (
    *(f"alternative_{letter}" for letter in "ACGT"),
    "transition",
    "donor_change",
    "acceptor_change",
    "donor_gain",
    "acceptor_gain",
    *(f"alternative_{name}" for name in PROPERTIES),
    *(f"{name}_change" for name in _SCALES),
    *(f"{name}_distance" for name in _SCALES),
    *EXCHANGES,
    "synonymous",
    "missense",
    "stop_gained",
    "stop_lost",
    "start_lost",
    "gravity",
    "null",
)
# As consequences are ranked (`domains.genomics.consequence`); the gravest of an alternative counts.
_SITE_GRAVITY = {"utr5": 1, "utr3": 1, "splice_region": 2, "splice_core": 5}
_CHANGE_GRAVITY = {
    "synonymous": 1,
    "missense": 3,
    "stop_lost": 4,
    "start_lost": 5,
    "stop_gained": 6,
}
_NULL = 5  # from this gravity on the protein is taken to be lost


def site_facts(tracks: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the facts of a base, where there are tracks of these names."""
    told = [f"{track}_{name}" for track in tracks for name in TRACK_FACTS]
    return (*_BASE, *_GENE, *_SPLICE, *_RESIDUE, *told)


def change_facts() -> tuple[str, ...]:
    """Names of the facts of an alternative."""
    return _CHANGE


class FactSheet:
    """Facts of a contig's bases; what is kept grows with the contig, not with the facts."""

    def __init__(self, reference: Reference, contig: str) -> None:
        transcripts = reference.transcripts.get(contig, [])
        self.sequence = reference.sequence(contig)
        self.channels = reference.channels(contig)
        self.before, self.after = amino_acid_tables(reference.genetic_code)
        self.sites = reference.sites(contig)
        self.chain: Chain = chain_of(self.sequence, transcripts, reference.genetic_code)
        self.donor, self.acceptor = offsets(len(self.sequence), transcripts)
        self.tracks = [
            TrackFacts(track.values.get(contig), len(self.sequence), self.chain)
            for track in reference.tracks
        ]

    def window(self, start: int, end: int) -> tuple[np.ndarray, np.ndarray]:
        """Of bases [start, end): float32 [n, len(site_facts)] of each, and float32
        [n, 4, len(change_facts)] of its becoming A, C, G and T of the plus strand."""
        strand = self._strand(start, end)
        site = np.concatenate(
            [
                self._bases(start, end, strand),
                self._genes(start, end),
                self._splicing(start, end),
                self._residues(start, end),
                *(track.window(start, end, strand) for track in self.tracks),
            ],
            axis=1,
        )
        parts = [self._substitution(start, end, strand), self._exchange(start, end)]
        change = np.concatenate([*parts, _gravity(site, np.concatenate(parts, axis=2))], axis=2)
        return site.astype(np.float32), change.astype(np.float32)

    def _strand(self, start: int, end: int) -> np.ndarray:
        """int8 [n] of the gene that is coded, else of those that a base lies in; 0 for none, or
        for genes of both strands."""
        genes = self.channels[start:end]
        both = np.stack([_columns("exon"), _columns("intron")], axis=1)
        inside = [genes[:, columns].any(axis=1) for columns in both]
        around = inside[0].astype(np.int8) - inside[1].astype(np.int8)
        coded = self.chain.strand[start:end]
        return np.where(coded != 0, coded, around)

    def _padded(self, start: int, end: int, by: int) -> np.ndarray:
        """int64 base codes of [start - by, end + by), `UNKNOWN` past the contig's ends."""
        low, high = max(0, start - by), min(len(self.sequence), end + by)
        codes = self.sequence[low:high].astype(np.int64)
        return np.pad(codes, (low - start + by, end + by - high), constant_values=UNKNOWN)

    def _sense(self, start: int, end: int, strand: np.ndarray) -> np.ndarray:
        """int64 [n] base codes in the direction of reading; UNKNOWN in no gene."""
        codes = self.sequence[start:end].astype(np.int64)
        turned = complement(codes)
        return np.where(strand > 0, codes, np.where(strand < 0, turned, UNKNOWN))

    def _bases(self, start: int, end: int, strand: np.ndarray) -> np.ndarray:
        sense = self._sense(start, end, strand)
        n = end - start
        codes = self._padded(start, end, 1)
        here, left, right = (codes[1 + d : 1 + d + n] for d in (0, -1, 1))
        cpg = ((here == 1) & (right == 2)) | ((here == 2) & (left == 1))
        return np.column_stack([sense[:, None] == np.arange(4), cpg])

    def _genes(self, start: int, end: int) -> np.ndarray:
        site, genes = self.sites[start:end], self.channels[start:end]
        place = np.where(site > 0, (site - 1) // 64 % 3, -1)
        kinds = [genes[:, _columns(kind)].any(axis=1) for kind in _KINDS]
        return np.column_stack([site > 0, place[:, None] == np.arange(3), *kinds])

    def _splicing(self, start: int, end: int) -> np.ndarray:
        donor, acceptor = self.donor[start:end], self.acceptor[start:end]
        levels = [
            np.sign(o) * splice_level(np.maximum(np.abs(o), 1) - 1) for o in (donor, acceptor)
        ]
        intron = np.where(donor > 0, donor, 99), np.where(acceptor > 0, acceptor, 99)
        exon = np.where(donor < 0, -donor, 99), np.where(acceptor < 0, -acceptor, 99)
        nearest, inner = np.minimum(*intron), np.minimum(*exon)
        region = ((nearest > 2) & (nearest <= 8)) | (inner <= 3)
        introns = self.channels[start:end][:, _columns("intron")].any(axis=1)
        return np.column_stack(
            [
                *levels,
                donor[:, None] == np.array(_DONOR_AT),
                acceptor[:, None] == np.array(_ACCEPTOR_AT),
                (acceptor >= _TRACT[0]) & (acceptor <= _TRACT[1]),
                nearest <= 2,
                region,
                introns & (nearest > 8),
            ]
        )

    def _residues(self, start: int, end: int) -> np.ndarray:
        place = self.chain.place[start:end]
        acid = self.chain.acid[place]
        told = np.column_stack([residue_properties()[acid], self.chain.context[place]])
        return np.where((place >= 0)[:, None], told, np.nan)

    def _substitution(self, start: int, end: int, strand: np.ndarray) -> np.ndarray:
        """Of each alternative as a base, and as part of a splice site."""
        sense = self._sense(start, end, strand)
        told = np.zeros((end - start, 4, _CHANGE.index("acceptor_gain") + 1), dtype=np.float32)
        told[:, :, :4] = np.eye(4)
        told[:, :, 4] = np.arange(4) == (sense[:, None] + 2) % 4
        change = change_of_site(sense, self.donor[start:end], self.acceptor[start:end])
        told[:, :, 5], told[:, :, 6] = change
        for side in (1, -1):
            here = strand == side
            if here.any():
                told[here, :, 7:9] = self._gains(start, end, side)[here]
        told[strand < 0] = _turned(told[strand < 0])
        told[strand == 0] = 0
        return told

    def _gains(self, start: int, end: int, side: int) -> np.ndarray:
        """float32 [n, 4, 2] for the donor and the acceptor; bases as genes of `side` read them."""
        codes = self._padded(start, end, WIDEST - 1)
        if side < 0:
            codes = complement(codes)[::-1]
        gains = []
        for weights in (donor_weights(), acceptor_weights()):
            spare = WIDEST - len(weights)
            gains.append(gain_of_site(codes[spare : len(codes) - spare], weights))
        told = np.stack(gains, axis=2)
        return told[::-1] if side < 0 else told

    def _exchange(self, start: int, end: int) -> np.ndarray:
        """Of the residue that each alternative makes, and how unlike the reference's it is."""
        site = self.sites[start:end]
        before, after = self.before[site], self.after[site]
        property_of = residue_properties()
        change = (property_of[after] - property_of[before][:, None])[:, :, : len(_SCALES)]
        told = [property_of[after], change, np.abs(change), exchanges()[before[:, None], after]]
        halts = (before == STOP)[:, None], after == STOP
        same = before[:, None] == after
        place = self.chain.place[start:end]
        start_codon = (self.chain.first[place] & (place >= 0))[:, None]
        coding = (before != NO_AMINO_ACID)[:, None]
        known = coding & ~halts[0] & ~halts[1]
        told = np.where(known[:, :, None], np.concatenate(told, axis=2), np.nan)
        kinds = [
            same & coding,
            ~same & ~halts[0] & ~halts[1] & coding,
            halts[1] & ~halts[0],
            halts[0] & ~halts[1],
            start_codon & ~same,
        ]
        return np.concatenate([told, np.stack(kinds, axis=2)], axis=2)


def _columns(kind: str) -> list[int]:
    """Channels of a kind, of the plus strand and of the minus."""
    return [CHANNELS.index(f"{strand}_{kind}") for strand in ("plus", "minus")]


def _gravity(site: np.ndarray, change: np.ndarray) -> np.ndarray:
    """[n, 4, 2]: how grave an alternative's consequence is, and whether it ends the protein."""
    names = (*_BASE, *_GENE, *_SPLICE)
    gravest = np.zeros(change.shape[:2])
    for name, gravity in _SITE_GRAVITY.items():
        gravest = np.maximum(gravest, gravity * site[:, names.index(name)][:, None])
    for name, gravity in _CHANGE_GRAVITY.items():
        gravest = np.maximum(gravest, gravity * change[:, :, _CHANGE.index(name)])
    return np.stack([gravest, gravest >= _NULL], axis=2)


def _turned(told: np.ndarray) -> np.ndarray:
    """Alternatives of the direction of reading as those of the plus strand, or back."""
    return told[:, ::-1]
