"""Training: what is learned from, in which order, and what is reported."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from datetime import date, datetime, timedelta

import numpy as np
import polars as pl
import pytest
import torch

from core.errors import ConfigError, LongstrandError, TooFewLabelsError
from domains.finance import domain
from domains.finance.batches import Gatherer, sampled_batches
from domains.finance.config import CALIBRATIONS
from domains.finance.model import EventEmbedding
from domains.finance.simulate import simulate_transactions
from domains.finance.tokens import FinanceTokenizer


def test_simulator_is_a_function_of_its_seed(config):
    one, two = simulate_transactions(config.data), simulate_transactions(config.data)
    assert one.equals(two)
    assert 0.002 < one["fraud"].mean() < 0.1
    assert one["time"].is_sorted()


def test_splits_do_not_overlap_and_keep_the_label_delay(fold, source):
    def time(rows):
        return source.events.filter(pl.col("row").is_in(rows.implode()))["time"]

    delay = timedelta(microseconds=source.schema.label_delay)
    assert time(fold.train).max() + delay <= time(fold.validation).min()
    assert time(fold.validation).max() + delay <= time(fold.test).min()


def test_training_may_take_its_targets_from_a_stretch_only(config, source):
    """As the Handbook's week does: earlier rows are history, none is held back to calibrate."""
    split = replace(config.split, train_from="2024-01-20", validation_days=0)
    week = domain.task(replace(config, split=split))
    (fold,) = week.folds(source)
    day = pl.col("time").dt.date()
    inside = source.events.filter((day >= date(2024, 1, 20)) & (day < date(2024, 1, 30)))
    assert sorted(fold.train) == sorted(inside["row"]) and fold.validation.is_empty()
    raw = pl.DataFrame(schema={"raw": pl.Float64, "label": pl.Int8})
    assert week.calibrate(raw).apply(np.zeros(1)) == 0.5


def test_tokenizer_sees_training_rows_only(task, source, fold, config):
    fitted = task.fit_tokenizer(source, fold.train).to_dict()
    other = domain.open(config, "train")
    kept = pl.col("row").is_in(fold.train.implode())
    other.events = other.events.with_columns(
        pl.when(kept).then("number:amount").otherwise(1e6).alias("number:amount"),
        pl.when(kept).then("category:channel").otherwise(pl.lit("new")).alias("category:channel"),
    )
    assert task.fit_tokenizer(other, fold.train).to_dict() == fitted
    assert "new" not in fitted["categories"][0]["words"]


def test_tokenizer_round_trip_and_holds_no_identifier(tokenizer, source, task):
    state = tokenizer.to_dict()
    assert FinanceTokenizer.from_dict(state) == tokenizer
    assert source.events["entity:customer"][0] not in str(state)


def test_amount_tail_has_bins_of_its_own(tokenizer):
    edges = np.array(tokenizer.numbers[0].edges)
    assert (
        np.digitize([150, 250, 400], edges)[1:] > np.digitize([150, 250, 400], edges)[:-1]
    ).all()


def test_batches_are_a_function_of_seed_and_step(task, source, tokenizer, fold):
    one, two = (task.loader(source, tokenizer, fold.train, 7, 4) for _ in range(2))
    assert np.array_equal(one.batch_at(3)["targets"], two.batch_at(3)["targets"])
    assert not np.array_equal(one.batch_at(3)["targets"], one.batch_at(2)["targets"])


def test_targets_are_training_rows(task, source, tokenizer, fold):
    loader = task.loader(source, tokenizer, fold.train, 0, 20)
    rows = source.events["row"].to_numpy()
    assert all(np.isin(rows[b["targets"]], fold.train.to_numpy()).all() for b in loader)


def test_sampling_offset_is_the_change_in_log_odds(task, source, tokenizer, fold):
    batch = task.loader(source, tokenizer, fold.train, 0, 1).batch_at(0)
    share = batch["label"].mean().item()
    label = source.events.filter(pl.col("row").is_in(fold.train.implode()))["label"]
    base = label.mean()
    change = np.log(share / (1 - share)) - np.log(base / (1 - base))
    assert batch["offset"] == pytest.approx(change, abs=1e-6)


