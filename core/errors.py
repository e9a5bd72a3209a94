"""What can go wrong, and the exit code that a command gives for it (docs/operations.md)."""

from __future__ import annotations


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
