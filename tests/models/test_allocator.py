"""Freed memory stays in the process, so that the next step need not map it anew."""

import platform
import subprocess
import sys

import pytest

from kd.models.allocator import keep_freed_memory

FREED = """
import ctypes
import torch
import kd.runtime
FIELDS = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
Heap = type("Heap", (ctypes.Structure,), {
    "_fields_": [(name, ctypes.c_int) for name in FIELDS.split()]
})
mallinfo = ctypes.CDLL(None).mallinfo
mallinfo.restype = Heap
before = mallinfo().fordblks
tensors = [torch.zeros(2**22) for _ in range(8)]
del tensors
print(mallinfo().fordblks - before)
"""
"""Prints by how many bytes the free part of the heap grows when a step frees its tensors."""
TENSORS = 8 * 2**24


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="no glibc; run on a Linux with it")
def test_what_builds_networks_keeps_freed_memory() -> None:
    """By itself glibc returns blocks of this size to the system: the free part stays as it was."""
    done = subprocess.run([sys.executable, "-c", FREED], check=True, capture_output=True, text=True)
    assert int(done.stdout) > 0.9 * TENSORS
    assert keep_freed_memory()


def test_another_library_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not keep_freed_memory()
