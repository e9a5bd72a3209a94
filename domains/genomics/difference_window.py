"""Events as tensors: the sequence after and before each, for training and for scoring."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch

from core.training.loader import WHOLE, Share, step_seed
from domains.genomics.contig import UNKNOWN
from domains.genomics.edited import Editor, Piece
from domains.genomics.event import Event
from domains.genomics.labelled_event import events_of
from domains.genomics.tokenizer import EffectTokenizer

if TYPE_CHECKING:
    from domains.genomics.difference_model import DifferenceEnsemble, DifferenceModule

WIDTHS = 16
TOKENS_A_FORWARD = 16_384


def stack_pieces(pieces: Sequence[Piece]) -> dict[str, Any]:
    """Pieces, padded on the right to a common width, a multiple of WIDTHS.

    Returns:
        base, site int64 [B, width], channel int8 [B, width, channels], real bool [B, width].
    """
    width = -(-max(map(len, pieces)) // WIDTHS) * WIDTHS
    base = np.full((len(pieces), width), UNKNOWN, dtype=np.int64)
    site = np.zeros((len(pieces), width), dtype=np.int64)
    channel = np.zeros((len(pieces), width, pieces[0].channel.shape[1]), dtype=np.int8)
    real = np.zeros((len(pieces), width), dtype=bool)
    for i, piece in enumerate(pieces):
        n = len(piece)
        base[i, :n], site[i, :n], channel[i, :n] = piece.base, piece.site, piece.channel
        real[i, :n] = True
    return {
        name: torch.from_numpy(of)
        for name, of in {"base": base, "site": site, "channel": channel, "real": real}.items()
    }


class TrainingEvents:
    """`TrainingWindows` whose batches also have labelled events, each read on a drawn strand.

    A pure function of (seed, step) too. Every labelled row comes once before any comes again.

    Args:
        windows: `TrainingWindows.batch_at` of the rows that are single-base substitutions.
        rows: all of them.
        count: events a step.
    """

    def __init__(
        self,
        windows: Callable[..., dict[str, Any]],
        editor: Editor,
        tokenizer: EffectTokenizer,
        rows: pl.DataFrame,
        count: int,
        seed: int,
    ) -> None:
        self.windows, self.editor, self.count, self.seed = windows, editor, count, seed
        self._events = events_of(editor.reference, rows)
        self._order: tuple[int, torch.Tensor] | None = None
        self._label = tokenizer.to_model(rows["label"].to_numpy()).astype(np.float32)
        self._weight = rows["weight"].to_numpy().astype(np.float32)

    def batch_at(self, step: int, share: Share = WHOLE) -> dict[str, Any]:
        """What `TrainingWindows` gives, and `events`: `stack_pieces` of E events after and then
        before, with label and weight float32 [E]."""
        batch = self.windows(step, share)
        chosen = [self._row(step * self.count + i) for i in range(self.count)]
        draw = torch.Generator().manual_seed(step_seed(self.seed, step, 1))
        turned = torch.rand(self.count, generator=draw) < 0.5
        mine = share.of(list(zip(chosen, turned.tolist(), strict=True)))
        pieces = [
            piece.opposite() if turn else piece
            for side in (self.editor.after, self.editor.before)
            for piece, turn in ((side(self._events[row]), turn) for row, turn in mine)
        ]
        events = stack_pieces(pieces)
        own = np.array([row for row, _ in mine])
        events["label"] = torch.from_numpy(self._label[own])
        events["weight"] = torch.from_numpy(self._weight[own])
        tokens = batch["tokens"] + sum(map(len, pieces))
        return batch | {"events": events, "tokens": tokens}

    def _row(self, index: int) -> int:
        epoch, place = divmod(index, len(self._events))
        if self._order is None or self._order[0] != epoch:
            draw = torch.Generator().manual_seed(step_seed(self.seed, epoch, 2))
            self._order = (epoch, torch.randperm(len(self._events), generator=draw))
        return int(self._order[1][place])


@torch.inference_mode()
def differences(
    module: DifferenceModule | DifferenceEnsemble, editor: Editor, events: Sequence[Event]
) -> np.ndarray:
    """float64 [K, E] in model units: of each of K trainings, the mean over both strands."""
    module.eval()
    out = np.empty((module.trainings, len(events)))
    for chosen in _batches(events, editor.flank):
        numbers = []
        after = [editor.after(events[i]) for i in chosen]
        before = [editor.before(events[i]) for i in chosen]
        for pieces in ([*after, *before], [p.opposite() for p in [*after, *before]]):
            batch = {k: v.to(module.device) for k, v in stack_pieces(pieces).items()}
            numbers.append(module.each_difference(batch).double().cpu().numpy())
        out[:, chosen] = (numbers[0] + numbers[1]) / 2
    return out


def _batches(events: Sequence[Event], flank: int) -> Iterator[list[int]]:
    """Numbers of events of about the same length together."""
    left = sorted(range(len(events)), key=lambda i: -events[i].length)
    while left:
        width = 2 * flank + events[left[0]].length
        size = max(1, TOKENS_A_FORWARD // (2 * width))
        yield left[:size]
        left = left[size:]
