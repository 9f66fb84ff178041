"""Energy of GPUs, from the counters of their driver."""

from collections.abc import Collection

import pynvml


def counters(gpus: Collection[str]) -> list[int] | None:
    """Return the millijoules that each GPU, by UUID, has used since its driver was loaded.

    A counter (NVML, Volta or newer) covers a whole board, so each is read once however many
    processes share it. None without GPUs, or if one cannot be read: no driver, an older one,
    another machine's, or a part of a GPU (MIG).
    """
    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByUUID(gpu) for gpu in sorted(set(gpus))]
        return [pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) for handle in handles] or None
    except pynvml.NVMLError:
        return None
