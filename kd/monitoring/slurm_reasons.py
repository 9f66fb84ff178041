"""Slurm's job states and reason codes in plain words, with the remedy."""

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
"""State of a live job by Slurm's state; all other live states mean running."""

FINAL_STATES = {
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
    "AssocGrp": "the account's share is used up: wait, or set another account",
    "AssocMax": "your limit for the account is reached: wait, or run fewer jobs at once (--jobs)",
    "BadConstraints": "no node matches the request: correct constraint, GPU model or memory",
    "BeginTime": "starts again shortly",
    "Cleaning": "Slurm is cleaning up the previous job",
    "Dependency": "waits for another job",
    "DependencyNeverSatisfied": "waits for a job that failed: scancel it",
    "InvalidAccount": "the account does not exist: correct the account",
    "InvalidQOS": "the QOS does not exist: correct the qos",
    "JobArrayTaskLimit": "the job array has reached its limit of running jobs",
    "JobHeldAdmin": "held by an administrator: contact them",
    "JobHeldUser": "held: `scontrol release` lets it start",
    "JobHoldMaxRequeue": "requeued too often and held: `scontrol release` lets it start",
    "Licenses": "waits for a license",
    "NodeDown": "a node it needs is down: wait, or request other nodes",
    "None": "not yet scheduled by Slurm",
    "PartitionConfig": "requests more than its partition allows: correct partition, GPUs, CPUs "
    "or memory",
    "PartitionDown": "the partition is closed: wait, or set another partition",
    "PartitionInactive": "the partition is closed: wait, or set another partition",
    "PartitionNodeLimit": "requests more nodes than its partition allows: request fewer",
    "PartitionTimeLimit": "requests more time than its partition allows: request less",
    "Priority": "waits behind jobs of higher priority",
    "QOSGrp": "the QOS is used up by all its users: wait, or set another qos",
    "QOSMax": "your limit for this QOS is reached: wait, request less, or set another qos",
    "QOSMin": "requests less than this QOS requires: set another qos",
    "QOSNotAllowed": "this partition or account does not allow the QOS: set another qos",
    "ReqNodeNotAvail": "the nodes it needs are down, drained or reserved: wait, request less "
    "time, or set another partition",
    "Reservation": "waits for its reservation",
    "ReservationDeleted": "its reservation was deleted: set another reservation",
    "Resources": "waits for free nodes",
    "launch failed requeued held": "could not start on its node and is held: `scontrol release` "
    "lets it start",
}
"""Explanation by reason code, or by the common prefix of a family of codes."""

NODES_DOWN = "Nodes required for job are DOWN"


def explain_reason(reason: str) -> str:
    """Return Slurm's reason for a pending job in plain words, with the remedy if there is one."""
    code = reason.replace("_", " ").strip(" ()")
    if code.startswith(NODES_DOWN):
        return f"{REASONS['ReqNodeNotAvail']} ({code})"
    prefixes = [prefix for prefix in REASONS if code.startswith(prefix)]
    if not prefixes:
        return code or REASONS["None"]
    explanation = REASONS[max(prefixes, key=len)]
    return explanation if code == "None" else f"{explanation} ({code})"


def seconds(clock: str) -> int | None:
    """Return the seconds of Slurm's ``days-hours:minutes:seconds``; None if it is not a time."""
    match = re.fullmatch(r"(?:(\d+)-)?((?:\d+:){0,2}\d+)", clock)
    if match is None:
        return None
    total = 0
    for part in match[2].split(":"):
        total = 60 * total + int(part)
    return total + 86400 * int(match[1] or 0)
