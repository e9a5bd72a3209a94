"""Memory that is freed stays with the process, ready for the next tensor of its size.

glibc maps every block above 32 MiB anew and gives it back when it is freed, so that the kernel has
to find and clear its pages each time: for the tensors of long sequences that costs as much as a
fifth of their attention (see mallopt(3), M_MMAP_MAX and M_TRIM_THRESHOLD).
"""

from __future__ import annotations

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of malloc.h
_MOST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Affects the whole process from now on. Returns whether its C library knows how: glibc does.

    The highest use of memory stays what it was; a process gives less back afterwards.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, _MOST))


def give_back_memory() -> bool:
    """What is free goes back to the system now, for the processes beside this one. Returns as
    `keep_freed_memory` does."""
    if platform.libc_ver()[0] != "glibc":
        return False
    ctypes.CDLL(None).malloc_trim(0)
    return True
