"""What encoders of keyed histories share: the views, how heads are dealt to them, label states."""

from __future__ import annotations

from dataclasses import dataclass

from core.errors import ConfigError

LEGITIMATE, POSITIVE, UNKNOWN = 0, 1, 2
"""Label states of a memory event, as seen by the event that asks."""

NO_EVENT = -1
"""Marks an empty slot of a gathered window."""


@dataclass(frozen=True)
class KeyedView:
    """One way to look back.

    Args:
        name: for messages and parameters.
        window: events of the same key that an event sees, itself included; None is all of them.
        labels: whether labels that have matured are part of the memory.
    """

    name: str
    window: int | None
    labels: bool = True


@dataclass(frozen=True)
class Views:
    """Sizes of an encoder whose heads look back through views.

    Args:
        views: heads are dealt to them in order, as evenly as they divide.
        ffn: hidden width of the feed-forward layers.
        forget: share of memory events hidden at random in training; the few positives a model
            sees again and again would otherwise be learned by heart.
    """

    views: tuple[KeyedView, ...]
    dim: int = 48
    heads: int = 4
    rounds: int = 2
    ffn: int = 192
    dropout: float = 0.0
    forget: float = 0.0

    def __post_init__(self) -> None:
        if not self.views:
            raise ConfigError("keyed encoder: found no view, expected at least one")
        if self.heads < len(self.views):
            raise ConfigError(
                f"keyed encoder: found heads={self.heads} for {len(self.views)} views, expected "
                "at least one head a view; raise heads or drop a view"
            )
        if min(self.rounds, self.ffn) < 1:
            raise ConfigError("keyed encoder: rounds and ffn must be at least 1")

    def heads_of(self, view: int) -> int:
        """Heads of the view at this place in the list."""
        share, extra = divmod(self.heads, len(self.views))
        return share + (view < extra)
