"""Tracks: values where the file has them, one sentence where it cannot be used."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.errors import ConfigError, DataContractError
from domains.genomics import domain
from domains.genomics.config import GenomicsConfig, TrackConfig
from domains.genomics.contig import Genome
from domains.genomics.contig_name import ContigNames
from domains.genomics.source import LabelledSource
from domains.genomics.track import read_track

GENOME = Genome(
    Path("g.fa"), {"c": np.zeros(10, dtype=np.uint8)}, ContigNames(("c",), {"chrC": "c"}), ""
)


def _written(folder: Path, text: str) -> TrackConfig:
    path = folder / "a.bedgraph"
    path.write_text(text)
    return TrackConfig(str(path), cap=2.0)


def test_a_track_is_shares_of_its_cap_and_says_where_it_knows(tmp_path: Path) -> None:
    text = "track type=bedGraph\n#note\nc 1 3 0.5\nchrC\t3\t4\t-9\nother 0 1 5\n"
    config = _written(tmp_path, text)
    track = read_track("phylop", config, GENOME)
    assert track.channel_names == ("phylop", "phylop_known")
    channels = track.channels("c", 10)
    assert channels[:, 0].tolist() == [0, 25, 25, -100, 0, 0, 0, 0, 0, 0]
    assert channels[:, 1].tolist() == [0, 100, 100, 100, 0, 0, 0, 0, 0, 0]
    packed = tmp_path / "a.bedgraph.gz"
    packed.write_bytes(gzip.compress(text.encode()))
    again = read_track("phylop", replace(config, path=str(packed)), GENOME)
    assert np.array_equal(again.values["c"], track.values["c"], equal_nan=True)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("c 1 2 3\nc 2 3\n", "line 2: found 'c 2 3'"),
        ("c 1 2 high\n", "line 1: found 'c 1 2 high'"),
        ("c 1 2 nan\n", "expected a finite number"),
        ("c 8 11 1\n", "within its 10 bases; is the track of the same assembly"),
        ("c 3 3 1\n", "expected a stretch within"),
        ("c 1 4 1\nc 3 5 2\n", r"line 2: c \[3, 5\) has a value already"),
    ],
)
def test_a_malformed_track_names_its_line(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(DataContractError, match=told):
        read_track("phylop", _written(tmp_path, text), GENOME)


def test_a_track_of_other_contigs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data.tracks.phylop: no value of .* on a contig"):
        read_track("phylop", _written(tmp_path, "d 1 2 3\n"), GENOME)


def test_a_model_is_not_run_without_the_track_it_learnt_from(
    simulated: GenomicsConfig, tmp_path: Path
) -> None:
    assert simulated.data.fasta is not None
    contig = Path(simulated.data.fasta).read_text().split()[0][1:]
    path = tmp_path / "x.bedgraph"
    path.write_text(f"{contig} 0 100 1\n")
    data = replace(simulated.data, tracks={"x": TrackConfig(str(path))})
    source, plain = LabelledSource(replace(simulated, data=data)), LabelledSource(simulated)
    task = domain.task(simulated)
    tokenizer = task.fit_tokenizer(source, source.variants["row"])
    assert tokenizer == task.load_tokenizer(tokenizer.to_dict())
    tokenizer.check_channels(source.reference.channel_names)
    with pytest.raises(ConfigError, match=r"data\.tracks: found none, expected x"):
        tokenizer.check_channels(plain.reference.channel_names)
    assert source.fingerprint() != plain.fingerprint()
    kept = domain.carried(replace(simulated, data=data)).data.tracks["x"].path
    assert Path(kept).is_absolute()
