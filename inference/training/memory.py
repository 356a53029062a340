"""Memory of the C library."""

from __future__ import annotations

import ctypes

__all__ = ["keep_freed_memory"]


def keep_freed_memory() -> bool:
    """Have the C library keep the memory that is freed, instead of giving it back to the system.

    A training step frees and asks for the same tens of megabytes again and again. glibc decides by the
    history of the process what it gives back, and what it gave back costs page faults to get again: from
    nothing to a third of a step of AIR. Programs call this once, at their start; it holds for the whole
    process, whose resident memory stays at its peak from then on.

    Returns:
        whether the C library can be told so: glibc can.
    """
    trim_threshold, mmap_threshold = -1, -3  # `M_TRIM_THRESHOLD` and `M_MMAP_THRESHOLD` of malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(mmap_threshold, 2**30) and mallopt(trim_threshold, 2**31 - 1))
