"""Choices that cannot work are refused with a sentence that helps."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
import yaml
from omegaconf import OmegaConf

from core.attention import Causal, Dense, Window, bigbird, longformer
from core.attention.auto import candidates, share_of_dense
from core.errors import ConfigError
from core.model.encoder import EncoderConfig
from domains.finance import domain
from domains.finance.config import (
    FinanceConfig,
    FinanceData,
    Split,
    View,
    check_config,
    parse_delay,
)
from domains.finance.schema import load_schema, named_schema, parse_schema, ready_schemas
from domains.finance.views import beyond, keyed_config

STATED = {
    "id": "i",
    "time": "t",
    "amount": "a",
    "entities": {"card": "c"},
    "label": "y",
    "label_delay": "7d",
}


def test_config_is_a_hydra_structured_config():
    node = OmegaConf.structured(FinanceConfig)
    merged = OmegaConf.merge(node, {"views": [{"key": ["customer"], "window": None}]})
    assert OmegaConf.to_object(merged).views == [View(["customer"], None)]


def test_import_is_cheap():
    code = "import sys, domains.finance; print({'torch', 'polars'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"task": "gain"}, "domain.task"),
        ({"memory": "deep"}, "domain.memory"),
        ({"memory": "per_head", "few_labels": True}, "domain.few_labels"),
        ({"negative_rate": 0.0}, "negative_rate"),
        ({"calibration": "beta"}, "platt, isotonic"),
        ({"focal": -1.0}, "focal"),
        ({"focal": 2.0, "split": Split(validation_days=0)}, "into probabilities again"),
        ({"views": []}, "views"),
        ({"views": [View(["a"]), View(["a"])]}, "different keys"),
        ({"views": [View(["a"], 0)]}, "window of view a"),
        ({"split": Split(train_before="soon")}, "split.train_before"),
        ({"split": Split("2024-03-01", "2024-02-01", "2024-03-02")}, "train_before <= test_from"),
        ({"split": Split(train_from="2024-03-04")}, "split.train_from"),
        ({"split": Split(validation_days=-1)}, "split.validation_days"),
        ({"split": Split(validation_days=0, refit=True)}, "split.refit"),
    ],
)
def test_unusable_choices_are_refused(change, told):
    with pytest.raises(ConfigError, match=told):
        check_config(replace(FinanceConfig(), **change))


@pytest.mark.parametrize("given", [{"path": "x.csv"}, {"schema": "handbook"}, {"roles": STATED}])
def test_files_beside_simulated_data_are_refused(given):
    with pytest.raises(ConfigError, match=f"data.{next(iter(given))}: .*data.source=files"):
        check_config(FinanceConfig(data=FinanceData(**given)))


def test_label_delay_must_fit_between_training_and_test(task, source, config):
    short = replace(config, split=replace(config.split, test_from="2024-02-01"))
    with pytest.raises(ConfigError, match="7 days after train_before"):
        domain.task(short).folds(source)


def test_views_must_name_entities_of_the_schema(config):
    with pytest.raises(ConfigError, match="customer, terminal"):
        domain.open(replace(config, views=[View(["device"])]), "train")


def test_training_on_simulated_data_needs_it_written_first():
    with pytest.raises(ConfigError, match=r"domain\.data\.path"):
        domain.open(FinanceConfig(), "train")


def test_dense_attention_lifts_the_window_of_every_key():
    encoder = EncoderConfig(dim=16, heads=4, pattern=Dense())
    views = keyed_config(FinanceConfig(), encoder).views
    assert [v.window for v in views] == [None, None, 16]


@pytest.mark.parametrize(
    ("radius", "windows"),
    [(1000, [64, 1001, 16]), (63, [64, 64, 16]), (30, [31, 31, 16]), (0, [1, 1, 1])],
)
def test_a_radius_narrows_views_and_widens_none(radius, windows):
    config = FinanceConfig(views=[View(["a"], 64), View(["b"], None), View([], 16)])
    encoder = EncoderConfig(dim=16, heads=4, pattern=Window(radius))
    assert [v.window for v in keyed_config(config, encoder).views] == windows


@pytest.mark.parametrize("pattern", [Window(5), Dense()])
def test_causal_patterns_are_the_same(pattern):
    plain = EncoderConfig(dim=16, heads=4, pattern=pattern)
    causal = EncoderConfig(dim=16, heads=4, pattern=pattern & Causal())
    assert keyed_config(FinanceConfig(), causal) == keyed_config(FinanceConfig(), plain)


@pytest.mark.parametrize("pattern", [Window(5) | Causal(), longformer(5, [0]), bigbird(5, 1)])
def test_other_patterns_are_refused(pattern):
    encoder = EncoderConfig(dim=16, heads=4, pattern=pattern)
    with pytest.raises(ConfigError, match=r"attention: .* kind mixture.* kind window .* or dense"):
        keyed_config(FinanceConfig(), encoder)


@pytest.mark.parametrize("option", [{"norm": "rms"}, {"kv_heads": 1}, {"checkpoint": True}])
def test_options_that_keyed_views_do_not_have_are_refused(option):
    encoder = EncoderConfig(**option)
    with pytest.raises(ConfigError, match="the finance domain's encoder of keyed views"):
        keyed_config(FinanceConfig(), encoder)


@pytest.mark.parametrize("name", ready_schemas())
def test_ready_schemas_load(name):
    schema = load_schema(name)
    assert parse_schema(name, schema.to_dict()) == schema


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"colour": "x"}, "unknown keys: colour"),
        ({"amount": None}, "missing keys: amount"),
        ({"entities": ["c"]}, "mapping of names"),
        ({"amount": "t"}, "two roles: t"),
        ({"label_delay": "a week"}, "7d"),
        ({"label_delay": "0d"}, "above 0"),
        ({"time_zone": "Mars"}, "time_zone"),
    ],
)
def test_unusable_schemas_are_refused(change, told):
    with pytest.raises(ConfigError, match=told):
        parse_schema("my.yaml", {**STATED, **change})


def test_spans():
    assert parse_delay("x", "36h") == 36 * 3600 * 1_000_000


def test_a_bundle_carries_the_schema_and_not_the_path_to_it(tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(STATED))
    config = FinanceConfig(data=FinanceData("files", "t.csv", str(tmp_path / "mine.yaml")))
    schema = load_schema(str(tmp_path / "mine.yaml"))
    carried = domain.carried(config)
    (tmp_path / "mine.yaml").unlink()
    assert carried.data.schema is None
    assert named_schema(carried.data) == schema


def test_attention_auto_turns_a_budget_into_a_radius(task, source) -> None:
    load = task.workload(source, EncoderConfig(dim=16, heads=4))
    counts = [
        source.events.group_by(f"entity:{name}").len()["len"] for name in ("customer", "terminal")
    ]
    assert load.tokens == round(sum((c**2).sum() / c.sum() for c in counts) / 2)

    def fill(pattern):
        return share_of_dense(pattern, load) / 0.15

    found, left_out = candidates(load.tokens, fill, objection=task.objection)
    assert [one.name for one in found] == ["window"]
    (_, radius), *_ = found[0].sizes
    assert 0.1 < (2 * radius + 1) / load.tokens < 0.2
    assert all("expected kind window" in one.reason for one in left_out)


def test_attention_auto_takes_no_radius_that_no_view_looks_at(task, source) -> None:
    windows = [view.window for view in task.config.views]
    longest = max(windows)
    assert task.objection(Window(longest - 1)) is None
    assert f"than its last {longest} events" in (task.objection(Window(longest)) or "")
    assert task.objection(Dense()) is None
    whole = replace(task.config.views[0], window=None)
    assert beyond(Window(10_000), [whole]) is None
