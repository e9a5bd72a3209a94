"""What a registry speaks of: versions, aliases, and references such as fraud@champion."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from core.errors import ConfigError

CHAMPION, CHALLENGER, PREVIOUS = ALIASES = ("champion", "challenger", "previous")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_NUMBER = re.compile(r"v?0*([1-9]\d*)")


@dataclass(frozen=True)
class Version:
    """One published bundle.

    Args:
        path: the bundle's folder; `Registry.versions` names it, `resolve` sees to it that it is
            there.
        created: when it was published, UTC.
        model_version: `core.bundle_files.bundle_version` of the bundle as it was published.
        note: what the publisher said of it.
    """

    name: str
    number: int
    path: Path
    created: str
    model_version: str
    note: Mapping[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return label(self.number)

    def __str__(self) -> str:
        return f"{self.name}@{self.label}"


@dataclass(frozen=True)
class Reference:
    """A model by name and either an alias or a version number."""

    name: str
    alias: str | None
    number: int | None


def label(number: int) -> str:
    """3 -> v0003."""
    return f"v{number:04d}"


def parse_number(text: str) -> int:
    """3 or v0003 -> 3.

    Raises:
        ConfigError: neither.
    """
    matched = _NUMBER.fullmatch(text)
    if matched is None:
        raise ConfigError(f"version: found {text!r}, expected a number such as 3 or v0003")
    return int(matched.group(1))


def parse_reference(text: str) -> Reference:
    """NAME@ALIAS, NAME@v0003 or NAME, which means NAME@champion.

    Raises:
        ConfigError: anything else.
    """
    name, _, where = text.partition("@")
    check_name(name)
    where = where if "@" in text else CHAMPION
    if where in ALIASES:
        return Reference(name, where, None)
    if _NUMBER.fullmatch(where) is None:
        raise ConfigError(
            f"{text}: found {where!r} after the @, expected {', '.join(ALIASES)} or a version such "
            "as v0003"
        )
    return Reference(name, None, parse_number(where))


def check_name(name: str) -> None:
    """Raises ConfigError for a name that could not be a folder's and a URL's part."""
    if _NAME.fullmatch(name) is None:
        raise ConfigError(
            f"name: found {name!r}, expected letters, digits, '.', '_' and '-', the first a letter "
            "or a digit"
        )


def check_alias(alias: str) -> None:
    """Raises ConfigError for an alias that a registry doesn't keep."""
    if alias not in ALIASES:
        raise ConfigError(f"alias: found {alias!r}, expected one of {', '.join(ALIASES)}")
