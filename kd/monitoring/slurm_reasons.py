"""Slurm's words for the state of a job, in words that say what to do."""

import re

STARTING, RUNNING, PENDING, REQUEUED = "starting", "running", "pending", "requeued"
SUSPENDED, ENDED = "suspended", "ended"

STATES = {
    "PENDING": PENDING,
    "CONFIGURING": STARTING,
    "REQUEUED": REQUEUED,
    "REQUEUE_FED": REQUEUED,
    "REQUEUE_HOLD": REQUEUED,
    "SPECIAL_EXIT": REQUEUED,
    "SUSPENDED": SUSPENDED,
    "STOPPED": SUSPENDED,
}
"""Of a live job; every other live state is one of running."""

ENDINGS = {
    "BOOT_FAIL": "its node did not start",
    "CANCELLED": "cancelled",
    "DEADLINE": "its deadline passed",
    "FAILED": "it failed",
    "NODE_FAIL": "its node was lost",
    "OUT_OF_MEMORY": "out of memory",
    "PREEMPTED": "preempted by another job",
    "TIMEOUT": "time limit",
}

REASONS = {
    "AssocGrp": "the account's share is used up: wait, or name another account",
    "AssocMax": "your limit on the account is reached: wait, or run fewer jobs at once (--jobs)",
    "BadConstraints": "no node has what it asks for: correct constraint, GPU model or memory",
    "BeginTime": "starts again shortly",
    "Cleaning": "the job before it is being cleaned up",
    "Dependency": "waits for another job",
    "DependencyNeverSatisfied": "waits for a job that failed: scancel it",
    "InvalidAccount": "there is no such account: correct the account",
    "InvalidQOS": "there is no such QOS: correct the qos",
    "JobArrayTaskLimit": "enough jobs of its array run already",
    "JobHeldAdmin": "held by an administrator: ask them",
    "JobHeldUser": "held: `scontrol release` lets it start",
    "JobHoldMaxRequeue": "requeued too often and held: `scontrol release` lets it start",
    "Licenses": "waits for a licence",
    "NodeDown": "a node it needs is down: wait, or ask for other nodes",
    "None": "not looked at by Slurm yet",
    "PartitionConfig": "asks for more than its partition gives: correct partition, GPUs, CPUs "
    "or memory",
    "PartitionDown": "the partition is closed: wait, or name another partition",
    "PartitionInactive": "the partition is closed: wait, or name another partition",
    "PartitionNodeLimit": "asks for more nodes than its partition gives: ask for fewer",
    "PartitionTimeLimit": "asks for more time than its partition gives: ask for less",
    "Priority": "waits behind jobs of higher priority",
    "QOSGrp": "the QOS is used up by all its users: wait, or name another qos",
    "QOSMax": "your limit of this QOS is reached: wait, ask for less, or name another qos",
    "QOSMin": "asks for less than this QOS wants: name another qos",
    "QOSNotAllowed": "this partition or account does not take the QOS: name another qos",
    "ReqNodeNotAvail": "the nodes it needs are down, drained or reserved: wait, ask for less "
    "time, or name another partition",
    "Reservation": "waits for its reservation",
    "ReservationDeleted": "its reservation is gone: name another reservation",
    "Resources": "waits for free nodes",
    "launch failed requeued held": "could not start on its node and is held: `scontrol release` "
    "lets it start",
}
"""By reason, or by what a family of reasons begins with."""

DOWN = "Nodes required for job are DOWN"


def why_pending(reason: str) -> str:
    """Return Slurm's reason for a wait in plain words, with the remedy where there is one."""
    spoken = reason.replace("_", " ").strip(" ()")
    if spoken.startswith(DOWN):
        return f"{REASONS['ReqNodeNotAvail']} ({spoken})"
    known = [begin for begin in REASONS if spoken.startswith(begin)]
    if not known:
        return spoken or REASONS["None"]
    words = REASONS[max(known, key=len)]
    return words if spoken == "None" else f"{words} ({spoken})"


def seconds(clock: str) -> int | None:
    """Return the seconds of Slurm's ``days-hours:minutes:seconds``; None where it is no time."""
    match = re.fullmatch(r"(?:(\d+)-)?((?:\d+:){0,2}\d+)", clock)
    if match is None:
        return None
    total = 0
    for part in match[2].split(":"):
        total = 60 * total + int(part)
    return total + 86400 * int(match[1] or 0)
