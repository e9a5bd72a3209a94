"""A seeded genome whose variant effects are known by construction.

Written as ordinary files, so that everything downstream runs as on real data. The recipe is in
`RECIPE`, which also goes into README.txt beside the files.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from Bio.SeqUtils.ProtParamData import kd

from domains.genomics.codon import AMINO_ACIDS, amino_acid_tables
from domains.genomics.contig import BASES, Genome
from domains.genomics.contig_name import ContigNames
from domains.genomics.data_config import SimulationConfig
from domains.genomics.simulated_consequence import TERMS, simulated_consequence
from domains.genomics.source import Reference
from domains.genomics.transcript import Span, Transcript

# Kyte & Doolittle 1982, hydropathy in the order of AMINO_ACIDS (no stop).
HYDROPATHY = np.array([kd[a] for a in AMINO_ACIDS[:-1]])
MOTIF = "TATAAAAG"
STOPS = (48, 50, 56)  # TAA, TAG, TGA as codon numbers
EFFECT = {"stop_gained": 4.0, "splice_site_variant": 3.0, "start_lost": 3.0, "stop_lost": 2.0}
PER_HYDROPATHY = 0.25
MOTIF_EFFECT = 1.5

RECIPE = """\
Simulated genome with variant effects known by construction.

genome.fa        random contigs (A, C, G, T equally likely)
genes.gff3       genes on both strands: 5' UTR, 2 to 4 exons, introns GT...AG, 3' UTR; the coding
                 sequence starts with ATG, ends with a stop and has none inside; each gene has the
                 motif TATAAAAG 30 bases before its transcript, on its strand
variants.vcf.gz  single-base substitutions at random places, INFO/EFFECT = damage (higher is worse)

EFFECT = base + noise, noise normal with the standard deviation data.simulation.noise, base =
  stop gained                               4.0
  first or last two bases of an intron      3.0
  start lost                                3.0
  stop lost                                 2.0
  missense                                  0.25 * |difference in Kyte-Doolittle hydropathy|
  inside the motif                          1.5
  synonymous, intron, UTR, intergenic       0.0
"""


@dataclass
class _Contig:
    name: str
    sequence: np.ndarray
    transcripts: list[Transcript] = field(default_factory=list)
    motifs: list[int] = field(default_factory=list)


def write_simulation(config: SimulationConfig, out: Path) -> None:
    """Write the files that RECIPE names; the same config gives the same bytes."""
    draw = np.random.default_rng(config.seed)
    out.mkdir(parents=True, exist_ok=True)
    contigs = [_grow(f"sim{i + 1}", config.length, draw) for i in range(config.contigs)]
    _write_fasta(contigs, out / "genome.fa")
    _write_genes(contigs, out / "genes.gff3")
    _write_variants(contigs, config, draw, out / "variants.vcf.gz")
    settings = f"\nseed {config.seed}, {config.contigs} contigs of {config.length} bases, "
    settings += f"{config.variants} variants, noise {config.noise:g}\n"
    (out / "README.txt").write_text(RECIPE + settings)


def _grow(name: str, length: int, draw: np.random.Generator) -> _Contig:
    contig = _Contig(name, draw.integers(0, 4, length).astype(np.uint8))
    at = int(draw.integers(60, 150))
    while True:
        gene, exons, cds = _gene(draw)
        lead = len(MOTIF) + 30
        if at + lead + len(gene) + 60 > length:
            return contig
        strand = 1 if draw.random() < 0.5 else -1
        motif = np.array([BASES.index(b) for b in MOTIF], dtype=np.uint8)
        spacer = draw.integers(0, 4, 30).astype(np.uint8)
        unit = np.concatenate([motif, spacer, gene])
        n = len(unit)
        contig.sequence[at : at + n] = unit if strand > 0 else 3 - unit[::-1]
        label = f"{name}g{len(contig.transcripts) + 1}"
        placed = sorted(_place(exons, at, n, lead, strand))
        coding = _place(cds, at, n, lead, strand)
        contig.transcripts.append(Transcript(label, name, strand, placed, coding))
        contig.motifs.append(at if strand > 0 else at + n - len(MOTIF))
        at += n + int(draw.integers(60, 200))


def _place(spans: list[Span], at: int, n: int, lead: int, strand: int) -> list[Span]:
    """Spans from the start of a transcript -> spans of the contig, for a unit of n bases at `at`
    whose transcript begins after `lead` bases."""
    if strand > 0:
        return [(at + lead + a, at + lead + b) for a, b in spans]
    return [(at + n - lead - b, at + n - lead - a) for a, b in spans]


def _gene(draw: np.random.Generator) -> tuple[np.ndarray, list[Span], list[Span]]:
    """Bases 5' to 3', exons, coding spans, all from the start of the transcript."""
    codons = int(draw.integers(150, 400))
    inner = draw.choice(np.setdiff1d(np.arange(64), STOPS), codons)
    atg, stop = 0 * 16 + 3 * 4 + 2, int(draw.choice(STOPS))
    numbers = np.concatenate([[atg], inner, [stop]])
    coding = np.stack([numbers // 16, numbers // 4 % 4, numbers % 4], axis=1).reshape(-1)
    utr5, utr3 = (draw.integers(0, 4, int(draw.integers(60, 120))) for _ in range(2))
    exons = int(draw.integers(2, 5))
    cuts = np.sort(draw.choice(np.arange(60, len(coding) - 60), exons - 1, replace=False))
    pieces, exon_spans, cds_spans = [utr5], [], []
    at, exon_start = len(utr5), 0
    for i, part in enumerate(np.split(coding, cuts)):
        pieces.append(part)
        cds_spans.append((at, at + len(part)))
        at += len(part)
        if i == exons - 1:
            break
        exon_spans.append((exon_start, at))
        intron = draw.integers(0, 4, int(draw.integers(60, 120)))
        intron[[0, 1, -2, -1]] = [2, 3, 0, 2]  # GT...AG
        pieces.append(intron)
        at += len(intron)
        exon_start = at
    pieces.append(utr3)
    exon_spans.append((exon_start, at + len(utr3)))
    return np.concatenate(pieces).astype(np.uint8), exon_spans, cds_spans


def _base_effects(
    contig: _Contig, reference: Reference, pos: np.ndarray, alt: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Effect before noise, and index into TERMS, of each substitution."""
    terms = simulated_consequence(reference, contig.name, pos, alt)
    effect = np.zeros(len(pos))
    before, after = amino_acid_tables()
    site = reference.sites(contig.name)[pos]
    missense = terms == TERMS.index("missense_variant")
    old, new = before[site][missense].astype(int), after[site, alt][missense].astype(int)
    assert max(old.max(initial=0), new.max(initial=0)) < AMINO_ACIDS.index("*")
    effect[missense] = PER_HYDROPATHY * np.abs(HYDROPATHY[old] - HYDROPATHY[new])
    for term, value in EFFECT.items():
        effect[terms == TERMS.index(term)] = value
    for start in contig.motifs:
        effect[(pos >= start) & (pos < start + len(MOTIF))] = MOTIF_EFFECT
    return effect, terms


