"""Time a job's start: from its first process to the end of the first training step, by part.

python benchmarks/start.py        smoke scale, RetinaNet, two threads; about four minutes

A student alone, one that RM and PFI teach, and the first again as a job of `snakemake --profile
local`: submitit's process, in it Snakemake's, in it `kd train`. Seconds are of the wall clock, in
processes that start afresh each round; files are in memory after a first round that is not counted.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MOST = 12.0
FIRST_STEP = "step 1/"
"""Text in the log of a training at the end of its first step."""
RUNS = {"student alone": "retinanet-r18-w0.25/alone", "RM and PFI": "retinanet-r18-w0.25/rm+pfi"}
JOB = ("submitit's process", "Snakemake in it", "kd train in it")


def main() -> None:
    """Run the benchmark and print its table."""
    if sys.argv[1:2] == ["--inside"]:
        train_one_step(sys.argv[2])
        return
    from benchmarks import report
    from kd.common.timing import quartiles

    parser = report.arguments(__doc__)
    parser.set_defaults(rounds=5)
    options = parser.parse_args()
    with project() as runs:
        parts = {name: _several(lambda run=run: alone(run), options.rounds) for name, run in runs}
        job = _several(lambda: as_job(runs[0][1]), max(options.rounds // 2, 1))
    lines = []
    for name, rounds in (*parts.items(), (f"{next(iter(RUNS))}, as a job", job)):
        totals = [sum(by_part.values()) for by_part in rounds]
        lines.append(report.Line(f"{name}: to the end of the first step", quartiles(totals), MOST))
        for part in rounds[0]:
            seconds = [by_part.get(part, 0.0) for by_part in rounds]
            lines.append(report.Line(f"- {part}", quartiles(seconds)))
    about = f"Seconds from a job's start, RetinaNet at scale smoke; {os.cpu_count()} CPUs, no GPU."
    print(report.publish(options.name or "start", about, lines, options.before))


def _several(measure: Callable[[], dict[str, float]], rounds: int) -> list[dict[str, float]]:
    return [measure() for _ in range(rounds + 1)][1:]


@contextmanager
def project() -> Iterator[list[tuple[str, Path]]]:
    """Copy the project to another folder with links to its data; yield its runs, to be trained.

    The teacher has random weights.
    """
    from kd.cli.main import main as kd

    kd(["generate", "shapes-smoke"])
    with tempfile.TemporaryDirectory() as name:
        folder, here = Path(name), Path.cwd()
        for part in ("configs", "workflow"):
            shutil.copytree(ROOT / part, folder / part)
        shutil.copy(ROOT / "Snakefile", folder)
        (folder / "data").symlink_to(here / "data")
        os.chdir(folder)
        try:
            yield [(title, _write(part)) for title, part in RUNS.items()]
        finally:
            os.chdir(here)


def _write(part: str) -> Path:
    """Write the demo's run whose name contains ``part``, and weights of its teacher."""
    from kd.config.library import Library
    from kd.config.plan import plan

    runs = plan("demo", "smoke", Library()).runs
    run = next(run for name, run in runs.items() if part in name)
    run.write()
    if run.teacher:
        _random_weights(run.teacher)
    return run.directory


def _random_weights(teacher: Any) -> None:

    import kd.runtime  # noqa: F401
    from kd.models import weights
    from kd.models.build import build_model

    detector = build_model(teacher.config["model"])
    weights.save(teacher.directory / "weights.pth", {"state_dict": detector.state_dict()})


# --- A training's process ------------------------------------------------------------------


def alone(run: Path) -> dict[str, float]:
    """Return the seconds of each part of a process that trains for one step."""
    command = [sys.executable, __file__, "--inside", str(run)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "STARTED": repr(time.time())}
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, encoding="utf-8", check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


class Ledger:
    """Times of the parts of a process since ``origin``; the innermost active part is charged."""

    def __init__(self, origin: float, first: str) -> None:
        self.last, self.doing = origin, [first]
        self.seconds: dict[str, float] = {}

    def turn(self) -> None:
        now, doing = time.time(), self.doing[-1]
        self.seconds[doing] = self.seconds.get(doing, 0.0) + now - self.last
        self.last = now

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        self.turn()
        self.doing.append(part)
        try:
            yield
        finally:
            self.turn()
            self.doing.pop()

    def watch(self, owner: Any, name: str, part: str) -> None:
        """Charge the time in a function to ``part``."""
        function = getattr(owner, name)

        def watched(*arguments: Any, **options: Any) -> Any:
            with self.of(part):
                return function(*arguments, **options)

        setattr(owner, name, watched)


