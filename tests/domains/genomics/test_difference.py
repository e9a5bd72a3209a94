"""The difference head: insertions, deletions and longer substitutions have a score, too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from core.bundle import load_bundle, restore, write_bundle
from core.calibration import Calibration
from core.errors import ConfigError
from domains.genomics import domain
from domains.genomics.config import DifferenceConfig, GenomicsConfig
from domains.genomics.contig import encode
from domains.genomics.difference import DifferenceTask
from domains.genomics.difference_window import differences
from domains.genomics.edited import Editor
from domains.genomics.event import event_of
from domains.genomics.labelled_event import events_of
from domains.genomics.source import LabelledSource
from pipelines.train import plain
from tests.domains.genomics.conftest import run_score
from tests.domains.genomics.test_event import mirrored, opposite, reference_of


@pytest.fixture(scope="module")
def with_head(simulated: GenomicsConfig) -> GenomicsConfig:
    settings = DifferenceConfig(flank=24, events=8, longest=30, random=20)
    return replace(simulated, head="difference", difference=settings)


@pytest.fixture(scope="module")
def trained(
    with_head: GenomicsConfig, encoder: Any, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A bundle trained for a few steps, with the head."""
    source, task = domain.open(with_head, "train"), domain.task(with_head)
    assert isinstance(source, LabelledSource) and isinstance(task, DifferenceTask)
    rows = task.folds(source)[-1].train
    tokenizer = task.fit_tokenizer(source, rows)
    torch.manual_seed(0)
    module = task.module(tokenizer, encoder).train()
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-2)
    for batch in task.loader(source, tokenizer, rows, 0, 4):
        optimizer.zero_grad()
        module.loss(batch).backward()
        optimizer.step()
    path = tmp_path_factory.mktemp("difference") / "bundle"
    write_bundle(
        path,
        manifest={
            "domain": "genomics",
            "task": task.name,
            "created": "2026-01-01T00:00:00",
            "fingerprint": source.fingerprint(),
            "label_intervals": [],
            "config": plain(with_head),
        },
        encoder=encoder,
        weights=module.state_dict(),
        tokenizer=tokenizer.to_dict(),
        calibration=Calibration("identity"),
        metrics=[],
        reference=[],
        model_card="a small model for tests\n",
    )
    return path


def _sequence(config: GenomicsConfig) -> str:
    lines = Path(config.data.fasta or "").read_text().split(">sim2")[0].splitlines()
    return "".join(lines[1:])


