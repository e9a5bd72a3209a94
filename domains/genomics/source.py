"""Opened input: the reference with its channels, and labelled alleles to learn from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import polars as pl

from core.errors import ConfigError
from domains.genomics.allele import read_labelled
from domains.genomics.annotation import read_annotation
from domains.genomics.channel import CHANNELS, UNIT, channels_of
from domains.genomics.codon import coding_sites
from domains.genomics.config import GenomicsConfig
from domains.genomics.contig import GENBANK, Genome, read_genome
from domains.genomics.data_config import GenomicsData
from domains.genomics.fact import FactSheet
from domains.genomics.genetic_code import STANDARD
from domains.genomics.split import with_groups
from domains.genomics.track import Track, read_track
from domains.genomics.transcript import Annotation, Transcript


class Reference:
    """Genome, annotation, the genetic code by which its codons are read, and tracks; channels and
    codon sites of a contig are made when first asked for.

    Attributes:
        transcripts: contig -> its gene models, of contigs that have any.
        annotated: contigs of which the annotation tells something, be it that no gene is there;
            of others nothing is known.
    """

    def __init__(
        self,
        genome: Genome,
        transcripts: Sequence[Transcript],
        tracks: Sequence[Track] = (),
        genetic_code: int = STANDARD,
        annotated: Collection[str] = (),
    ) -> None:
        self.genome, self.tracks, self.genetic_code = genome, tracks, genetic_code
        extra = [name for track in tracks for name in track.channel_names]
        self.channel_names = (*CHANNELS, *extra)
        self.transcripts: dict[str, list[Transcript]] = {}
        for transcript in transcripts:
            self.transcripts.setdefault(transcript.contig, []).append(transcript)
        self.annotated = frozenset(self.transcripts) | frozenset(annotated)
        self._channels: dict[str, np.ndarray] = {}
        self._sites: dict[str, np.ndarray] = {}
        self._facts: dict[str, FactSheet] = {}

    def without_genes(self) -> Reference:
        """The same sequence and tracks, and no annotation."""
        if not self.transcripts:
            return self
        return Reference(self.genome, (), self.tracks, self.genetic_code)

    def sequence(self, contig: str) -> np.ndarray:
        """uint8 [length] base codes."""
        return self.genome.contigs[contig]

    def channels(self, contig: str) -> np.ndarray:
        """int8 [length, len(channel_names)], hundredths (`domains.genomics.channel`)."""
        if contig not in self._channels:
            length = len(self.sequence(contig))
            genes = channels_of(length, self.transcripts.get(contig, []))
            tracks = [track.channels(contig, length) for track in self.tracks]
            self._channels[contig] = np.concatenate([genes, *tracks], axis=1)
        return self._channels[contig]

    def sites(self, contig: str) -> np.ndarray:
        """int16 [length] codon sites (`domains.genomics.codon`)."""
        if contig not in self._sites:
            genes = self.transcripts.get(contig, [])
            self._sites[contig] = coding_sites(self.sequence(contig), genes)
        return self._sites[contig]

    def facts(self, contig: str) -> FactSheet:
        """What is known of each base and of its alternatives."""
        if contig not in self._facts:
            self._facts[contig] = FactSheet(self, contig)
        return self._facts[contig]


def open_reference(data: GenomicsData) -> Reference:
    """Read the FASTA, the annotation and the tracks that the config names."""
    if data.fasta is None:
        raise ConfigError(
            "data.fasta: found none; name the reference with data.source=files data.fasta=PATH"
        )
    genome = read_genome(Path(data.fasta), data.contig_alias)
    annotated = data.annotation
    if annotated is None and Path(data.fasta).suffix in GENBANK:
        annotated = data.fasta
    known = read_annotation(Path(annotated), genome) if annotated else Annotation([], set())
    tracks = [read_track(name, track, genome) for name, track in data.tracks.items()]
    return Reference(genome, known.transcripts, tracks, data.genetic_code, known.contigs)


class LabelledSource:
    """Labelled alleles on a reference.

    Attributes:
        reference: sequence, channels, sites.
        variants: row, chrom, pos (0-based), ref, alt (codes), label, weight, group, outer and,
            with head=difference, end and inserted (`allele.read_labelled`); ordered by row. One
            allele is enough; folds ask for more (`split.make_folds`).
        given: label of each of them as the file has it (text), in order.

    Raises:
        ConfigError: `data.variants` or `data.fasta` is not named, or names no file.
    """

    def __init__(self, config: GenomicsConfig) -> None:
        if config.data.variants is None:
            raise ConfigError(
                "data.variants: found none; name a labelled VCF or TSV with data.variants=PATH"
            )
        self.config = config
        self.reference = open_reference(config.data)
        longest = config.difference.longest if config.head == "difference" else 0
        used, self._aside = read_labelled(config.data, self.reference.genome, longest)
        self.given = used["given"]
        self.variants = with_groups(used.drop("given"), config.data.split)
        self._consequences: pl.DataFrame | None = None

    def consequences(self) -> pl.DataFrame | None:
        """row, consequence (gravest Sequence Ontology term, null on a contig without annotation)
        of `variants`; None without an annotation."""
        if not self.reference.transcripts:
            return None
        if self._consequences is None:
            from domains.genomics.consequence import consequences, labelled_alleles
            from domains.genomics.csq import ConsequenceCaller

            alleles = labelled_alleles(self.reference, self.variants)
            called = consequences(ConsequenceCaller(self.reference), alleles)
            self._consequences = called.select(pl.col("key").alias("row"), "consequence")
        return self._consequences

    def select(self, rows: pl.Series) -> pl.DataFrame:
        """`variants` of these row ids, ordered by row."""
        return self.variants.filter(pl.col("row").is_in(rows.implode()))

    def fingerprint(self) -> str:
        """SHA-256 over the bytes of every input file and over how they are read."""
        data = self.config.data
        digest = hashlib.sha256()
        tracks = [data.tracks[name].path for name in sorted(data.tracks)]
        for path in (data.fasta, data.annotation, data.variants, *tracks):
            if path is not None:
                digest.update(Path(path).read_bytes())
        # Names and places of files are not data: the same bytes elsewhere are the same input.
        how = asdict(data)
        for name in ("fasta", "annotation", "variants", "tracks"):
            del how[name]
        how["tracks"] = {name: track.cap for name, track in data.tracks.items()}
        digest.update(json.dumps(how, sort_keys=True).encode())
        return digest.hexdigest()

    def rows(self) -> pl.LazyFrame:
        """Columns row, group, locus (contig:1-based position), label, weight."""
        locus = pl.col("chrom") + ":" + (pl.col("pos") + 1).cast(pl.String)
        return self.variants.lazy().select("row", "group", locus.alias("locus"), "label", "weight")

    def set_aside(self) -> pl.LazyFrame:
        """Labelled rows that were not used: file, row, column, found, expected."""
        return self._aside.lazy()

    def fields(self, rows: pl.Series) -> pl.DataFrame:
        """Of these alleles: the substitution, the weight of its label, and every channel at its
        place."""
        chosen, names = self.select(rows), self.reference.channel_names
        letters = {-1: "other", **dict(enumerate("ACGT"))}
        base = [pl.col(c).replace_strict(letters, return_dtype=pl.String) for c in ("ref", "alt")]
        channels = np.zeros((len(chosen), len(names)))
        chrom, pos = chosen["chrom"].to_numpy(), chosen["pos"].to_numpy()
        for contig in chosen["chrom"].unique():
            here = chrom == contig
            channels[here] = self.reference.channels(contig)[pos[here]] / UNIT
        return chosen.select(
            pl.concat_str(base, separator=">").alias("substitution"),
            "weight",
            *(pl.Series(name, channels[:, i]) for i, name in enumerate(names)),
        )
