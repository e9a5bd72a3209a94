"""Memory that is freed stays with the process."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
from core.memory import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
bytearray(64 << 20)
before = faults()
bytearray(64 << 20)
print((faults() - before) * resource.getpagesize() >> 20)
"""


def mapped_again(how: str) -> int:
    """MB that the second of two blocks of 64 MB, one after the other, has to find anew."""
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_a_large_block_is_used_again():
    assert mapped_again("as it was") > 32
    assert mapped_again("kept") < 1


GIVEN_BACK = """
import resource
from pathlib import Path
from core.memory import give_back_memory, keep_freed_memory
def held():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() >> 20
keep_freed_memory()
before = held()
bytearray(64 << 20)[:: 1 << 12]
kept = held() - before
give_back_memory()
print(kept, held() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_free_memory_is_given_back_when_asked():
    done = subprocess.run(
        [sys.executable, "-c", GIVEN_BACK], capture_output=True, text=True, check=True
    )
    kept, left = map(int, done.stdout.split())
    assert kept > 50 and left < 10
