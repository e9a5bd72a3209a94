"""The fraud benchmark: who is judged, and what its figures say."""

from __future__ import annotations

import json
from datetime import date, timedelta
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import average_precision_score

from benchmarks import fraud, fraud_ours
from benchmarks.fraud_figures import paired_difference, parts, whole_test
from benchmarks.fraud_protocols import HANDBOOK, QUICK, configured, known_cards, opened, rows_of
from core.errors import ConfigError

FIELDS = ["data", "protocol", "model", "metric", "value", "low", "high"]


def scored(noise: float, n: int = 6000) -> pl.DataFrame:
    """14 days of 60 cards; `noise` blurs the score, label and card are the same for all."""
    rng = np.random.default_rng(1)
    label, kind = (rng.random(n) < 0.05).astype(int), rng.integers(1, 3, n)
    raw = label + noise * np.random.default_rng(2).normal(size=n)
    return pl.DataFrame(
        {
            "label": label,
            "raw": raw,
            "score": np.full(n, label.mean()),
            "day": [date(2024, 1, 1) + timedelta(days=i * 14 // n) for i in range(n)],
            "entity": rng.integers(0, 60, n),
            "kind": np.where(label == 1, kind, 0),
            "new_card": np.arange(n) % 2 == 0,
            "new_terminal": np.zeros(n, dtype=bool),
        }
    ).with_columns(pl.col("kind").replace(0, None))


def test_the_paired_difference_tells_a_better_model_from_the_same_one():
    good, bad = scored(0.5), scored(0.9)
    found = paired_difference("d", [good], [bad])
    expected = [average_precision_score(frame["label"], frame["raw"]) for frame in (good, bad)]
    assert found.value == pytest.approx(expected[0] - expected[1])
    assert 0 < found.low < found.value < found.high
    same = paired_difference("d", [good], [good])
    assert (same.value, same.low, same.high) == (0, 0, 0)
    # Both see the same cards in a draw, so the difference is surer than either figure.
    whole = next(whole_test([good]))
    assert found.high - found.low < 2 * (whole.high - whole.low)


def test_the_figure_of_several_seeds_is_their_mean():
    good, bad = scored(0.5), scored(0.9)
    single = [{f.metric: f.value for f in whole_test([frame])} for frame in (good, bad)]
    for figure in whole_test([good, bad]):
        assert figure.value == pytest.approx(np.mean([one[figure.metric] for one in single]))
        assert figure.low <= figure.value <= figure.high


def test_parts_are_weeks_kinds_and_entities_with_enough_frauds():
    frame = scored(0.5)
    found = {figure.metric: figure for figure in parts([frame])}
    ap = "average_precision"
    assert set(found) == {
        f"{ap}_week_2024-01-01",
        f"{ap}_week_2024-01-08",
        *(f"{name}_kind_{kind}" for name in (ap, "recall") for kind in (1, 2)),
        f"{ap}_new_card",
        f"{ap}_known_card",
        f"{ap}_known_terminal",
    }
    second = frame.filter(pl.col("day") >= date(2024, 1, 8))
    expected = average_precision_score(second["label"], second["raw"])
    assert found[f"{ap}_week_2024-01-08"].value == pytest.approx(expected)
    alerts = frame.sort("raw", descending=True).head(frame["label"].sum())
    caught = (alerts["kind"] == 2).sum() / (frame["kind"] == 2).sum()
    assert found["recall_kind_2"].value == pytest.approx(caught)


def test_the_books_rows_and_frauds(real_data, monkeypatch):
    monkeypatch.setenv("LONGSTRAND_DATA", str(real_data))
    expected = {
        "all_rows": (881_661, 7_763, 517_457, 4_590),
        "book_week": (67_240, 598, 58_264, 385),
    }
    with opened(configured(HANDBOOK[0])) as (data, source):
        for protocol in HANDBOOK:
            rows = rows_of(protocol, configured(protocol).split, data, source)
            label = source.events["label"].to_numpy()
            counts = [(len(places), int(label[places].sum())) for places in (rows.train, rows.test)]
            assert (*counts[0], *counts[1]) == expected[protocol.name]
            assert rows.judged["label"].sum() == (rows.judged["kind"] > 0).sum()


def test_a_card_leaves_the_test_when_its_fraud_is_known():
    config = configured(QUICK[1])
    with opened(config) as (_, source):
        events = source.events.with_columns(day=pl.col("time").dt.date())
        since = events["time"].min() + timedelta(days=10)
        known = known_cards(source, since)
        frauds = events.filter((pl.col("label") == 1) & (pl.col("day") >= since.date()))
        for row in np.random.default_rng(0).choice(len(events), 300, replace=False):
            card, day = events["entity:customer"][int(row)], events["day"][int(row)]
            days = frauds.filter(pl.col("entity:customer") == card)["day"].to_list()
            assert known[int(row)] == any(d <= day - timedelta(days=8) for d in days)
    assert 0 < known.sum() < len(known)


def test_a_bundle_that_has_seen_test_labels_is_refused(monkeypatch):
    protocol = QUICK[0]
    config = configured(protocol)
    intervals = ["time:2024-01-01T00:00:00+00:00/2024-02-20T00:00:00+00:00"]
    bundle = SimpleNamespace(config={}, label_intervals=intervals)
    monkeypatch.setattr(fraud_ours, "load_bundle", lambda path: bundle)
    with opened(config) as (data, source):
        rows = rows_of(protocol, config.split, data, source)
        with pytest.raises(ConfigError, match="outside of the protocol's training time"):
            fraud_ours.judged("bundle", config, source, rows)


def test_a_quick_run_puts_ours_beside_the_rivals(tmp_path, capsys):
    """On the week, whose training holds back nothing to calibrate."""
    models = "ours,lightgbm_15,lightgbm_49,hist_gradient_boosting_49,logistic_regression_15"
    settings = fraud.Settings("book_week", models, quick=True, out=str(tmp_path))
    fraud.benchmark(settings)
    rows = json.loads((tmp_path / "fraud.json").read_text())["rows"]
    main = {r["model"]: r for r in rows if r["metric"] == "average_precision"}
    assert set(main) == set(models.split(","))
    for row in main.values():
        assert list(row) == [*FIELDS, "seconds_train", "per_second"]
        assert row["low"] <= row["value"] <= row["high"]
        assert row["seconds_train"] > 0 and row["per_second"] > 0
    compared = [r for r in rows if r["metric"] == "average_precision_difference"]
    for row, rival in zip(compared, ("lightgbm_15", "lightgbm_49"), strict=True):
        assert row["model"] == f"ours - {rival}"
        assert row["value"] == pytest.approx(main["ours"]["value"] - main[rival]["value"])
    assert "ours - lightgbm_49" in capsys.readouterr().out


def test_an_unknown_model_is_refused():
    with pytest.raises(ConfigError, match=r"models: got .*oracle"):
        fraud.benchmark(fraud.Settings(models="oracle", quick=True))
