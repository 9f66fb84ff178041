"""Benchmarks of each suite in the order of their value, with budgets and requirements."""

import shutil
from importlib.util import find_spec

import torch

from benchmarks.suites.budget import Part


def compiler() -> str:
    """Return the reason why torch.compile cannot run; empty if it can."""
    if torch.cuda.is_available() and not find_spec("triton"):
        return "no triton, with which torch.compile writes kernels"
    if not shutil.which("gcc") and not shutil.which("clang"):
        return "no C compiler (gcc or clang), which torch.compile needs"
    return ""


def pytest() -> str:
    """Return the reason why tests cannot run; empty if they can."""
    absent = [name for name in ("pytest", "hypothesis") if not find_spec(name)]
    return f"no {' and no '.join(absent)}" if absent else ""


CPU = [
    Part("step_time-retinanet", "step_time.py", 600),
    Part("shortcuts", "shortcuts.py", 240),
    Part("loop", "loop.py", 300),
    Part("loader", "loader.py", 300),
    Part("start", "start.py", 300),
    Part("evaluation", "evaluation.py --images 5000", 300),
    Part("workflow", "workflow.py", 300),
    Part("teacher_cache", "teacher_cache.py", 300),
]
GPU = [
    Part("loop", "loop.py --rounds 8", 50),
    Part("step_time-retinanet", "step_time.py --size 1344x800 --batch 16 --rounds 3", 190),
    Part("device_tests", "devices/device_tests.py", 100, (pytest,)),
    Part("precision", "devices/precision.py --size 1344x800 --batch 16", 50),
    Part("compile", "compile.py --scale paper --side 800 --rounds 10", 50, (compiler,)),
    Part("loader", "loader.py --rounds 3 --seconds 4", 50),
    Part("shortcuts", "shortcuts.py --rounds 10", 30),
]
"""The first is short: it fails at once if anything is absent. Their sum is the limit of 9 minutes,
without the seconds in which the suite writes its table."""
