"""Configuration of the genomics domain: plain dataclasses, usable as Hydra structured configs.

What is read has its own (`domains.genomics.data_config`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

from core.errors import ConfigError
from domains.genomics.config_check import check_at_least, check_one_of
from domains.genomics.data_config import GenomicsData
from domains.genomics.fact_config import FactsConfig
from domains.genomics.masked_config import MaskedConfig


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
            check_at_least(f"difference.{name}", getattr(self, name), least)


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
        check_one_of("scoring.llr", self.llr, ("masked", "unmasked"))
        check_one_of("scoring.ref_mismatch", self.ref_mismatch, ("skip", "fail", "flip"))
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
        check_one_of("domain.name", self.name, ("genomics",))
        check_one_of("domain.task", self.task, ("effect", "mlm"))
        check_one_of("domain.reader", self.reader, ("window", "strands"))
        check_one_of("domain.strand", self.strand, ("plus", "both"))
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
        check_one_of("domain.head", self.head, ("bases", "difference"))
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
        check_at_least("domain.length_waves", self.length_waves, 0)
        if self.length_waves and self.reader != "window":
            raise ConfigError(
                f"domain.length_waves: found {self.length_waves} with domain.reader="
                f"{self.reader}, expected reader=window; leave it out"
            )
        check_at_least("domain.window", self.window, 16)
        check_at_least("domain.batch_size", self.batch_size, 1)
        if not 0 <= self.noise < 1:
            raise ConfigError(f"domain.noise: found {self.noise}, expected 0 <= noise < 1")
