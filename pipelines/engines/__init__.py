"""Where partitions are scored: this process, worker processes, or the actors of a Ray cluster.

An engine is a pool of workers that are all alike; which worker scores a partition changes no byte.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from omegaconf import DictConfig

from core.errors import ConfigError
from pipelines.engines.pool import Job, Pool, Worker


def open_pool(engine: DictConfig, job: Job, own: Worker) -> AbstractContextManager[Pool]:
    """The workers that group `engine` asks for; they end with the context.

    Args:
        own: a worker of the job in this process.

    Raises:
        ConfigError: unusable settings, or Ray is asked for and not installed.
    """
    if engine.workers < 1:
        raise ConfigError(f"engine.workers: found {engine.workers}, expected 1 or more")
    if engine.kind == "local":
        from pipelines.engines.local import local_pool

        if engine.address is not None:
            raise ConfigError(
                f"engine.address: found {engine.address!r} with engine=local, which would ignore "
                "it; set engine=ray"
            )
        return local_pool(job, engine.workers, own)
    if engine.kind == "ray":
        from pipelines.engines.cluster import ray_pool

        return ray_pool(job, engine.workers, engine.address)
    raise ConfigError(f"engine.kind: found {engine.kind!r}, expected local or ray")
