"""Memory that glibc would give back to the system after every step, to fetch it again."""

import ctypes
import platform

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Numbers of ``mallopt``'s parameters, in glibc's malloc.h."""
NEVER, LARGEST = 2**31 - 1, 32 * 2**20
"""Bytes: the most that is kept at the heap's end, and the largest threshold that glibc takes."""


def keep_freed_memory() -> bool:
    """Have this process keep what it frees; return whether it can be told to, as with glibc.

    Tensors of some hundred kilobytes, of which a step on a CPU makes thousands, are else mapped
    anew each time, and the system clears every page of them.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(TRIM_THRESHOLD, NEVER) and mallopt(MMAP_THRESHOLD, LARGEST))
