"""What a training takes over from a bundle that knew other inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from core.errors import ConfigError
from domains.genomics.config import GenomicsConfig

if TYPE_CHECKING:
    from core.bundle import Bundle

_CHANNELS = "channel.weight"


def check_reader(bundle: Bundle, config: GenomicsConfig) -> None:
    """Raises ConfigError where the bundle's network reads sequence in another way."""
    theirs = bundle.config.get("reader", "window")
    if theirs != config.reader:
        raise ConfigError(
            f"init: {bundle.path} was trained with domain.reader={theirs}, found {config.reader}; "
            f"say domain.reader={theirs}"
        )


def with_channels(
    weights: Mapping[str, Tensor], theirs: tuple[str, ...], own: tuple[str, ...]
) -> dict[str, Tensor]:
    """Weights of input channels brought in the order of `own`; a channel that the bundle did not
    have begins without any influence.

    Args:
        theirs, own: names of the channels of the bundle and of the new training.
    """
    out = dict(weights)
    for name, weight in weights.items():
        if name.endswith(_CHANNELS):
            columns = [
                weight[:, theirs.index(channel)]
                if channel in theirs
                else weight.new_zeros(len(weight))
                for channel in own
            ]
            out[name] = torch.stack(columns, dim=1)
    return out
