"""Other names of the same contig: chr1, 1 and NC_000001.11; M, MT, chrM and NC_012920.1.

RefSeq accessions of the human chromosomes run NC_000001 (chromosome 1) to NC_000024 (Y); their
version tells the assembly (.10 is GRCh37's chromosome 1, .11 GRCh38's), so two different versions
are never one contig. Any other prefix `chr` is dropped: chrIV is IV.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

_ACCESSION = re.compile(r"([A-Z]{1,3}_?[0-9]{5,12})(?:\.([0-9]+))?")
_HUMAN = re.compile(r"NC_0000(0[1-9]|1[0-9]|2[0-4])")
_MITOCHONDRION = frozenset({"M", "MT", "Mt", "mt", "Mito", "mito", "NC_012920"})
_SEX = {23: "X", 24: "Y"}


def split_name(name: str) -> tuple[str, str | None]:
    """(what two names of one contig have in common, version of an accession or None)."""
    accession = _ACCESSION.fullmatch(name)
    version = accession[2] if accession else None
    stem = accession[1] if accession else re.sub(r"^chr(?=.)", "", name, flags=re.IGNORECASE)
    human = _HUMAN.fullmatch(stem)
    if human:
        number = int(human[1])
        return _SEX.get(number, str(number)), version
    return ("MT" if stem in _MITOCHONDRION else stem), version


class ContigNames:
    """Finds a FASTA's contig under the names that other files give it.

    A name is looked up as it stands, then in `alias`, then by `split_name` where exactly one
    contig fits and no two versions of an accession differ.
    """

    def __init__(self, contigs: Iterable[str], alias: Mapping[str, str]) -> None:
        self._known: dict[str, str | None] = {name: name for name in contigs}
        self._alias = dict(alias)
        self._by_stem: dict[str, list[tuple[str, str | None]]] = {}
        for name in tuple(self._known):
            stem, version = split_name(name)
            self._by_stem.setdefault(stem, []).append((name, version))

    def resolve(self, name: str) -> str | None:
        """The FASTA's name, or None."""
        if name not in self._known:
            self._known[name] = self._alias.get(name) or self._by_rule(name)
        return self._known[name]

    def _by_rule(self, name: str) -> str | None:
        stem, version = split_name(name)
        fitting = [
            contig
            for contig, theirs in self._by_stem.get(stem, [])
            if version is None or theirs is None or version == theirs
        ]
        return fitting[0] if len(fitting) == 1 else None
