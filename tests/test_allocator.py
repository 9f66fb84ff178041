"""Freed memory is kept: a step finds the pages that the last one left."""

import platform
import subprocess
import sys

import pytest

from kd.allocator import keep_freed_memory

STEPS = """
import resource
import torch
import kd.runtime
torch.set_num_threads(1)
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def step():
    return [torch.zeros(2**22) for _ in range(8)]
step()
before = faults()
for _ in range(10):
    step()
print(faults() - before)
"""
PAGES = 10 * 8 * 2**24 // 4096
"""Of all tensors of all steps, more of a step than glibc ever keeps by itself."""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="no glibc; run on a Linux with it")
def test_what_builds_networks_keeps_freed_memory() -> None:
    """Without it most pages are mapped anew, unless the system happens to join them."""
    done = subprocess.run([sys.executable, "-c", STEPS], check=True, capture_output=True, text=True)
    assert int(done.stdout) < PAGES / 10
    assert keep_freed_memory()


def test_another_library_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not keep_freed_memory()
