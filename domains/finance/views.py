"""What a pattern means where events look back through views of their keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from core.attention import Causal, Dense, Pattern, Window
from core.errors import ConfigError
from core.model.gathered import GatheredConfig
from core.model.keyed import KeyedEncoderConfig
from core.model.views import KeyedView
from domains.finance.config import FinanceConfig, View
from domains.finance.stream import DAY

if TYPE_CHECKING:
    from core.model.encoder import EncoderConfig


def keyed_config(config: FinanceConfig, encoder: EncoderConfig) -> KeyedEncoderConfig:
    """The encoder's sizes on this configuration's views, a memory for each head.

    A position is a place among the events of a view: `Window(radius)` narrows every view to its
    last `radius` + 1 events, the event itself included, and widens none; `Dense` lifts the window
    of every view with a key for the key's whole past (the dense twin). The recent stream stays
    recent: it has no key whose past could be meant. An event never sees later ones, so a pattern
    and its causal form are the same.

    Raises:
        ConfigError: another pattern, or an option of the encoder that these views don't have.
    """
    return KeyedEncoderConfig(**_sizes(config, encoder), time_unit=float(DAY))


def gathered_config(config: FinanceConfig, encoder: EncoderConfig, carried: int) -> GatheredConfig:
    """As `keyed_config`, with a memory that heads share; `carried` numbers of an event are compared
    with its history's."""
    return GatheredConfig(**_sizes(config, encoder), carried=carried, few_labels=config.few_labels)


def _sizes(config: FinanceConfig, encoder: EncoderConfig) -> dict[str, Any]:
    """What `Views` asks for."""
    for option in ("kv_heads", "activation", "norm", "stochastic_depth", "checkpoint"):
        found, expected = getattr(encoder, option), getattr(type(encoder)(), option)
        if found != expected:
            raise ConfigError(
                f"model.{option}: found {found!r}, expected {expected!r}: the finance domain's "
                "encoder of keyed views has no other choice"
            )
    radius = _radius(encoder.pattern)
    views = [KeyedView(view.name, _window(view, radius), view.labels) for view in config.views]
    return {
        "views": tuple(views),
        "dim": encoder.dim,
        "heads": encoder.heads,
        "rounds": encoder.layers,
        "ffn": encoder.ffn * encoder.dim,
        "dropout": encoder.dropout,
        "forget": config.forget,
    }


def _radius(pattern: Pattern) -> int | None:
    """Of a window, None of the dense pattern; whether causal or not."""
    if reason := objection(pattern):
        raise ConfigError(f"attention: {reason}")
    return pattern.reach()


def objection(pattern: Pattern) -> str | None:
    """Why views of keys have no place for the pattern, if so."""
    reach = pattern.reach()
    whole = Dense() if reach is None else Window(reach)
    if pattern in (whole, whole & Causal()):
        return None
    return (
        f"found a pattern of kind {pattern.to_dict()['kind']}, expected kind window (the last "
        "radius + 1 events of each view at most) or dense (a key's whole past), causal or not, "
        "for the finance domain"
    )


def beyond(pattern: Pattern, views: Sequence[View]) -> str | None:
    """Why a window is no other than a narrower one, where no view looks as far back."""
    reach, windows = pattern.reach(), [view.window for view in views]
    known = [window for window in windows if window is not None]
    if reach is None or len(known) < len(windows) or reach < max(known):
        return None
    return f"found radius {reach}, but no view looks at more than its last {max(known)} events"


def _window(view: View, radius: int | None) -> int | None:
    if radius is None:
        return None if view.key else view.window
    return radius + 1 if view.window is None else min(view.window, radius + 1)


def mean_history(events: pl.DataFrame, views: Sequence[View]) -> int:
    """How many events an event's key has in the end, on average over events and views.

    Where no view has a key: the longest window, which no pattern lifts.
    """
    keyed = [[f"entity:{name}" for name in view.key] for view in views if view.key]
    if not keyed:
        return max(2, *(view.window or 2 for view in views))
    counts = [events.group_by(key).len()["len"].to_numpy().astype(np.int64) for key in keyed]
    return max(2, round(float(np.mean([(c**2).sum() / c.sum() for c in counts]))))
