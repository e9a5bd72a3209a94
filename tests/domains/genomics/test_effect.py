"""The effect task: deterministic, honest about its test fold, independent of how tiles lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from core.contract import Fold
from core.errors import ConfigError
from domains.genomics import domain
from domains.genomics.config import GenomicsConfig
from domains.genomics.floor import floors_of, position_knn
from domains.genomics.simulated_consequence import TERMS, simulated_consequence
from domains.genomics.source import LabelledSource
from domains.genomics.tile import score_positions
from domains.genomics.tokenizer import EffectTokenizer


def _tokenizer() -> EffectTokenizer:
    return EffectTokenizer("regression", 0.5, 2.0)


def _trained(source: LabelledSource, fold: Fold, encoder: Any, steps: int = 4) -> pl.DataFrame:
    task = domain.task(source.config)
    tokenizer = task.fit_tokenizer(source, fold.train)
    torch.manual_seed(0)
    module = task.module(tokenizer, encoder).train()
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)
    for step, batch in enumerate(task.loader(source, tokenizer, fold.train, 0, steps)):
        torch.manual_seed(step)
        optimizer.zero_grad()
        module.loss(batch).backward()
        optimizer.step()
    return task.predict(module, source, tokenizer, fold.test)


def test_simulator_writes_the_same_bytes_for_the_same_seed(tmp_path: Path) -> None:
    config = GenomicsConfig()
    config.data.simulation.contigs, config.data.simulation.length = 2, 4000
    config.data.simulation.variants = 200
    for name in ("one", "two"):
        domain.simulate(config, tmp_path / name)
    files = sorted(p.name for p in (tmp_path / "one").iterdir())
    assert "variants.vcf.gz.tbi" in files and "genome.fa.fai" in files
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_simulated_genes_are_genes_and_effects_follow_the_recipe(simulated: GenomicsConfig) -> None:
    from domains.genomics.codon import translate

    source = domain.open(simulated, "train")
    assert source.set_aside().collect().is_empty()
    for contig, genes in source.reference.transcripts.items():
        for gene in genes:
            protein = translate(source.reference.sequence(contig), gene)
            assert protein[0] == "M" and protein.index("*") == len(protein) - 1
    v = source.variants.with_columns(
        term=pl.concat(
            pl.Series(
                simulated_consequence(
                    source.reference, c, part["pos"].to_numpy(), part["alt"].to_numpy()
                )
            )
            for (c,), part in source.variants.group_by("chrom", maintain_order=True)
        )
    )
    mean = {
        name: v.filter(pl.col("term") == TERMS.index(name))["label"].mean()
        for name in ("stop_gained", "splice_site_variant", "synonymous_variant")
    }
    assert mean["stop_gained"] == pytest.approx(4.0, abs=0.2)
    assert mean["splice_site_variant"] == pytest.approx(3.0, abs=0.4)
    assert mean["synonymous_variant"] == pytest.approx(0.0, abs=0.1)


def test_batch_depends_on_seed_and_step_only(simulated: GenomicsConfig) -> None:
    source = domain.open(simulated, "train")
    task = domain.task(simulated)
    rows = source.variants["row"]
    loader = task.loader(source, _tokenizer(), rows, seed=7, steps=5)
    again = task.loader(source, _tokenizer(), rows, seed=7, steps=5)
    other = task.loader(source, _tokenizer(), rows, seed=8, steps=5)
    batches = list(loader)
    again.load_state_dict({"next": 3})
    resumed = next(iter(again))
    for key in ("base", "channel", "site", "label", "weight"):
        assert torch.equal(batches[3][key], resumed[key])
    assert not torch.equal(batches[3]["base"], next(iter(other))["base"])


def test_labels_lie_on_their_position_and_alternative(simulated: GenomicsConfig) -> None:
    source = domain.open(simulated, "train")
    tokenizer = _tokenizer()
    loader = domain.task(simulated).loader(source, tokenizer, source.variants["row"][:1], 0, 1)
    batch = next(iter(loader))
    first = source.variants.row(0, named=True)
    places = batch["weight"].nonzero()
    assert len(places) == len(batch["base"])  # every window holds the only label
    for window, at, alt in places.tolist():
        assert alt == first["alt"] and batch["base"][window, at] == first["ref"]
        expected = tokenizer.to_model(np.array(first["label"]))
        assert batch["label"][window, at, alt].item() == pytest.approx(float(expected), abs=1e-6)


def test_a_few_epochs_see_every_labelled_position(simulated: GenomicsConfig) -> None:
    from domains.genomics.window import TrainingWindows

    source = domain.open(simulated, "train")
    windows = TrainingWindows(source.reference, _tokenizer(), source.variants, 64, 1, seed=0)
    seen = np.zeros(len(windows._anchors))
    at = {place: i for i, place in enumerate(windows._anchors)}
    for index in range(8 * windows.per_epoch):
        span = windows._span(index, torch.Generator().manual_seed(index))
        for pos in range(span.start, span.end):
            if (span.contig, pos) in at:
                seen[at[span.contig, pos]] += 1
    assert (seen > 0).mean() > 0.99


def test_shuffled_test_labels_leave_test_predictions_bit_equal(
    simulated: GenomicsConfig, encoder: Any
) -> None:
    source, shuffled = domain.open(simulated, "train"), domain.open(simulated, "train")
    fold = domain.task(simulated).folds(source)[0]
    tested = shuffled.variants["row"].is_in(fold.test.implode())
    mixed = shuffled.variants["label"].to_numpy().copy()
    here = np.flatnonzero(tested.to_numpy())
    mixed[here] = np.random.default_rng(0).permutation(mixed[here])
    shuffled.variants = shuffled.variants.with_columns(label=pl.Series(mixed))
    one, two = (_trained(s, fold, encoder) for s in (source, shuffled))
    assert not one["label"].equals(two["label"])
    assert one["raw"].equals(two["raw"])


def test_scores_do_not_depend_on_where_tiles_lie(simulated: GenomicsConfig, encoder: Any) -> None:
    source = domain.open(simulated, "train")
    torch.manual_seed(0)
    module = domain.task(simulated).module(_tokenizer(), encoder)
    assert module.reach() == 2 * 8 + 3 + 2
    whole = np.arange(0, 600)
    full = score_positions(module, source.reference, "sim1", whole, 4000)
    few = np.array([0, 3, 100, 101, 288, 599])
    torch.testing.assert_close(
        score_positions(module, source.reference, "sim1", few, 64), full[few], atol=1e-5, rtol=0
    )
    torch.testing.assert_close(
        score_positions(module, source.reference, "sim1", whole, 64), full, atol=1e-5, rtol=0
    )


def test_nothing_past_the_stated_reach_changes_a_score(
    simulated: GenomicsConfig, encoder: Any
) -> None:
    source = domain.open(simulated, "train")
    torch.manual_seed(0)
    module = domain.task(simulated).module(_tokenizer(), encoder)
    at, reach = np.array([500]), module.reach()
    before = score_positions(module, source.reference, "sim1", at, 2000)
    sequence = source.reference.sequence("sim1")
    sequence[500 + reach + 1] = (sequence[500 + reach + 1] + 1) % 4
    sequence[500 - reach - 1] = (sequence[500 - reach - 1] + 1) % 4
    after = score_positions(module, source.reference, "sim1", at, 2000)
    torch.testing.assert_close(after, before, atol=1e-6, rtol=0)
    sequence[500 + 2] = (sequence[500 + 2] + 1) % 4
    assert not np.allclose(
        score_positions(module, source.reference, "sim1", at, 2000), after, atol=1e-6
    )


def test_unbounded_pattern_centres_a_window_on_each_position(simulated: GenomicsConfig) -> None:
    from core.attention import Dense
    from core.model.encoder import EncoderConfig

    source = domain.open(simulated, "train")
    torch.manual_seed(0)
    dense = EncoderConfig(dim=16, layers=1, heads=2, pattern=Dense())
    module = domain.task(simulated).module(_tokenizer(), dense)
    assert module.reach() is None
    together = score_positions(module, source.reference, "sim1", np.arange(100, 110), 40)
    alone = score_positions(module, source.reference, "sim1", np.array([104]), 40)
    torch.testing.assert_close(together[4:5], alone, atol=1e-5, rtol=0)


def test_task_reports_metrics_floors_intervals_and_panels(
    simulated: GenomicsConfig, encoder: Any
) -> None:
    source = domain.open(simulated, "train")
    task = domain.task(simulated)
    fold = task.folds(source)[0]
    predictions = _trained(source, fold, encoder, steps=1).with_columns(
        fold=pl.lit(fold.name), score=pl.col("raw")
    )
    ours, *by_consequence = task.metrics(source, predictions)
    assert any(m.metric == "macro_spearman" for m in by_consequence)
    assert ours.metric == "spearman" and ours.low <= ours.value <= ours.high
    floors = task.floors(source, fold, encoder)
    assert set(floors) == {"position_knn", "kmer", "untrained", "consequence_rank"}
    (rank, *_) = task.metrics(source, floors["consequence_rank"])
    assert rank.value > 0.3
    test_contigs = set(predictions["chrom"])
    for interval in task.label_intervals(source, fold):
        assert interval.split(":")[0] not in test_contigs
    assert {p.kind for p in task.panels(source, predictions)} == {"scatter", "histogram", "bar"}
    assert task.calibrate(predictions).kind == "identity"


def test_position_knn_is_the_mean_of_the_five_nearest() -> None:
    train = pl.DataFrame(
        {
            "chrom": ["c"] * 7,
            "pos": [1, 2, 3, 10, 11, 30, 40],
            "label": [float(i) for i in range(7)],
        }
    )
    test = pl.DataFrame({"chrom": ["c", "c", "other"], "pos": [4, 100, 1]})
    expected = [np.mean([0, 1, 2, 3, 4]), np.mean([2, 3, 4, 5, 6]), 3.0]
    assert position_knn(train, test).tolist() == expected


def test_tokenizer_returns_from_json_and_refuses_other_channels() -> None:
    import json

    tokenizer = _tokenizer()
    state = json.loads(json.dumps(tokenizer.to_dict()))
    assert EffectTokenizer.from_dict(state, {}) == tokenizer
    with pytest.raises(ConfigError, match="channels"):
        EffectTokenizer.from_dict({**state, "channels": ["other"]}, {})


def test_sars2_rows_are_those_published(genomics_data: Path, few_draws: None) -> None:
    folder = genomics_data / "sars2"
    config = GenomicsConfig()
    data = config.data
    data.source, data.fasta = "files", str(folder / "NC_045512.2.fa")
    data.annotation = str(folder / "reference.gb")
    data.variants, data.label = str(folder / "nt_fitness.vcf.gz"), "FIT"
    data.min_field, data.min_value, data.weight = "EXPC", 20.0, "EXPC"
    data.contig_alias = {"MN908947": "NC_045512.2"}
    data.split.kind, data.split.folds = "blocks", 5
    source = domain.open(config, "train")
    assert len(source.variants) == 54_917 and source.set_aside().collect().is_empty()
    fold = domain.task(config).folds(source)[0]
    floor = floors_of(source, fold)["consequence_rank"]
    (metric, *_) = domain.task(config).metrics(source, floor)
    assert metric.value > 0.4
