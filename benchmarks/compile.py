"""Time torch.compile of a teacher's backbone and neck: what it takes, gains, and when it has paid.

python benchmarks/compile.py        RetinaNet, smoke scale; two minutes, needs a C compiler

The same teacher on the same images, with and without, in turn. Steps until it pays: the seconds of
compiling over the seconds gained by a step. Images come in one size here; in a training of COCO in
many, for each of which there is a compilation more, or a slower general one.
"""

import copy
import shutil
import time

import torch
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope

import kd.runtime  # noqa: F401
from benchmarks import report
from kd.common.timing import Quartiles, in_turn, quartiles, ratio, synchronize
from kd.config.compose import detector_model
from kd.config.library import Library
from kd.models.build import build_model


def main() -> None:
    """Run the benchmark and print its table."""
    parser = report.arguments(__doc__)
    parser.add_argument("--scale", default="smoke")
    parser.add_argument("--backbone", default="r50")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument(
        "--side", type=int, default=128, help="side of the square images, in pixels"
    )
    parser.add_argument("--backend", default="inductor", help="backend of torch.compile")
    options = report.parse(parser, rounds=2, batch=1, backbone="r18-w0.125", backend="aot_eager")
    has_compiler = shutil.which("gcc") or shutil.which("clang")
    if options.backend == "inductor" and not has_compiler:
        raise SystemExit("error: no C compiler, which torch.compile needs; nothing else here does")
    MMLogger.get_instance("benchmark", log_level="ERROR")
    init_default_scope("mmdet")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    plain = teacher(options.scale, options.backbone).to(device)
    compiled = torch.compile(copy.deepcopy(plain), backend=options.backend)
    images = torch.randn(options.batch, 3, options.side, options.side, device=device)
    with torch.no_grad():
        compiling = first(lambda: compiled(images))
        gap = max(
            float((a - b).abs().max() / b.abs().max())
            for a, b in zip(compiled(images), plain(images), strict=True)
        )
        cases = {"plain": lambda: plain(images), "compiled": lambda: compiled(images)}
        times = in_turn(cases, options.rounds)
    gain = quartiles(times["plain"]).median - quartiles(times["compiled"]).median
    pays = compiling / gain if gain > 0 else float("inf")
    details = {
        "plain, ms": 1000 * quartiles(times["plain"]).median,
        "compiled, ms": 1000 * quartiles(times["compiled"]).median,
        "compiling, s": compiling,
        "largest difference": gap,
    }
    lines = [report.Line("compiled / plain teacher", ratio(times["compiled"], times["plain"]), 1.0)]
    lines[0].details.update(details)
    lines.append(report.Line("steps until it has paid", Quartiles(pays, pays, pays, 1)))
    about = (
        f"RetinaNet's teacher, {options.backbone} at scale {options.scale}, without head and "
        f"gradients, {options.batch} images of {options.side} pixels, on {device}, one thread."
    )
    print(report.publish(options.name or "compile", about, lines, options.before))


class Neck(torch.nn.Module):
    """A detector up to its neck."""

    def __init__(self, detector: torch.nn.Module) -> None:
        super().__init__()
        self.backbone, self.neck = detector.backbone, detector.neck

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.neck(self.backbone(images))


def teacher(scale_name: str, backbone: str) -> Neck:
    """Return a frozen teacher of random weights."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    library = Library()
    scale = library.scale(scale_name, "benchmark")
    name = scale.backbones.get(backbone, backbone)
    model = detector_model("retinanet", name, 80, "scratch", scale, library, "benchmark")
    detector = build_model(model)
    detector.init_weights()
    return Neck(detector.requires_grad_(False).eval())


def first(case) -> float:  # type: ignore[no-untyped-def]
    """Return the seconds of a first call."""
    synchronize()
    started = time.perf_counter()
    case()
    synchronize()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
