"""Workers as actors of a Ray cluster (extra `ray`), or of this machine where no address is given.

Every node needs the same longstrand installed, and the same paths: bundle, input, history,
reference and output lie on storage that all nodes share.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Collection, Iterator
from typing import Any

from core.contract import Partition
from core.errors import ConfigError
from pipelines.engines.pool import Job, Pool, worker_died

RESTARTS = 3
"""How often a worker that died, with its node perhaps, is started again on another."""


@contextlib.contextmanager
def ray_pool(job: Job, workers: int, address: str | None) -> Iterator[Pool]:
    """Actors that are there as long as the context.

    Raises:
        ConfigError: Ray is not installed, or no cluster answers at the address.
    """
    ray = _import_ray()
    stop = signal.getsignal(signal.SIGTERM)
    cores = max(1, job.threads)
    here: dict[str, Any] = {"num_cpus": workers * cores, "include_dashboard": False}
    try:
        ray.init(
            address=address,
            logging_level=logging.ERROR,
            log_to_driver=False,  # it would print workers' output on ours
            **(here if address is None else {}),
        )
    except ConnectionError as error:
        raise ConfigError(f"engine.address: found no Ray cluster at {address}: {error}") from None
    signal.signal(signal.SIGTERM, stop)  # Ray puts its own handler there
    try:
        actor = ray.remote(num_cpus=cores, max_restarts=RESTARTS, max_task_retries=RESTARTS)
        yield Actors(ray, [actor(Opened).remote(job) for _ in range(workers)])
    finally:
        ray.shutdown()


def _import_ray() -> Any:
    # Before the import: nothing about this machine is sent anywhere.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise ConfigError(
            'engine=ray: Ray is not installed; pip install "longstrand[ray]", or engine=local'
        ) from None
    return ray


class Opened:
    """The actor: a worker that opens its job where it runs."""

    def __init__(self, job: Job) -> None:
        if job.threads:
            os.environ["POLARS_MAX_THREADS"] = str(job.threads)
        self.worker = job.open()

    def score(self, part: Partition, before: Partition | None) -> int:
        return self.worker.score(part, before)


class Actors:
    """A pool of actors."""

    def __init__(self, ray: Any, actors: list[Any]) -> None:
        self.ray, self.size = ray, len(actors)
        self.idle = actors
        self.busy: dict[Any, Any] = {}

    def submit(self, part: Partition, before: Partition | None) -> Any:
        actor = self.idle.pop()
        handle = actor.score.remote(part, before)
        self.busy[handle] = actor
        return handle

    def wait(self, running: Collection[Any]) -> tuple[Any, int]:
        done, _ = self.ray.wait(list(running), num_returns=1)
        self.idle.append(self.busy.pop(done[0]))
        try:
            return done[0], self.ray.get(done[0])
        except self.ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except self.ray.exceptions.RayActorError as error:
            # A worker that cannot be opened says why; one that died has nothing to say.
            cause = getattr(error, "cause", None)
            raise (cause if isinstance(cause, Exception) else worker_died("an actor")) from None
