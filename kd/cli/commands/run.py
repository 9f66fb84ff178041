"""Commands of runs, from ``compose`` to ``profile``."""

from argparse import ArgumentParser

from kd.cli import options, plan, runs
from kd.cli.command import Command, Example, Group
from kd.cli.project import project_path

TEACHER = "gfl-r18-w0.5/alone"
"""Part of the name of a run of study demo at scale smoke."""


def _compose(parser: ArgumentParser) -> None:
    options.add_study(parser)
    parser.add_argument(
        "--run", default="", metavar="TEXT", help="runs whose name contains TEXT (default: all)"
    )
    parser.add_argument(
        "--write", action="store_true", help="write the configurations instead of printing"
    )


def _train(parser: ArgumentParser) -> None:
    options.add_run(parser)
    options.add_workers(parser)
    options.add_threads(parser)
    parser.add_argument(
        "--check-report",
        type=project_path,
        metavar="PATH",
        help="report of `kd check`, whose number of left-out boxes is recorded in the provenance "
        "(default: not recorded)",
    )
    parser.add_argument(
        "--val-interval",
        type=options.count,
        default=0,
        metavar="N",
        help="measure AP every N epochs, on the validation split if there is one, else on the "
        "test split (default: 0, never)",
    )
    parser.add_argument(
        "--teacher-cache",
        type=options.count,
        default=0,
        metavar="MB",
        help="cache teacher outputs of images that later epochs repeat: up to MB in memory, and "
        "up to MB on disk per teacher (default: 0, no cache)",
    )
    options.add_list(
        parser,
        "--trackers",
        "NAME",
        "show losses, learning rate and AP in tensorboard, mlflow or wandb (default: none)",
    )
    parser.add_argument(
        "--tag",
        type=options.assignment,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="tag of the run in trackers, beside those of its parts; may be repeated",
    )
    _add_processes(parser)


def _predict(parser: ArgumentParser) -> None:
    _add_run_and_split(parser)
    parser.add_argument(
        "--coco",
        type=project_path,
        metavar="FILE",
        help="write the detections as COCO results, too, with the ids of the annotation file; "
        "detections that are up to date are not computed again (default: no such file)",
    )
    options.add_workers(parser)
    options.add_threads(parser)


def _add_run_and_split(parser: ArgumentParser) -> None:
    options.add_run(parser)
    text = "split to measure on: test, or val of a data set that has one (default: test)"
    parser.add_argument("--split", choices=("test", "val"), default="test", help=text)


def _profile(parser: ArgumentParser) -> None:
    options.add_run(parser)
    parser.add_argument(
        "--steps",
        type=options.positive,
        default=10,
        metavar="N",
        help="number of steps to time; medians are reported (default: 10)",
    )
    parser.add_argument(
        "--batch", type=options.positive, metavar="N", help="images per step (default: the run's)"
    )
    options.add_workers(parser)
    options.add_threads(parser)
    options.add_folder(parser, "folder for the results (default: profile in the run's directory)")


def _rehearse(parser: ArgumentParser) -> None:
    options.add_run(parser)
    parser.add_argument(
        "--steps",
        type=options.at_least_two,
        metavar="N",
        help="number of training steps, 2 or more, with a stop after half of them (default: "
        "20 on a GPU, 2 on a CPU)",
    )
    parser.add_argument(
        "--batch",
        type=options.positive,
        metavar="N",
        help="most images per step (default: the run's)",
    )
    options.add_listed_images(parser)
    options.add_workers(parser)
    options.add_threads(parser)
    _add_processes(parser)


def _add_processes(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--processes",
        type=options.positive,
        default=1,
        metavar="N",
        help="share the batch among N processes with a GPU each: the tasks of a Slurm job, "
        "or processes on this machine (default: 1)",
    )
    parser.add_argument(
        "--accumulate",
        type=options.positive,
        default=1,
        metavar="N",
        help="compute the batch of each process in N parts, one after the other, to need less "
        "memory; weights stay the same up to rounding (default: 1)",
    )