def _scored(bundle: Path, alleles: list[tuple[int, str, str]], out: Path) -> pl.DataFrame:
    lines = ["##fileformat=VCFv4.3", "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
    lines += [f"sim1\t{pos}\t.\t{ref}\t{alt}\t.\t.\t." for pos, ref, alt in alleles]
    (out / "in.vcf").write_text("\n".join(lines) + "\n")
    summary = run_score(bundle, out / "in.vcf", out / "out.parquet")
    assert "error" not in summary, summary
    return pl.read_parquet(out / "out.parquet")


def test_spellings_of_an_event_have_one_score_and_a_longer_one_is_refused(
    trained: Path, with_head: GenomicsConfig, tmp_path: Path
) -> None:
    bases = _sequence(with_head)
    run = next(i for i in range(300, 3000) if bases[i] == bases[i + 1] == bases[i + 2])
    unit = bases[run]
    other = "A" if unit != "A" else "C"
    alleles = [
        (run, bases[run - 1] + unit, bases[run - 1]),  # the same deletion, three times
        (run + 1, unit + unit, unit),
        (run + 1, unit * 3, unit * 2),
        (run + 1, unit, other),  # the same substitution, twice
        (run, bases[run - 1] + unit, bases[run - 1] + other),
        (run, bases[run - 1], bases[run - 1] + "ACGT" * 9),
        (run, bases[run - 1], bases[run - 1]),
        (run, bases[run - 1] + unit, bases[run - 1] + "N"),
    ]
    found = _scored(trained, alleles, tmp_path)
    effect, reason = found["effect"].to_list(), found["reason"].to_list()
    assert effect[0] is not None and effect[0] == effect[1] == effect[2]
    assert effect[3] is not None and effect[3] == effect[4]
    assert reason == ["SCORED"] * 5 + ["INDEL_TOO_LONG", "ALT_EQUALS_REF", "AMBIGUOUS_ALT"]
    assert effect[5:] == [None] * 3
    assert found["percentile"].is_not_null().to_list() == [True] * 3 + [False] * 5
    assert found["consequence"][0] == found["consequence"][1] is not None


def test_a_longer_substitution_is_one_event_not_a_sum(
    trained: Path, with_head: GenomicsConfig, tmp_path: Path
) -> None:
    source, task = domain.open(with_head, "train"), domain.task(with_head)
    assert isinstance(source, LabelledSource)
    tokenizer, module = restore(load_bundle(trained), task)
    bases = _sequence(with_head)
    pos, ref = 500, bases[500:502]
    alt = "".join("ACGT"[3 - "ACGT".index(b)] for b in ref)
    alleles = [(pos + 1, ref, alt), (pos + 1, ref[0], alt[0]), (pos + 2, ref[1], alt[1])]
    effect = _scored(trained, alleles, tmp_path)["effect"].to_list()
    sequence = source.reference.sequence("sim1")
    event = event_of("sim1", sequence, pos, encode(ref), encode(alt))
    told = differences(module, Editor(source.reference, 24), [event]).mean(0)
    assert effect[0] == pytest.approx(float(tokenizer.to_label(told)[0]), abs=1e-6)
    assert abs(effect[0] - effect[1] - effect[2]) > 1e-4


def test_without_room_to_compare_it_with_an_event_says_so(
    trained: Path, with_head: GenomicsConfig, tmp_path: Path
) -> None:
    bases = _sequence(with_head)
    (tmp_path / "in.vcf").write_text(
        "##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
        f"sim1\t500\t.\t{bases[499:502]}\t{bases[499]}\t.\t.\t.\n"
    )
    out = tmp_path / "out.vcf"
    summary = run_score(trained, tmp_path / "in.vcf", out, difference={"random": 0})
    assert (summary["scored"], summary["reasons"]) == (1, {"INDEL_UNCALIBRATED": 1})
    info = out.read_text().splitlines()[-1].split("\t")[7]
    tags = dict(tag.split("=") for tag in info.split(";"))
    assert tags["LS_PERCENTILE"] == "." and tags["LS_REASON"] == "INDEL_UNCALIBRATED"
    assert float(tags["LS_EFFECT"]) != 0
    plain = run_score(trained, tmp_path / "in.vcf", tmp_path / "out.parquet")
    assert plain["reasons"] == {} and plain["scored"] == 1


def test_what_an_event_does_not_reach_cancels(trained: Path, with_head: GenomicsConfig) -> None:
    """The network's reach is 16 + 3: twice that on either side, and no more tells anything, where
    no gene is read in another frame behind the event."""
    bare = replace(with_head, data=replace(with_head.data, annotation=None))
    source, task = domain.open(bare, "train"), domain.task(bare)
    assert isinstance(source, LabelledSource)
    _, module = restore(load_bundle(trained), task)
    sequence = source.reference.sequence("sim1")
    events = [
        event_of("sim1", sequence, pos, sequence[pos : pos + lost], np.array(new, dtype=np.uint8))
        for pos, lost, new in ((1500, 2, []), (900, 0, [0, 1, 2]), (2200, 1, [3, 3, 1]))
    ]
    told = [differences(module, Editor(source.reference, f), events)[0] for f in (38, 60, 3)]
    np.testing.assert_allclose(told[0], told[1], atol=2e-5)
    assert not np.allclose(told[0], told[2], atol=1e-4)


def test_a_score_is_the_same_on_the_other_strand(trained: Path, with_head: GenomicsConfig) -> None:
    source, task = domain.open(with_head, "train"), domain.task(with_head)
    assert isinstance(source, LabelledSource)
    _, module = restore(load_bundle(trained), task)
    sequence, genes = source.reference.sequence("sim1"), source.reference.transcripts["sim1"]
    length = len(sequence)
    mirror = reference_of(opposite(sequence), mirrored(genes, length), "sim1")
    events, others = [], []
    for pos, lost, new in (
        (700, 2, []),
        (1200, 0, [1]),
        (1700, 1, [2]),
        (0, 1, []),
        (2600, 3, [0]),
    ):
        ref, alt = sequence[pos : pos + lost], np.array(new, dtype=np.uint8)
        events.append(event_of("sim1", sequence, pos, ref, alt))
        there = (length - pos - lost, opposite(ref), opposite(alt))
        others.append(event_of("sim1", mirror.sequence("sim1"), *there))
    told = differences(module, Editor(source.reference, 24), events)
    read = differences(module, Editor(mirror, 24), others)
    np.testing.assert_allclose(told, read, atol=1e-5)
    assert np.ptp(told) > 1e-3


def test_labelled_indels_are_learned_from_and_predicted(
    with_head: GenomicsConfig, encoder: Any, tmp_path: Path
) -> None:
    bases = _sequence(with_head)
    lines = ["chrom\tpos\tref\talt\tEFFECT"]
    rng = np.random.default_rng(0)
    for pos in range(100, 3900, 20):
        ref = bases[pos - 1]
        alt = "ACGT"[("ACGT".index(ref) + 1) % 4]
        lines.append(f"sim1\t{pos}\t{ref}\t{alt}\t{rng.random():.3f}")
        lines.append(f"sim1\t{pos + 5}\t{bases[pos + 4 : pos + 7]}\t{bases[pos + 4]}\t2.5")
    lines.append(f"sim1\t50\t{bases[49]}\t{bases[49]}{'A' * 40}\t1.0")
    (tmp_path / "labels.tsv").write_text("\n".join(lines) + "\n")
    split = replace(with_head.data.split, kind="blocks", block=400)
    data = replace(with_head.data, variants=str(tmp_path / "labels.tsv"), split=split)
    config = replace(with_head, data=data)
    source, task = domain.open(config, "train"), domain.task(config)
    assert isinstance(source, LabelledSource) and isinstance(task, DifferenceTask)
    assert (source.variants["alt"] < 0).sum() == 190 and len(source.variants) == 380
    aside = source.set_aside().collect()
    assert len(aside) == 1 and "event of at most 30" in aside["expected"][0]
    rows = source.variants["row"]
    tokenizer = task.fit_tokenizer(source, rows)
    batch = task.loader(source, tokenizer, rows, 0, 60).batch_at(0)
    assert batch["events"]["label"].shape == (8,) and len(batch["events"]["base"]) == 16
    module = task.module(tokenizer, encoder)
    told = task.predict(module, source, tokenizer, rows)
    others = told.filter(pl.col("ref").str.len_chars() > 1)
    assert len(others) == 190 and others["raw"].equals(others["difference"])
    single = told.filter(pl.col("ref").str.len_chars() == 1)
    assert not np.allclose(single["raw"].to_numpy(), single["difference"].to_numpy())
    names = {(m.protocol.partition(", ")[2], m.metric) for m in task.metrics(source, told)}
    assert all(np.isfinite([m.value, m.low, m.high]).all() for m in task.metrics(source, told))
    assert {("difference head", "spearman"), ("difference head", "spearman_of_heads")} < names
    floor = task.floors(source, task.folds(source)[0], encoder)["position_knn"]
    assert next(m.metric for m in task.metrics(source, floor)) == "spearman"
    event = next(e for e in events_of(source.reference, source.variants) if e.lost == 2)
    assert event.gained == 0


def test_of_labelled_spellings_of_an_event_the_first_is_used(
    with_head: GenomicsConfig, tmp_path: Path
) -> None:
    bases = _sequence(with_head)
    at = next(
        i for i in range(100, 3900) if len({*bases[i : i + 3]}) == 1 and bases[i - 1] != bases[i]
    )
    rows = [f"sim1\t{p + 1}\t{bases[p : p + 2]}\t{bases[p]}\t{p - at}.5" for p in (at, at - 1)]
    (tmp_path / "labels.tsv").write_text("\n".join(["chrom\tpos\tref\talt\tEFFECT", *rows]) + "\n")
    data = replace(with_head.data, variants=str(tmp_path / "labels.tsv"))
    source = domain.open(replace(with_head, data=data), "train")
    assert isinstance(source, LabelledSource)
    told = source.variants.select("pos", "end", "label").row(0)
    assert len(source.variants) == 1 and told[0] == at and told[1] >= at + 3 and told[2] == 0.5
    aside = source.set_aside().collect()
    assert aside.select("row", "expected").rows() == [(1, "one row an allele")]


def test_runs_of_bases_have_numbers_that_are_learned_and_count(
    with_head: GenomicsConfig, encoder: Any
) -> None:
    config = replace(with_head, difference=replace(with_head.difference, kmers=[3]))
    source, task = domain.open(config, "train"), domain.task(config)
    assert isinstance(source, LabelledSource)
    rows = source.variants["row"]
    tokenizer = task.fit_tokenizer(source, rows)
    module = task.module(tokenizer, encoder).train()
    module.loss(task.loader(source, tokenizer, rows, 0, 1).batch_at(0)).backward()
    table = dict(module.named_parameters())["kmers.tables.0.weight"]
    assert table.grad is not None and table.grad.abs().sum() > 0


def test_the_head_needs_labels_and_the_window_reader() -> None:
    with pytest.raises(ConfigError, match="reader=window"):
        GenomicsConfig(head="difference", reader="strands")
    with pytest.raises(ConfigError, match="no labels"):
        GenomicsConfig(task="mlm", reader="strands", head="difference")
    with pytest.raises(ConfigError, match=r"domain\.head=difference"):
        GenomicsConfig(difference=DifferenceConfig(flank=20))
