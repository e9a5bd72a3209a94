"""Write a domain's simulated data as files: python -m pipelines.simulate domain=NAME out=DIR"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from core.errors import ConfigError
from pipelines import build, cli
from pipelines.domains import load_domain


def simulate(config: DictConfig) -> dict[str, Any]:
    """Refuses a folder that holds something already."""
    domain = load_domain(config.domain.name)
    out = Path(config.out)
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"out: {out} is not empty; name a new folder")
    temporary = out.with_name(out.name + ".partial")
    shutil.rmtree(temporary, ignore_errors=True)
    domain.simulate(build.domain_config(config.domain), temporary)
    if out.exists():
        out.rmdir()
    os.replace(temporary, out)
    files = sorted(str(p) for p in out.iterdir())
    return {"command": "simulate", "domain": domain.name, "files": files}


def main() -> None:
    """Console script longstrand-simulate."""
    cli.run(simulate, "simulate")


if __name__ == "__main__":
    main()
