"""Benchmarks call commands that exist."""

import re

from kd.cli.parser import build_parser
from tests.house import sources

CALL = re.compile(r'(?:\bkd|\bmain)\(\["([a-z]+)"|"kd", "([a-z]+)"')


def test_every_command_that_a_benchmark_calls_exists() -> None:
    texts = [path.read_text(encoding="utf-8") for path in sources.files("benchmarks")]
    commands = {match[1] or match[2] for text in texts for match in CALL.finditer(text)}
    assert {"generate", "train", "evaluate"} <= commands
    help_text = build_parser().format_help()
    assert [name for name in sorted(commands) if f"\n  {name} " not in help_text] == []
