"""Energy of GPUs, from the counters that their driver keeps."""

from collections.abc import Collection

import pynvml


def counters(gpus: Collection[str]) -> list[int] | None:
    """Return the millijoules that each GPU, by UUID, has drawn since its driver was loaded.

    A counter (NVML, Volta or newer) is of a whole board, whoever uses it, so each is read once.
    None without GPUs, or where one is out of reach: no driver, an older one, another machine's, or
    a part of one (MIG).
    """
    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByUUID(gpu) for gpu in sorted(set(gpus))]
        return [pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) for handle in handles] or None
    except pynvml.NVMLError:
        return None
