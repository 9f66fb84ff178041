"""Error of a training whose GPU or machine has too little memory."""

import torch

from kd.common.errors import UserError
from kd.common.lists import divisors
from kd.training import launch

CPU_ALLOCATOR = "DefaultCPUAllocator"
"""Part of torch's message of a RuntimeError if the machine refuses memory."""


class OutOfMemoryError(UserError):
    """Error of a training that needs more memory than its GPU or machine has."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return True for torch's error of a GPU or CPU without memory, and for Python's."""
    refused = isinstance(error, RuntimeError) and CPU_ALLOCATOR in str(error)
    return refused or isinstance(error, torch.OutOfMemoryError | MemoryError)


def out_of_memory(error: BaseException, batch_size: int, accumulate: int) -> OutOfMemoryError:
    """Return an error in one line that names the settings that make a training smaller.

    ``error``: torch's. ``batch_size``: the images of a step. ``accumulate``: the parts of each
    process's share of them.
    """
    is_gpu = isinstance(error, torch.OutOfMemoryError)
    images = batch_size // launch.world()
    larger = [number for number in divisors(images) if number > accumulate]
    if larger:
        remedy = (
            f"set 'accumulate' to {larger[0]} (`kd train --accumulate {larger[0]}`, or --config "
            f"accumulate={larger[0]})"
            + (", or share the batch among more GPUs ('gpus')" if is_gpu else "")
            + "; results stay the same up to rounding"
        )
    else:
        settings, device = ("'accumulate' and 'gpus' leave", "GPU")
        if not is_gpu:
            settings, device = ("'accumulate' leaves", "machine")
        remedy = f"{settings} one image at a time already, so use a {device} with more memory"
    count = images // accumulate
    place = "GPU memory" if is_gpu else "memory"
    number = f"{count} image{'s' * (count > 1)}"
    return OutOfMemoryError(f"out of {place} with {number} at a time ({_reason(error)}); {remedy}")


def _reason(error: BaseException) -> str:
    """Return the sentences of torch's message with the size of the allocation."""
    line = (str(error).splitlines() or [""])[0]
    sentences = line[max(line.find(CPU_ALLOCATOR), 0) :].split(". ")
    return ". ".join(sentences[:2]).rstrip(".") or type(error).__name__
