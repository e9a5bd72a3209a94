"""attention=auto: the choice is honest, repeatable, written down, and the right one where known."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
import torch
import yaml
from torch import Tensor, nn

from core.attention import Pattern, Window
from core.attention.auto import Workload
from core.contract import Fold
from core.errors import ConfigError
from core.model.encoder import EncoderConfig, SparseEncoder
from core.training.loader import StepLoader, generator_at
from core.training.module import SequenceModule
from pipelines.choose import check, choose, encoders
from pipelines.entrants import entrants, wide_window
from pipelines.runs import Run
from pipelines.tries import Bench
from tests.pipelines.conftest import Outcome, run_command
from tests.pipelines.test_build import config

Command = Callable[..., Outcome]
AUTO = (
    "domain=toy",
    "domain.length=256",
    "attention=auto",
    "attention.budget.share_of_dense=0.3",
    "attention.tries.steps=2",
    "attention.tries.batches=2",
    "model.dim=8",
    "model.layers=1",
    "model.heads=2",
    "trainer.steps=4",
)


@pytest.fixture(scope="module")
def auto_run(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished toy training with attention=auto."""
    folder = tmp_path_factory.mktemp("auto")
    outcome = run_command(project, folder, "train", *AUTO)
    assert outcome.code == 0, outcome.stderr
    return folder / outcome.summary["run"]


def choice_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "attention_choice.json").read_text())


def losses(choice: dict[str, Any]) -> dict[str, float]:
    return {row["pattern"]: row["loss"] for row in choice["table"] if row["fold"]}


def test_the_choice_is_in_the_run_the_bundle_and_the_report(auto_run: Path) -> None:
    choice = choice_of(auto_run)
    saved = {row["name"]: row["saved"] for row in choice["within"]}
    bundle = yaml.safe_load((auto_run / "bundle" / "bundle.yaml").read_text())
    assert bundle["encoder"]["pattern"] == saved[choice["chosen"]["all"]]
    rows = {row["pattern"]: row for row in choice["table"]}
    assert {"window", "strided", "bigbird", "dense"} <= set(rows)
    assert rows[choice["chosen"]["even"]]["verdict"] == "chosen"
    assert all(rows[name]["share_of_dense"] <= 0.3 for name in saved)
    assert rows["dense"]["share_of_dense"] == 1
    assert rows["dense"]["loss"] and rows["dense"]["measured_seconds"]
    page = (auto_run / "report.html").read_text()
    assert "Choice of the attention pattern" in page
    assert all(f"<td>{name}</td>" in page for name in rows)
    said = f"fold even: chose {choice['again']['even']} of {len(saved)} within the budget"
    assert said in (auto_run / "train.log").read_text()


def test_what_was_chosen_can_be_asked_for_by_name(auto_run: Path) -> None:
    from pipelines import build

    for row in choice_of(auto_run)["within"]:
        node = config(*row["attention"].split()).attention
        assert build.pattern(node).to_dict() == row["saved"]


