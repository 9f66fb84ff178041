"""Published files: by path or address, and never without their SHA-256."""

import fcntl
import http.client
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kd.common.errors import UserError
from kd.common.files import replacing, sha256

FOLDER = Path("checkpoints")
PATIENCE = 30.0
"""Seconds without a connection, or without a byte, after which a download is given up."""
REPORT = 10.0
"""Seconds between two lines on the progress of a download."""
CHUNK = 1 << 16


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
            download(source, path, lambda file: _verified(file, source, digest))
        except OSError as error:
            raise UserError(f"{source}: cannot be downloaded ({error}); put it at {path}") from None
    return _verified(path, source, digest)


def download(source: str, path: Path, verify: Callable[[Path], Any]) -> None:
    """Download an address to ``path``; the bytes of an interrupted download are not read again.

    OSError where the server does not answer, or sends nothing, for ``PATIENCE`` seconds.
    ``verify`` is given the whole file and raises where it is another one; it is then deleted.
    """
    with _partial(path) as part:
        _transfer(source, part)
        try:
            verify(part)
        except UserError:
            part.unlink()
            raise


@contextmanager
def _partial(path: Path) -> Iterator[Path]:
    """Yield the file of an unfinished download, which becomes ``path`` when the block succeeds.

    While another process writes that file, a temporary one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    with open(part, "ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            with replacing(path) as temporary:
                yield temporary
            return
        yield part
        os.replace(part, path)


def _transfer(source: str, part: Path) -> None:
    """Append to ``part`` what it lacks; begin anew where the server cannot send a rest."""
    begun = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(source, headers={"Range": f"bytes={begun}-"} if begun else {})
    try:
        stream = urllib.request.urlopen(request, timeout=PATIENCE)
    except urllib.error.HTTPError as error:
        if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        part.write_bytes(b"")  # it is as long as the whole file, or longer: another file
        begun, stream = 0, urllib.request.urlopen(source, timeout=PATIENCE)
    with stream:
        resumed = stream.status == http.client.PARTIAL_CONTENT
        begun = begun if resumed else 0
        length = stream.headers.get("Content-Length")
        total = begun + int(length) if length else None
        with open(part, "ab" if resumed else "wb") as file:
            done = _copy(stream, file, source, begun, total)
    if total is not None and done < total:
        raise OSError(f"the connection ended after {done} of {total} bytes")


def _copy(stream: Any, file: Any, source: str, done: int, total: int | None) -> int:
    """Copy a stream to a file with a line now and then; return the file's size."""
    name, printed = source.rsplit("/", 1)[-1], time.monotonic()
    whole = f" of {total / 1e6:.1f}" if total else ""
    while chunk := stream.read(CHUNK):
        file.write(chunk)
        done += len(chunk)
        if time.monotonic() - printed >= REPORT:
            printed = time.monotonic()
            print(f"{name}: {done / 1e6:.1f}{whole} MB", file=sys.stderr, flush=True)
    print(f"{name}: {done / 1e6:.1f}{whole} MB", file=sys.stderr, flush=True)
    return done


def _verified(path: Path, source: str, digest: str) -> Path:
    found = sha256(path)
    if found != digest.lower():
        raise UserError(
            f"{source}: SHA-256 is {found}, expected {digest}; another or a damaged file"
        )
    return path
