"""Signals by which a process is asked to stop."""

from __future__ import annotations

import signal


def stops() -> list[int]:
    """Signals that ask for a stop. A process in the background of a shell is told to take no notice
    of the terminal's Ctrl-C, and takes none."""
    ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    return [signal.SIGTERM] if ignored else [signal.SIGTERM, signal.SIGINT]


def stop_name(signum: int) -> str:
    """What to call the signal that asked for a stop."""
    return "Ctrl-C" if signum == signal.SIGINT else signal.Signals(signum).name