def train_one_step(run: str) -> None:
    """Run ``python -m kd train RUN`` up to its first step; print seconds by part."""
    ledger = Ledger(float(os.environ["STARTED"]), "Python")
    with ledger.of("the command line"):
        from kd.cli import main as command
    with ledger.of("yapf"):
        from kd.common import yapf_cache

        yapf_cache.load()
    with ledger.of("torch"):
        import torch  # noqa: F401
    with ledger.of("mmengine"):
        import mmengine.runner
    with ledger.of("mmdet, mmcv, torchvision"):
        import kd.runtime
    import kd.training.train
    from kd.training.distiller import Distiller
    from kd.training.loop import ResumableEpochLoop

    ledger.watch(kd.training.train, "build_runner", "runner and student")
    ledger.watch(Distiller, "__init__", "runner and student")
    ledger.watch(sys.modules["kd.training.distiller"], "load_frozen", "teacher and its weights")
    runner = mmengine.runner.Runner
    ledger.watch(runner, "build_train_loop", "annotations")
    ledger.watch(runner, "build_optim_wrapper", "optimizer")
    ledger.watch(runner, "_init_model_weights", "first weights")
    ledger.watch(ResumableEpochLoop, "run_epoch", "first batch")
    step = ResumableEpochLoop.run_iter

    def first_step(*arguments: Any) -> None:
        with ledger.of("first step"):
            step(*arguments)
        ledger.turn()
        print(json.dumps(ledger.seconds), flush=True)
        os._exit(0)

    ResumableEpochLoop.run_iter = first_step
    ledger.turn()
    ledger.doing = ["the rest"]
    command.main(["train", run, "--threads", "1"])


# --- A job ---------------------------------------------------------------------------------


def as_job(run: Path) -> dict[str, float]:
    """Return the seconds of each process around a training that a workflow starts as a job."""
    shutil.rmtree(run, ignore_errors=True)
    target = run.relative_to(Path.cwd()) if run.is_absolute() else run
    profile = ["--profile", "workflow/profiles/local"]
    profile += ["--nolock", "--rerun-incomplete"]  # the previous round was killed
    configuration = ["--config", "study=demo", "scale=smoke"]
    command = [sys.executable, "-m", "snakemake", *profile, *configuration]
    command += ["--", f"{target}/weights.pth"]
    workflow = subprocess.Popen(
        command,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        return _processes(workflow, run / "train.log")
    finally:
        _end(workflow)


def _processes(workflow: Any, log: Path) -> dict[str, float]:
    """Wait for the first step; return the seconds from the start of each process to the next."""
    import psutil

    while not (log.exists() and FIRST_STEP in log.read_text(encoding="utf-8")):
        if workflow.poll() is not None:
            raise SystemExit(f"the workflow ended before {log} had a first step")
        time.sleep(0.02)
    ended = time.time()
    born: dict[str, float] = {}
    for process in psutil.process_iter(["cmdline", "create_time"]):
        line = " ".join(process.info["cmdline"] or [])
        if log.parent.name not in line and "submitit.core._submit" not in line:
            continue
        for title, sign in zip(
            JOB, ("submitit.core._submit", "-m snakemake", "-m kd"), strict=True
        ):
            if sign in line and process.pid != workflow.pid and "bash" not in line.split()[0]:
                born[title] = min(born.get(title, ended), process.info["create_time"])
    times = [*(born[title] for title in JOB), ended]
    return {title: times[i + 1] - times[i] for i, title in enumerate(JOB)}


def _end(workflow: Any) -> None:
    """End a workflow and the job that it started."""
    import psutil

    if workflow.poll() is not None:
        return
    family = [workflow.pid, *(child.pid for child in psutil.Process(workflow.pid).children(True))]
    for pid in family:
        try:
            os.kill(pid, 9)
        except ProcessLookupError:
            continue
    workflow.wait()


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
