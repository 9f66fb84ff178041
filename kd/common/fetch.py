"""Download of published files, each verified by its SHA-256."""

import http.client
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

from kd.common.errors import UserError
from kd.common.files import sha256

FOLDER = Path("checkpoints")
TIMEOUT_SECONDS = 30.0
"""Seconds to wait for a connection, or for the next byte, before a download fails."""


def fetch(source: str, digest: str) -> Path:
    """Return the local file of ``source`` (a path, or an http address that is downloaded once).

    ``digest``: the file's SHA-256, or its first digits. UserError if the file is absent, cannot be
    downloaded, or has another SHA-256.
    """
    if is_address(source):
        path = downloaded(source, digest) or FOLDER / f"{digest[:8]}-{_name(source)}"
        if not path.is_file():
            try:
                download(source, path, digest)
            except OSError as error:
                raise UserError(
                    f"{source}: cannot be downloaded ({error}); put it at "
                    f"{FOLDER / _name(source)} (from another machine)"
                ) from None
    else:
        path = Path(source)
        if not path.is_file():
            raise UserError(f"{source}: no such file; correct 'source' of the checkpoint")
    actual = sha256(path)
    if not actual.startswith(digest.lower()):
        raise UserError(
            f"{path}: SHA-256 is {actual}, expected {digest}; replace the file, "
            "or correct 'sha256' of the checkpoint"
        )
    return path


def is_address(source: str) -> bool:
    """Return True for an http address, False for a path."""
    return source.startswith(("https://", "http://"))


def downloaded(source: str, digest: str) -> Path | None:
    """Return the local file of an address, None if there is none.

    A file that was put there by hand may have the name that it has at the address, decoded as wget
    does or not.
    """
    names = (f"{digest[:8]}-{_name(source)}", _name(source), _encoded_name(source))
    return next((FOLDER / name for name in names if (FOLDER / name).is_file()), None)


def _name(source: str) -> str:
    """Return the name of the file at an address, decoded: ``%2B`` is a plus."""
    return unquote(source).rsplit("/", 1)[-1]


def _encoded_name(source: str) -> str:
    return source.rsplit("/", 1)[-1]


def download(source: str, path: Path, digest: str) -> None:
    """Download the file at an address to ``path``, which appears only once it is verified.

    ``digest``: the file's SHA-256, or its first digits. Raise OSError if the server does not
    answer, or sends nothing for ``TIMEOUT_SECONDS`` seconds, and UserError if the content differs.

    An interrupted download starts again from the first byte. That is acceptable for weights, which
    have a few hundred megabytes at most. COCO's 20 GB are downloaded by
    ``workflow/scripts/download_coco.sh``, which resumes.
    """
    from torch.hub import download_url_to_file

    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _socket_timeout(TIMEOUT_SECONDS):
            download_url_to_file(source, str(path), digest.lower(), progress=sys.stderr.isatty())
    except http.client.HTTPException as error:  # a chunk that ends early
        raise OSError(f"{type(error).__name__}: {error}") from None
    except RuntimeError as error:  # torch's error for another SHA-256
        raise UserError(
            f"{source}: the download does not have the SHA-256 {digest} ({error}); "
            "the connection ended early, or the server has another file; try again"
        ) from None


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """Set the timeout of new sockets: torch opens its connection without one."""
    previous = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(previous)
