"""Settings of the plugin: on the command line, in a profile, or in the environment."""

from dataclasses import dataclass, field
from typing import Any

from snakemake_interface_executor_plugins.settings import ExecutorSettingsBase


def _setting(default: Any, text: str, **more: Any) -> Any:
    return field(default=default, metadata={"help": text, "env_var": True, **more})


@dataclass
class ExecutorSettings(ExecutorSettingsBase):
    """Settings as options ``--submitit-<name>`` and variables ``SNAKEMAKE_SUBMITIT_<NAME>``."""

    cluster: str = _setting(
        "auto",
        "Place where jobs run: a Slurm cluster ('slurm'), processes of this machine ('local'), "
        "this process ('debug'), or Slurm if it is installed and local otherwise ('auto').",
        choices=["auto", "slurm", "local", "debug"],
    )
    partition: str = _setting("", "Partition of jobs without a resource 'slurm_partition'.")
    partitions: str = _setting(
        "",
        "YAML file with the limits of partitions, from which a job's partition is chosen if "
        "neither resource nor setting names one.",
    )
    clusters: str = _setting("", "Slurm cluster to submit to, among several with one database.")
    account: str = _setting("", "Account of jobs without a resource 'slurm_account'.")
    qos: str = _setting("", "Quality of service of jobs without a resource 'qos'.")
    constraint: str = _setting("", "Node features for jobs without a resource 'constraint'.")
    reservation: str = _setting("", "Reservation of all jobs.")
    gpu_flag: str = _setting(
        "gres",
        "sbatch option that requests GPUs on this site.",
        choices=["gres", "gpus-per-node", "gpus", "gpus-per-task"],
    )
    gpu_model: str = _setting(
        "", "GPU type of jobs without a resource 'gpu_model', such as 'a100'."
    )
    extra: str = _setting("", "Further sbatch options, such as '--exclusive --mail-type=FAIL'.")
    job_name_prefix: str = _setting("", "Text before the rule's name in the name of a job.")
    setup: str = _setting(
        "",
        "Shell lines to run in a job before Python, such as 'module load cuda' or "
        "'conda activate x'.",
    )
    signal_seconds: int = _setting(
        120, "Seconds before its time limit at which a job saves and is requeued."
    )
    requeue: str = _setting(
        "yes",
        "Way in which a job continues after its time limit or a preemption: Slurm requeues it "
        "under its id ('yes'), or it ends and is submitted again ('no', for sites that forbid "
        "requeueing).",
        choices=["yes", "no"],
    )
    poll_seconds: int = _setting(5, "Seconds between two queries of the queue while jobs change.")
    poll_max_seconds: int = _setting(60, "Maximum seconds between two queries of the queue.")
    array_size: int = _setting(100, "Maximum number of jobs in one job array.")
    oom_retries: int = _setting(
        2, "Maximum number of resubmissions after out of memory, each with twice the memory."
    )
    restarts: int = _setting(
        3, "Maximum number of resubmissions of a job that the cluster ended and did not requeue."
    )
    exclude_failed_nodes: str = _setting(
        "yes",
        "Whether a job that failed on a node or lost it is submitted again to other nodes alone.",
        choices=["yes", "no"],
    )
    controller_minutes: int = _setting(
        10, "Minutes for which submissions are retried while Slurm's controller is unreachable."
    )
    doubt_seconds: int = _setting(
        60, "Seconds for which a lost node, a preemption or an absent job must last to count."
    )
    on_interrupt: str = _setting(
        "ask",
        "Effect of Ctrl-C on queued jobs: 'leave' them to the next run, 'cancel' them, or 'ask' "
        "the user (without a terminal or an answer: leave).",
        choices=["ask", "leave", "cancel"],
    )
    log_folder: str = _setting(
        "logs/slurm", "Folder of the logs of jobs, with one folder per rule."
    )
    efficiency_report: str = _setting(
        "logs/slurm/efficiency.tsv",
        "File for used and requested time, CPUs and memory by rule, written at the end of a run "
        "on a cluster with accounting.",
    )