def test_one_class_alone_is_refused(source, tokenizer, task):
    stream = tokenizer.encode(source.events, task.view_entities()).after(None)
    rows = np.flatnonzero(stream.label == 0)
    with pytest.raises(TooFewLabelsError):
        sampled_batches(Gatherer(stream, 1), rows, 0, 8, 0.1)


def test_a_few_steps_lower_the_loss(task, source, tokenizer, fold):
    from tests.domains.finance.conftest import ENCODER

    torch.manual_seed(0)
    module = task.module(tokenizer, ENCODER)
    batch = task.loader(source, tokenizer, fold.train, 0, 1).batch_at(0)
    optimiser = torch.optim.Adam(module.parameters(), lr=3e-3)
    losses = []
    for _ in range(15):
        loss = module.loss(batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_focal_loss_weighs_each_row_by_what_is_left_to_learn(config, source, tokenizer, fold):
    from tests.domains.finance.conftest import ENCODER

    plain, focal = (domain.task(replace(config, focal=power)) for power in (0.0, 2.0))
    batch = plain.loader(source, tokenizer, fold.train, 0, 1).batch_at(0)
    module = focal.module(tokenizer, ENCODER).eval()
    logits = module.logits(batch["gatherer"], batch["targets"]) + batch["offset"]
    chance = torch.where(batch["label"] == 1, logits.sigmoid(), 1 - logits.sigmoid())
    each = -((1 - chance) ** 2) * chance.log()
    assert module.loss(batch).item() == pytest.approx(each.mean().item(), rel=1e-5)
    assert plain.module(tokenizer, ENCODER).focal == 0


@pytest.mark.parametrize("calibration", CALIBRATIONS)
def test_each_calibration_gives_probabilities(
    config, task, module, source, tokenizer, fold, calibration
):
    rows = task.predict(module, source, tokenizer, fold.train)
    fitted = domain.task(replace(config, calibration=calibration)).calibrate(rows)
    assert fitted.kind == calibration
    score = fitted.apply(task.predict(module, source, tokenizer, fold.test)["raw"].to_numpy())
    assert ((score >= 0) & (score <= 1)).all()
    assert 0 < score.mean() < 0.2


def test_predictions_ignore_labels_of_test_rows_not_yet_known(
    task, module, source, tokenizer, fold
):
    """Shuffling labels younger than the delay at the end of the test leaves every score alone."""
    other = domain.open(task.config, "train")
    end = other.events["time"].max() - timedelta(microseconds=source.schema.label_delay)
    young = pl.col("time") > end
    other.events = other.events.with_columns(
        label=pl.when(young).then(1 - pl.col("label")).otherwise("label")
    )
    before, after = (task.predict(module, s, tokenizer, fold.test)["raw"] for s in (source, other))
    assert before.equals(after)


def test_metrics_floors_and_panels_cover_the_test(task, module, source, tokenizer, fold):
    from tests.domains.finance.conftest import ENCODER

    predictions = task.predict(module, source, tokenizer, fold.test)
    assert sorted(predictions["row"]) == sorted(fold.test)
    scored = predictions.with_columns(score=1 / (1 + (-pl.col("raw")).exp()))
    metrics = {m.metric: m for m in task.metrics(source, scored)}
    assert set(metrics) == {
        "average_precision",
        "roc_auc",
        "predicted_over_actual",
        "card_precision_at_100",
    }
    assert all(m.low <= m.value <= m.high for m in metrics.values() if m.metric != "roc_auc")
    assert set(task.floors(source, fold, ENCODER)) == {"amount", "logistic_regression"}
    assert all(panel.x in panel.data.columns for panel in task.panels(source, scored))
    assert all(i.startswith("time:2024-01-") for i in task.label_intervals(source, fold))


def test_the_kind_of_a_fraud_is_no_input(task, module, source, tokenizer, fold):
    other = domain.open(task.config, "train")
    other.events = other.events.with_columns(kind=pl.lit("never seen"))
    assert task.fit_tokenizer(other, fold.train) == tokenizer
    batches = [task.loader(s, tokenizer, fold.train, 0, 1).batch_at(0) for s in (source, other)]
    assert torch.equal(*(module.loss(batch) for batch in batches))
    before, after = (task.predict(module, s, tokenizer, fold.test) for s in (source, other))
    assert before["raw"].equals(after["raw"])
    assert set(after["kind"]) == {"never seen"} != set(before["kind"])


def test_predictions_of_a_diverged_model_are_refused(task, source, tokenizer, fold):
    from tests.domains.finance.conftest import ENCODER

    module = task.module(tokenizer, ENCODER)
    torch.nn.init.constant_(module.head[-1].bias, math.nan)
    with pytest.raises(LongstrandError, match="training diverged"):
        task.predict(module, source, tokenizer, fold.test.head(10))


def test_seen_rows_are_those_of_the_fold(task, source, fold):
    seen = task.seen_rows(source, task.label_intervals(source, fold))
    assert sorted(seen) == sorted([*fold.train, *fold.validation])
    assert len(task.seen_rows(source, [])) == 0


def test_intervals_end_after_their_last_row(task, source, fold):
    for rows, text in zip(
        (fold.train, fold.validation), task.label_intervals(source, fold), strict=True
    ):
        time = source.events.filter(pl.col("row").is_in(rows.implode()))["time"]
        end = datetime.fromisoformat(text.split("/")[1])
        assert end - time.max() == timedelta(microseconds=1)


def test_rows_at_the_end_of_an_older_interval_are_seen(task, source):
    first, last = (t.isoformat() for t in (source.events["time"][0], source.events["time"][99]))
    assert source.events["row"][99] in task.seen_rows(source, [f"time:{first}/{last}"])


@pytest.mark.parametrize("text", ["chr1:1-2", "time:soon/later", "time:2024-01-01", "x:2024/2025"])
def test_intervals_of_others_are_refused(task, source, text):
    with pytest.raises(ConfigError, match="label interval"):
        task.seen_rows(source, [text])


def test_another_file_outside_the_split_can_be_judged(
    config, task, module, source, tokenizer, fold, tmp_path
):
    later = pl.read_parquet(config.data.path).with_columns(pl.col("time").dt.offset_by("3y"))
    later.write_parquet(tmp_path / "later.parquet")
    settings = replace(config, data=replace(config.data, path=str(tmp_path / "later.parquet")))
    other, judge = domain.open(settings, "train"), domain.task(settings)
    assert judge.seen_rows(other, task.label_intervals(source, fold)).is_empty()
    rows = other.rows().filter(pl.col("label").is_not_null()).collect()["row"]
    predictions = judge.predict(module, other, tokenizer, rows)
    scored = predictions.with_columns(score=1 / (1 + (-pl.col("raw")).exp()), fold=pl.lit("all"))
    assert len(predictions) == len(rows) == len(later)
    assert {m.data for m in judge.metrics(other, scored)} == {"later"}


def test_an_ordered_bin_is_the_sum_of_the_steps_up_to_it(tokenizer):
    embed = EventEmbedding(tokenizer, views=1, dim=4, ordered=True)
    sizes, step = tokenizer.sizes, 3
    ids = torch.tensor([[bin, *tokenizer.offsets[1:]] for bin in range(sizes[0])])
    floats = torch.zeros(len(ids), tokenizer.floats + 2)
    with torch.no_grad():
        before = embed(ids, floats)
        embed.table.weight[step] += 1
        change = embed(ids, floats) - before
    expected = (torch.arange(sizes[0]) >= step).float()[:, None].expand_as(change)
    torch.testing.assert_close(change, expected)


def test_the_day_of_a_prediction_is_that_of_the_schemas_time_zone(
    task, module, source, tokenizer, fold
):
    there = copy.copy(source)
    there.schema = replace(source.schema, time_zone="Pacific/Auckland")
    rows = fold.test.head(50)
    here, other = (task.predict(module, s, tokenizer, rows)["day"] for s in (source, there))
    # Half a day ahead of UTC: what happens in the second half of a day is of the next one there.
    assert set((other - here).dt.total_days()) == {0, 1}
