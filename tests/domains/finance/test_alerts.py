"""Alerts: thresholds from validation rows, fixed from then on, and what they cost."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from core.calibration import Calibration
from core.errors import ConfigError
from domains.finance import domain
from domains.finance.alerts import CURVE, alert_curve, printed, threshold
from domains.finance.config import Alerts, check_config
from domains.finance.metrics import fraud_metrics

CALIBRATION = Calibration("platt", 1.0, 0.0)


@pytest.fixture(scope="module")
def validation():
    """1,000 rows of 5 days; a tenth are frauds, which score higher; some scores are equal."""
    rng = np.random.default_rng(0)
    label = (rng.random(1000) < 0.1).astype(np.int8)
    return pl.DataFrame(
        {
            "row": np.arange(1000),
            "label": label,
            "raw": np.round(rng.normal(3.0 * label - 4, 1), 1),
            "day": [date(2024, 1, 1) + timedelta(days=int(d)) for d in np.arange(1000) % 5],
            "amount": rng.uniform(1, 100, 1000),
            "entity": rng.integers(50, size=1000),
        }
    )


@pytest.fixture(scope="module")
def calibration(validation):
    kept = {CURVE: alert_curve(validation, CALIBRATION)}
    # As a bundle carries it.
    return Calibration.from_dict(json.loads(json.dumps(replace(CALIBRATION, kept=kept).to_dict())))


def alerts_of(validation, least):
    return (printed(CALIBRATION.apply(validation["raw"].to_numpy())) >= least).to_numpy()


@pytest.mark.parametrize("per_day", [0.1, 1, 4.5, 30, 150, 500])
def test_a_budget_is_kept_and_used_up(validation, calibration, per_day):
    count = alerts_of(validation, threshold(Alerts(per_day=per_day), calibration)).sum()
    assert count <= 5 * per_day
    score = np.sort(CALIBRATION.apply(validation["raw"].to_numpy()))[::-1]
    next_step = (score >= score[min(count, 999)]).sum()
    assert count == 1000 or next_step > 5 * per_day * 0.97
    share = threshold(Alerts(share=min(per_day / 200, 0.999)), calibration)
    assert alerts_of(validation, share).sum() <= 5 * per_day


@pytest.mark.parametrize("missed", [None, 40.0])
def test_costs_are_least_at_the_threshold(validation, calibration, missed):
    def cost(alert):
        label, amount = validation["label"].to_numpy(), validation["amount"].to_numpy()
        lost = (amount if missed is None else missed) * label * ~alert
        return lost.sum() + 5 * (alert & (label == 0)).sum()

    least = threshold(Alerts(false_alarm=5, missed=missed), calibration)
    tried = [cost(alerts_of(validation, t)) for t in np.linspace(0.001, 1, 300)]
    assert cost(alerts_of(validation, least)) <= 1.02 * min(tried)
    assert cost(alerts_of(validation, least)) < cost(np.zeros(1000, dtype=bool))


def test_a_bundle_without_a_curve_says_what_to_do():
    assert threshold(Alerts(score=0.3), CALIBRATION) == 0.3
    assert threshold(Alerts(), CALIBRATION) is None
    with pytest.raises(ConfigError, match=r"alerts\.per_day: .* alerts\.score"):
        threshold(Alerts(per_day=5), CALIBRATION)


@pytest.mark.parametrize(
    "alerts",
    [Alerts(per_day=5, share=0.1), Alerts(per_day=0), Alerts(share=1.5), Alerts(missed=3)],
)
def test_contradictory_alerts_are_refused(config, alerts):
    with pytest.raises(ConfigError, match=r"domain\.alerts"):
        check_config(replace(config, alerts=alerts))


def test_a_budget_needs_validation_rows(config):
    split = replace(config.split, validation_days=0)
    check_config(replace(config, split=split, alerts=Alerts(score=0.5)))
    with pytest.raises(ConfigError, match=r"validation_days with alerts\.per_day"):
        check_config(replace(config, split=split, alerts=Alerts(per_day=5)))


def test_surprise_has_no_alerts(config):
    with pytest.raises(ConfigError, match=r"task with alerts\.share: found 'surprise'"):
        check_config(replace(config, task="surprise", alerts=Alerts(share=0.1)))


def test_figures_of_alerts_count_rows_and_costs(validation, calibration):
    alert = np.arange(1000) % 10 == 0
    scored = validation.with_columns(score=pl.col("raw").exp(), alert=pl.Series(alert))
    alerts = Alerts(false_alarm=5, missed=40)
    found = {m.metric: m for m in fraud_metrics("toy", "all", scored, alerts)}
    label = validation["label"].to_numpy()
    hits, frauds = label[alert].sum(), label.sum()
    assert found["alert_recall"].value == pytest.approx(hits / frauds)
    assert found["alert_precision"].value == pytest.approx(hits / 100)
    assert found["alerts_a_day"].value == pytest.approx(20)
    cost = 40 * (frauds - hits) + 5 * (100 - hits)
    assert found["cost_a_day"].value == pytest.approx(cost / 5)
    assert found["cost_a_day_without_alerts"].value == pytest.approx(40 * frauds / 5)
    assert found["cost_a_day"].low < found["cost_a_day"].value < found["cost_a_day"].high


@pytest.mark.parametrize("kind", ["platt", "isotonic"])
def test_training_keeps_the_curve_and_decides_by_it(config, validation, kind):
    task = domain.task(replace(config, alerts=Alerts(share=0.05), calibration=kind))
    fitted = Calibration.from_dict(json.loads(json.dumps(task.calibrate(validation).to_dict())))
    scored = validation.with_columns(score=fitted.apply(validation["raw"].to_numpy()))
    assert 20 < task.decide(scored, fitted)["alert"].sum() <= 50
    assert "alert" not in domain.task(config).decide(scored, fitted).columns
