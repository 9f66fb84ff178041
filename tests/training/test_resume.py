"""Bit-exact resume: interrupted, killed and failed runs end with the weights of whole runs."""

import json
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import kd.runtime
from kd.cli.main import main
from kd.models import weights
from kd.training.loop import ResumableEpochLoop
from kd.training.train import train
from tests.support.tiny import (
    DISTILLED,
    STUDENT,
    copy_run,
    kd,
    python,
    write_run,
)
from tests.support.training import (
    assert_same,
    change,
    checkpoints,
    digest,
    interrupted_before,
    log,
    logged,
    project_with_teacher,
    train_whole_runs,
)

STEPS_PER_EPOCH, STEPS = 6, 12
INTERRUPTED = "interrupted; the same command resumes at the last checkpoint"


@pytest.fixture(scope="module", autouse=True)
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Work in a tiny project that has a trained teacher."""
    with project_with_teacher(tmp_path_factory.mktemp("project")):
        yield


@pytest.fixture(scope="module")
def whole() -> dict[str, Path]:
    """Return trained runs that were never interrupted."""
    return train_whole_runs()


@pytest.fixture
def run(whole: dict[str, Path], request: pytest.FixtureRequest) -> Path:
    """Return an untrained copy of the student's run, named after the test."""
    return copy_run(whole[STUDENT], request.node.name)


# A run and its seed


def test_the_same_seed_gives_the_same_weights(whole: dict[str, Path], run: Path) -> None:
    train(run)
    assert_same(run, whole[STUDENT])


