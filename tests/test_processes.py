"""Two processes that share every batch train the model that one process trains."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from core.bundle import load_bundle, restore, write_bundle
from core.calibration import Calibration
from core.training.fit import FitConfig
from core.training.lightning import OptimConfig, Training
from core.training.loader import Share, StepLoader
from core.training.module import SequenceModule
from domains.finance import model as fraud_model
from tests.forked import forked, ranks
from tests.tiny import DOMAINS, Tiny

CONFIG = FitConfig(accelerator="cpu", average=0.5, checkpoint_every=5, log_every=10**6)


@pytest.fixture(autouse=True)
def _no_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    # What a step draws at random differs between processes; the rest must not.
    monkeypatch.setattr(fraud_model, "UNKNOWN_DROP", 0.0)


def _train(tiny: Tiny, strategy: str, steps: int, folder: Path) -> dict[str, Any]:
    losses: list[float] = []

    def log(training: Training, name: str, value: Any, **_: Any) -> None:
        if name == "loss":
            losses.append(float(value))

    Training.log = log  # in this process, a fork
    config = replace(CONFIG, strategy=strategy, steps=steps)
    module = tiny.fit(config, folder)
    return {"losses": losses, "weights": dict(module.state_dict())}


def _assert_equal(found: dict[str, Any], one: dict[str, Any], steps: int) -> None:
    assert len(one["losses"]) == steps
    assert found["losses"] == pytest.approx(one["losses"][-len(found["losses"]) :], abs=1e-5)
    assert found["weights"].keys() == one["weights"].keys()
    for name, weight in one["weights"].items():
        # Adam divides by a gradient's own size: where one is nearly 0, its rounding is a step.
        torch.testing.assert_close(found["weights"][name], weight, atol=1e-4, rtol=0)


@pytest.mark.parametrize("domain", DOMAINS)
def test_two_processes_have_the_loss_curve_and_the_weights_of_one(
    domain: str, tmp_path: Path
) -> None:
    tiny = DOMAINS[domain](tmp_path, dropout=0.0)
    one = forked(lambda: _train(tiny, "single", 20, tmp_path / "one"), tmp_path).answer()
    two = ranks(2, lambda rank: _train(tiny, "ddp", 20, tmp_path / "two"), tmp_path)
    for process in two:
        _assert_equal(process.answer(), one, 20)


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_sharded_training_gives_the_bundle_of_one_process(domain: str, tmp_path: Path) -> None:
    tiny = DOMAINS[domain](tmp_path, dropout=0.0)

    def train(strategy: str) -> dict[str, Any]:
        """Four steps, then a fifth from the checkpoint."""
        losses = _train(tiny, strategy, 5, tmp_path / strategy)["losses"]
        found = _train(tiny, strategy, 5, tmp_path / strategy)
        return {"losses": losses, "weights": found["weights"]}

    one = forked(lambda: train("single"), tmp_path).answer()
    for process in ranks(2, lambda rank: train("fsdp"), tmp_path):
        _assert_equal(process.answer(), one, 5)
    bundles = [tmp_path / "a", tmp_path / "b"]
    two = torch.load(tmp_path / "answer-1.pt", weights_only=True)[0]
    for path, weights in zip(bundles, (one["weights"], two["weights"]), strict=True):
        _write(tiny, path, weights)
    a, b = (load_bundle(path) for path in bundles)
    shapes = [{n: t.shape for n, t in bundle.state_dict().items()} for bundle in (a, b)]
    assert shapes[0] == shapes[1]
    assert isinstance(restore(b, tiny.task)[1], SequenceModule)


def _write(tiny: Tiny, path: Path, weights: dict[str, Any]) -> None:
    write_bundle(
        path,
        manifest={
            "domain": "tiny", "task": tiny.task.name, "created": "", "fingerprint": "",
            "label_intervals": [], "config": {},
        },
        encoder=tiny.encoder,
        weights=weights,
        tokenizer=tiny.tokenizer.to_dict(),
        calibration=Calibration(),
        metrics=[],
        reference=[],
        model_card="",
    )  # fmt: skip


def test_one_signal_stops_all_processes_at_one_step_and_another_number_goes_on(
    tmp_path: Path,
) -> None:
    tiny = DOMAINS["genomics"](tmp_path, dropout=0.0)
    one = forked(lambda: _train(tiny, "single", 12, tmp_path / "one"), tmp_path).answer()

    def preempted(rank: int) -> Any:
        draw = Training.on_train_batch_start

        def at_a_step(training: Training, batch: Any, index: int) -> None:
            if rank == 1 and training.trainer.global_step == 6:
                os.kill(os.getpid(), signal.SIGTERM)
            draw(training, batch, index)

        Training.on_train_batch_start = at_a_step
        tiny.fit(replace(CONFIG, strategy="ddp", steps=12), tmp_path / "many")

    for process, by in zip(ranks(2, preempted, tmp_path), ("", " by SIGTERM"), strict=True):
        assert f"Preempted: stopped{by} at step 7" in process.failure()
    rest = forked(lambda: _train(tiny, "single", 12, tmp_path / "many"), tmp_path).answer()
    assert len(rest["losses"]) == 5
    _assert_equal(rest, one, 12)


@pytest.mark.parametrize("domain", DOMAINS)
def test_shares_of_a_batch_are_the_batch(domain: str, tmp_path: Path) -> None:
    tiny = DOMAINS[domain](tmp_path, dropout=0.0)
    whole = tiny.batch_at(3)["label"]
    parts = [tiny.batch_at(3, Share(rank, 2))["label"] for rank in range(2)]
    for rank, part in enumerate(parts):
        assert torch.equal(torch.as_tensor(part), torch.as_tensor(whole)[rank::2])


def test_what_cannot_be_shared_is_refused(tmp_path: Path) -> None:
    tiny = DOMAINS["finance"](tmp_path, dropout=0.0)

    def alone(rank: int) -> Any:
        return _train(tiny, "single", 2, tmp_path)

    def unshared(rank: int) -> Any:
        StepLoader(lambda k: k, 3).take(Share(rank, 2))

    def one_item(rank: int) -> Any:
        Share(rank, 2).of([7])

    class NoMean(SequenceModule):
        def loss(self, batch: Any) -> torch.Tensor:
            return torch.zeros((), requires_grad=True)

    def no_mean(rank: int) -> Any:
        from core.training import processes

        processes.join("ddp")
        torch.distributed.barrier()  # the first process, which leaves at once, lets others in
        Training(NoMean(), OptimConfig(), 0).training_step(None, 0)

    expected = {
        alone: "each of which would train a model of its own",
        unshared: "cannot be shared among processes",
        one_item: "found 1 for 2 processes",
        no_mean: "takes no mean over processes",
    }
    for work, sentence in expected.items():
        for process in ranks(2, work, tmp_path):
            assert sentence in process.failure()
    launched = forked(lambda: _train(tiny, "ddp", 2, tmp_path), tmp_path)
    assert "torchrun --standalone" in launched.failure()
