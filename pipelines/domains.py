"""Finding a domain by its name. Importing one is cheap: it loads no torch."""

from __future__ import annotations

import importlib
import pkgutil
from typing import cast

import domains
from core.contract import Domain
from core.errors import ConfigError


def domain_names() -> list[str]:
    """Folders under domains/."""
    return sorted(m.name for m in pkgutil.iter_modules(domains.__path__) if m.ispkg)


def load_domain(name: str) -> Domain:
    """The `domain` object of domains/<name>."""
    if name not in domain_names():
        raise ConfigError(f"domain: found {name!r}, expected one of {', '.join(domain_names())}")
    return cast(Domain, importlib.import_module(f"domains.{name}").domain)
