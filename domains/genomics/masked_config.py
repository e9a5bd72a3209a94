"""Configuration of the task mlm (`domains.genomics.masked`)."""

from __future__ import annotations

from dataclasses import dataclass, field

from core.errors import ConfigError


@dataclass
class MaskedConfig:
    """What the task mlm learns from and is judged by.

    Args:
        test: contigs that are held out and judged by; none holds out the first fold of
            `data.split`.
        leave_out: contigs that are neither learned from nor judged by, such as mitochondria.
        soft_mask: weight in the loss of a base that the FASTA has in lower case (repeats); others
            have 1.
    """

    test: list[str] = field(default_factory=list)
    leave_out: list[str] = field(default_factory=list)
    soft_mask: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.soft_mask <= 1:
            raise ConfigError(
                f"masked.soft_mask: found {self.soft_mask}, expected a weight from 0 to 1"
            )
        both = set(self.test) & set(self.leave_out)
        if both:
            raise ConfigError(
                f"masked.leave_out: found {sorted(both)[0]}, which masked.test names too; say one"
            )
