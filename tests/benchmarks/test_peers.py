"""Comparison with other systems: messages if one cannot run."""

import sys
from pathlib import Path

import pytest

from benchmarks.peers.environments import PEERS, python, requirements
from benchmarks.peers.process import System
from kd.common.errors import UserError


@pytest.mark.parametrize("peer", PEERS)
def test_a_missing_environment_is_named_with_the_command_that_creates_it(
    peer: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=rf"{peer}: no environment .*--prepare.*--without {peer}"):
        python(tmp_path, peer)


def test_an_environment_of_other_versions_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "mmrazor").mkdir()
    (tmp_path / "mmrazor" / "installed.txt").write_text("mmrazor==0.3.1\n")
    with pytest.raises(UserError, match="no environment for mmrazor"):
        python(tmp_path, "mmrazor")


def test_peers_are_pinned() -> None:
    assert all("==" in requirement for peer in PEERS for requirement in requirements(peer))


def test_the_error_of_a_failing_system_has_its_last_output(tmp_path: Path) -> None:
    missing = tmp_path / "no images"
    system = System("torchvision", Path(sys.executable), missing, tmp_path / "own", batch=1)
    with system, pytest.raises(UserError, match=r"torchvision failed:\n(.*\n)*.*no such file"):
        system.wait()
