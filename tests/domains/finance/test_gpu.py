"""What training would do on a GPU, where there is none: a device without numbers stands for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.fx.experimental._config as fx
from pytorch_lightning.utilities import move_data_to_device
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from domains.finance import domain
from domains.finance.model import running_sum
from tests.domains.finance.conftest import ENCODER

MOVES = {"_to_copy", "copy_"}
UNORDERED = {"cumsum", "median", "kthvalue", "histc", "put_", "scatter_reduce", "nll_loss2d"}
"""On a GPU torch refuses them where kernels are to be deterministic, of floating-point numbers."""


class Watch(TorchDispatchMode):
    """Names of the operations on floating-point tensors of the device, and of those that mix it
    with another."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.mixed: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().partition("::")[2].partition(".")[0]
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        if len({x.device for x in given if x.ndim}) > 1:
            self.mixed.add(name)
        if any(x.is_meta and x.is_floating_point() for x in given):
            self.names.add(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["fraud", "surprise"])
def test_a_training_step_stays_on_its_device_and_is_deterministic_there(
    name: str, config: Any, source: Any, fold: Any
) -> None:
    task = domain.task(replace(config, task=name))
    tokenizer = task.fit_tokenizer(source, fold.train)
    module = task.module(tokenizer, ENCODER).train().to("meta")
    batch = task.loader(source, tokenizer, fold.train, 0, 1).batch_at(0)
    with fx.patch(meta_nonzero_assume_all_nonzero=True), Watch() as watch:
        module.loss(move_data_to_device(batch, torch.device("meta"))).backward()
    assert {"addmm", "bmm", "native_layer_norm_backward"} <= watch.names
    assert not watch.mixed - MOVES
    assert not watch.names & UNORDERED


@pytest.mark.parametrize("rows", [1, 2, 7, 64])
def test_running_sums_of_a_gpu_are_those_of_a_cpu(rows: int) -> None:
    class Elsewhere(Tensor):
        device = torch.device("meta")  # pyright: ignore[reportAssignmentType, reportIncompatibleVariableOverride]

    steps = torch.randn(rows, 3, dtype=torch.float64)
    found = running_sum(steps.as_subclass(Elsewhere)).as_subclass(Tensor)
    torch.testing.assert_close(found, running_sum(steps), rtol=1e-12, atol=1e-12)
