"""Commands run one after the other in forks of one process, which has imported torch.

argv: a JSON list of [arguments, environment, file for standard output]. A command with KILL_AT=n
in its environment kills itself (-9) in its n-th training step. Prints the exit codes as JSON; a
signal is negative.
"""

import json
import os
import runpy
import signal
import sys

import alembic.command  # noqa: F401
import hydra  # noqa: F401
import optuna.storages._rdb.storage  # noqa: F401
import polars  # noqa: F401
import pytorch_lightning  # noqa: F401
import scipy.optimize  # noqa: F401

from core.training.lightning import Training


def kill_at(step: int) -> None:
    steps, train = [0], Training.training_step

    def counted(self, batch, index):
        steps[0] += 1
        if steps[0] == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return train(self, batch, index)

    Training.training_step = counted


codes = []
for arguments, environment, out in json.loads(sys.argv[1]):
    if os.fork() == 0:
        os.environ.update(environment)
        os.dup2(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
        if "KILL_AT" in environment:
            kill_at(int(environment["KILL_AT"]))
        sys.argv[1:] = arguments[1:]
        runpy.run_module(f"pipelines.{arguments[0]}", run_name="__main__", alter_sys=True)
        sys.exit(0)
    codes.append(os.waitstatus_to_exitcode(os.wait()[1]))
print(json.dumps(codes))
