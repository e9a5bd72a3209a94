"""What is known of amino acids before any label: published scales and matrices of exchange.

Rows follow `domains.genomics.codon.AMINO_ACIDS`; stop and `NO_AMINO_ACID` are 0 everywhere.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from domains.genomics.codon import AMINO_ACIDS, NO_AMINO_ACID

PROPERTIES = (
    "hydropathy",
    "volume",
    "charge",
    "polarity",
    "helix",
    "sheet",
    "disorder",
    "aromatic",
    "proline",
    "glycine",
    "cysteine",
)
EXCHANGES = ("blosum62", "grantham", "structural", "pam250")
STOP = AMINO_ACIDS.index("*")

# Zamyatnin 1972 (Prog. Biophys. Mol. Biol. 24:107), cubic angstroms.
_VOLUME = {
    "A": 88.6, "R": 173.4, "N": 114.1, "D": 111.1, "C": 108.5, "Q": 143.8, "E": 138.4,
    "G": 60.1, "H": 153.2, "I": 166.7, "L": 166.7, "K": 168.6, "M": 162.9, "F": 189.9,
    "P": 112.7, "S": 89.0, "T": 116.1, "W": 227.8, "Y": 193.6, "V": 140.0,
}  # fmt: skip
_CHARGE = {"D": -1.0, "E": -1.0, "K": 1.0, "R": 1.0, "H": 0.1}
# Grantham 1974 (Science 185:862): composition, polarity, volume of the side chain.
_GRANTHAM = {
    "S": (1.42, 9.2, 32), "R": (0.65, 10.5, 124), "L": (0, 4.9, 111), "P": (0.39, 8.0, 32.5),
    "T": (0.71, 8.6, 61), "A": (0, 8.1, 31), "V": (0, 5.9, 84), "G": (0.74, 9.0, 3),
    "I": (0, 5.2, 111), "F": (0, 5.2, 132), "Y": (0.20, 6.2, 136), "C": (2.75, 5.5, 55),
    "H": (0.58, 10.4, 96), "Q": (0.89, 10.5, 85), "N": (1.33, 11.6, 56), "K": (0.33, 11.3, 119),
    "D": (1.38, 13.0, 54), "E": (0.92, 12.3, 83), "M": (0, 5.7, 105), "W": (0.13, 5.4, 170),
}  # fmt: skip
_GRANTHAM_WEIGHTS = (1.833, 0.1018, 0.000399)
_GRANTHAM_SCALE = 50.723
# Chou & Fasman 1978 (Adv. Enzymol. 47:45): how much oftener than average in a helix, in a sheet.
_HELIX = {
    "E": 1.51, "M": 1.45, "A": 1.42, "L": 1.21, "K": 1.16, "F": 1.13, "Q": 1.11, "W": 1.08,
    "I": 1.08, "V": 1.06, "D": 1.01, "H": 1.00, "R": 0.98, "T": 0.83, "S": 0.77, "C": 0.70,
    "Y": 0.69, "N": 0.67, "P": 0.57, "G": 0.57,
}  # fmt: skip
_SHEET = {
    "V": 1.70, "I": 1.60, "Y": 1.47, "F": 1.38, "W": 1.37, "L": 1.30, "C": 1.19, "T": 1.19,
    "Q": 1.10, "M": 1.05, "R": 0.93, "N": 0.89, "H": 0.87, "A": 0.83, "S": 0.75, "G": 0.75,
    "K": 0.74, "P": 0.55, "D": 0.54, "E": 0.37,
}  # fmt: skip
# TOP-IDP (Campen et al. 2008, Protein Pept. Lett. 15:956): high where proteins have no fold.
_DISORDER = {
    "W": -0.884, "F": -0.697, "Y": -0.510, "I": -0.486, "M": -0.397, "L": -0.326, "V": -0.121,
    "N": 0.007, "C": 0.02, "T": 0.059, "A": 0.06, "G": 0.166, "R": 0.18, "D": 0.192, "H": 0.303,
    "Q": 0.318, "S": 0.341, "K": 0.586, "E": 0.736, "P": 0.987,
}  # fmt: skip


@cache
def residue_properties() -> np.ndarray:
    """float32 [22, len(PROPERTIES)]: hydropathy (Kyte & Doolittle 1982) in 4.5, volume in 100
    cubic angstroms, charge at pH 7, polarity (Grantham 1974) in 10, leanings to helix, sheet and
    disorder, and 1 for the members of a kind."""
    from Bio.SeqUtils.ProtParamData import kd

    out = np.zeros((NO_AMINO_ACID + 1, len(PROPERTIES)), dtype=np.float32)
    for i, a in enumerate(AMINO_ACIDS[:STOP]):
        kinds = [float(a in members) for members in ("FWYH", "P", "G", "C")]
        polarity = _GRANTHAM[a][1] / 10
        numbers = (kd[a] / 4.5, _VOLUME[a] / 100, _CHARGE.get(a, 0.0), polarity)
        out[i] = (*numbers, _HELIX[a] - 1, _SHEET[a] - 1, _DISORDER[a], *kinds)
    return out


@cache
def exchanges() -> np.ndarray:
    """float32 [22, 22, len(EXCHANGES)]: BLOSUM62 (Henikoff & Henikoff 1992), the distance of
    Grantham (1974), the matrix of structural alignments of Overington et al. (1992), PAM250
    (Dayhoff et al. 1978)."""
    from Bio.Align import substitution_matrices

    load: Any = substitution_matrices.load
    matrices = {"blosum62": load("BLOSUM62"), "structural": load("STR"), "pam250": load("PAM250")}
    units = {"blosum62": 4.0, "structural": 5.0, "pam250": 5.0}
    out = np.zeros((NO_AMINO_ACID + 1, NO_AMINO_ACID + 1, len(EXCHANGES)), dtype=np.float32)
    for i, a in enumerate(AMINO_ACIDS[:STOP]):
        for j, b in enumerate(AMINO_ACIDS[:STOP]):
            for name, matrix in matrices.items():
                out[i, j, EXCHANGES.index(name)] = matrix[a][b] / units[name]
            out[i, j, EXCHANGES.index("grantham")] = grantham_distance(a, b) / 100
    return out


def grantham_distance(a: str, b: str) -> float:
    """Between two amino acids by their letters; 5 for Leu and Ile, 215 for Cys and Trp."""
    squares = [(x - y) ** 2 for x, y in zip(_GRANTHAM[a], _GRANTHAM[b], strict=True)]
    weighted = sum(w * s for w, s in zip(_GRANTHAM_WEIGHTS, squares, strict=True))
    return _GRANTHAM_SCALE * weighted**0.5
