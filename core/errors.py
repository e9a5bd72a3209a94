"""What can go wrong, and the exit code that a command gives for it (docs/operations.md)."""

from __future__ import annotations

import signal


class LongstrandError(Exception):
    """A failure that the user can act on: where, what was found, what was expected, what to do."""

    exit_code = 1


class ConfigError(LongstrandError):
    """Unusable arguments or configuration."""

    exit_code = 2


class DataContractError(LongstrandError):
    """Input that breaks the data contract as a whole (single bad rows are set aside instead)."""

    exit_code = 3


class TooFewLabelsError(LongstrandError):
    """Not enough matured labels to learn from."""

    exit_code = 4


class LockHeldError(LongstrandError):
    """Another run holds the lock."""

    exit_code = 75


class Preempted(LongstrandError):
    """Stopped by SIGTERM or Ctrl-C after a checkpoint; the same command, resume=auto, goes on."""

    exit_code = 143


def stops() -> list[int]:
    """Signals that ask for a stop. A process in the background of a shell is told to take no notice
    of the terminal's Ctrl-C, and takes none."""
    ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    return [signal.SIGTERM] if ignored else [signal.SIGTERM, signal.SIGINT]


def stop_name(signum: int) -> str:
    """What to call the signal that asked for a stop."""
    return "Ctrl-C" if signum == signal.SIGINT else signal.Signals(signum).name
