"""Process of one system, which steps on request; ``compare.py`` starts it."""

import argparse
from importlib import import_module
from pathlib import Path

import torch

from benchmarks.peers.gate import Gate
from benchmarks.peers.work import Work

PLACES = {
    "torchvision": "torchvision_systems.parts",
    "torchdistill": "torchvision_systems.whole_teacher",
    "torchdistill-cut": "torchvision_systems.cut_teacher",
    "mmdet": "mmdet_systems.parts",
    "mmdet-runner": "mmdet_systems.runner",
    "mmrazor": "mmrazor_system.fbkd",
    "kd-alone": "kd_systems.alone",
    "kd-fitnets": "kd_systems.fitnets",
    "kd-fkd": "kd_systems.fkd",
}
"""Module and function of each system; only its own is imported."""


def main() -> None:
    """Run one system."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("system", choices=PLACES)
    parser.add_argument("images", type=Path)
    parser.add_argument("folder", type=Path, help="folder for the results")
    parser.add_argument("--batch", type=int, required=True)
    options = parser.parse_args()
    gate = Gate()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    module, function = PLACES[options.system].split(".")
    run = getattr(import_module(f"benchmarks.peers.{module}"), function)
    run(Work(options.images, options.folder, options.batch, gate))


if __name__ == "__main__":
    main()
