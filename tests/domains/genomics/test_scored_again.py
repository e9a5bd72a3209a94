"""A file that was scored before: what the earlier scoring wrote gives way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from core.calibration import Calibration
from domains.genomics import domain
from domains.genomics.config import DifferenceConfig, GenomicsConfig
from domains.genomics.masked_model import MaskedModule
from domains.genomics.tokenizer import EffectTokenizer
from domains.genomics.vcf import with_info
from tests.domains.genomics.test_scoring import _write, config

__all__ = ["config"]  # a fixture

KINDS = ("effect", "difference", "mlm")


def _scored(kind: str, config: GenomicsConfig, encoder: Any, path: Path, out: Path) -> bytes:
    """`path` scored by an untrained network of that kind."""
    if kind == "mlm":
        config = replace(config, task="mlm", reader="strands")
    if kind == "difference":
        settings = DifferenceConfig(flank=8, longest=8, random=0)
        config = replace(config, head="difference", difference=settings)
    task, tokenizer = domain.task(config), EffectTokenizer("regression", 0.0, 1.0, annotated=False)
    torch.manual_seed(0)
    module = MaskedModule(encoder) if kind == "mlm" else task.module(cast(Any, tokenizer), encoder)
    bundle = SimpleNamespace(
        config={},
        encoder=encoder,
        tokenizer={"bases": "ACGTN"} if kind == "mlm" else tokenizer.to_dict(),
        calibration=Calibration("identity"),
        version="abc123",
        state_dict=module.state_dict,
        task=task.name,
    )
    source = cast(Any, domain.open(config, "score", input=path))
    scorer = task.scorer(cast(Any, bundle), source)
    scorer.write((scorer.score(part, None)[0] for part in source.partitions()), out)
    return out.read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_scoring_a_scored_file_changes_no_byte(
    tmp_path: Path, config: GenomicsConfig, encoder: Any, kind: str
) -> None:
    once = _scored(kind, config, encoder, _write(tmp_path / "in.vcf"), tmp_path / "one.vcf")
    again = _scored(kind, config, encoder, tmp_path / "one.vcf", tmp_path / "two.vcf")
    assert again == once
    assert b"LS_LLR=" in once if kind == "mlm" else b"LS_EFFECT=" in once


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("before", KINDS)
def test_nothing_stays_of_what_another_bundle_said(
    tmp_path: Path, config: GenomicsConfig, encoder: Any, before: str, kind: str
) -> None:
    path = _write(tmp_path / "in.vcf")
    plain = _scored(kind, config, encoder, path, tmp_path / "plain.vcf")
    _scored(before, config, encoder, path, tmp_path / "before.vcf")
    after = _scored(kind, config, encoder, tmp_path / "before.vcf", tmp_path / "after.vcf")
    assert after == plain


@pytest.mark.parametrize("info", ["DP=4;", "DP=4", "DP=4;LS_EFFECT=1;", "LS_EFFECT=1;DP=4;;"])
def test_no_field_without_a_name_stands_before_ours(info: str) -> None:
    line = f"c\t1\t.\tA\tC\t.\t.\t{info}\tGT\t0/1\n".encode()
    assert with_info(line, b"LS_X=1").split(b"\t")[7] == b"DP=4;LS_X=1"
    assert with_info(line.replace(info.encode(), b";"), b"LS_X=1").split(b"\t")[7] == b"LS_X=1"
