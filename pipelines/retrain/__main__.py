"""Console script longstrand-retrain, and python -m pipelines.retrain."""

from __future__ import annotations

from pipelines import cli
from pipelines.retrain.command import retrain


def main() -> None:
    cli.run(retrain, "retrain")


if __name__ == "__main__":
    main()
