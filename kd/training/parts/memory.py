"""Error of a training whose GPU has too little memory."""

from kd.common.errors import UserError
from kd.common.lists import divisors
from kd.training import launch


class GpuMemoryError(UserError):
    """Error of a training that needs more memory than its GPU has."""


def out_of_memory(error: BaseException, batch_size: int, accumulate: int) -> GpuMemoryError:
    """Return an error in one line that names the settings that make a training smaller.

    ``error``: torch's. ``batch_size``: the images of a step. ``accumulate``: the parts of each
    process's share of them.
    """
    images = batch_size // launch.world()
    larger = [number for number in divisors(images) if number > accumulate]
    if larger:
        remedy = (
            f"set 'accumulate' to {larger[0]} (`kd train --accumulate {larger[0]}`, or --config "
            f"accumulate={larger[0]}), or share the batch among more GPUs ('gpus'); results stay "
            "the same up to rounding"
        )
    else:
        remedy = (
            "'accumulate' and 'gpus' leave one image at a time already, so use a GPU with more "
            "memory"
        )
    count = images // accumulate
    return GpuMemoryError(
        f"out of GPU memory with {count} image{'s' * (count > 1)} at a time ({_reason(error)}); "
        f"{remedy}"
    )


def _reason(error: BaseException) -> str:
    """Return the first two sentences of torch's message: the size of the allocation."""
    sentences = (str(error).splitlines() or [""])[0].split(". ")
    return ". ".join(sentences[:2]).rstrip(".") or type(error).__name__
