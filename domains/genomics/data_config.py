"""Configuration of what genomics reads: files, simulated genome, tracks and folds.

Field by field checks live here, in `__post_init__`; whether the named files fit together is only
known once they are opened (`domains.genomics.source`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

from core.errors import ConfigError
from domains.genomics.config_check import check_at_least, check_one_of
from domains.genomics.genetic_code import STANDARD, check_genetic_code


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
        check_one_of("data.split.kind", self.kind, ("blocks", "stretches", "contig", "info"))
        check_at_least("data.split.block", self.block, 1)
        check_at_least("data.split.folds", self.folds, 2)
        check_at_least("data.split.purge", self.purge, 0)
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
        check_at_least("data.simulation.contigs", self.contigs, 1)
        check_at_least("data.simulation.length", self.length, 4000)
        check_at_least("data.simulation.noise", self.noise, 0.0)
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
            ref, alt (.tsv, .csv, each also .gz).
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
        check_one_of("data.source", self.source, ("simulated", "files"))
        check_one_of("data.label_kind", self.label_kind, ("regression", "classification"))
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