def test_a_resumed_run_keeps_what_was_measured(
    command: Command, auto_run: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(auto_run, tmp_path / "runs/toy/broken")
    for name in ("report.html", "attention_choice.json", "tries/even/strided-2.json"):
        (run / name).unlink()
    shutil.rmtree(run / "checkpoints")
    journal = tmp_path / "journal"
    again = command("train", *AUTO, f"resume={run}", TOY_JOURNAL=str(journal))
    assert again.code == 0, again.stderr
    before, after = choice_of(auto_run), choice_of(run)
    assert after["chosen"] == before["chosen"]
    assert losses(after) == losses(before)
    # one short training of 2 steps and its 2 batches of validation, then two folds of 4 steps
    assert len(journal.read_text().splitlines()) == 2 + 2 + 2 * 4
    weights = "bundle/model.safetensors"
    assert (run / weights).read_bytes() == (auto_run / weights).read_bytes()


def test_labels_of_the_test_have_no_say(command: Command, auto_run: Path, tmp_path: Path) -> None:
    frame = pl.read_csv(auto_run / "simulated" / "toy.csv").with_row_index("row")
    assert len(frame) == 60
    odd = pl.col("row") % 2 == 1
    shuffled = pl.when(odd).then(pl.col("y")).otherwise(1000 - pl.col("y"))
    frame.with_columns(y=shuffled).drop("row").write_csv(tmp_path / "toy.csv")
    other = command(
        "train", *AUTO, "domain.data.source=files", f"domain.data.path={tmp_path / 'toy.csv'}"
    )
    assert other.code == 0, other.stderr
    run = tmp_path / other.summary["run"]
    assert choice_of(run)["chosen"] == choice_of(auto_run)["chosen"]
    assert losses(choice_of(run)) == losses(choice_of(auto_run))
    raw = [pl.read_parquet(r / "predictions.parquet")["raw"] for r in (run, auto_run)]
    assert raw[0].to_list() == raw[1].to_list()


def test_an_impossible_budget_is_refused_with_a_sentence(command: Command) -> None:
    outcome = command("train", *AUTO, "attention.budget.share_of_dense=0.001")
    assert outcome.code == 2
    assert "at 256 tokens even the cheapest pattern, " in outcome.summary["error"]


@pytest.mark.parametrize(
    "setting, said",
    [
        ("budget.share_of_dense=null", r"attention\.budget: found none"),
        ("budget.share_of_dense=2", r"share_of_dense: found 2\.0, expected in \(0, 1\]"),
        ("budget.seconds_per_step=0", r"seconds_per_step: found 0\.0, expected above 0"),
        ("budget.seconds_per_step=inf", r"seconds_per_step: found inf, expected above 0 and fin"),
        ("tries.steps=0", r"tries\.steps: found 0, expected >= 1"),
        ("tries.keep=1", r"tries\.keep: found 1\.0, expected a share between 0 and 1"),
    ],
)
def test_unusable_settings_are_refused_before_data_is_read(setting: str, said: str) -> None:
    share = "attention.budget.share_of_dense=0.1"
    node = config("attention=auto", share, f"attention.{setting}").attention
    with pytest.raises(ConfigError, match=said):
        check(node)


class CombModule(SequenceModule):
    """Each token's label is the mean of all tokens a multiple of `STEP` away."""

    def __init__(self, encoder: EncoderConfig) -> None:
        super().__init__()
        self.embed = nn.Linear(1, encoder.dim)
        self.encoder = SparseEncoder(encoder)
        self.head = nn.Linear(encoder.dim, 1)

    def loss(self, batch: Any) -> Tensor:
        out = self.head(self.encoder(self.embed(batch["x"])))
        return nn.functional.mse_loss(out, batch["y"])


STEP, LENGTH = 8, 512


class CombTask:
    """A task whose right pattern is known. Rows, source and tokenizer mean nothing here."""

    def fit_tokenizer(self, source: Any, rows: pl.Series) -> None:
        return None

    def loader(
        self, source: Any, tokenizer: None, rows: pl.Series, seed: int, steps: int
    ) -> StepLoader:
        def batch_at(step: int) -> dict[str, Any]:
            x = torch.randn(4, LENGTH, 1, generator=generator_at(seed + int(rows[0]), step))
            combed = x.unflatten(1, (-1, STEP)).mean(1, keepdim=True) * (LENGTH / STEP) ** 0.5
            y = combed.expand(-1, LENGTH // STEP, -1, -1).flatten(1, 2)
            return {"x": x, "y": y, "tokens": 4 * LENGTH}

        return StepLoader(batch_at, steps)

    def module(self, tokenizer: None, encoder: EncoderConfig) -> CombModule:
        return CombModule(encoder)

    def workload(self, source: Any, encoder: EncoderConfig) -> Workload:
        return encoder.workload(LENGTH, 4)

    def objection(self, pattern: Pattern) -> str | None:
        return None


def comb_bench(folder: Path, *overrides: str) -> tuple[Bench, list[Fold], EncoderConfig]:
    chosen = config("attention=auto", "attention.tries.batches=4", "trainer.lr=0.02", *overrides)
    bench = Bench(chosen, SimpleNamespace(), CombTask(), folder)  # type: ignore[arg-type]
    rows = pl.Series([0, 1, 2])
    folds = [Fold("time", rows[:1], rows[1:2], rows[2:])]
    return bench, folds, EncoderConfig(dim=16, layers=1, heads=2)


def comb_choice(folder: Path, *overrides: str) -> tuple[dict[str, Any], EncoderConfig]:
    bench, folds, encoder = comb_bench(folder, *overrides)
    return choose(bench, folds, encoder, Run(folder, "", resumed=False)), encoder


def test_where_labels_come_from_regular_distances_a_comb_wins(tmp_path: Path) -> None:
    """At equal budgets the window sees its neighbours, the dilated window what matters."""
    budget = ("attention.budget.share_of_dense=0.15", "attention.tries.steps=12")
    choice, encoder = comb_choice(tmp_path, *budget)
    assert choice["chosen"]["time"] == "dilated-8"
    measured = losses(choice)
    assert measured["dilated-8"] < 0.5 * measured["window"]
    assert encoders(choice, encoder)["time"].pattern.reach() == 63 * STEP


def test_a_budget_in_seconds_is_of_whole_steps(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"=1e-06, but at 512 tokens even the .* shorter seq"):
        comb_choice(tmp_path, "attention.budget.seconds_per_step=1e-6")
    (tmp_path / "attention_choice.json").unlink(missing_ok=True)
    budget = ("attention.budget.seconds_per_step=100", "attention.tries.steps=12")
    choice, _ = comb_choice(tmp_path, *budget)
    # a budget that is no limit: dense attention competes with the largest of the other families
    assert {"dense", "window", "dilated-8"} <= {row["name"] for row in choice["within"]}
    assert choice["chosen"]["time"] == "dilated-8"
    row = next(row for row in choice["table"] if row["pattern"] == "dense")
    assert 0 < row["predicted_seconds"] < 100


def test_a_slow_moment_of_the_machine_moves_no_prediction(tmp_path: Path) -> None:
    """A step's seconds are those of the faster of two measurements of each window."""
    slow = tmp_path / "time" / "speed-narrow-12.json"
    slow.parent.mkdir(parents=True)
    slow.write_text(json.dumps({"steps": 12, "loss": 1.0, "seconds": 60.0}))
    bench, folds, encoder = comb_bench(tmp_path, "attention.budget.share_of_dense=0.15")
    field = entrants(bench, folds[0], encoder)
    assert 0 < field.speed.rest < 60
    assert (tmp_path / "time" / "speed-wide-again-12.json").is_file()


def test_speed_is_measured_on_a_window_that_the_task_takes_whole(tmp_path: Path) -> None:
    bench, _, _ = comb_bench(tmp_path, "attention.budget.share_of_dense=0.15")
    assert wide_window(bench, 512) == Window(256)
    task = CombTask()
    task.objection = lambda pattern: "too far" if pattern.reach() > 40 else None  # type: ignore
    assert wide_window(replace(bench, task=task), 512) == Window(32)
