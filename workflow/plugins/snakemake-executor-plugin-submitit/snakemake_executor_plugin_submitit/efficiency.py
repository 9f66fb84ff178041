"""Efficiency of a run: used beside requested time, CPUs, memory and GPUs of each rule."""

import math
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from snakemake_executor_plugin_submitit.slurm import on_cluster, run_command

FIELDS = "JobID,ElapsedRaw,TimelimitRaw,TotalCPU,AllocCPUS,MaxRSS,ReqMem,AllocTRES,TRESUsageInAve"
UNITS = {"": 1 / 2**20, "K": 1 / 1024, "M": 1, "G": 1024, "T": 1024**2, "P": 1024**3}
"""Megabytes of a unit in ``sacct``."""

CHUNK = 100
LITTLE, SLACK = 0.5, 1.25
"""A request is too large below this used share; the advice leaves this much room."""

SHORT, HOUR = 0.25, 60
"""A time limit above an hour is too long if the longest job used less than this share."""

COLUMNS = (
    *("rule", "jobs", "hours", "longest_min", "limit_min", "cpus", "cpu_used", "mem_mb"),
    *("mem_mb_used", "gpus", "gpu_hours", "gpu_used"),
)


@dataclass(frozen=True)
class JobUsage:
    """Resources of one ended job; ``gpu_share`` is None where Slurm does not measure it."""

    seconds: float
    limit_minutes: float
    cpus: int
    cpu_seconds: float
    memory_mb: float
    requested_mb: float
    gpus: int = 0
    gpu_share: float | None = None


def usage_of_jobs(ids: Sequence[str], clusters: str = "") -> dict[str, JobUsage]:
    """Return the usage of ended jobs from accounting; SlurmError if it cannot be read."""
    rows: dict[str, list[list[str]]] = defaultdict(list)
    for start in range(0, len(ids), CHUNK):
        chunk = ",".join(ids[start : start + CHUNK])
        command = ["sacct", *on_cluster(clusters), "-P", "-n", "--noconvert", "-o", FIELDS]
        for line in run_command(*command, "-j", chunk):
            fields = line.split("|")
            if len(fields) == len(FIELDS.split(",")):
                rows[fields[0].partition(".")[0]].append(fields[1:])
    return {id: _usage(rows[id]) for id in ids if rows.get(id)}


def _usage(rows: list[list[str]]) -> JobUsage:
    """Return a job's usage from its row and the rows of its steps."""
    seconds, limit, _, cpus, _, requested, tres, _ = rows[0]
    shares = [_tres(row[7]).get("gres/gpuutil") for row in rows]
    measured = [share for share in shares if share is not None]
    return JobUsage(
        seconds=float(seconds or 0),
        limit_minutes=float(limit) if limit.isdigit() else float("inf"),
        cpus=int(cpus or 0),
        cpu_seconds=max(_seconds(row[2]) for row in rows),
        memory_mb=max(_megabytes(row[4]) for row in rows),
        requested_mb=_megabytes(requested),
        gpus=int(_tres(tres).get("gres/gpu", 0)),
        gpu_share=max(measured) / 100 if measured else None,
    )


def _tres(text: str) -> dict[str, float]:
    """Return the numbers of a list such as ``cpu=4,gres/gpu=2``; others are left out."""
    pairs = (part.partition("=") for part in text.split(","))
    return {name: float(value) for name, _, value in pairs if value.isdigit()}


def _megabytes(text: str) -> float:
    """Return megabytes of a size such as ``4000M`` or, by node, ``4000Mn``; 0 of other texts."""
    size = re.match(r"([\d.]+)([KMGTP]?)[nc]?$", text)
    return float(size[1]) * UNITS[size[2]] if size else 0.0


def _seconds(text: str) -> float:
    """Return seconds of a time such as ``1-02:03:04`` or ``03:04.500``; 0 of other texts."""
    if not re.match(r"(\d+-)?[\d:.]+$", text):  # such as INVALID, of a clock that ran backwards
        return 0.0
    days, _, clock = text.rpartition("-")
    total = 0.0
    for part in clock.split(":"):
        total = 60 * total + float(part or 0)
    return total + 86400 * int(days or 0)


