"""A training of a night holds no more at its end than after its first steps."""

from __future__ import annotations

import subprocess
import sys

import pytest

TRAINING = """
import resource, sys
from pathlib import Path
import torch
from torch import Tensor, nn
from core.attention import longformer
from core.memory import keep_freed_memory
from core.model import EncoderConfig, SparseEncoder
from core.training.fit import FitConfig, fit
from core.training.lightning import OptimConfig
from core.training.loader import StepLoader, generator_at
from core.training.module import SequenceModule

def held():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20

class Sums(SequenceModule):
    def __init__(self):
        super().__init__()
        self.encoder = SparseEncoder(EncoderConfig(32, 2, 2, pattern=longformer(32, (0,))))
        self.megabytes = []

    def loss(self, batch):
        self.megabytes.append(held())
        tokens, padding = batch[..., 1:], batch[..., 0] > 0
        return (self.encoder(tokens, padding).mean(-1) - tokens.sum(-1)).square().mean()

def batch(step):
    batch = torch.randn(4, 1024, 33, generator=generator_at(0, step))
    batch[..., 0] = (torch.arange(1024) < 700 + step).float()
    return batch

keep_freed_memory()
torch.manual_seed(0)
steps, sums = 60, Sums()
config = FitConfig(steps=steps, checkpoint_every=steps, accelerator="cpu")
fit(sums, StepLoader(batch, steps), OptimConfig(), config, Path(sys.argv[1]), seed=0)
print(*sums.megabytes)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_memory_of_a_training_does_not_grow(tmp_path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TRAINING, str(tmp_path)], capture_output=True, text=True, check=True
    )
    megabytes = [float(one) for one in done.stdout.split("\n")[-2].split()]
    assert len(megabytes) == 60
    assert max(megabytes[-10:]) - max(megabytes[10:20]) < 10
