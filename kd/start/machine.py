"""The machine that a study is proposed for: its GPU, if it has one, cores and memory."""

import os
from typing import Literal, NamedTuple

Device = Literal["cpu", "gpu"]
ASSUMED_GPU_GB = 12.0
"""Memory of a GPU that is named with ``--device gpu`` on a machine without one."""


class Machine(NamedTuple):
    """Device that trains, and its memory."""

    device: Device
    name: str
    """Name of the GPU, or the number of cores."""
    memory_gb: float
    """Memory of the GPU, or of the machine."""


def this_machine(device: Device | None = None) -> Machine:
    """Return the first GPU, or the processor; ``device``: the device, whatever is present."""
    gpu = None if device == "cpu" else _first_gpu()
    if gpu:
        return gpu
    if device == "gpu":
        return Machine("gpu", f"a GPU with {ASSUMED_GPU_GB:g} GB (assumed)", ASSUMED_GPU_GB)
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return Machine("cpu", f"{cores} CPU core{'s' * (cores > 1)}", memory)


def _first_gpu() -> Machine | None:
    """Return the first GPU that NVIDIA's driver lists, or None."""
    import pynvml

    try:
        pynvml.nvmlInit()
        if not pynvml.nvmlDeviceGetCount():
            return None
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        name = pynvml.nvmlDeviceGetName(handle)
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle).total / 2**30
    except pynvml.NVMLError:
        return None
    return Machine("gpu", name if isinstance(name, str) else name.decode(), float(memory))
