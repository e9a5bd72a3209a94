"""The effect network on a reader of strands: what the task mlm has learned, with another head."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from core.model.encoder import EncoderConfig
from domains.genomics.contig import UNKNOWN
from domains.genomics.masked_model import BaseHead
from domains.genomics.model import ACIDS, NEIGHBOURS, EffectModule
from domains.genomics.strand_reader import StrandReader


class StateJoin(nn.Module):
    """The states on either side of a position, how much each base is expected there, and what the
    annotation says of it -> [B, N, D]."""

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.before = nn.Linear(dim, dim)
        self.after = nn.Linear(dim, dim)
        self.expected = nn.Linear(UNKNOWN, dim)
        self.channel = nn.Linear(channels, dim)
        self.acid = nn.Embedding(ACIDS, dim)

    def forward(
        self, before: Tensor, after: Tensor, level: Tensor, channel: Tensor, acid: Tensor
    ) -> Tensor:
        x = self.before(before) + self.after(after) + self.expected(level)
        return x + self.channel(channel) + self.acid(acid)


class StrandEffectModule(EffectModule):
    """Reader of strands, its expectation of bases, and the effect head.

    Reader and expectation have the names that they have in `MaskedModule`, from which a training
    may begin; annotation and tracks come in above them, so that they may be any.
    """

    HEAD = ("head.", "join.", "facts.")

    def build(self, encoder: EncoderConfig, channels: int) -> None:
        self.reader = StrandReader(encoder)
        self.bases = BaseHead(encoder.dim)
        self.join = StateJoin(channels, encoder.dim)

    def states(self, base: Tensor, channel: Tensor, acid: Tensor, real: Tensor) -> Tensor:
        before, after = self.reader(base, real)
        level = F.log_softmax(self.bases(before, after).float(), dim=-1).to(before.dtype)
        return self.join(before, after, level, channel, acid)

    def reach(self) -> int | None:
        near = self.reader.reach()
        return None if near is None else near + NEIGHBOURS // 2
