"""Downloads give up on a dead connection, resume, and keep only the file that was meant."""

import hashlib
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from kd.common import fetch as module
from kd.common.errors import UserError
from kd.common.fetch import FOLDER, download, fetch

CONTENT = bytes(range(256)) * 4000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
NAME = f"{DIGEST[:8]}-weights.pth"


class Server(ThreadingHTTPServer):
    """Serves ``CONTENT``, with a stall or an end after ``sent`` bytes of an answer."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.sent = CONTENT, len(CONTENT)
        self.stalls, self.ranges = False, True
        self.asked: list[str | None] = []
        self.released = threading.Event()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/weights.pth"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        begin = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if asked and begin >= len(self.server.content):
            self.send_error(416)
            return
        begin = begin if self.server.ranges else 0
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(self.server.content) - begin))
        self.end_headers()
        self.wfile.write(self.server.content[begin : begin + self.server.sent])
        self.wfile.flush()
        if self.server.stalls:
            self.server.released.wait()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "PATIENCE", 0.3)
    made = Server()
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.released.set()
    made.shutdown()
    thread.join()
    made.server_close()


def test_a_file_is_fetched_once(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert fetch(server.address, DIGEST) == FOLDER / NAME
    assert (FOLDER / NAME).read_bytes() == CONTENT
    assert server.asked == [None]
    assert [path.name for path in FOLDER.iterdir()] == [NAME]
    assert "weights.pth: 1.0 of 1.0 MB" in capsys.readouterr().err


def test_a_server_that_stalls_is_given_up_and_the_rest_fetched_later(server: Server) -> None:
    server.sent, server.stalls = 300_000, True
    with pytest.raises(UserError, match=r"cannot be downloaded \(.*timed out.*\); put it at"):
        fetch(server.address, DIGEST)
    begun = (FOLDER / f"{NAME}.part").stat().st_size
    assert 0 < begun <= 300_000
    server.stalls, server.sent = False, len(CONTENT)
    assert fetch(server.address, DIGEST).read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={begun}-"]


def test_a_machine_that_never_answers_is_given_up(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/weights.pth"
        with pytest.raises(UserError, match=r"cannot be downloaded .*timed out"):
            fetch(address, DIGEST)


def test_a_connection_that_ends_early_is_no_whole_file(server: Server) -> None:
    server.sent = 1000
    with pytest.raises(UserError, match=r"cannot be downloaded"):
        fetch(server.address, DIGEST)
    assert not (FOLDER / NAME).exists()


def test_a_server_without_ranges_sends_all_again(server: Server) -> None:
    FOLDER.mkdir()
    (FOLDER / f"{NAME}.part").write_bytes(CONTENT[:5000])
    server.ranges = False
    assert fetch(server.address, DIGEST).read_bytes() == CONTENT


@pytest.mark.parametrize("begun", [CONTENT[:-1] + b"x", CONTENT + b"more", b"other" * 100])
def test_the_beginning_of_another_file_does_no_harm(server: Server, begun: bytes) -> None:
    FOLDER.mkdir()
    (FOLDER / f"{NAME}.part").write_bytes(begun)
    with suppress(UserError):
        fetch(server.address, DIGEST)
    assert fetch(server.address, DIGEST).read_bytes() == CONTENT


def test_another_file_is_refused_and_not_kept(server: Server) -> None:
    with pytest.raises(UserError, match="SHA-256"):
        fetch(server.address, "0" * 64)
    assert list(FOLDER.iterdir()) == []


def test_two_processes_that_fetch_a_file_do_not_mix(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    with module._partial(path) as part:
        part.write_bytes(b"half")
        download(server.address, tmp_path / "a.pth", lambda file: None)
        assert path.read_bytes() == CONTENT
        assert part.read_bytes() == b"half"
        part.write_bytes(CONTENT)
    assert path.read_bytes() == CONTENT
