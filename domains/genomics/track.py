"""Numeric tracks, such as conservation, from bedGraph or bigWig: a value for some of the bases.

A value belongs to the base pair, so it is the same on either strand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.errors import ConfigError, DataContractError
from domains.genomics.bigwig import SUFFIXES, is_bigwig, read_bigwig
from domains.genomics.channel import UNIT
from domains.genomics.contig import Genome
from domains.genomics.data_config import TrackConfig
from domains.genomics.text_lines import text_lines

_SUFFIXES = (".bedgraph", ".bg", ".bedgraph.gz", ".bg.gz")
_COMMENTS = ("#", "track", "browser")


@dataclass(frozen=True)
class Track:
    """Values of one track.

    Attributes:
        cap: values are counted in shares of it, and cut off there.
        values: float32 [length] a contig of the FASTA, nan where the track says nothing.
    """

    name: str
    cap: float
    values: Mapping[str, np.ndarray]

    @property
    def channel_names(self) -> tuple[str, str]:
        return self.name, f"{self.name}_known"

    def channels(self, contig: str, length: int) -> np.ndarray:
        """int8 [length, 2] in hundredths: share of the cap, and 1 where there is a value."""
        out = np.zeros((length, 2), dtype=np.int8)
        values = self.values.get(contig)
        if values is not None:
            known = ~np.isnan(values)
            share = np.clip(values[known] / self.cap, -1, 1)
            out[known, 0] = np.rint(share * UNIT)
            out[known, 1] = UNIT
        return out


def read_track(name: str, config: TrackConfig, genome: Genome) -> Track:
    """The values of a bedGraph or bigWig on the contigs of `genome`; others are left out.

    Raises:
        ConfigError: missing file, unknown format, or no value on any contig of the FASTA.
        DataContractError: a malformed line, a value past the end of its contig, or two values
            for one base.
    """
    path, where = Path(config.path), f"data.tracks.{name}"
    if not path.is_file():
        raise ConfigError(f"{where}: found no file {path}, expected a bedGraph or bigWig")
    if not path.name.lower().endswith((*_SUFFIXES, *SUFFIXES)):
        expected = ", ".join((*_SUFFIXES, *SUFFIXES))
        raise ConfigError(f"{where}: found {path.name}, expected one of {expected}")
    values = read_bigwig(path, genome) if is_bigwig(path) else _bedgraph(path, genome)
    if not values:
        raise ConfigError(
            f"{where}: no value of {path} lies on a contig of {genome.path}; map the names with "
            "data.contig_alias"
        )
    return Track(name, config.cap, values)


def _bedgraph(path: Path, genome: Genome) -> dict[str, np.ndarray]:
    values: dict[str, np.ndarray] = {}
    for number, given, start, end, value in _lines(path):
        contig = genome.resolve(given)
        if contig is None:
            continue
        length = len(genome.contigs[contig])
        held = values.setdefault(contig, np.full(length, np.nan, dtype=np.float32))
        if not 0 <= start < end <= length:
            raise DataContractError(
                f"{path} line {number}: found bases [{start}, {end}) of {given}, expected a "
                f"stretch within its {length} bases; is the track of the same assembly?"
            )
        if not np.isnan(held[start:end]).all():
            raise DataContractError(
                f"{path} line {number}: {given} [{start}, {end}) has a value already; expected "
                "stretches that do not overlap"
            )
        held[start:end] = value
    return values


def _lines(path: Path) -> Iterator[tuple[int, str, int, int, float]]:
    """Line number, contig, start, end (0-based, half-open), value."""
    for number, line in enumerate(text_lines(path, "bedGraph"), 1):
        cells = line.split()
        if not cells or cells[0].startswith(_COMMENTS):
            continue
        try:
            contig, start, end, value = cells
            found = number, contig, int(start), int(end), float(value)
        except ValueError:
            raise DataContractError(
                f"{path} line {number}: found {line.strip()!r}, expected contig, start, end "
                "and a number"
            ) from None
        if not np.isfinite(found[-1]):
            raise DataContractError(
                f"{path} line {number}: found {value}, expected a finite number"
            )
        yield found