def test_provenance_has_the_commit_at_the_start_of_training(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process trains with the code that it imported, even after a pull."""
    commits = ["at-start"]
    monkeypatch.setattr("kd.records.provenance.commit", lambda: commits[-1])
    make_step = ResumableEpochLoop.run_iter

    def run_iter(loop: ResumableEpochLoop, *arguments: Any) -> None:
        make_step(loop, *arguments)
        commits.append("after-pull")

    monkeypatch.setattr(ResumableEpochLoop, "run_iter", run_iter)
    train(run)
    provenance = json.loads((run / "provenance.json").read_text())
    assert (provenance["commit"], commits[-1]) == ("at-start", "after-pull")


def test_a_loader_worker_changes_no_weight(whole: dict[str, Path], run: Path) -> None:
    train(run, workers=1)
    assert_same(run, whole[STUDENT])


def test_another_seed_gives_other_weights(whole: dict[str, Path]) -> None:
    other = write_run(f"{STUDENT}/seed1", seeds=2)
    train(other)
    assert digest(other) != digest(whole[STUDENT])


def test_a_distilled_student_has_the_initial_losses_of_the_student_alone(
    whole: dict[str, Path],
) -> None:
    alone, distilled = log(whole[STUDENT])[0], log(whole[DISTILLED])[0]
    assert distilled["loss_cls"] == alone["loss_cls"]
    assert distilled["loss_bbox"] == alone["loss_bbox"]
    assert digest(whole[STUDENT]) != digest(whole[DISTILLED])


# Resuming after an interruption


@pytest.mark.parametrize("name", [STUDENT, DISTILLED], ids=["alone", "rm+pfi"])
@pytest.mark.parametrize(
    ("stop", "resumed_at"),
    [
        pytest.param(3, 2, id="while-probing"),
        pytest.param(6, 6, id="between-epochs"),
        pytest.param(9, 8, id="within-an-epoch"),
    ],
)
def test_a_resumed_run_equals_an_uninterrupted_one(
    whole: dict[str, Path],
    name: str,
    stop: int,
    resumed_at: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = copy_run(whole[name], f"stopped-at-{stop}")
    with interrupted_before(stop):
        train(run)
    assert len(log(run)) == stop
    train(run)
    assert f"resuming at step {resumed_at} of {STEPS}" in capsys.readouterr().out
    assert_same(run, whole[name])


@pytest.mark.parametrize("name", [STUDENT, DISTILLED], ids=["alone", "rm+pfi"])
def test_a_training_stopped_after_an_epoch_has_the_weights_of_the_whole_one(
    whole: dict[str, Path], name: str
) -> None:
    interrupted = copy_run(whole[name], "interrupted-after-an-epoch")
    with interrupted_before(STEPS_PER_EPOCH):
        train(interrupted)
    run = copy_run(whole[name], "ended-after-an-epoch")
    change(run, lambda config: config["train_cfg"].update(stop_epoch=1))
    with interrupted_before(4):
        train(run)
    train(run)
    saved = weights.read(interrupted / "checkpoints" / f"step{STEPS_PER_EPOCH:08d}.pth")
    ended = weights.read(run / "checkpoints" / f"step{STEPS_PER_EPOCH:08d}.pth")
    assert torch.equal(
        *(
            torch.cat([v.flatten().float() for v in content["model"].values()])
            for content in (saved, ended)
        )
    )
    assert [record["step"] for record in log(run)] == list(range(1, STEPS_PER_EPOCH + 1))
    assert {record["steps"] for record in log(run)} == {STEPS_PER_EPOCH}
    assert json.loads((run / "provenance.json").read_text())["steps"] == STEPS_PER_EPOCH


def test_random_draws_of_a_step_do_not_depend_on_earlier_steps(
    whole: dict[str, Path], run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmdet.models.detectors import SingleStageDetector

    loss = SingleStageDetector.loss

    def noisy_loss(*arguments: Any) -> dict[str, Any]:
        return {**loss(*arguments), "loss_noise": [torch.rand(())]}

    monkeypatch.setattr(SingleStageDetector, "loss", noisy_loss)
    resumed = copy_run(run, "resumed-with-noise")
    train(run)
    with interrupted_before(9):
        train(resumed)
    train(resumed)
    assert_same(resumed, run)
    noise = [record["loss_noise"] for record in log(run)]
    assert len({*noise}) == STEPS


def test_training_a_finished_run_again_changes_nothing(whole: dict[str, Path], run: Path) -> None:
    train(run)
    train(run)
    assert_same(run, whole[STUDENT])


def test_an_incomplete_line_of_the_log_is_written_again(whole: dict[str, Path], run: Path) -> None:
    with interrupted_before(5):
        train(run)
    with open(run / "log.jsonl", "a") as stream:
        stream.write('{"step": 6, "epo')
    train(run)
    assert_same(run, whole[STUDENT])


def save_every_step(config: dict[str, Any]) -> None:
    (hook,) = (hook for hook in config["custom_hooks"] if hook["type"] == "Checkpoints")
    hook["steps"] = 1


def load_checkpoints(run: Path) -> int:
    """Load every checkpoint; return their number."""
    paths = [*(run / "checkpoints").glob("step*")]
    for path in paths:
        assert "model" in weights.read(path)
    return len(paths)


def saved(run: Path) -> int:
    """Return the newest step with a complete checkpoint, 0 without one."""
    return max((int(path.stem[4:]) for path in (run / "checkpoints").glob("step*")), default=0)


def saving(run: Path) -> int:
    """Return the newest step with a half-written checkpoint, 0 without one."""
    return max(
        (int(path.name[5:13]) for path in (run / "checkpoints").glob(".step*.tmp")), default=0
    )


def start(run: Path, pause_at: int = 0) -> subprocess.Popen[str]:
    """Train in a process, which pauses before it renames the checkpoint of step ``pause_at``."""
    module = ["tests.cli.held", f"step{pause_at:08d}.pth"] if pause_at else ["kd"]
    return python(*module, "train", run)


def stop_when(process: subprocess.Popen[str], condition: Callable[[], bool], sign: int) -> str:
    """Send a signal as soon as ``condition`` returns true; return the output of the process."""
    while not condition() and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(sign)
    output, errors = process.communicate()
    return output + errors


def test_a_run_killed_five_times_equals_an_uninterrupted_one(whole: dict[str, Path]) -> None:
    uninterrupted, killed = (copy_run(whole[DISTILLED], name) for name in ("unkilled", "killed"))
    for run in (uninterrupted, killed):
        change(run, lambda config: config["train_cfg"].update(max_epochs=8))
        change(run, save_every_step)
    train(uninterrupted)
    generator = random.Random(2112)
    for progress in (logged, saved, saving, logged, saving):
        first_step = saved(killed)
        step = max(first_step, logged(killed)) + generator.randint(1, 4)
        process = start(killed, pause_at=step if progress is saving else 0)
        printed = stop_when(process, lambda: progress(killed) >= step, signal.SIGKILL)  # noqa: B023
        assert process.returncode == -signal.SIGKILL, printed
        assert (f"resuming at step {first_step} of 48" in printed) == (first_step > 0)
        print(
            f"started at step {first_step}, killed when step {step} was {progress.__name__};",
            f"readable checkpoints: {load_checkpoints(killed)} of {checkpoints(killed)}",
        )
    last = start(killed)
    _, errors = last.communicate()
    assert last.returncode == 0, errors
    print(f"weights {digest(killed)[:16]}, uninterrupted {digest(uninterrupted)[:16]}")
    assert_same(killed, uninterrupted)
    assert checkpoints(killed) == ["step00000047.pth", "step00000048.pth"]


def test_an_interrupt_ends_in_one_line_and_status_130(whole: dict[str, Path], run: Path) -> None:
    change(run, lambda config: config["train_cfg"].update(max_epochs=100))
    process = kd("train", run)
    printed = stop_when(process, lambda: logged(run) > 0, signal.SIGINT)
    assert process.returncode == 130, printed
    assert printed.endswith(f"\n{INTERRUPTED}\n")
    assert "Traceback" not in printed
    assert not (run / "failure.json").exists()


# Files of an earlier process


def test_an_empty_checkpoint_folder_is_ignored(whole: dict[str, Path], run: Path) -> None:
    (run / "checkpoints").mkdir()
    train(run)
    assert_same(run, whole[STUDENT])


def test_a_half_written_checkpoint_is_deleted(whole: dict[str, Path], run: Path) -> None:
    with interrupted_before(5):
        train(run)
    (run / "checkpoints/.step00000006.pth.abc.tmp").write_bytes(b"half")
    train(run)
    assert_same(run, whole[STUDENT])
    assert checkpoints(run) == ["step00000010.pth", "step00000012.pth"]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def save_list(path: Path) -> None:
    torch.save([1, 2], path)


def save_without_step(path: Path) -> None:
    torch.save({"state_dict": {}}, path)


@pytest.mark.parametrize("spoil", [truncate, save_list, save_without_step])
def test_an_unreadable_checkpoint_is_skipped_with_one_warning(
    whole: dict[str, Path], spoil: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    run = copy_run(whole[STUDENT], spoil.__name__)
    with interrupted_before(9):
        train(run)
    assert checkpoints(run) == ["step00000006.pth", "step00000008.pth"]
    spoil(run / "checkpoints/step00000008.pth")
    train(run)
    output, errors = capsys.readouterr()
    (warning,) = (line for line in errors.splitlines() if line.startswith("warning:"))
    assert "step00000008.pth" in warning
    assert "resuming at step 6 of 12" in output
    assert_same(run, whole[STUDENT])


def test_a_run_without_a_readable_checkpoint_starts_at_the_first_step(
    whole: dict[str, Path], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with interrupted_before(5):
        train(run)
    for name in checkpoints(run):
        truncate(run / "checkpoints" / name)
    train(run)
    output, errors = capsys.readouterr()
    assert errors.count("warning:") == 2
    assert "resuming" not in output
    assert_same(run, whole[STUDENT])


# A run that fails


def test_a_failure_is_recorded_and_success_removes_the_record(
    whole: dict[str, Path], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rate = json.loads((run / "config.json").read_text())["optim_wrapper"]["optimizer"]["lr"]
    change(run, lambda config: config["optim_wrapper"]["optimizer"].update(lr=1e30))
    assert main(["train", str(run)]) == 2
    failure = json.loads((run / "failure.json").read_text())
    assert failure["kind"] == "NonFiniteLossError"
    assert re.match(r"step \d+: loss_\w+ .*is (nan|inf)", failure["reason"])
    assert f"error: {failure['reason']}\n" == capsys.readouterr().err
    assert {"commit", "packages", "python", "host", "devices", "command"} <= failure.keys()
    assert failure["packages"]["mmdet"] == "3.3.0"
    assert not (run / "weights.pth").exists()

    change(run, lambda config: config["optim_wrapper"]["optimizer"].update(lr=rate))
    assert main(["train", str(run)]) == 0
    assert not (run / "failure.json").exists()
    assert_same(run, whole[STUDENT])


def test_a_failed_run_resumes_at_its_last_checkpoint(
    whole: dict[str, Path], run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(ResumableEpochLoop, "run_iter", _fail_at_step_5)
        with pytest.raises(RuntimeError, match="out of memory"):
            train(run)
    assert json.loads((run / "failure.json").read_text())["reason"] == "out of memory"
    train(run)
    assert_same(run, whole[STUDENT])


_make_step = ResumableEpochLoop.run_iter


def _fail_at_step_5(loop: ResumableEpochLoop, *arguments: Any) -> None:
    if loop.iter == 5:
        raise RuntimeError("out of memory\nmore about it")
    _make_step(loop, *arguments)
