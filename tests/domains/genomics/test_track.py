"""Tracks: values where the file has them, one sentence where it cannot be used."""

from __future__ import annotations

import gzip
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pybigtools
import pytest

from core.errors import ConfigError, DataContractError
from domains.genomics import bigwig, domain
from domains.genomics.config import GenomicsConfig
from domains.genomics.contig import Genome
from domains.genomics.contig_name import ContigNames
from domains.genomics.data_config import TrackConfig
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


def _bigwig(path: Path, length: int, rows: list[tuple[str, int, int, float]]) -> TrackConfig:
    pybigtools.open(str(path), "w").write({"chrC": length, "other": 9}, iter(rows))
    return TrackConfig(str(path), cap=2.0)


def test_a_bigwig_gives_what_its_bedgraph_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [("chrC", 1, 3, 0.5), ("chrC", 3, 4, -9.0), ("other", 0, 1, 5.0)]
    text = "".join(f"{c} {a} {b} {v}\n" for c, a, b, v in rows)
    expected = read_track("phylop", _written(tmp_path, text), GENOME)
    for stretch in (1 << 20, 3):
        monkeypatch.setattr(bigwig, "_STRETCH", stretch)
        found = read_track("phylop", _bigwig(tmp_path / "a.bw", 10, rows), GENOME)
        assert list(found.values) == ["c"]
        assert np.array_equal(found.values["c"], expected.values["c"], equal_nan=True)


def test_a_bigwig_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    long = _bigwig(tmp_path / "long.bw", 11, [("chrC", 1, 3, 0.5)])
    with pytest.raises(DataContractError, match="chrC of 11 bases, expected the 10 of c"):
        read_track("phylop", long, GENOME)
    endless = _bigwig(tmp_path / "endless.bw", 10, [("chrC", 4, 5, float("inf"))])
    with pytest.raises(DataContractError, match="chrC:5 has inf"):
        read_track("phylop", endless, GENOME)
    (tmp_path / "text.bigWig").write_text("c 1 2 3\n")
    with pytest.raises(DataContractError, match="found no bigWig"):
        read_track("phylop", TrackConfig(str(tmp_path / "text.bigWig")), GENOME)
    foreign = _bigwig(tmp_path / "foreign.bw", 10, [("other", 1, 3, 0.5)])
    with pytest.raises(ConfigError, match="no value of"):
        read_track("phylop", foreign, GENOME)


def test_without_the_package_a_bigwig_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _bigwig(tmp_path / "a.bw", 10, [("chrC", 1, 3, 0.5)])
    monkeypatch.setitem(sys.modules, "pybigtools", None)
    with pytest.raises(ConfigError, match=r"longstrand\[bigwig\]"):
        read_track("phylop", config, GENOME)


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


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("a.bg.gz", gzip.compress(b"c 1 2 3\n")[:-9], id="cut short"),
        pytest.param("a.bg.gz", b"c 1 2 3\n", id="no gzip data"),
        pytest.param("a.bg", b"c 1 2 3\n\xff\xfe", id="no text"),
    ],
)
def test_a_track_that_cannot_be_read_is_refused_by_name(
    tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataContractError, match=rf"{name}: cannot be read as bedGraph"):
        read_track("phylop", TrackConfig(str(tmp_path / name)), GENOME)


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
    assert tokenizer == task.load_tokenizer(tokenizer.to_dict(), {})
    assert tokenizer.told(source.reference) is source.reference
    with pytest.raises(ConfigError, match=r"data\.tracks: found none, expected x"):
        tokenizer.told(plain.reference)
    assert source.fingerprint() != plain.fingerprint()
    kept = domain.carried(replace(simulated, data=data)).data.tracks["x"].path
    assert Path(kept).is_absolute()
