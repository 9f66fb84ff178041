"""Count the requests of a workflow of many short jobs to Slurm's controller.

python benchmarks/politeness.py --size 1000     about 20 minutes on two cores; root

The workflow runs on a separate test cluster, with the plugin's default settings. Wrappers of
Slurm's commands on PATH count the calls, which are compared with the plugin's own count. Each job
of the workflow starts Python twice, which takes longer than the job: more cores mean more calls per
hour, not more calls per job. The table is written to results/benchmarks.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from kd.common.files import write_text
from kd.common.results import RESULTS

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.slurm.flow import Flow, Sampler
from tests.slurm.lab import FLAVORS, Lab, Queued

COMMANDS = ("sbatch", "squeue", "sacct", "scancel", "scontrol", "sinfo", "srun", "sstat")
ITSELF = re.compile(r"\b(sbatch|squeue|sacct|scancel|scontrol) (\d+)")
SNAKEFILE = """
localrules: all

rule all:
    input: [f"out/{{number}}" for number in range({size})]

rule job:
    output: touch("out/{{number}}")
    resources: mem_mb=200, runtime=10
    shell: "sleep {seconds}"
"""


class QueueSampler(Sampler):
    """Also notes how many jobs were in the queue at once."""

    most = 0

    def _sample(self, jobs: list[Queued]) -> None:
        self.most = max(self.most, len(jobs))
        super()._sample(jobs)


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=1000, help="number of jobs of the workflow")
    parser.add_argument("--jobs", type=int, default=200, help="largest number of queued jobs")
    parser.add_argument("--seconds", type=float, default=20, help="duration of a job")
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--cpus", type=int, default=8, help="CPUs of a node; each runs one job")
    options = parser.parse_args()
    shape = ["--nodes", str(options.nodes), "--cpus", str(options.cpus), "--memory", "64000"]
    FLAVORS["politeness"] = [*FLAVORS["accounting"], *shape]
    lab = Lab("politeness")
    try:
        with tempfile.TemporaryDirectory(prefix="politeness-") as folder:
            text = _measure(lab, Path(folder), options)
    finally:
        lab.stop()
    write_text(RESULTS / "benchmarks" / f"politeness-{options.size}.md", text)
    print(text)


def _measure(lab: Lab, folder: Path, options: argparse.Namespace) -> str:
    """Run the workflow; return the table."""
    (folder / "Snakefile").write_text(
        SNAKEFILE.format(size=options.size, seconds=options.seconds), encoding="utf-8"
    )
    calls = folder / "calls"
    path = _wrappers(folder / "bin", calls)
    started = time.monotonic()
    with QueueSampler(lab, folder) as sampler:
        environment = lab.environment(PATH=f"{path}:{lab.environment()['PATH']}")
        command = ["--executor", "submitit", "--jobs", str(options.jobs)]
        flow = Flow(folder, environment, *command)
        while flow.process.poll() is None:
            done = len([*folder.glob("out/*")])
            print(f"{time.monotonic() - started:5.0f} s: {done}/{options.size} jobs", flush=True)
            with suppress(subprocess.TimeoutExpired):
                flow.process.wait(30)
    seconds = time.monotonic() - started
    assert flow.wait(0) == 0, flow.output[-3000:]
    assert not sampler.duplicates, f"two jobs for one output: {sampler.duplicates[:3]}"
    assert sampler.most <= options.jobs, (
        f"{sampler.most} jobs in the queue, --jobs is {options.jobs}"
    )
    return _table(options, seconds, calls.read_text(encoding="utf-8").splitlines(), sampler, flow)


def _wrappers(folder: Path, calls: Path) -> Path:
    """Write commands that note a call, and whether it came from a job, and make it."""
    folder.mkdir()
    for command in COMMANDS:
        wrapper = folder / command
        note = f'echo "{command} ${{SLURM_JOB_ID:+job}}" >> {calls}'
        wrapper.write_text(
            f'#!/bin/sh\n{note}\nexec {shutil.which(command)} "$@"\n', encoding="utf-8"
        )
        wrapper.chmod(0o755)
    return folder


def _table(
    options: argparse.Namespace, seconds: float, calls: list[str], sampler: QueueSampler, flow: Flow
) -> str:
    calls_by_command = Counter(line.split()[0] for line in calls)
    in_jobs = Counter(line.split()[0] for line in calls if line.endswith("job"))
    arrays = {id.partition("_")[0] for id in sampler.ids if "_" in id}
    hours = seconds / 3600
    (line,) = flow.lines("Slurm calls in")
    itself = {name: int(count) for name, count in ITSELF.findall(line)}
    outside = {name: n - in_jobs[name] for name, n in calls_by_command.items() if n > in_jobs[name]}
    lines = [
        f"{options.size} jobs of {options.seconds:g} s, at most {options.jobs} in the queue "
        f"(seen: {sampler.most}), {options.nodes} nodes of {options.cpus} CPUs: {seconds:.0f} s; "
        f"{len(arrays)} job arrays.",
        "",
        "| command | calls | of them from jobs | an hour | a job |",
        "|---|---:|---:|---:|---:|",
    ]
    for name in (*COMMANDS, "all"):
        count = calls_by_command[name] if name != "all" else sum(calls_by_command.values())
        inside = in_jobs[name] if name != "all" else sum(in_jobs.values())
        if count:
            rates = f"{count / hours:.0f} | {count / options.size:.3f}"
            lines.append(f"| {name} | {count} | {inside} | {rates} |")
    agreed = "the same" if itself == outside else f"otherwise: {itself}, not {outside}"
    lines += ["", f"The plugin's own count is {agreed}."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
