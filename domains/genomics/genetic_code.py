"""Genetic codes, by the numbers that NCBI gives them (transl_table)."""

from __future__ import annotations

from core.errors import ConfigError

STANDARD = 1
# NCBI's, but for 32, which bcftools csq does not have: amino acids and consequences must agree.
GENETIC_CODES = (*range(1, 7), *range(9, 17), *range(21, 32), 33)


def check_genetic_code(name: str, found: int) -> None:
    """Raises ConfigError for a number that is no genetic code, or one without consequences."""
    if found not in GENETIC_CODES:
        raise ConfigError(
            f"{name}: found {found}, expected a transl_table number of NCBI that bcftools csq has "
            "too: 1 to 6, 9 to 16, 21 to 31 or 33 (1 standard, 2 vertebrate mitochondria, 4 "
            "Mycoplasma, 11 bacteria)"
        )
