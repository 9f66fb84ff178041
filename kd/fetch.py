"""Published files: by path or address, and never without their SHA-256."""

import shutil
import urllib.request
from pathlib import Path

from kd.errors import UserError
from kd.files import replacing, sha256

FOLDER = Path("checkpoints")


def fetch(source: str, digest: str) -> Path:
    """Return the local file of ``source`` (a path, or an http address that is downloaded once).

    UserError where it is absent, cannot be reached, or has another SHA-256 than ``digest``.
    """
    if not source.startswith(("https://", "http://")):
        path = Path(source)
        if not path.is_file():
            raise UserError(f"{source}: no such checkpoint")
        return _verified(path, source, digest)
    path = FOLDER / f"{digest[:8]}-{source.rsplit('/', 1)[-1]}"
    if not path.is_file():
        try:
            with replacing(path) as temporary, urllib.request.urlopen(source) as stream:
                with open(temporary, "wb") as file:
                    shutil.copyfileobj(stream, file)
                _verified(temporary, source, digest)
        except OSError as error:
            raise UserError(f"{source}: cannot be downloaded ({error}); put it at {path}") from None
    return _verified(path, source, digest)


def _verified(path: Path, source: str, digest: str) -> Path:
    found = sha256(path)
    if found != digest.lower():
        raise UserError(
            f"{source}: SHA-256 is {found}, expected {digest}; another or a damaged file"
        )
    return path