def _write_fasta(contigs: list[_Contig], path: Path) -> None:
    import pysam

    with path.open("w", newline="\n") as f:
        for contig in contigs:
            letters = _letters(contig.sequence)
            f.write(f">{contig.name}\n")
            f.writelines(letters[i : i + 60] + "\n" for i in range(0, len(letters), 60))
    pysam.faidx(str(path))  # type: ignore[attr-defined]


def _letters(sequence: np.ndarray) -> str:
    return np.frombuffer(BASES.encode(), dtype=np.uint8)[sequence].tobytes().decode()


def _write_genes(contigs: list[_Contig], path: Path) -> None:
    lines = ["##gff-version 3\n"]
    for contig in contigs:
        lines.append(f"##sequence-region {contig.name} 1 {len(contig.sequence)}\n")
        for t in contig.transcripts:
            sign = "+" if t.strand > 0 else "-"
            whole = (t.exons[0][0], t.exons[-1][1])

            rows = [("gene", whole, ".", f"ID=gene:{t.name}")]
            rows.append(("mRNA", whole, ".", f"ID={t.name};Parent=gene:{t.name}"))
            rows += [("exon", exon, ".", f"Parent={t.name}") for exon in t.exons]
            done = 0
            for a, b in t.cds:
                rows.append(("CDS", (a, b), str(-done % 3), f"Parent={t.name}"))
                done += b - a
            for kind, (a, b), phase, attributes in rows:
                cells = (contig.name, "simulated", kind, a + 1, b, ".", sign, phase, attributes)
                lines.append("\t".join(map(str, cells)) + "\n")
    path.write_text("".join(lines), newline="\n")


def _write_variants(
    contigs: list[_Contig], config: SimulationConfig, draw: np.random.Generator, path: Path
) -> None:
    import pysam

    header = ["##fileformat=VCFv4.3\n"]
    header += [f"##contig=<ID={c.name},length={len(c.sequence)}>\n" for c in contigs]
    header += [
        '##INFO=<ID=EFFECT,Number=1,Type=Float,Description="Simulated damage, see README.txt">\n',
        '##INFO=<ID=CSQ,Number=1,Type=String,Description="Sequence Ontology term">\n',
        "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n",
    ]
    # Drawn among all substitutions, three a base, in order of place.
    total = 3 * config.contigs * config.length
    drawn = np.sort(draw.choice(total, config.variants, replace=False))
    places, other = drawn // 3, drawn % 3 + 1
    lines = []
    for number, contig in enumerate(contigs):
        here = places // config.length == number
        pos = places[here] % config.length
        ref = contig.sequence[pos].astype(int)
        alt = (ref + other[here]) % 4
        reference = _reference(contig)
        effect, terms = _base_effects(contig, reference, pos, alt)
        effect = effect + config.noise * draw.standard_normal(len(pos))
        for p, r, a, e, t in zip(pos, ref, alt, effect, terms, strict=True):
            cells = (contig.name, p + 1, ".", BASES[r], BASES[a], ".", ".")
            info = f"EFFECT={e:.4f};CSQ={TERMS[t]}"
            lines.append("\t".join(map(str, cells)) + f"\t{info}\n")
    text = "".join(header + lines).encode()
    with pysam.BGZFile(str(path), "wb") as f:  # type: ignore[attr-defined]
        f.write(text)
    pysam.tabix_index(str(path), preset="vcf", force=True)


def _reference(contig: _Contig) -> Reference:
    names = ContigNames([contig.name], {})
    genome = Genome(Path(contig.name), {contig.name: contig.sequence}, names, "")
    return Reference(genome, contig.transcripts)
