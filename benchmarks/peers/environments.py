"""Virtual environment of each peer: the project's packages and the peer itself.

A peer imports the packages of the interpreter that prepares its environment, so that all systems
have the same torch, torchvision, mmdet and mmengine. Only the peer is installed, without its
dependencies.
"""

import subprocess
import sys
import sysconfig
from pathlib import Path

from kd.common.errors import UserError
from kd.common.files import write_text

HERE = Path(__file__).resolve().parent
READY = "installed.txt"
"""File with the requirements of a complete environment; it is written last."""
PEERS = ("torchdistill", "mmrazor")


def requirements(peer: str) -> list[str]:
    """Return the packages of a peer's environment, with versions."""
    return (HERE / f"requirements-{peer}.txt").read_text(encoding="utf-8").split()


def python(folder: Path, peer: str | None) -> Path:
    """Return a peer's interpreter, or this one for None; UserError if it is not prepared."""
    if peer is None:
        return Path(sys.executable)
    ready = folder / peer / READY
    if not ready.is_file() or ready.read_text(encoding="utf-8") != _content(peer):
        raise UserError(
            f"{folder / peer}: no environment for {peer} with the required versions; run "
            f"`python benchmarks/peers/compare.py --prepare`, or leave it out: `--without {peer}`"
        )
    return folder / peer / "bin" / "python"


def prepare(folder: Path, peer: str) -> None:
    """Create a peer's environment, or replace it; UserError if pip cannot install the peer."""
    environment = folder / peer
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(environment)], check=True)
    packages = sysconfig.get_path(
        "purelib", vars={"base": str(environment), "platbase": str(environment)}
    )
    shared = f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
    write_text(Path(packages) / "shared.pth", shared)
    pip = [str(environment / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-deps"]
    installed = subprocess.run(
        [*pip, *requirements(peer)], stderr=subprocess.PIPE, encoding="utf-8", check=False
    )
    if installed.returncode:
        last = (installed.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UserError(f"{environment}: pip cannot install {' '.join(requirements(peer))}: {last}")
    write_text(environment / READY, _content(peer))


def _content(peer: str) -> str:
    return "\n".join([sysconfig.get_path("purelib"), *requirements(peer), ""])
