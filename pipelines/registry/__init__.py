"""Published models: versions that never change, and which of them is in use."""

from pipelines.registry.command import main
from pipelines.registry.opening import bundle_folder, open_registry
from pipelines.registry.registry import Registry
from pipelines.registry.version import ALIASES, CHALLENGER, CHAMPION, PREVIOUS, Version

__all__ = [
    "ALIASES",
    "CHALLENGER",
    "CHAMPION",
    "PREVIOUS",
    "Registry",
    "Version",
    "bundle_folder",
    "main",
    "open_registry",
]
