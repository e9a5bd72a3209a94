"""The base of networks with a loss. Whoever only predicts needs no training library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from core.errors import ConfigError
from core.training import launch, processes


class SequenceModule(nn.Module):
    """A network with a loss. Subclasses implement `loss(batch)` by `mean`."""

    HEAD = ("head.",)
    """Beginnings of the names of tensors that mean something to this task only."""

    def __init__(self) -> None:
        super().__init__()
        self.took_mean = False
        self.steps_per_second: float | None = None
        """Of the last that a training logged; None where it had nothing left to do."""
        self.trained_on: torch.device | None = None
        """Where a training ran, which leaves its module on the CPU; None without one."""

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def loss(self, batch: Any) -> Tensor:
        """Scalar loss of one batch: a `mean`, or a sum of several."""
        raise NotImplementedError(f"{type(self).__name__} must define loss(batch)")

    @classmethod
    def ensemble(cls, members: Sequence[Any]) -> SequenceModule:
        """One module whose raw numbers are the mean of these modules' (deep ensembles,
        Lakshminarayanan et al. 2017, arXiv:1612.01474). It keeps them in a `ModuleList` named
        `members`, by which a bundle knows how many there are.

        Raises:
            ConfigError: this kind of module has no such mean.
        """
        raise ConfigError(
            f"trainer.members: several {cls.__name__}s cannot be averaged; train with "
            "trainer.members=1"
        )

    @classmethod
    def of_head(cls, name: str) -> bool:
        """Whether another task's training has no use for the tensor of this name."""
        return name.startswith(cls.HEAD)

    def mean(self, total: Tensor, weight: Tensor | float) -> Tensor:
        """`total` / `weight`, a sum over items by the sum of their weights.

        Where processes share a training batch, weights differ between them: the sum of weights is
        that of the whole batch, and the mean of the results over processes is its mean.
        """
        self.took_mean = True
        weights = torch.as_tensor(weight, dtype=total.dtype, device=total.device)
        if self.training and processes.joined():
            weights = processes.total(weights) / launch.count()
        return total / weights.clamp_min(1e-6)

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        """As in torch.

        Raises:
            ConfigError: names or shapes that differ, which an override of what was trained makes.
        """
        try:
            return super().load_state_dict(state_dict, strict=strict, assign=assign)
        except RuntimeError as error:
            first = str(error).splitlines()[1:2] or [str(error)]
            raise ConfigError(
                f"the weights do not fit the configured model ({first[0].strip()}); leave out "
                "overrides that change what was trained"
            ) from None
