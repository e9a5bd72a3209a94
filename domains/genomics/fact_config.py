"""Configuration of facts (`domains.genomics.fact`)."""

from __future__ import annotations

from dataclasses import dataclass

from core.errors import ConfigError


@dataclass
class FactsConfig:
    """A small network on facts, beside the encoder.

    Args:
        hidden: width of its layer; 0: no facts are told.
        dropout: share of that layer dropped in training.
        hide: share of the facts hidden in training.
        encoder: how much of the encoder's number is added; where labels are few it learns them by
            heart, and slower the smaller this is. 0 leaves the encoder out.
    """

    hidden: int = 0
    dropout: float = 0.3
    hide: float = 0.5
    encoder: float = 1.0

    def __post_init__(self) -> None:
        if self.hidden < 0:
            raise ConfigError(f"domain.facts.hidden: found {self.hidden}, expected 0 or more")
        if self.encoder < 0:
            raise ConfigError(f"domain.facts.encoder: found {self.encoder}, expected 0 or more")
        for name in ("dropout", "hide"):
            found = getattr(self, name)
            if not 0 <= found < 1:
                raise ConfigError(f"domain.facts.{name}: found {found}, expected 0 <= {name} < 1")
