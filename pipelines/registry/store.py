"""What a registry asks of the place that keeps it: a folder, or MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from pipelines.registry.version import Version


class Store(Protocol):
    """Where versions and aliases are kept. One writer at a time: the registry sees to that."""

    def names(self) -> list[str]: ...
    def numbers(self, name: str) -> list[int]:
        """Ascending; empty for a name that nobody has published."""
        ...

    def read(self, name: str, number: int) -> Version:
        """Raises ConfigError where there is none."""
        ...

    def add(self, name: str, bundle: Path, note: Mapping[str, str]) -> Version:
        """Whole or not at all."""
        ...

    def fetch(self, version: Version) -> None:
        """See to it that `version.path` holds the bundle."""
        ...

    def check(self, version: Version) -> None:
        """Raises ConfigError where what is kept is not what was published."""
        ...

    def aliases(self, name: str) -> dict[str, int]: ...
    def point(self, name: str, alias: str, number: int) -> None: ...
    def unpoint(self, name: str, alias: str) -> None: ...
    def home(self, name: str) -> Path:
        """A folder of this machine for the model's locks; made where it is missing."""
        ...
