import platform
import subprocess
import sys

from whatwhere.inference.training import keep_freed_memory

GLIBC = platform.libc_ver()[0] == "glibc"

PROGRAM = """
import ctypes, resource, sys
from whatwhere.inference.training.memory import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
size = 64 << 20  # above any threshold that glibc chooses by itself
ctypes.memset(ctypes.create_string_buffer(size), 1, size)
before = faults()
for _ in range(3):
    ctypes.memset(ctypes.create_string_buffer(size), 1, size)
print(faults() - before)
"""


def count_faults(mode: str) -> int:
    run = subprocess.run([sys.executable, "-c", PROGRAM, mode], capture_output=True, text=True, check=True)
    return int(run.stdout)


def test_glibc_can_be_told():
    assert keep_freed_memory() == GLIBC


def test_memory_that_was_freed_costs_no_page_faults_again():
    if GLIBC:
        pages = (64 << 20) // resource_page_size()
        assert count_faults("keep") < pages
        assert count_faults("default") >= 3 * pages


def resource_page_size() -> int:
    import resource

    return resource.getpagesize()
