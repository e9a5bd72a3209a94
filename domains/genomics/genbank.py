"""Gene models from GenBank: CDS and mRNA of the INSDC feature table (insdc.org).

The format does not say which mRNA a CDS is read from. It is one of the same gene whose exons hold
the whole CDS and whose introns there are those of the CDS; a CDS without such an mRNA (bacteria,
viruses) has its own parts as exons.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count, pairwise
from pathlib import Path
from typing import Any

from core.errors import DataContractError
from domains.genomics.transcript import Annotation, Span, Transcript, introns_of, merged

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class _Feature:
    """Spans in the order of the location, which is that of translation; told: the first value of
    each qualifier."""

    strand: int
    spans: list[Span]
    told: Mapping[str, str]

    def __getitem__(self, qualifier: str) -> str:
        """Empty where the feature has no such qualifier."""
        return self.told.get(qualifier, "")


def read_genbank(path: Path) -> Annotation:
    """A transcript for each CDS, in the order of the file.

    Its name is the transcript_id, else the protein_id, the locus_tag or the gene, with a number
    where several would have the same; its gene is the gene, else the locus_tag. A CDS whose parts
    do not follow each other along one strand is left out, with a warning.

    Raises:
        DataContractError: Biopython cannot read the file.
    """
    from Bio import SeqIO

    try:
        records = list(SeqIO.parse(path, "genbank"))
    except Exception as error:  # Biopython raises bare exceptions of many kinds
        raise DataContractError(f"{path}: Biopython cannot read it as GenBank ({error})") from error
    found = [transcript for record in records for transcript in _transcripts(path, record)]
    for transcript, name in zip(found, _unlike([t.name for t in found]), strict=True):
        transcript.name = name
    return Annotation(found, {record.id for record in records})


def _transcripts(path: Path, record: Any) -> list[Transcript]:
    placed = [f for f in record.features if f.location is not None]
    for left in placed:
        if left.type == "CDS" and not _in_order(left.location):
            log.warning(
                "%s: %s, CDS %s: its parts do not follow each other along one strand (over the "
                "origin of a circle, trans-spliced, or of another record), which is not read; it "
                "is left out, as if there were no gene",
                path,
                record.id,
                _name(_Feature(1, [], _told(left)), None),
            )
    ordered = [f for f in placed if _in_order(f.location)]
    coding, messengers = (
        [_feature(f) for f in ordered if f.type == kind] for kind in ("CDS", "mRNA")
    )
    found = []
    for cds, messenger in zip(coding, _messengers(coding, messengers), strict=True):
        exons = merged((messenger or cds).spans)
        frame = int(cds["codon_start"] or 1) - 1
        gene, name = cds["gene"] or cds["locus_tag"], _name(cds, messenger)
        found.append(Transcript(name, record.id, cds.strand, exons, cds.spans, frame, gene))
    return found


def _feature(found: Any) -> _Feature:
    # Biopython lists the parts of complement(join()) in the order of translation.
    spans = [(int(part.start), int(part.end)) for part in found.location.parts]
    strand = -1 if found.location.strand == -1 else 1
    return _Feature(strand, spans, _told(found))


def _told(found: Any) -> dict[str, str]:
    return {name: each[0] for name, each in found.qualifiers.items()}


def _in_order(location: Any) -> bool:
    """Whether the parts lie on one strand of this record, each behind the one before; ribosomal
    slippage goes back by less than a part."""
    strand = -1 if location.strand == -1 else 1
    parts = location.parts
    starts = [strand * int(part.start if strand > 0 else part.end) for part in parts]
    return (
        len({part.strand for part in parts}) == 1
        and all(part.ref is None for part in parts)
        and all(a < b for a, b in pairwise(starts))
    )


def _messengers(
    coding: Sequence[_Feature], messengers: Sequence[_Feature]
) -> list[_Feature | None]:
    """The mRNA of each CDS. Of several that fit it is the one with the transcript_id of the CDS,
    else the first that no other CDS has; those with the least choice go first."""
    of_gene: dict[str, list[_Feature]] = {}
    for messenger in messengers:
        for name in _gene_names(messenger):
            of_gene.setdefault(name, []).append(messenger)
    fitting = [[m for m in _candidates(cds, of_gene) if _holds(m, cds)] for cds in coding]
    chosen: list[_Feature | None] = [None] * len(coding)
    taken: set[_Feature] = set()
    for i in sorted(range(len(coding)), key=lambda i: len(fitting[i])):
        free = [m for m in fitting[i] if m not in taken] or fitting[i]
        if free:
            chosen[i] = free[0]
            taken.add(free[0])
    return chosen


def _candidates(cds: _Feature, of_gene: Mapping[str, list[_Feature]]) -> list[_Feature]:
    found = dict.fromkeys(m for name in _gene_names(cds) for m in of_gene.get(name, []))
    told = cds["transcript_id"]
    return [m for m in found if told and m["transcript_id"] == told] or list(found)


def _holds(messenger: _Feature, cds: _Feature) -> bool:
    exons, coding = merged(messenger.spans), merged(cds.spans)
    within = all(any(a <= start and end <= b for a, b in exons) for start, end in coding)
    low, high = coding[0][0], coding[-1][1]
    spliced = [gap for gap in introns_of(exons) if low < gap[0] < high]
    return messenger.strand == cds.strand and within and spliced == introns_of(coding)


def _gene_names(feature: _Feature) -> list[str]:
    """By which features of one gene know each other; those that tell neither are of one."""
    kinds = [kind for kind in ("gene", "locus_tag") if feature[kind]]
    return [f"{kind}={feature[kind]}" for kind in kinds] or [""]


def _name(cds: _Feature, messenger: _Feature | None) -> str:
    told = [] if messenger is None else [messenger["transcript_id"]]
    told += [cds[kind] for kind in ("transcript_id", "protein_id", "locus_tag", "gene")]
    return next(filter(None, told), "CDS")


def _unlike(names: list[str]) -> list[str]:
    """Names that several have get a number: X, X -> X_1, X_2."""
    times, taken = Counter(names), set(names)
    numbers: defaultdict[str, count[int]] = defaultdict(lambda: count(1))
    out = []
    for name in names:
        if times[name] > 1:
            name = next(f"{name}_{n}" for n in numbers[name] if f"{name}_{n}" not in taken)
        out.append(name)
    return out