@dataclass(frozen=True)
class RuleUsage:
    """Resources of all jobs of a rule; shares are of the requests, from 0 to 1."""

    rule: str
    jobs: int
    hours: float
    longest_minutes: float
    limit_minutes: float
    cpus: int
    cpu_share: float
    requested_mb: float
    memory_mb: float
    gpus: int
    gpu_hours: float
    gpu_share: float | None

    def cells(self) -> list[str]:
        """Return the values of ``COLUMNS``; a share that was not measured is empty."""
        return [
            *(self.rule, str(self.jobs), f"{self.hours:.3f}", f"{self.longest_minutes:.1f}"),
            *(f"{self.limit_minutes:g}", str(self.cpus), f"{self.cpu_share:.2f}"),
            *(f"{self.requested_mb:.0f}", f"{self.memory_mb:.0f}", str(self.gpus)),
            *(f"{self.gpu_hours:.3f}", "" if self.gpu_share is None else f"{self.gpu_share:.2f}"),
        ]

    def advice(self) -> list[str]:
        """Return one line for each request that is much larger than its use."""
        lines = []
        memory = _round_up(SLACK * self.memory_mb, 500)
        if self.memory_mb and self.memory_mb < LITTLE * self.requested_mb > memory:
            lines.append(
                f"{self.rule}: mem_mb is {self.requested_mb:.0f}, and at most "
                f"{self.memory_mb:.0f} were used: set {memory}"
            )
        busy = self.cpu_share * self.cpus
        threads = _round_up(busy, 1)
        if self.cpu_share < LITTLE and threads < self.cpus:
            lines.append(
                f"{self.rule}: {self.cpus} threads were requested, and {busy:.1f} were busy on "
                f"average: set {threads}"
            )
        minutes = _round_up(2 * self.longest_minutes, 10)
        is_limited = HOUR < self.limit_minutes < math.inf
        if is_limited and self.longest_minutes < SHORT * self.limit_minutes:
            lines.append(
                f"{self.rule}: runtime is {self.limit_minutes:g} minutes, and the longest job took "
                f"{self.longest_minutes:.0f}: with {minutes}, jobs may start earlier"
            )
        if self.gpu_share is not None and self.gpu_share < LITTLE:
            lines.append(
                f"{self.rule}: its GPUs were busy for {100 * self.gpu_share:.0f} % of the time: "
                "look for a slow loader, or use fewer GPUs"
            )
        return lines


def usage_of_rules(jobs: Iterable[tuple[str, JobUsage]]) -> list[RuleUsage]:
    """Return the usage of each rule from its jobs, the most hours first."""
    by_rule: dict[str, list[JobUsage]] = defaultdict(list)
    for rule, job in jobs:
        by_rule[rule].append(job)
    rules = [_of_rule(rule, usages) for rule, usages in by_rule.items()]
    return sorted(rules, key=lambda rule: -rule.hours)


def _of_rule(rule: str, jobs: list[JobUsage]) -> RuleUsage:
    seconds = sum(job.seconds for job in jobs)
    reserved = sum(job.seconds * job.cpus for job in jobs)
    shares = [job.gpu_share for job in jobs if job.gpu_share is not None]
    return RuleUsage(
        rule=rule,
        jobs=len(jobs),
        hours=seconds / 3600,
        longest_minutes=max(job.seconds for job in jobs) / 60,
        limit_minutes=max(job.limit_minutes for job in jobs),
        cpus=max(job.cpus for job in jobs),
        cpu_share=sum(job.cpu_seconds for job in jobs) / reserved if reserved else 0.0,
        requested_mb=max(job.requested_mb for job in jobs),
        memory_mb=max(job.memory_mb for job in jobs),
        gpus=max(job.gpus for job in jobs),
        gpu_hours=sum(job.seconds * job.gpus for job in jobs) / 3600,
        gpu_share=median(shares) if shares else None,
    )


def write_report(path: Path, rules: Sequence[RuleUsage]) -> None:
    """Write the rules as tab-separated values; replace an older file at once."""
    lines = [COLUMNS, *(rule.cells() for rule in rules)]
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text("".join("\t".join(line) + "\n" for line in lines), encoding="utf-8")
    os.replace(temporary, path)


def _round_up(value: float, step: int) -> int:
    return max(step, math.ceil(value / step) * step)