GROUP = Group(
    "Run",
    "each step of the pipeline alone, as `snakemake` runs it",
    (
        Command(
            "compose",
            plan.compose_runs,
            "print or write the configurations of runs",
            "Print the configurations of a study's runs as a JSON array, or write them with "
            "--write. `kd train` needs a written configuration; `snakemake` writes it, too.",
            "nothing; with --write, run.json, config.json and mmdet_config.py to the directory of "
            "each run, results/runs/...",
            (
                Example("compose demo --write", "directories of all runs of the study demo"),
                Example("compose demo --run rm+pfi", "print the runs with rm+pfi in the name"),
            ),
            _compose,
        ),
        Command(
            "train",
            runs.train_run,
            "train a run, or resume its training",
            "Train the model of a run. An interrupted training resumes from its last checkpoint; "
            "a finished one trains no further step. Distilled runs need the trained weights of "
            "their teacher.",
            "weights.pth, provenance.json, log.jsonl and checkpoints to the run's directory",
            (
                Example("generate shapes-smoke", "the demo's data"),
                Example("compose demo --write", "the configurations of its runs"),
                Example(f"train {TEACHER}", "train the teacher GFL"),
            ),
            _train,
        ),
        Command(
            "rehearse",
            runs.rehearse_run,
            "make a few steps of a run at full size, before it takes hours",
            "Make a few training steps of a run at its real size, stop and resume, predict a few "
            "images and evaluate them. Absent data get a stand-in in their format; weights of "
            "teachers and of ImageNet that are absent are random. `snakemake rehearse` rehearses "
            "every distinct training of a study.",
            "rehearsal.json, with times and memory, to a folder of results/rehearsals; nothing to "
            "the run's directory",
            (
                Example("generate shapes-smoke", "the demo's data"),
                Example("compose demo --write", "the configurations of its runs"),
                Example(f"rehearse {TEACHER} --steps 4", "four steps of the teacher GFL"),
            ),
            _rehearse,
        ),
        Command(
            "predict",
            runs.predict_run,
            "compute a trained run's detections on the test or validation split",
            "Run a trained detector on a split and store its detections; of a classifier, "
            "its predictions.",
            "detections.json.gz and model.json to the run's directory, or detections.json.gz to "
            "the folder `val` in it; of a classifier, predictions.json.gz; COCO results to --coco",
            (
                Example(f"predict {TEACHER}", "detections of the teacher GFL"),
                Example(f"predict {TEACHER} --coco results.json", "the same as COCO results"),
                Example(f"predict {TEACHER} --split val", "the same on the validation split"),
            ),
            _predict,
        ),
        Command(
            "evaluate",
            runs.evaluate_run,
            "compute a run's metrics from its detections",
            "Compute the COCO and VOC metrics of a run from its detections, and print its AP; of a "
            "classifier, its accuracy.",
            "metrics.json to the run's directory, or to the folder `val` in it",
            (Example(f"evaluate {TEACHER}", "AP of the teacher GFL"),),
            _add_run_and_split,
        ),
        Command(
            "size",
            runs.write_run_size,
            "count the parameters and multiply-adds of a run's detector",
            "Count the parameters, multiply-adds for one test image, and bytes of weights of the "
            "detector that a run trains; of a distilled run, those of the student alone. "
            "`kd predict` writes the same file. Use this command for runs predicted with an "
            "earlier version. It needs no weights and no GPU.",
            "model.json to the run's directory",
            (Example(f"size {TEACHER}", "size of the teacher GFL"),),
            options.add_run,
        ),
        Command(
            "resample",
            runs.resample_run,
            "compute a run's AP on 1,000 resamples of the test images",
            "Compute the AP of a run on 1,000 bootstrap resamples of the images of a split, from "
            "which tables compute image intervals.",
            "resampled.npz and the cache matches.npz to the run's directory, or to the folder "
            "`val` in it",
            (Example(f"resample {TEACHER}", "resampled AP of the teacher GFL"),),
            _add_run_and_split,
        ),
        Command(
            "profile",
            runs.profile_run,
            "measure a run's training step by part, beside its lower bound",
            "Measure the time and memory of a training step by part, and print them beside a lower "
            "bound: the student's step without distillation, and the teacher up to the deepest "
            "layer that the method uses.",
            "profile.json, .md, .pdf and .png to the folder `profile` in the run's directory, "
            "or to --to",
            (Example("profile gfl rm+pfi --steps 20", "step of the run with both methods"),),
            _profile,
        ),
    ),
)
