"""Genomics: sequence and gene structure in, the effect of every single-base substitution out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from core.errors import ConfigError
from domains.genomics.config import GenomicsConfig

if TYPE_CHECKING:
    from domains.genomics.effect import EffectTask
    from domains.genomics.genome_source import GenomeSource
    from domains.genomics.masked import MaskedTask
    from domains.genomics.source import LabelledSource
    from domains.genomics.variant_file import VariantFile


class GenomicsDomain:
    """Implements `core.contract.Domain`. Importing it loads neither torch nor pysam."""

    name = "genomics"
    config = GenomicsConfig

    def open(
        self,
        config: GenomicsConfig,
        purpose: Literal["train", "score"],
        *,
        input: Path | None = None,
        history: Path | None = None,
    ) -> LabelledSource | GenomeSource | VariantFile:
        """`train` reads reference, annotation and labelled variants, for mlm the reference alone;
        `score` reads the reference, the annotation and the variants of `input`.

        Raises:
            ConfigError: a missing path, or `history`, which variants do not have.
        """
        if history is not None:
            raise ConfigError(f"history={history}: variants have no history; leave it out")
        if purpose == "train":
            if config.data.source == "simulated":
                raise ConfigError(
                    "data.source: simulated data must be written first (pipelines.simulate)"
                )
            if config.task == "mlm":
                from domains.genomics.genome_source import GenomeSource

                return GenomeSource(config)
            from domains.genomics.source import LabelledSource

            return LabelledSource(config)
        from domains.genomics.variant_file import VariantFile

        if input is None:
            raise ConfigError("input: found none, expected the variants to score")
        return VariantFile(config, Path(input))

    def inputs(self, config: GenomicsConfig, input: Path) -> Mapping[str, Path] | None:
        """The VCF files of a folder, or those that a glob names, such as one a chromosome."""
        from domains.genomics.variant_folder import variant_files

        return None if config.scoring.saturate is not None else variant_files(input)

    def task(self, config: GenomicsConfig) -> EffectTask | MaskedTask:
        from domains.genomics.difference import DifferenceTask
        from domains.genomics.effect import EffectTask
        from domains.genomics.masked import MaskedTask

        if config.task == "mlm":
            return MaskedTask(config)
        return DifferenceTask(config) if config.head == "difference" else EffectTask(config)

    def simulate(self, config: GenomicsConfig, out: Path) -> None:
        """Write genome.fa, genes.gff3, variants.vcf.gz, their indexes and README.txt."""
        from domains.genomics.simulate import write_simulation

        write_simulation(config.data.simulation, Path(out))

    def simulated(self, config: GenomicsConfig, out: Path) -> GenomicsConfig:
        """The same config, reading the files that `simulate` wrote to `out`."""
        out = Path(out)
        if config.task == "mlm":
            data = replace(config.data, source="files", fasta=str(out / "genome.fa"))
            return replace(config, data=data)
        data = replace(
            config.data,
            source="files",
            fasta=str(out / "genome.fa"),
            annotation=str(out / "genes.gff3"),
            variants=str(out / "variants.vcf.gz"),
            label="EFFECT",
        )
        return replace(config, data=data)

    def as_of(self, config: GenomicsConfig, day: date) -> GenomicsConfig:
        """The same: effects have no time; what is new is what the champion has not seen."""
        return config

    def restored(self, saved: Mapping[str, Any]) -> Mapping[str, Any]:
        """Older bundles read plus where no strand was said, and said so of mlm too, which reads
        both."""
        mlm = saved.get("task") == "mlm"
        return {**saved, "strand": "both" if mlm else saved.get("strand", "plus")}

    def carried(self, config: GenomicsConfig) -> GenomicsConfig:
        """The same config with absolute paths."""
        data = config.data
        tracks = {
            name: replace(track, path=str(Path(track.path).resolve()))
            for name, track in data.tracks.items()
        }
        paths = {
            name: str(Path(path).resolve())
            for name in ("fasta", "annotation", "variants")
            if (path := getattr(data, name)) is not None
        }
        return replace(config, data=replace(data, tracks=tracks, **paths))


domain = GenomicsDomain()
