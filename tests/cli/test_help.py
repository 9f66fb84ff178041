"""Help of the command line: groups, texts, examples, and names of commands."""

import json
import os
import re
import shlex
from pathlib import Path

import pytest

from kd.cli.command import EXIT_STATUSES, TOP_EXAMPLES, Command
from kd.cli.main import main
from kd.cli.parser import GROUPS, build_parser, commands
from kd.common.files import write_json
from kd.monitoring.run_names import find_run
from kd.training import launch
from tests.support.tiny import make_project

COMMANDS = {command.name: command for command in commands()}
EXAMPLES = [*TOP_EXAMPLES, *(example for one in COMMANDS.values() for example in one.examples)]
LINES = [example.command for example in EXAMPLES]
CHEAP = ("plan", "status", "compose", "classifier", "logs", "methods", "figures")
ONLY_WITH_RESULTS = re.compile(r"figures \w+ .+")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_project(tmp_path, data=False))


def printed(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Return what a command prints that must succeed."""
    capsys.readouterr()
    try:
        status = main(shlex.split(command))
    except SystemExit as end:  # of --help and --version
        status = int(end.code or 0)
    assert status == 0
    return capsys.readouterr().out


def test_kd_alone_prints_the_commands_by_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # outside a project
    text = printed("", capsys)
    assert text == printed("--help", capsys)
    assert [group.title for group in GROUPS] == ["Study", "Run", "Use", "Data", "Look"]
    for command in COMMANDS.values():
        assert re.search(rf"^  {command.name} +{re.escape(command.summary)}$", text, re.MULTILINE)
    assert all(re.search(rf"^  {status} +\w", text, re.MULTILINE) for status in EXIT_STATUSES)
    assert "docs/index.md" in text
    assert max(map(len, text.splitlines())) <= 88


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert re.fullmatch(r"kd \d+\.\d+\.\d+\n", printed("--version", capsys))


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_command_says_what_it_does_writes_and_an_example(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed(f"{command.name} --help", capsys)
    words = " ".join(text.split())
    assert command.text in words and command.text.endswith(".")
    assert f"Writes {command.writes}." in words
    assert command.examples
    assert all(f"  kd {example.command}" in text for example in command.examples)
    assert max(map(len, text.splitlines())) <= 88


@pytest.mark.parametrize("line", LINES)
def test_an_example_parses(line: str) -> None:
    assert build_parser().parse_args(shlex.split(line)).command.name == line.split()[0]


@pytest.mark.usefixtures("project")
def test_examples_run_in_a_fresh_project(capsys: pytest.CaptureFixture[str]) -> None:
    printed("compose demo --write", capsys)
    printed("classifier smoke shapes-smoke", capsys)
    for line in dict.fromkeys(LINES):
        if line.split()[0] in CHEAP and not ONLY_WITH_RESULTS.fullmatch(line):
            printed(line, capsys)


@pytest.mark.usefixtures("project")
def test_runs_of_examples_are_one_run_of_the_demo(capsys: pytest.CaptureFixture[str]) -> None:
    printed("compose demo --write", capsys)
    printed("classifier smoke shapes-smoke", capsys)
    parsed = [build_parser().parse_args(shlex.split(line)) for line in LINES]
    for options in parsed:
        if "run" in vars(options) and options.command.name != "compose":
            find_run(*options.run)
        for word in getattr(options, "runs", []):
            find_run(word)
    assert find_run("/alone", "gfl-r18-w0.5") == find_run("gfl-r18-w0.5/alone")


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    "command",
    [
        "plan demo --json",
        "plan demo --budget --json",
        "status demo --json",
        "methods --json",
        "check shapes-smoke --json",
    ],
)
def test_json_has_the_version_of_its_keys(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(shlex.split(command))
    assert json.loads(capsys.readouterr().out)["schema"] == 1


@pytest.mark.usefixtures("project")
def test_compose_prints_one_json_array(capsys: pytest.CaptureFixture[str]) -> None:
    names = [run["run"] for run in json.loads(printed("compose demo", capsys))]
    assert len(names) == 10
    one = json.loads(printed(f"compose demo --run {names[3]}", capsys))
    assert [run["run"] for run in one] == names[3:4]


@pytest.mark.usefixtures("project")
def test_a_budget_in_json_has_the_hours_of_the_text(capsys: pytest.CaptureFixture[str]) -> None:
    command = "plan rm_pfi --scale paper --budget --gpus 8"
    content = json.loads(printed(f"{command} --json", capsys))
    text = printed(command, capsys)
    for table in content["tables"]:
        hours = f"{table['remaining_gpu_hours']:.3g}"
        assert re.search(rf"^{table['table']} .* {hours}$", text, re.MULTILINE)
    assert [wall["gpus"] for wall in content["wall"]] == [8]


def test_an_absent_data_set_has_no_fingerprint(
    project: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "coco2017"]) == 1
    assert "ingerprint" not in capsys.readouterr().out
    assert main(["check", "coco2017", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["fingerprint"] is None


@pytest.mark.usefixtures("project")
def test_the_default_scale_is_that_of_the_configuration(
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = Path("configs/default.yaml")
    path.write_text(path.read_text().replace("scale: smoke", "scale: tiny"))
    assert "Scale tiny: " in printed("plan demo", capsys)
    assert "Scale smoke: " in printed("plan demo --scale smoke", capsys)


@pytest.mark.usefixtures("project")
def test_a_command_works_in_a_subfolder(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path.cwd()
    text = printed("plan demo", capsys)
    (root / "notes/today").mkdir(parents=True)
    monkeypatch.chdir(root / "notes/today")
    assert printed("plan demo", capsys) == text
    assert Path.cwd() == root


def test_outside_a_project_the_remedy_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["plan", "demo"]) == 2
    assert "configs/default.yaml is missing; change into" in capsys.readouterr().err
    assert "tide" in printed("figures", capsys)


def test_paths_are_relative_to_the_folder_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = make_project(tmp_path)
    (project / "notes").mkdir()
    monkeypatch.chdir(project / "notes")
    assert main(["check", "shapes-tiny", "--check-report", "check.json"]) == 0
    assert (project / "notes/check.json").exists()
    os.chdir(project)
    written = printed("compose tiny --scale tiny --write", capsys).split()
    os.chdir(project / "notes")
    parsed = build_parser().parse_args(["train", f"../{written[0]}", "--check-report", "a.json"])
    assert parsed.run == [written[0]] and parsed.check_report == Path("notes/a.json")


def test_processes_of_a_training_start_in_the_folder_of_the_user(
    project: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written = printed("compose tiny --scale tiny --write", capsys).split()
    launched = []
    monkeypatch.setattr(launch, "launch", lambda *arguments: launched.append(arguments) or 0)
    monkeypatch.chdir("configs")
    words = ["train", f"../{written[0]}", "--processes", "2"]
    assert main(words) == 0
    assert launched == [(Path(written[0]), 2, words, Path.cwd() / "configs", 1)]


@pytest.mark.parametrize(
    ("metrics", "text"),
    [
        ({"AP": 0.2333, "AP50": 0.0, "AP75": None}, "run/metrics.json: AP 23.3, AP50 0.0"),
        (
            {"AP": 0.2, "oLRP": 0.8, "D_ECE": 0.1},
            "run/metrics.json: AP 20.0, oLRP 80.0, D_ECE 10.0",
        ),
        ({"top1": 0.9}, "run/metrics.json"),
    ],
)
def test_evaluate_prints_the_known_measures(
    metrics: dict[str, float | None],
    text: str,
    project: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    written = printed("compose tiny --scale tiny --write", capsys).split()
    Path("run").symlink_to(written[0])

    def measure(run: Path, *_: object) -> Path:
        write_json(run / "metrics.json", metrics)
        return run / "metrics.json"

    monkeypatch.setattr("kd.evaluation.evaluate.measure", measure)
    assert printed("evaluate run", capsys) == f"{text}\n"
