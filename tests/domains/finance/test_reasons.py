"""Reasons of alerts: what really raised a score, told without a name, on alerts only."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn

from domains.finance import domain, occlusion
from domains.finance import reasons as reasons_module
from domains.finance import scorer as scorer_module
from domains.finance.config import Alerts
from domains.finance.model import FraudModule
from domains.finance.occlusion import Copy, Past, judged
from domains.finance.reason_words import history_words, hour_words, label_words, number_words
from domains.finance.reasons import REASONS, Explainer
from domains.finance.stream import DAY, KeyOrder, visible_label
from tests.domains.finance.conftest import ENCODER

DELAY = 7 * DAY


@pytest.fixture(scope="module")
def stream(source, tokenizer, task):
    return tokenizer.encode(source.events, task.view_entities()).after(None)


@pytest.fixture(scope="module")
def orders(stream):
    return [KeyOrder.of(stream.keys[:, v]) for v in range(stream.keys.shape[1])]


@pytest.fixture(params=["shared", "per_head"])
def either(request, config, tokenizer):
    torch.manual_seed(1)
    task = domain.task(replace(config, memory=request.param))
    return task.module(tokenizer, ENCODER).eval()


@pytest.fixture
def score(config, bundle):
    """(input, output, least score of an alert) -> output, in partitions of `PART_ROWS`."""

    def run(input: Path, output: Path, least: float) -> pl.DataFrame:
        asked = replace(config, alerts=Alerts(score=least))
        source = domain.open(asked, "score", input=input)
        scorer = domain.task(asked).scorer(bundle, source)
        with tempfile.TemporaryDirectory() as work:
            parts = scorer.prepare(Path(work))
            scorer.write((scorer.score(part, None)[0] for part in parts), output)
        return pl.read_parquet(output)

    return run


@pytest.fixture
def table(config, tmp_path):
    path = tmp_path / "in.parquet"
    pl.read_parquet(config.data.path).head(900).write_parquet(path)
    return path


@pytest.fixture
def least(table, tmp_path, score):
    """A tenth of the rows reaches it."""
    found = score(table, tmp_path / "plain.parquet", 1.5)["fraud_score"].quantile(0.9)
    assert found is not None
    return found


def test_nothing_hidden_is_the_score_itself_and_a_hidden_history_is_one_that_never_was(
    either, stream, orders
):
    places = np.array([700, 1500, 1501, len(stream) - 1])
    past = Past.of(stream, orders, places, either.windows(), DELAY, 0)
    whole = Copy.of(past)
    copies = [whole, whole.without_history(0), whole.without_labels(1)]
    found = judged(either, copies, DELAY)
    with torch.no_grad():
        plain = either.stream_logits(stream, places, DELAY).double().numpy()
        np.testing.assert_allclose(found[0], plain, atol=1e-5)
        for row, place in enumerate(places):
            keys, gaps, label = stream.keys.copy(), stream.gaps.copy(), stream.label.copy()
            keys[place, 0], gaps[place, 0] = 1, np.nan
            alone = replace(stream, keys=keys, gaps=gaps)
            expected = either.stream_logits(alone, places[row : row + 1], DELAY).item()
            assert found[1, row] == pytest.approx(expected, abs=1e-5)
            # What only the terminal's view shows.
            seen = np.setdiff1d(past.history(row, 1), past.history(row, 0))
            label[seen] = 2
            hidden = replace(stream, label=label)
            if not np.intersect1d(past.history(row, 1), past.history(row, 0)).size:
                expected = either.stream_logits(hidden, places[row : row + 1], DELAY).item()
                assert found[2, row] == pytest.approx(expected, abs=1e-5)


class Oracle(FraudModule):
    """Two for every confirmed fraud at the terminal, and how large the amount is."""

    def __init__(self, views) -> None:
        super().__init__()
        self.views, self.nothing = views, nn.Parameter(torch.zeros(1))

    def stream_logits(self, stream, places, delay):
        order = KeyOrder.of(stream.keys[:, 1])
        seen = order.windows(places, self.windows()[1])
        now = stream.time[places][:, None]
        label = visible_label(stream.label[seen], stream.time[seen], now, delay)
        frauds = ((label == 1) & (seen >= 0)).sum(axis=1)
        return torch.from_numpy(2.0 * frauds + stream.floats[places, 0])


def test_reasons_name_what_raised_the_score_with_its_values(
    module, stream, orders, tokenizer, config, source
):
    oracle = Oracle(module.views)
    label, time = stream.label, stream.time
    explainer = Explainer(oracle, tokenizer, config.views, DAY)
    places = np.arange(1000, len(stream), 3)
    told = explainer.reasons(stream, orders, places)
    amounts = source.events["number:amount"].to_numpy()
    several = 0
    for place, texts in zip(places, told, strict=True):
        window = orders[1].windows(np.array([place]), 9)[0, :-1]
        window = window[window >= 0]
        known = window[(label[window] == 1) & (time[window] <= time[place] - DAY)]
        starts = [text.split(": ")[0] for text in texts if text]
        assert ("terminal labels" in starts) == (len(known) > 0)
        if len(known):
            several += len(known) > 1
            # Labels count twice, whatever the amount adds.
            frauds = "1 confirmed fraud" if len(known) == 1 else f"{len(known)} confirmed frauds"
            assert any(f"{frauds} among the last {len(window)}" in text for text in texts if text)
        before = orders[0].windows(np.array([place]), 12)[0, :-1]
        before = before[before >= 0]
        if "amount" in starts and len(before) >= 3:
            (text,) = [text for text in texts if text and text.startswith("amount")]
            assert amounts[place] > np.median(amounts[before])
            assert text.startswith(f"amount: {amounts[place]:.2f}, ")
            assert text.endswith(f"usual {np.median(amounts[before]):.2f}") or "usual is" in text
    assert several > 5


def test_only_alerts_have_reasons_and_no_text_holds_an_identifier(table, tmp_path, score, least):
    out = score(table, tmp_path / "out.parquet", least)
    added = out.columns[len(pl.read_parquet(table).columns) :]
    assert added == ["fraud_score", "alert", *REASONS, "model_version", "scored_at"]
    assert out["alert"].equals((out["fraud_score"] >= least).rename("alert"))
    assert 0 < out["alert"].sum() < len(out)
    assert (
        out.filter(~pl.col("alert")).select(REASONS).null_count().row(0)
        == ((~out["alert"]).sum(),) * 3
    )
    texts = out.select(pl.concat_list(REASONS).list.drop_nulls().explode()).to_series()
    codes = set(texts.drop_nulls().str.split(": ").list.first())
    assert {"amount", "channel", "hour", "distance_km"} & codes
    ids = pl.concat([out["card_id"], out["terminal_id"], out["transaction_id"]]).unique()
    assert not any(texts.str.contains(name, literal=True).any() for name in ids)


def test_partitions_and_file_formats_do_not_change_reasons(
    table, tmp_path, score, least, monkeypatch
):
    one = score(table, tmp_path / "one.parquet", least)
    pl.read_parquet(table).with_columns(pl.col("time").dt.strftime("%Y-%m-%dT%H:%M:%SZ")).write_csv(
        tmp_path / "in.csv"
    )
    csv = score(tmp_path / "in.csv", tmp_path / "csv.parquet", least)
    assert csv.select("alert", *REASONS).equals(one.select("alert", *REASONS))
    monkeypatch.setattr(scorer_module, "PART_ROWS", 100)
    monkeypatch.setattr(reasons_module, "ROWS", 7)
    parts = score(table, tmp_path / "nine.parquet", least)
    assert parts.select("alert", *REASONS).equals(one.select("alert", *REASONS))


def test_rows_without_alert_cost_nothing(table, tmp_path, score, monkeypatch):
    monkeypatch.setattr(occlusion, "judged", None)
    monkeypatch.setattr(reasons_module, "judged", None)
    out = score(table, tmp_path / "out.parquet", 1.5)
    assert not out["alert"].any()


def test_words_say_what_the_values_are():
    assert number_words("amount", 610.4, 50.9, "this card's") == (
        "amount: 610.40, 12 times this card's usual 50.90"
    )
    assert number_words("amount", 55, 50, "this card's") == (
        "amount: 55.00, this card's usual is 50.00"
    )
    assert label_words("terminal", np.array([9.2, 27.9, 12]), 63) == (
        "terminal labels: 3 confirmed frauds among the last 63, 9 to 27 days ago"
    )
    assert label_words("terminal", np.array([]), 63) is None
    assert hour_words(23, np.array([0, 22, 12]), "this card's") == (
        "hour: 23 o'clock, within an hour of 2 of this card's last 3"
    )
    assert history_words("card", np.array([20.0, 3, 0.2, 0.1]), np.array([1.0, 1, 4, 1])) == (
        "card history: 2 in the last day, 3 in 14 days, 1 of them at least 3 times the usual amount"
    )
