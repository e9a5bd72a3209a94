"""Configuration of the genomics domain: plain dataclasses, usable as Hydra structured configs.

Field by field checks live here, in `__post_init__`; whether the named files fit together is only
known once they are opened (`domains.genomics.source`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

from core.errors import ConfigError
from domains.genomics.fact_config import FactsConfig
from domains.genomics.genetic_code import STANDARD, check_genetic_code
from domains.genomics.masked_config import MaskedConfig


def _one_of(name: str, found: str, expected: tuple[str, ...]) -> None:
    if found not in expected:
        raise ConfigError(f"{name}: found {found!r}, expected one of {', '.join(expected)}")


def _at_least(name: str, found: float, least: float) -> None:
    if found < least:
        raise ConfigError(f"{name}: found {found}, expected at least {least}")


@dataclass
class SplitConfig:
    """How labelled variants become folds. Never by variant: neighbours share their context.

    Args:
        kind: blocks (fold = ((POS - 1) // block) % folds), stretches (the same blocks, but a fold
            is a run of neighbouring ones), contig, or info (groups named by a field of the variant
            file, such as the assayed exon).
        block: bases a block, for kind=blocks and kind=stretches.
        folds: number of outer folds.
        field: INFO field or TSV column with the group, for kind=info.
        validation: share of a fold's training groups that is held back from training, to
            calibrate classes or to choose by (attention=auto); 0 where nothing needs it.
        purge: labels within this many bases of a test label are not trained on; those in a codon
            that has a test label never are.
        refit: once calibrated, train anew on the held-back groups too.
    """

    kind: str = "contig"
    block: int = 1500
    folds: int = 3
    field: Optional[str] = None  # noqa: UP045 - OmegaConf 2.3 resolves the typing form only
    validation: float = 0.1
    purge: int = 30
    refit: bool = False

    def __post_init__(self) -> None:
        _one_of("data.split.kind", self.kind, ("blocks", "stretches", "contig", "info"))
        _at_least("data.split.block", self.block, 1)
        _at_least("data.split.folds", self.folds, 2)
        _at_least("data.split.purge", self.purge, 0)
        if not 0 <= self.validation < 0.5:
            raise ConfigError(
                f"data.split.validation: found {self.validation}, expected a share from 0 to below "
                "0.5"
            )
        if self.refit and self.validation == 0:
            raise ConfigError(
                "data.split.refit: found true with data.split.validation=0, which holds nothing "
                "back; give it a share above 0"
            )
        if (self.kind == "info") != (self.field is not None):
            raise ConfigError(
                f"data.split: kind={self.kind} with field={self.field}; kind=info needs the field "
                "that names the groups, the other kinds take none"
            )


@dataclass
class TrackConfig:
    """A number for each of some bases, such as conservation.

    Args:
        path: bedGraph, plain or gzip, or bigWig.
        cap: values are counted in shares of it and cut off there, so that they suit a network.
    """

    path: str = ""
    cap: float = 10.0

    def __post_init__(self) -> None:
        if not self.cap > 0:
            raise ConfigError(f"data.tracks.cap: found {self.cap}, expected above 0")


@dataclass
class SimulationConfig:
    """Size of the simulated genome (`domains.genomics.simulate`)."""

    seed: int = 0
    contigs: int = 6
    length: int = 8000
    variants: int = 30_000
    noise: float = 0.15

    def __post_init__(self) -> None:
        _at_least("data.simulation.contigs", self.contigs, 1)
        _at_least("data.simulation.length", self.length, 4000)
        _at_least("data.simulation.noise", self.noise, 0.0)
        most = 3 * self.contigs * self.length
        if not 1 <= self.variants <= most:
            raise ConfigError(
                f"data.simulation.variants: found {self.variants}, expected 1 to {most} "
                "(three alternatives a base)"
            )


@dataclass
class GenomicsData:
    """What to read.

    Args:
        source: simulated (written by this domain) or files.
        fasta: reference sequence: FASTA, plain or bgzip, or a GenBank record.
        annotation: GFF3, GTF or GenBank; none leaves the gene channels at 0.
        genetic_code: NCBI's transl_table number, by which all codons of the annotation are read.
        tracks: numeric input channels by name.
        variants: labelled SNVs: VCF (.vcf, .vcf.gz, .bcf) or a table with the columns chrom, pos,
            ref, alt (.tsv, .tsv.gz).
        label: INFO field or column that holds the label.
        label_kind: regression or classification.
        positive: label values that count as 1, for classification.
        min_field, min_value: only rows whose field reaches the value are used.
        weight: field with the weight of evidence of a label, such as an expected count.
        weight_half: the weight of a row is x / (x + weight_half) of that field's x.
        contig_alias: other names of contigs -> name in the FASTA.
    """

    source: str = "simulated"
    fasta: Optional[str] = None  # noqa: UP045
    annotation: Optional[str] = None  # noqa: UP045
    genetic_code: int = STANDARD
    tracks: dict[str, TrackConfig] = field(default_factory=dict)
    variants: Optional[str] = None  # noqa: UP045
    label: str = "EFFECT"
    label_kind: str = "regression"
    positive: list[str] = field(default_factory=list)
    min_field: Optional[str] = None  # noqa: UP045
    min_value: float = 0.0
    weight: Optional[str] = None  # noqa: UP045
    weight_half: float = 50.0
    contig_alias: dict[str, str] = field(default_factory=dict)
    split: SplitConfig = field(default_factory=SplitConfig)
    simulation: SimulationConfig = field(default_factory=SimulationConfig)

    def __post_init__(self) -> None:
        _one_of("data.source", self.source, ("simulated", "files"))
        _one_of("data.label_kind", self.label_kind, ("regression", "classification"))
        check_genetic_code("data.genetic_code", self.genetic_code)
        if self.weight_half <= 0:
            raise ConfigError(f"data.weight_half: found {self.weight_half}, expected above 0")
        if (self.label_kind == "classification") != bool(self.positive):
            raise ConfigError(
                f"data.positive: found {list(self.positive)} with label_kind={self.label_kind}; "
                "classification needs the label values that count as 1, regression takes none"
            )
        if self.label_kind == "classification" and self.split.validation == 0:
            raise ConfigError(
                "data.split.validation: found 0 with label_kind=classification; probabilities are "
                "calibrated on held-back groups, so give it a share above 0"
            )
        if self.min_field is None and self.min_value != 0.0:
            raise ConfigError(
                f"data.min_value: found {self.min_value} without data.min_field; name the field"
            )
        given = [n for n in ("fasta", "annotation", "variants") if getattr(self, n) is not None]
        if self.source == "simulated" and given:
            raise ConfigError(
                f"data.{given[0]}: found {getattr(self, given[0])!r} with data.source=simulated, "
                "which would ignore it; set data.source=files"
            )
        if self.source == "simulated" and self.genetic_code != STANDARD:
            raise ConfigError(
                f"data.genetic_code: found {self.genetic_code} with data.source=simulated, whose "
                "genes are of code 1; set data.source=files"
            )
        if self.source == "files" and self.fasta is None:
            raise ConfigError("data.fasta: found none, expected a path with data.source=files")


@dataclass
class DifferenceConfig:
    """The head for insertions, deletions and substitutions of several bases (`head=difference`).

    Args:
        flank: bases on either side of an event that are read before and after it.
        events: labelled events a training step, beside the windows.
        longest: bases of an event, with all over which it can be moved, above which it is not
            scored.
        random: random events of the same kind in unannotated sequence, of which an event's
            LS_PERCENTILE tells the share that have a lower effect; 0 draws none.
        kmers: lengths of runs of bases each of which has a learned number of its own, which is
            added to what the encoder makes of the sequence; for few labels in regulatory sequence.
    """

    flank: int = 32
    events: int = 32
    longest: int = 100
    random: int = 200
    kmers: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        for length in self.kmers:
            if not 1 <= length <= 10:
                raise ConfigError(
                    f"difference.kmers: found {length}, expected lengths from 1 to 10"
                )
        for name, least in (("flank", 8), ("events", 1), ("longest", 1), ("random", 0)):
            _at_least(f"difference.{name}", getattr(self, name), least)


@dataclass
class ScoringConfig:
    """How a file of variants is read for scoring.

    Args:
        columns: names of a table's columns in order, where its first line names none; chrom, pos,
            ref and alt are needed, id is kept.
        ref_mismatch: what to do where REF differs from the FASTA: skip (a reason instead of a
            score), fail, or flip (an ALT that is the FASTA's base changes places with REF).
        most_mismatches: share of the first records with another REF above which the FASTA is held
            to be of another assembly.
        saturate: score every substitution of all, a contig, or contig:start-end (1-based,
            inclusive) of the FASTA that is the input.
        llr: of a bundle of task mlm: masked (how much less the alternative is expected at its site
            than the FASTA's base) or unmasked (the same, summed over every base around it, each
            foreseen from a sequence that has the alternative).
    """

    columns: list[str] = field(default_factory=list)
    ref_mismatch: str = "skip"
    most_mismatches: float = 0.2
    saturate: Optional[str] = None  # noqa: UP045
    llr: str = "masked"

    def __post_init__(self) -> None:
        _one_of("scoring.llr", self.llr, ("masked", "unmasked"))
        _one_of("scoring.ref_mismatch", self.ref_mismatch, ("skip", "fail", "flip"))
        if not 0 <= self.most_mismatches <= 1:
            raise ConfigError(
                f"scoring.most_mismatches: found {self.most_mismatches}, expected a share from 0 "
                "to 1"
            )


@dataclass
class GenomicsConfig:
    """The domain's configuration.

    Args:
        task: effect (learns from labelled substitutions what others do), or mlm (learns from the
            genome alone which base is to be expected where).
        reader: how the surroundings of a base are read: window (both sides at once), or strands
            (each strand up to the base, which is left out itself), the only one of mlm.
        strand: both (a score is the mean of both strands' readings, and training reads the one or
            the other), or plus (sequence is read on the FASTA's strand; half the time to score).
            mlm and events of the difference head read both in any case.
        head: bases (four numbers a base, for single-base substitutions), or difference (these,
            and for any event what the network makes of the sequence after it less before it).
        difference: settings of the latter.
        window: tokens of a training window.
        batch_size: windows a step.
        noise: share of input bases hidden from the encoder while training; mlm's loss counts them
            like all others.
        codons: tell the model the codon and amino acid before and after each substitution, read
            from the annotation; without it, it has bases and gene channels only.
        length_waves: frequencies at which the length of the coding sequence is also told as sine
            and cosine, by which the network tells genes apart: for labels that are spread over all
            genes that will be scored (5 on SARS-CoV-2); of a gene that training has not seen they
            say nothing. 0: its level alone is told.
        facts: a small network on what is known of each change, beside the encoder.
        masked: what mlm learns from.
        scoring: how a file of variants is read for scoring.
    """

    name: str = "genomics"
    task: str = "effect"
    reader: str = "window"
    strand: str = "both"
    head: str = "bases"
    difference: DifferenceConfig = field(default_factory=DifferenceConfig)
    data: GenomicsData = field(default_factory=GenomicsData)
    window: int = 256
    batch_size: int = 4
    noise: float = 0.1
    codons: bool = True
    length_waves: int = 0
    facts: FactsConfig = field(default_factory=FactsConfig)
    masked: MaskedConfig = field(default_factory=MaskedConfig)
    scoring: ScoringConfig = field(default_factory=ScoringConfig)

    def __post_init__(self) -> None:
        _one_of("domain.name", self.name, ("genomics",))
        _one_of("domain.task", self.task, ("effect", "mlm"))
        _one_of("domain.reader", self.reader, ("window", "strands"))
        _one_of("domain.strand", self.strand, ("plus", "both"))
        if self.strand == "plus" and self.task == "mlm":
            raise ConfigError(
                "domain.strand: found plus with domain.task=mlm, which reads both strands of every "
                "base; leave it out"
            )
        if self.task == "mlm" and self.reader != "strands":
            raise ConfigError(
                "domain.reader: found window with domain.task=mlm, which must not see the base "
                "that it foresees; task=mlm on the command line sets both"
            )
        if self.task != "effect" and self.head != "bases":
            raise ConfigError(
                f"domain.head: found {self.head} with domain.task={self.task}, which has no labels "
                "to train it on; leave it out"
            )
        if self.facts.hidden and self.head != "bases":
            raise ConfigError(
                f"domain.head: found {self.head} with domain.facts.hidden={self.facts.hidden}, "
                "which tells of substitutions of one base only; say domain.facts.hidden=0"
            )
        if self.task == "mlm" and self.facts.hidden:
            raise ConfigError(
                f"domain.facts.hidden: found {self.facts.hidden} with domain.task=mlm, which "
                "learns from the genome alone; leave it out"
            )
        if self.task != "mlm" and self.scoring.llr != "masked":
            raise ConfigError(
                f"scoring.llr: found {self.scoring.llr} with domain.task={self.task}, whose scores "
                "are no log-likelihood ratios; leave it out"
            )
        _one_of("domain.head", self.head, ("bases", "difference"))
        if self.head == "difference" and self.reader != "window":
            raise ConfigError(
                f"domain.head: found difference with domain.reader={self.reader}, expected "
                "reader=window"
            )
        if self.head == "bases" and self.difference != DifferenceConfig():
            raise ConfigError(
                "domain.difference: found settings with domain.head=bases, which has no use for "
                "them; say domain.head=difference"
            )
        _at_least("domain.length_waves", self.length_waves, 0)
        if self.length_waves and self.reader != "window":
            raise ConfigError(
                f"domain.length_waves: found {self.length_waves} with domain.reader="
                f"{self.reader}, expected reader=window; leave it out"
            )
        _at_least("domain.window", self.window, 16)
        _at_least("domain.batch_size", self.batch_size, 1)
        if not 0 <= self.noise < 1:
            raise ConfigError(f"domain.noise: found {self.noise}, expected 0 <= noise < 1")
