"""bigWig, the indexed binary form of a track: a number for some of the bases of a contig.

The format is that of Kent et al. 2010 (Bioinformatics 26:2204), read and written by pybigtools.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
import polars as pl

from core.contract import Summary
from core.errors import ConfigError, DataContractError
from domains.genomics.contig import Genome
from domains.genomics.scored import summary_of

SUFFIXES = (".bw", ".bigwig")
_STRETCH = 1 << 22  # bases read at a time, in float64


def is_bigwig(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def read_bigwig(path: Path, genome: Genome) -> dict[str, np.ndarray]:
    """float32 [length] for each contig of the FASTA that the file has, nan where it says nothing.

    Raises:
        DataContractError: not a bigWig, a contig of another length, or a value that is not finite.
    """
    pybigtools = _library(path)
    try:
        track = pybigtools.open(str(path))
        lengths = track.chroms()
    except (pybigtools.BBIReadError, ValueError) as error:
        raise DataContractError(f"{path}: found no bigWig ({error})") from None
    values: dict[str, np.ndarray] = {}
    for given, length in lengths.items():
        contig = genome.resolve(given)
        if contig is None:
            continue
        expected = len(genome.contigs[contig])
        if length != expected:
            raise DataContractError(
                f"{path}: found {given} of {length} bases, expected the {expected} of {contig} in "
                f"{genome.path}; is the track of the same assembly?"
            )
        held = np.empty(length, dtype=np.float32)
        for start in range(0, length, _STRETCH):
            end = min(start + _STRETCH, length)
            held[start:end] = track.values(given, start, end, fillna=None)
        if np.isinf(held).any():
            at = int(np.flatnonzero(np.isinf(held))[0])
            raise DataContractError(f"{path}: {given}:{at + 1} has {held[at]}, expected a number")
        values[contig] = held
    return values


def write_bigwig(scored: Iterator[pl.DataFrame], genome: Genome, out: Path, number: str) -> Summary:
    """The mean of `number` over the scored alternatives of each base, whole or not at all.

    Contigs come in the order of their names, which other tools look them up by; until then what
    was scored lies in files beside `out`.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        kept = _Kept(Path(folder))
        for frame in scored:
            counts.update(dict(frame["reason"].value_counts().iter_rows()))
            known = frame.filter(pl.col(number).is_not_null())
            means = known.group_by("chrom", "pos").agg(pl.col(number).mean()).sort("chrom", "pos")
            for (contig,), part in means.group_by("chrom", maintain_order=True):
                kept.add(str(contig), part["pos"].to_numpy() - 1, part[number].to_numpy())
        if not kept.files:
            raise DataContractError(f"{out}: found no base with a score, of which a bigWig is made")
        partial = Path(folder) / out.name
        lengths = {name: len(genome.contigs[name]) for name in sorted(kept.files)}
        _write(partial, lengths, kept)
        os.replace(partial, out)
    return summary_of(counts, [str(out)])


class _Kept:
    """Positions (0-based) and values of each contig, in files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[str, Path] = {}

    def add(self, contig: str, at: np.ndarray, values: np.ndarray) -> None:
        path = self.files.setdefault(contig, self.folder / f"{len(self.files)}.values")
        with path.open("ab") as f:
            rows = np.empty(len(at), dtype=[("at", "<i8"), ("value", "<f4")])
            rows["at"], rows["value"] = at, values
            f.write(rows.tobytes())

    def rows(self) -> Iterator[tuple[str, int, int, float]]:
        """Contig, start, end and value, by contig name and by position."""
        for contig in sorted(self.files):
            rows = np.fromfile(self.files[contig], dtype=[("at", "<i8"), ("value", "<f4")])
            for at, value in rows[np.argsort(rows["at"], kind="stable")].tolist():
                yield contig, at, at + 1, value


def _write(path: Path, lengths: Mapping[str, int], kept: _Kept) -> None:
    library, failed = _library(path), list[BaseException]()

    def rows() -> Iterator[tuple[str, int, int, float]]:
        try:
            yield from kept.rows()
        except BaseException as error:  # the library prints what it catches, and goes on
            failed.append(error)
            raise

    library.open(str(path), "w").write(dict(lengths), rows())
    if failed:
        raise failed[0]
    try:
        library.open(str(path)).info()
    except (library.BBIReadError, ValueError) as error:
        raise OSError(f"{path}: the bigWig was not written ({error})") from error


def _library(path: Path) -> ModuleType:
    try:
        import pybigtools
    except ImportError:
        raise ConfigError(
            f"{path}: bigWig needs the package pybigtools: pip install 'longstrand[bigwig]'"
        ) from None
    return pybigtools
