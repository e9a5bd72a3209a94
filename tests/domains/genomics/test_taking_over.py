"""`init=BUNDLE`: what a training begins with, across tasks, tracks and windows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from core.bundle import begin_from
from core.errors import ConfigError
from domains.genomics import domain
from domains.genomics.config import GenomicsConfig
from domains.genomics.data_config import TrackConfig
from domains.genomics.effect import EffectTask
from domains.genomics.masked_model import MaskedModule
from domains.genomics.source import LabelledSource
from domains.genomics.strand_model import StrandEffectModule


def _opened(config: GenomicsConfig) -> tuple[EffectTask, LabelledSource]:
    task, source = domain.task(config), domain.open(config, "train")
    assert isinstance(task, EffectTask) and isinstance(source, LabelledSource)
    return task, source


def _bundle(module: Any, task: str, config: dict[str, Any], tokenizer: dict[str, Any]) -> Any:
    return SimpleNamespace(
        path=Path("bundle"),
        task=task,
        config=config,
        tokenizer=tokenizer,
        state_dict=module.state_dict,
    )


@pytest.fixture
def tracked(simulated: GenomicsConfig, tmp_path: Path) -> GenomicsConfig:
    """The simulated genome with a track, read by strands."""
    (tmp_path / "t.bedgraph").write_text("sim1\t10\t20\t3\n")
    track = {"t": TrackConfig(path=str(tmp_path / "t.bedgraph"))}
    data = replace(simulated.data, tracks=track)
    return replace(simulated, data=data, reader="strands", window=80)


def test_an_effect_training_begins_from_what_mlm_has_learned(
    tracked: GenomicsConfig, encoder: Any
) -> None:
    task, source = _opened(tracked)
    torch.manual_seed(0)
    masked = MaskedModule(encoder)
    bundle = _bundle(masked, "mlm", {"reader": "strands"}, {"bases": "ACGTN"})
    rows = source.variants["row"]
    begun = begin_from(bundle, task, encoder, *task.take_over(bundle, source, rows))
    assert isinstance(begun.module, StrandEffectModule)
    assert set(begun.taken) == set(masked.state_dict())
    assert {name.split(".")[0] for name in begun.new} == {"head", "join"}
    assert begun.tokenizer == task.fit_tokenizer(source, rows)
    batch = next(iter(task.loader(source, begun.tokenizer, rows, 0, 1)))
    plain = {"base": batch["base"], "real": batch["real"]}
    before, after = begun.module.eval().reader(plain["base"], plain["real"])
    expected = masked.eval()(plain)
    torch.testing.assert_close(begun.module.bases(before, after), expected)
    begun.module.train().loss(batch).backward()
    grown = [n for n, p in begun.module.named_parameters() if p.grad is None]
    assert grown == []


def test_another_reader_is_refused(simulated: GenomicsConfig, encoder: Any) -> None:
    task, source = _opened(simulated)
    bundle = _bundle(MaskedModule(encoder), "mlm", {"reader": "strands"}, {})
    with pytest.raises(ConfigError, match=r"domain\.reader=strands, found window"):
        task.take_over(cast(Any, bundle), source, source.variants["row"])


def test_a_track_that_the_bundle_had_not_changes_nothing_at_first(
    simulated: GenomicsConfig, tracked: GenomicsConfig, encoder: Any
) -> None:
    tracked = replace(tracked, reader="window")
    task, source = _opened(simulated)
    rows = source.variants["row"]
    tokenizer = task.fit_tokenizer(source, rows)
    torch.manual_seed(0)
    module = task.module(tokenizer, encoder).eval()
    bundle = _bundle(module, "effect", {}, tokenizer.to_dict())
    later, other = _opened(tracked)
    begun = begin_from(bundle, later, encoder, *later.take_over(bundle, other, rows))
    assert begun.new == []
    frames = [
        kind.predict(network, origin, words, rows.head(50))["raw"]
        for kind, network, origin, words in (
            (task, module, source, tokenizer),
            (later, begun.module.eval(), other, begun.tokenizer),
        )
    ]
    torch.testing.assert_close(frames[0].to_torch(), frames[1].to_torch(), atol=1e-5, rtol=1e-5)


def test_an_effect_of_strands_depends_on_no_tile(tracked: GenomicsConfig, encoder: Any) -> None:
    import numpy as np

    from domains.genomics.tile import score_positions

    task, source = _opened(tracked)
    torch.manual_seed(0)
    module = task.module(task.fit_tokenizer(source, source.variants["row"]), encoder).eval()
    sites = np.array([0, 700, 3999])
    one, other = (
        score_positions(module, source.reference, "sim1", sites, width) for width in (64, 900)
    )
    np.testing.assert_allclose(one, other, atol=1e-5)
