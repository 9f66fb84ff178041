"""The library's log messages on the terminal."""

import logging
import os
import subprocess
import sys

import pytest

from kd.cli.main import main
from kd.cli.terminal import log_to_terminal, wrap_sentences
from kd.data.builtin import shapes


@pytest.mark.parametrize("package", ["kd", "analysis"])
def test_messages_go_to_stdout_and_warnings_to_stderr_once(
    package: str, capsys: pytest.CaptureFixture[str]
) -> None:
    log_to_terminal()
    log_to_terminal()
    logger = logging.getLogger(f"{package}.room.module")
    logger.debug("hidden")
    logger.info("step %d of %d", 1, 2)
    logger.warning("warning: small batch")
    logger.error("error: no file")
    out, err = capsys.readouterr()
    assert out == "step 1 of 2\n"
    assert err == "warning: small batch\nerror: no file\n"


def test_a_handler_of_the_root_logger_does_not_print_a_message_again() -> None:
    program = (
        "import logging\n"
        "from kd.cli.terminal import log_to_terminal\n"
        "log_to_terminal()\n"
        "logging.info('calls basicConfig')\n"
        "logging.getLogger('kd.room').warning('once')\n"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (printed.returncode, printed.stdout, printed.stderr) == (0, "", "once\n")


def test_a_message_to_a_closed_reader_raises_broken_pipe() -> None:
    program = (
        "import logging\n"
        "from kd.cli.terminal import log_to_terminal\n"
        "log_to_terminal()\n"
        "try:\n"
        "    logging.getLogger('kd.room').info('unread')\n"
        "except BrokenPipeError:\n"
        "    import os\n"
        "    os._exit(7)\n"
    )
    reader, writer = os.pipe()
    os.close(reader)
    try:
        process = subprocess.run([sys.executable, "-c", program], stdout=writer)
    finally:
        os.close(writer)
    assert process.returncode == 7


def test_the_command_line_prints_the_messages_of_the_library(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = logging.getLogger("kd.room")
    monkeypatch.setattr(shapes, "generate", lambda *_: logger.info("generated"))
    assert main(["generate", "shapes-smoke"]) == 0
    assert main(["generate", "shapes-smoke"]) == 0
    assert capsys.readouterr().out == "generated\n" * 2


def test_sentences_are_wrapped_and_tables_and_addresses_are_not() -> None:
    address = f"  https://example.org/{'x' * 120}.pth"
    row = f"{'a' * 60}   {'b' * 60}"
    command = "  cp " + "file " * 30
    sentence = "  " + "word " * 30 + "end"
    unbroken = ["short", "", address, row, "absent; run", command]
    lines = wrap_sentences("\n".join([*unbroken, sentence])).split("\n")
    assert lines[:6] == unbroken
    assert " ".join(line.strip() for line in lines[6:]) == sentence.strip()
    assert [len(line) - len(line.lstrip()) for line in lines[6:]] == [2, 4]
    assert max(map(len, lines[6:])) <= 100
