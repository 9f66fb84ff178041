"""The settings of the plugin: on the command line, in a profile, or in the environment."""

from dataclasses import dataclass, field
from typing import Any

from snakemake_interface_executor_plugins.settings import ExecutorSettingsBase


def _setting(default: Any, text: str, **more: Any) -> Any:
    return field(default=default, metadata={"help": text, "env_var": True, **more})


@dataclass
class ExecutorSettings(ExecutorSettingsBase):
    """Each is an option ``--submitit-<name>`` and a variable ``SNAKEMAKE_SUBMITIT_<NAME>``."""

    cluster: str = _setting(
        "auto",
        "Where jobs run: on a Slurm cluster, as processes of this machine ('local'), inside this "
        "process ('debug'), or on what is there ('auto').",
        choices=["auto", "slurm", "local", "debug"],
    )
    partition: str = _setting("", "Partition of jobs without a resource 'slurm_partition'.")
    account: str = _setting("", "Account of jobs without a resource 'slurm_account'.")
    qos: str = _setting("", "Quality of service of jobs without a resource 'qos'.")
    constraint: str = _setting("", "Node features for jobs without a resource 'constraint'.")
    reservation: str = _setting("", "Reservation that jobs run in.")
    gpu_flag: str = _setting(
        "gres",
        "How this site wants GPUs to be asked for.",
        choices=["gres", "gpus-per-node", "gpus", "gpus-per-task"],
    )
    gpu_model: str = _setting("", "Type of GPU for jobs without a resource 'gpu_model', as 'a100'.")
    extra: str = _setting("", "Further sbatch options, as '--exclusive --mail-type=FAIL'.")
    setup: str = _setting(
        "", "Shell lines run in a job before Python, as 'module load cuda' or 'conda activate x'."
    )
    signal_seconds: int = _setting(
        120, "Seconds before its time limit at which a job is told to save and is requeued."
    )
    poll_seconds: int = _setting(5, "Seconds between two looks at the queue while jobs change.")
    poll_max_seconds: int = _setting(60, "Seconds between two looks at the queue at the most.")
    array_size: int = _setting(100, "Jobs of one kind that are submitted as one job array.")
    oom_retries: int = _setting(
        2, "How often a job killed for its memory is submitted again, each time with twice as much."
    )
    restarts: int = _setting(
        3, "How often a job is submitted again that the cluster ended and did not requeue."
    )
    controller_minutes: int = _setting(
        10, "Minutes for which a submission is tried again while Slurm's controller is away."
    )
    doubt_seconds: int = _setting(
        60, "Seconds that a lost node, a preemption or an absent job must last to count."
    )
    on_interrupt: str = _setting(
        "ask",
        "What Ctrl-C does with jobs in the queue: 'leave' them to the next run, which takes them "
        "over, 'cancel' them, or 'ask' (without a terminal or an answer: leave).",
        choices=["ask", "leave", "cancel"],
    )
    log_folder: str = _setting("logs/slurm", "Where the jobs' own logs lie, by rule.")
