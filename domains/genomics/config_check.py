"""Checks that the configuration's parts share."""

from __future__ import annotations

from core.errors import ConfigError


def check_one_of(name: str, found: str, expected: tuple[str, ...]) -> None:
    if found not in expected:
        raise ConfigError(f"{name}: found {found!r}, expected one of {', '.join(expected)}")


def check_at_least(name: str, found: float, least: float) -> None:
    if found < least:
        raise ConfigError(f"{name}: found {found}, expected at least {least}")
