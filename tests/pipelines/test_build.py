"""Configuration of attention: every file becomes its pattern."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from core import attention as a
from core.errors import ConfigError
from pipelines import build
from pipelines.schema import register_schemas

CONF = Path(__file__).resolve().parents[2] / "conf"
EXPECTED = {
    "bigbird": a.bigbird(64, 3, (0,), seed=0),
    "dense": a.Dense(),
    "dilated": a.Dilated(64, 2),
    "fixed": a.Fixed(64, 4),
    "global": a.Global((0,)),
    "heads": a.HeadGroups(((a.Window(64), 2), (a.Dilated(64, 4), 2))),
    "logsparse": a.logsparse(16, 2),
    "longformer": a.longformer(64, (0,)),
    "random": a.Random(4, 0, 128),
    "sparse_transformer": a.sparse_transformer(64),
    "strided": a.Strided(64),
    "topk": a.TopK(8),
    "views": a.Window(4096),
    "window": a.Window(64),
}


def config(*overrides: str) -> DictConfig:
    register_schemas()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        chosen = ["domain=genomics", *overrides]
        return compose("train", chosen)


def node(*overrides: str) -> DictConfig:
    return config(*overrides).attention


NAMES = sorted({path.stem for path in (CONF / "attention").glob("*.yaml")} - {"auto"})


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("causal", [False, True])
def test_every_file_of_the_group_builds_its_pattern(name: str, causal: bool) -> None:
    built = build.pattern(node(f"attention={name}", f"attention.causal={causal}"))
    expected = EXPECTED[name]
    assert built == (expected & a.Causal() if causal else expected)
    assert built.draw(3)


@pytest.mark.parametrize("name", sorted(set(EXPECTED) - {"dense", "views"}))
def test_every_file_cites_its_paper(name: str) -> None:
    head = (CONF / "attention" / f"{name}.yaml").read_text().split("defaults:")[0]
    assert "arXiv" in head


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="found 'spiral'"):
        build.pattern(node("attention.kind=spiral"))


def test_heads_are_configured_one_by_one() -> None:
    assert build.pattern(node("attention=bigbird", "attention.heads=3")) == a.bigbird(
        64, 3, (0,), heads=3
    )
    near = "{kind:topk,blocks:2,radius:5,causal:true,kv_heads:1}"
    built = build.pattern(
        node("attention=heads", f"attention.groups=[{near},{{kind:dense,kv_heads:3}}]")
    )
    first = (a.TopK(2) | a.Window(5)) & a.Causal()
    assert built == a.HeadGroups(((first, 1), (a.Dense(), 3)))


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ("{kind:spiral,kv_heads:2}", "found 'spiral', expected one of"),
        ("{kind:window}", "found kv_heads None"),
        ("{kind:window,radios:3,kv_heads:2}", "radios"),
    ],
)
def test_a_group_that_cannot_be_read_is_refused(group: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build.pattern(node("attention=heads", f"attention.groups=[{group}]"))


def test_auto_is_no_pattern_until_a_training_has_chosen() -> None:
    with pytest.raises(ConfigError, match=r"for pipelines\.train"):
        build.pattern(node("attention=auto"))


def test_options_of_the_model_reach_the_encoder() -> None:
    options = {
        "kv_heads": 2,
        "activation": "swiglu",
        "norm": "rms",
        "stochastic_depth": 0.1,
        "checkpoint": True,
    }
    configured = config(*(f"model.{name}={value}" for name, value in options.items()))
    built = build.encoder(configured, a.Dense())
    assert {name: getattr(built, name) for name in options} == options


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
def test_torch_takes_no_more_threads_than_are_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("joblib.cpu_count", lambda: 1)
    for asked, expected in ((3, 3), (0, 1)):  # a number that is asked for is taken at its word
        build.tune_process(asked)
        assert torch.get_num_threads() == expected
    monkeypatch.setattr("joblib.cpu_count", lambda: 64)
    torch.set_num_threads(2)
    build.tune_process(0)
    assert torch.get_num_threads() == 2
    with pytest.raises(ConfigError, match="threads: found -1"):
        build.tune_process(-1)
