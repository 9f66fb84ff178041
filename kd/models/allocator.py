"""Setting of glibc's allocator that keeps freed memory between steps."""

import ctypes
import platform

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Numbers of ``mallopt``'s parameters, in glibc's malloc.h."""
NEVER, LARGEST = 2**31 - 1, 32 * 2**20
"""Bytes: free memory that the heap's end may have, and glibc's largest threshold for ``mmap``."""


def keep_freed_memory() -> bool:
    """Make this process keep freed memory; return False if its C library is not glibc.

    A step on a CPU allocates thousands of tensors of some hundred kilobytes. By default glibc maps
    each of them anew, and the system clears all their pages.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(TRIM_THRESHOLD, NEVER) and mallopt(MMAP_THRESHOLD, LARGEST))
