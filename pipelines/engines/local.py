"""Workers on this machine: this process itself, or processes of their own."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Collection, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait as wait_for

from core.contract import Partition
from pipelines.engines.pool import Job, Pool, Worker, worker_died

_worker: Worker | None = None


@contextlib.contextmanager
def local_pool(job: Job, workers: int, own: Worker) -> Iterator[Pool]:
    """One worker is `own`; more are processes that share the job's folder and nothing else."""
    if workers == 1:
        yield InProcess(own)
        return
    # Spawned, because torch's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(job.threads,))
    try:
        yield Processes(executor, job, workers)
    finally:
        # Partitions in flight are finished, so that they need not be scored again.
        executor.shutdown(cancel_futures=True)


class InProcess:
    """A pool of one."""

    size = 1

    def __init__(self, worker: Worker) -> None:
        self.worker = worker

    def submit(self, part: Partition, before: Partition | None) -> tuple[str, int]:
        return part.key, self.worker.score(part, before)

    def wait(self, running: Collection[tuple[str, int]]) -> tuple[tuple[str, int], int]:
        handle = next(iter(running))
        return handle, handle[1]


class Processes:
    """A pool of processes; each opens the job at its first partition."""

    def __init__(self, executor: ProcessPoolExecutor, job: Job, size: int) -> None:
        self.executor, self.job, self.size = executor, job, size

    def submit(self, part: Partition, before: Partition | None) -> Future[int]:
        try:
            return self.executor.submit(_score, self.job, part, before)
        except BrokenProcessPool:
            raise worker_died("a worker process") from None

    def wait(self, running: Collection[Future[int]]) -> tuple[Future[int], int]:
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        first = done.pop()
        try:
            return first, first.result()
        except BrokenProcessPool:
            raise worker_died("a worker process") from None


def _begin(threads: int) -> None:
    """In a new worker process, before polars or torch is imported."""
    if threads:
        os.environ["POLARS_MAX_THREADS"] = str(threads)
    # The parent decides when to stop; a worker that outlived it would hold memory for ever.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for([parent.sentinel])
        os._exit(1)


def _score(job: Job, part: Partition, before: Partition | None) -> int:
    global _worker
    if _worker is None:
        _worker = job.open()
    return _worker.score(part, before)
