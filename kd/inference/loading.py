"""Loading of a trained detector, whatever file it is in."""

from pathlib import Path

from kd.common.errors import UserError
from kd.common.results import require_result
from kd.config.compose import WEIGHTS
from kd.inference.detector import ReadyDetector
from kd.inference.onnx_detector import OnnxDetector, onnx_file


def load_detector(
    source: Path, device: str | None = None, size: tuple[int, int] | None = None
) -> ReadyDetector:
    """Load the detector of a run's directory, an ONNX file or the folder of an export with one.

    ``device``: cpu, cuda or cuda:N; without it, a GPU if there is one, and the CPU for ONNX.
    ``size``: width and height that images are resized to (default: the run's). Both runtimes use
    torch's number of CPU threads. UserError if the machine has no such device, for a source that
    holds no trained detector, and for another size than that of an ONNX file.
    """
    if (path := onnx_file(source)) is not None:
        return _load_onnx(path, device_for(source, device), size)
    from kd.inference.run_detector import RunDetector

    return RunDetector(source, device_of(device), size)


def _load_onnx(path: Path, device: str, size: tuple[int, int] | None) -> OnnxDetector:
    import torch

    detector = OnnxDetector(path, device, torch.get_num_threads())
    if size and size != detector.size:
        fixed, other = (" x ".join(map(str, one)) for one in (detector.size, size))
        raise UserError(f"{path}: its images are {fixed} pixels, not {other}; leave out --size")
    return detector


def weights_file(source: Path) -> Path:
    """Return the file with the weights of a source; UserError if it is absent."""
    if (exported := onnx_file(source)) is not None:
        return exported
    path = source / WEIGHTS
    require_result(path)
    return path


def device_for(source: Path, name: str | None) -> str:
    """Return the device of a source's detector: by default the CPU for ONNX, else ``device_of``."""
    return "cpu" if name is None and onnx_file(source) else device_of(name)


def is_run(source: Path) -> bool:
    """Return True for the directory of a run, False for an export."""
    return onnx_file(source) is None


def device_of(name: str | None) -> str:
    """Return the name of torch's device, by default a GPU if there is one; UserError without it."""
    import torch

    gpus = torch.cuda.device_count()
    if name is None:
        return "cuda:0" if gpus else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"device '{name}': unknown; valid: cpu, cuda, cuda:1, ...") from None
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"device '{name}': not supported; valid: cpu, cuda, cuda:1, ...")
    if device.type == "cuda" and (device.index or 0) >= gpus:
        remedy = f"it has {gpus} GPUs" if gpus else "it has no GPU that torch can use; give cpu"
        raise UserError(f"device '{name}': this machine has no such device; {remedy}")
    return name
