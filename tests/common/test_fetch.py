"""Downloads fail on a dead connection and leave only verified files."""

import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from kd.common import fetch as module
from kd.common.errors import UserError
from kd.common.fetch import FOLDER, fetch

CONTENT = bytes(range(256)) * 4000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
NAME = f"{DIGEST[:8]}-weights.pth"


class Server(ThreadingHTTPServer):
    """Server of ``CONTENT``, which stalls or ends after ``sent`` bytes of an answer.

    ``chunked``: send the content as one chunk of an unknown total length.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.sent = len(CONTENT)
        self.stalls, self.chunked = False, False
        self.requests = 0
        self.released = threading.Event()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/weights.pth"


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        sent, stalls = self.server.sent, self.server.stalls
        self.server.requests += 1
        self.close_connection = True
        self.send_response(200)
        if self.server.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        if self.server.chunked:
            self.wfile.write(f"{len(CONTENT):x}\r\n".encode())
        self.wfile.write(CONTENT[:sent])
        self.wfile.flush()
        if stalls:
            self.server.released.wait()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.3)
    server = Server()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_file_is_downloaded_once(server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert fetch(server.address, DIGEST) == FOLDER / NAME
    assert (FOLDER / NAME).read_bytes() == CONTENT
    assert server.requests == 1
    assert [path.name for path in FOLDER.iterdir()] == [NAME]
    assert "\r" not in capfd.readouterr().err


def test_a_download_sets_no_timeout_for_other_sockets(server: Server) -> None:
    fetch(server.address, DIGEST)
    assert socket.getdefaulttimeout() is None


def test_a_stalled_download_fails_and_the_next_one_starts_again(server: Server) -> None:
    server.sent, server.stalls = 300_000, True
    with pytest.raises(UserError, match=r"cannot be downloaded \(.*timed out.*\); put it at"):
        fetch(server.address, DIGEST)
    assert list(FOLDER.iterdir()) == []
    server.stalls, server.sent = False, len(CONTENT)
    assert fetch(server.address, DIGEST).read_bytes() == CONTENT


def test_a_download_from_a_silent_machine_fails(server: Server) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/weights.pth"
        with pytest.raises(UserError, match=r"cannot be downloaded .*timed out"):
            fetch(address, DIGEST)


def test_a_download_that_ends_early_leaves_no_file(server: Server) -> None:
    server.sent = 1000
    with pytest.raises(UserError, match="the connection ended early"):
        fetch(server.address, DIGEST)
    server.chunked = True
    with pytest.raises(UserError, match=r"cannot be downloaded \(IncompleteRead"):
        fetch(server.address, DIGEST)
    assert list(FOLDER.iterdir()) == []


def test_a_file_with_another_digest_is_refused_and_deleted(server: Server) -> None:
    with pytest.raises(UserError, match=f"does not have the SHA-256 {'0' * 64}.*another file"):
        fetch(server.address, "0" * 64)
    assert list(FOLDER.iterdir()) == []


def test_two_downloads_of_a_file_at_once_do_not_mix(server: Server) -> None:
    server.sent, server.stalls = 300_000, True
    with ThreadPoolExecutor() as threads:
        interrupted = threads.submit(fetch, server.address, DIGEST)
        while not server.requests:
            time.sleep(0.01)
        server.stalls, server.sent = False, len(CONTENT)
        assert fetch(server.address, DIGEST).read_bytes() == CONTENT
        assert isinstance(interrupted.exception(), UserError)
    assert [path.name for path in FOLDER.iterdir()] == [NAME]


@pytest.mark.parametrize(
    "name", ["gn-neck%2Bhead.pth", "gn-neck+head.pth", "{digest}-gn-neck+head.pth"]
)
def test_a_file_put_there_by_hand_may_have_its_decoded_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content = b"weights"
    digest = hashlib.sha256(content).hexdigest()
    path = Path("checkpoints", name.format(digest=digest[:8]))
    path.parent.mkdir()
    path.write_bytes(content)
    assert fetch("https://host.invalid/models/gn-neck%2Bhead.pth", digest[:8]) == path


def test_an_address_leads_to_no_other_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("secret.pth").write_bytes(CONTENT)
    FOLDER.mkdir()
    assert module.downloaded("https://example.org/a%2F..%2F..%2Fsecret.pth", DIGEST) is None
    (FOLDER / "b+c.pth").touch()
    assert module.downloaded("https://example.org/b%2Bc.pth", DIGEST) == FOLDER / "b+c.pth"
