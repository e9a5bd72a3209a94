"""Surprise: what is foreseen, from what, and that no label is read."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch
import yaml

from core.bundle import begin_from
from core.errors import ConfigError, DataContractError
from domains.finance import domain
from domains.finance import scorer as scorer_module
from domains.finance.batches import Gatherer
from domains.finance.fields import FIRST, KNOWN, NEW
from domains.finance.labelled import TransactionSource
from domains.finance.scorer import StreamScorer
from pipelines import build
from tests.domains.finance.conftest import ENCODER

FIELDS = [
    "amount",
    "distance_km",
    "channel",
    "time_since_last_customer",
    "time_since_last_terminal",
    "new_terminal_for_customer",
]


@pytest.fixture(scope="module")
def settings(config):
    views = [replace(view, labels=False) for view in config.views]
    return replace(config, task="surprise", views=views)


@pytest.fixture(scope="module")
def surprise(settings):
    return domain.task(settings)


@pytest.fixture(scope="module")
def foresees(surprise, tokenizer):
    torch.manual_seed(0)
    return surprise.module(tokenizer, ENCODER).eval()


@pytest.fixture(scope="module")
def gatherer(surprise, source, tokenizer):
    return Gatherer(surprise._stream(source, tokenizer), source.schema.label_delay)


@pytest.fixture(scope="module")
def predictions(surprise, foresees, source, tokenizer, fold):
    return surprise.predict(foresees, source, tokenizer, fold.test)


@pytest.fixture(scope="module")
def scored(surprise, foresees, source, tokenizer, fold, predictions):
    validation = surprise.predict(foresees, source, tokenizer, fold.validation)
    return build.scored(surprise, predictions, surprise.calibrate(validation), "time")


def test_every_field_of_an_event_is_foreseen(foresees):
    assert [field.name for field in foresees.fields] == FIELDS


def test_classes_are_bins_words_gaps_and_first_meetings(foresees, gatherer, source, tokenizer):
    places = np.arange(500, 800)
    found = foresees.classes(gatherer, places)
    amount = source.events["number:amount"].to_numpy()[places]
    edges = np.array(tokenizer.numbers[0].edges)
    assert np.array_equal(found[:, 0], np.searchsorted(edges, amount, side="right"))
    words = [None, *tokenizer.categories[0].words]
    assert [words[c] for c in found[:, 2]] == source.events["category:channel"][places].to_list()
    cards, terminals = (source.events[f"entity:{e}"].to_list() for e in ("customer", "terminal"))
    for at, place in enumerate(places):
        before = [p for p in range(place) if cards[p] == cards[place]]
        assert (found[at, 3] == FIRST) == (not before)
        shown = {terminals[p] for p in before[-11:]}
        assert found[at, 5] == (KNOWN if terminals[place] in shown else NEW)


def test_an_event_does_not_see_its_own_fields_nor_later_events(foresees, gatherer):
    place, stream = 700, gatherer.stream
    changed = stream.take(np.arange(len(stream)))
    changed.ids[place, :3] += 1
    changed.floats[place:] = 9.0
    changed.gaps[place:] = 123.0
    with torch.no_grad():
        before, after = (
            foresees.expected(g, np.array([place]))
            for g in (gatherer, Gatherer(changed, gatherer.delay))
        )
        later = foresees.expected(Gatherer(changed, gatherer.delay), np.array([place + 40]))
        unchanged = foresees.expected(gatherer, np.array([place + 40]))
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert not torch.equal(later[0], unchanged[0])
    assert all(math.isclose(e.exp().sum().item(), 1, rel_tol=1e-5) for e in before)


def test_scoring_a_stream_gives_the_numbers_of_gathered_windows(foresees, gatherer):
    places = np.arange(300, 500)
    with torch.no_grad():
        whole = foresees.stream_logits(gatherer.stream, places, gatherer.delay)
        each = foresees.logits(gatherer, places)
    torch.testing.assert_close(whole, each, atol=1e-4, rtol=1e-4)


def test_several_trainings_surprise_by_their_mean(surprise, foresees, gatherer, tokenizer):
    torch.manual_seed(5)
    other = surprise.module(tokenizer, ENCODER).eval()
    both, places = foresees.ensemble([foresees, other]).eval(), np.arange(300, 340)
    with torch.no_grad():
        nats = both.stream_logits(gatherer.stream, places, gatherer.delay)
        parts = [
            m.stream_logits(gatherer.stream, places, gatherer.delay) for m in (foresees, other)
        ]
        expected = both.expected(gatherer, places)
    torch.testing.assert_close(nats, (parts[0] + parts[1]) / 2)
    assert nats.shape[1:] == both.outputs
    assert all(torch.allclose(e.exp().sum(1), torch.ones(40)) for e in expected)


def test_event_by_event_gives_the_numbers_of_one_pass(surprise, foresees, source, tokenizer):
    events = source.events.head(120)

    def scorer():
        return StreamScorer(foresees, tokenizer, surprise.view_entities(), 1)

    chunked = scorer()
    parts = [chunked.push(events[at : at + 7]) for at in range(0, 120, 7)]
    np.testing.assert_allclose(np.concatenate(parts), scorer().push(events), atol=1e-4)


def test_no_label_is_read(surprise, foresees, source, tokenizer, fold, predictions):
    """Neither in training nor in scoring: with every label turned round nothing changes."""
    other = domain.open(surprise.config, "train")
    assert isinstance(other, TransactionSource)
    other.events = other.events.with_columns(label=1 - pl.col("label"))
    assert surprise.fit_tokenizer(other, fold.train) == tokenizer
    weights = []
    for data in (source, other):
        torch.manual_seed(1)
        module = surprise.module(tokenizer, ENCODER)
        optimiser = torch.optim.Adam(module.parameters(), lr=3e-3)
        for batch in surprise.loader(data, tokenizer, fold.train, 0, 3):
            optimiser.zero_grad()
            module.loss(batch).backward()
            optimiser.step()
        weights.append(module.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    again = surprise.predict(foresees, other, tokenizer, fold.test)
    foreseen = [name for name in again.columns if name != "label"]
    assert again.select(foreseen).equals(predictions.select(foreseen))


def test_a_file_without_labels_is_learned_from(settings, tmp_path):
    table = pl.read_parquet(settings.data.path).drop("fraud")
    table.write_parquet(tmp_path / "bare.parquet")
    roles = yaml.safe_load(Path("domains/finance/schemas/simulated.yaml").read_text())
    del roles["label"], roles["label_delay"]
    data = replace(settings.data, path=str(tmp_path / "bare.parquet"), schema=None, roles=roles)
    bare = replace(settings, data=data)
    source, task = domain.open(bare, "train"), domain.task(bare)
    assert isinstance(source, TransactionSource)
    (fold,) = task.folds(source)
    tokenizer = task.fit_tokenizer(source, fold.train)
    module = task.module(tokenizer, ENCODER)
    rows = task.predict(module, source, tokenizer, fold.validation)
    judged = build.scored(task, rows, task.calibrate(rows), "time")
    assert {m.metric for m in task.metrics(source, judged)} == {f"nats_{name}" for name in FIELDS}
    assert [panel.kind for panel in task.panels(source, judged)] == ["table", "table", "histogram"]
    with pytest.raises(DataContractError, match="for the label"):
        domain.open(replace(bare, task="fraud"), "train")


def test_training_foresees_better_than_frequencies(settings, source, tokenizer, fold):
    task = domain.task(replace(settings, batch_size=96))
    torch.manual_seed(0)
    module = task.module(tokenizer, ENCODER)
    optimiser = torch.optim.Adam(module.parameters(), lr=1e-2)
    for batch in task.loader(source, tokenizer, fold.train, 0, 60):
        optimiser.zero_grad()
        module.loss(batch).backward()
        optimiser.step()
    ours = task.predict(module, source, tokenizer, fold.validation)
    floor = task.floors(source, replace(fold, test=fold.validation), ENCODER)["frequencies"]
    for name in ("nats:distance_km", "nats:channel", "nats:time_since_last_customer"):
        assert ours[name].to_numpy().mean() < floor[name].to_numpy().mean(), name


def test_metrics_floors_and_panels(surprise, source, fold, scored):
    names = {m.metric for m in surprise.metrics(source, scored)}
    judged = {"average_precision", "roc_auc", "card_precision_at_100"}
    assert names == judged | {f"nats_{name}" for name in FIELDS}
    assert set(surprise.floors(source, fold, ENCODER)) == {"frequencies", "amount"}
    top = surprise.panels(source, scored)[0]
    assert (top.kind, len(top.data)) == ("table", 50)
    assert top.data.null_count().sum_horizontal()[0] == 0
    identifiers = {*source.events["entity:customer"], *source.events["entity:terminal"]}
    assert not identifiers & {str(cell) for row in top.data.rows() for cell in row}


def test_the_reason_is_the_field_with_the_highest_level(surprise, scored):
    row = scored.sort("score", descending=True).row(0, named=True)
    assert row["field"] in FIELDS
    assert row[f"found:{row['field']}"] and row[f"usual:{row['field']}"]


def test_a_retraining_is_refused(surprise, source):
    with pytest.raises(ConfigError, match="a retraining judges by labels"):
        surprise.challenge(source, [])


def test_no_validation_days_say_nothing_of_ranks(settings, source):
    split = replace(settings.split, validation_days=0)
    with pytest.raises(ConfigError, match="validation_days: found 0"):
        domain.task(replace(settings, split=split)).folds(source)


def _bundle(module, tokenizer, calibration=None):
    return SimpleNamespace(
        config={},
        path=Path("bundle"),
        encoder=ENCODER,
        tokenizer=tokenizer.to_dict(),
        calibration=calibration,
        version="0123456789ab",
        task="surprise",
        state_dict=module.state_dict,
    )


def test_a_fraud_training_begins_from_what_surprise_has_learned(
    task, settings, config, foresees, tokenizer
):
    """Where views have room for labels; their state is as it was before the first label."""
    room = domain.task(replace(settings, views=config.views)).module(tokenizer, ENCODER)
    bundle = _bundle(room, tokenizer)
    taken = task.take_over(bundle, None, None)
    begun = begin_from(bundle, task, ENCODER, *taken)  # type: ignore[arg-type]
    own = begun.module.state_dict()
    assert begun.new == [name for name in own if name.startswith(("head.", "direct."))]
    assert all(torch.equal(own[name], room.state_dict()[name]) for name in begun.taken)
    with pytest.raises(ConfigError, match=r"memory\.0\.state\.weight"):
        begin_from(bundle, task, ENCODER, tokenizer, foresees.state_dict())  # type: ignore[arg-type]


@pytest.fixture
def score(surprise, settings, foresees, source, tokenizer, fold, tmp_path):
    """(input, output) -> Summary, by a worker a partition."""
    validation = surprise.predict(foresees, source, tokenizer, fold.validation)
    bundle = _bundle(foresees, tokenizer, surprise.calibrate(validation))

    def run(input: Path, output: Path):
        def scorer():
            return surprise.scorer(bundle, domain.open(settings, "score", input=input))

        first, work = scorer(), tmp_path / output.stem
        work.mkdir()
        frames = []
        for part in first.prepare(work):
            worker = scorer()
            worker.prepare(work)
            frames.append(worker.score(part, None)[0])
        return first.write(iter(frames), output)

    return run


def test_a_scored_file_keeps_rows_and_says_which_field_surprised(
    settings, tmp_path, score, monkeypatch
):
    table = pl.read_parquet(settings.data.path).head(400).drop("fraud")
    table.sample(fraction=1.0, shuffle=True, seed=1).write_parquet(tmp_path / "in.parquet")
    assert score(tmp_path / "in.parquet", tmp_path / "out.parquet").scored == 400
    monkeypatch.setattr(scorer_module, "PART_ROWS", 90)
    score(tmp_path / "in.parquet", tmp_path / "parts.parquet")
    given, out, parts = (
        pl.read_parquet(tmp_path / n) for n in ("in.parquet", "out.parquet", "parts.parquet")
    )
    added = ["surprise", "surprise_field", "model_version", "scored_at"]
    assert out.columns == [*given.columns, *added]
    assert out.select(given.columns).equals(given)
    assert set(out["surprise_field"]) <= set(FIELDS)
    np.testing.assert_allclose(out["surprise"], parts["surprise"], atol=1e-3)


def test_a_file_that_has_a_column_of_ours_is_refused(settings, tmp_path, score):
    table = pl.read_parquet(settings.data.path).head(5).with_columns(surprise=pl.lit(1.0))
    table.write_parquet(tmp_path / "in.parquet")
    with pytest.raises(DataContractError, match="found columns surprise, which scoring adds"):
        score(tmp_path / "in.parquet", tmp_path / "out.parquet")
