"""A virtual environment for each peer: the project's packages, and what the peer adds to them.

A peer sees the packages of the interpreter that prepares its environment, so all systems run on the
same torch, torchvision, mmdet and mmengine; only the peer itself is installed, without what it asks
for.
"""

import subprocess
import sys
import sysconfig
from pathlib import Path

from kd.common.errors import UserError
from kd.common.files import write_text

HERE = Path(__file__).resolve().parent
READY = "installed.txt"
"""What an environment was made of; written last."""
PEERS = ("torchdistill", "mmrazor")


def requirements(peer: str) -> list[str]:
    """Return what a peer's environment adds, with versions."""
    return (HERE / f"requirements-{peer}.txt").read_text(encoding="utf-8").split()


def python(folder: Path, peer: str | None) -> Path:
    """Return a peer's interpreter, or this one for None; UserError where it is not prepared."""
    if peer is None:
        return Path(sys.executable)
    ready = folder / peer / READY
    if not ready.is_file() or ready.read_text(encoding="utf-8") != _content(peer):
        raise UserError(
            f"{folder / peer}: no environment for {peer} as benchmarks/peers wants it; run "
            f"`python benchmarks/peers/compare.py --prepare`, or leave it out: `--without {peer}`"
        )
    return folder / peer / "bin" / "python"


def prepare(folder: Path, peer: str) -> None:
    """Make a peer's environment anew; UserError where pip does not install what it needs."""
    own = folder / peer
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(own)], check=True)
    packages = sysconfig.get_path("purelib", vars={"base": str(own), "platbase": str(own)})
    shared = f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
    write_text(Path(packages) / "shared.pth", shared)
    pip = [str(own / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-deps"]
    installed = subprocess.run(
        [*pip, *requirements(peer)], stderr=subprocess.PIPE, encoding="utf-8", check=False
    )
    if installed.returncode:
        last = (installed.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UserError(f"{own}: pip cannot install {' '.join(requirements(peer))}: {last}")
    write_text(own / READY, _content(peer))


def _content(peer: str) -> str:
    return "\n".join([sysconfig.get_path("purelib"), *requirements(peer), ""])
