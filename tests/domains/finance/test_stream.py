"""Who sees whom, and that pieces give the numbers of the whole."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch

from core.errors import DataContractError, LongstrandError
from domains.finance import domain
from domains.finance.batches import Gatherer
from domains.finance.config import MEMORIES
from domains.finance.scorer import StreamScorer
from domains.finance.stream import UNKNOWN_LABEL, KeyOrder, Stream
from domains.finance.task import predict_logits
from tests.domains.finance.conftest import ENCODER

EVENTS = 1000


KINDS = [*({"memory": memory} for memory in MEMORIES), {"few_labels": True}]


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: str(*kind.values()))
def module(request, config, tokenizer):
    torch.manual_seed(0)
    task = domain.task(replace(config, **request.param))
    return task.module(tokenizer, ENCODER).eval()


@pytest.fixture
def scorer(module, tokenizer, task, source):
    return StreamScorer(module, tokenizer, task.view_entities(), source.schema.label_delay)


@pytest.fixture(scope="module")
def events(source):
    return source.events.head(EVENTS)


def pieces(scorer, events, size):
    return np.concatenate([scorer.push(part) for part in events.iter_slices(size)])


def test_windows_are_the_last_events_of_the_key():
    keys = np.array([7, 8, 7, 7, 8, 7])
    found = KeyOrder.of(keys).windows(np.array([5, 4, 0]), 3)
    assert found.tolist() == [[2, 3, 5], [-1, 1, 4], [-1, -1, 0]]


@pytest.mark.parametrize("window", [1, 2, 3, None])
def test_windows_seen_together_are_stretches(window):
    order = KeyOrder.of(np.array([7, 8, 7, 7, 8, 7, 7, 9]))
    events = np.array([6, 4, 2, 7, 1])
    seen, apart = order.seen(events, window), order.windows(events, window)
    assert sorted(seen.places) == sorted(set(apart[apart >= 0]))
    for at, have, row in zip(seen.at, seen.have, apart, strict=True):
        assert seen.places[at + 1 - have : at + 1].tolist() == row[row >= 0].tolist()
    assert (np.diff(seen.at[seen.order]) > 0).all()


def test_newest_keeps_the_last_events_of_every_key():
    keys = np.array([7, 8, 7, 7, 8, 7])
    assert KeyOrder.of(keys).newest(2).tolist() == [False, True, False, True, True, True]


def test_ten_chunks_equal_one_pass(scorer, events, module, tokenizer, task, source):
    one = scorer.push(events)
    scorer.past = None
    np.testing.assert_allclose(pieces(scorer, events, EVENTS // 10), one, atol=1e-5)
    stream = tokenizer.encode(events, task.view_entities()).after(None)
    batch = predict_logits(module, stream, np.arange(EVENTS), source.schema.label_delay)
    np.testing.assert_allclose(batch, one, atol=1e-5)


def test_event_by_event_equals_one_pass(scorer, events):
    few = events.head(EVENTS // 3)
    one = scorer.push(few)
    scorer.past = None
    np.testing.assert_allclose(pieces(scorer, few, 1), one, atol=1e-5)


def test_state_survives_as_bytes(scorer, events):
    one = scorer.push(events)
    scorer.past = None
    first = scorer.push(events.head(400))
    scorer.past = Stream.from_bytes(scorer.past.to_bytes())
    rest = scorer.push(events.tail(EVENTS - 400))
    np.testing.assert_allclose(np.concatenate([first, rest]), one, atol=1e-5)


def test_state_holds_no_identifier_and_no_hash_of_one_without_the_secret(scorer, events):
    scorer.secret = b"secret"
    scorer.push(events)
    data = scorer.past.to_bytes()
    for value in events["entity:customer"].unique():
        text = value.encode()
        assert text not in data
        assert hashlib.blake2b(text, digest_size=8).digest() not in data
        assert hashlib.blake2b(text, digest_size=8, key=b"secret").digest() in data


def test_the_secret_changes_no_score(scorer, events):
    one = scorer.push(events)
    scorer.past, scorer.secret = None, b"secret"
    np.testing.assert_allclose(scorer.push(events), one, atol=1e-5)


def test_a_diverged_model_scores_nothing(scorer, events):
    scorer.module = SimpleNamespace(stream_logits=lambda *a: torch.full((len(a[1]),), torch.inf))
    with pytest.raises(LongstrandError, match="1000 of 1000 predictions are not finite"):
        scorer.push(events)


def test_gathered_training_form_equals_the_stream_form(scorer, events, module, source):
    one = scorer.push(events)
    stream = scorer.tokenizer.encode(events, scorer.entities).after(None)
    with torch.no_grad():
        gatherer = Gatherer(stream, source.schema.label_delay)
        by_target = module.logits(gatherer, np.arange(EVENTS)).numpy()
    np.testing.assert_allclose(by_target, one, atol=1e-5)


def test_windows_laid_out_as_on_a_gpu_give_what_the_compiled_form_gives(
    scorer, events, module, monkeypatch
):
    one = scorer.push(events)
    scorer.past = None
    monkeypatch.setattr(type(module), "_fuses", lambda module: False, raising=False)
    np.testing.assert_allclose(scorer.push(events), one, atol=1e-5)


def peeked(source, events, now, keys=True):
    """Another world from `now` on: every label that is not known then is flipped, its own among
    them, and every later row is another one."""
    at = events["time"][now]
    young = pl.col("time") > at - pl.duration(microseconds=source.schema.label_delay)
    later = pl.int_range(pl.len()) > now
    other = {
        "label": pl.when(young).then(1 - pl.col("label").fill_null(0)).otherwise("label"),
        "time": pl.when(later).then(pl.col("time") + pl.duration(days=3)).otherwise("time"),
        "number:amount": pl.when(later).then(9999.0).otherwise("number:amount"),
        "number:distance_km": pl.when(later).then(-1.0).otherwise("number:distance_km"),
        "category:channel": pl.when(later).then(pl.lit("new")).otherwise("category:channel"),
    }
    if keys:
        mine = {name: pl.lit(events[f"entity:{name}"][now]) for name in source.schema.entities}
        for name, value in mine.items():
            column = f"entity:{name}"
            other[column] = pl.when(later).then(value).otherwise(column)
    return events.with_columns(**other)


def moments(count):
    """Places in the last EVENTS events, whose oldest labels have long been known."""
    return sorted(np.random.default_rng(0).choice(EVENTS, count, replace=False).tolist())


@pytest.mark.parametrize("now", moments(4))
def test_labels_not_yet_known_and_later_rows_change_no_bit(scorer, source, now):
    events = source.events.tail(EVENTS)
    before = scorer.push(events)[now]
    scorer.past = None
    assert scorer.push(peeked(source, events, now, keys=False))[now] == before


def test_whose_and_when_later_rows_are_changes_no_bit_of_any_form(module, tokenizer, task, source):
    """Of one event alone: scores of files, predictions, and the logits that training sees with the
    same draws of its noise."""
    delay, events = source.schema.label_delay, source.events.tail(EVENTS)

    def forms(rows, now):
        stream = tokenizer.encode(rows, task.view_entities()).after(None)
        here = np.array([now])
        predicted = predict_logits(module, stream, here, delay)
        torch.manual_seed(0)
        with torch.no_grad():
            learned = module.train().logits(Gatherer(stream, delay), here)
        module.eval()
        return predicted.item(), learned.item()

    for now in moments(25):
        assert forms(peeked(source, events, now), now) == forms(events, now), now


def test_a_label_counts_from_the_moment_it_is_known(module, tokenizer, task, source):
    """So that the tests above do not pass for want of labels."""
    events = source.events
    stream = tokenizer.encode(events, task.view_entities()).after(None)
    now = np.array([len(stream) - 1])
    later = predict_logits(module, stream, now, 1)
    assert predict_logits(module, stream, now, source.schema.label_delay).item() != later.item()


def test_known_labels_do_change_scores(scorer, source):
    events = source.events
    before = scorer.push(events)
    scorer.past = None
    after = scorer.push(events.with_columns(label=pl.lit(None, dtype=pl.Int8)))
    assert np.abs(before - after).max() > 1e-4


def test_unseen_entities_categories_and_sizes_score_finite(scorer, events):
    odd = events.with_columns(
        pl.lit("never seen").alias("entity:customer"),
        pl.lit("never seen").alias("category:channel"),
        pl.lit(-1e12).alias("number:amount"),
    )
    assert np.isfinite(scorer.push(odd)).all()


def test_history_after_the_input_is_refused(scorer, events):
    scorer.remember(events.tail(10))
    with pytest.raises(DataContractError, match="history"):
        scorer.push(events.head(10))


def test_missing_labels_are_not_legitimate(tokenizer, task, events):
    blank = events.with_columns(label=pl.lit(None, dtype=pl.Int8))
    assert (tokenizer.encode(blank, task.view_entities()).label == UNKNOWN_LABEL).all()
