"""Commands of data, from ``init`` and ``start`` to ``crops``."""

from argparse import ArgumentParser
from pathlib import Path

from kd.cli import data, options, plan
from kd.cli.command import Command, Example, Group
from kd.cli.project import project_path


def _init(parser: ArgumentParser) -> None:
    text = "new folder, or one without files of these names"
    parser.add_argument("project", metavar="FOLDER", type=Path, help=text)


def _start(parser: ArgumentParser) -> None:
    parser.add_argument(
        "source", metavar="FOLDER", type=project_path, help="folder with images and labels"
    )
    text = "name of the data set, the schedule and the study (default: that of the folder)"
    parser.add_argument("--name", metavar="NAME", help=text)
    text = "name of the study, if not that of the data set"
    parser.add_argument("--study", metavar="NAME", help=text)
    text = "detector to propose, such as rtmdet or yolox (default: retinanet)"
    parser.add_argument("--detector", metavar="NAME", help=text)
    parser.add_argument(
        "--format",
        choices=("coco", "voc", "yolo", "cvat", "label-studio"),
        help="format of the labels, if the folder has several (default: the one that it has)",
    )
    parser.add_argument(
        "--device",
        choices=("cpu", "gpu"),
        help="device to propose networks for (default: a GPU if this machine has one)",
    )
    parser.add_argument(
        "--seed",
        type=options.count,
        default=0,
        metavar="N",
        help="seed of the splits that are split off (default: 0)",
    )
    text = "replace files that an earlier `kd start` wrote and that are unchanged"
    parser.add_argument("--force", action="store_true", help=text)


def _stand_in(parser: ArgumentParser) -> None:
    options.add_dataset(parser)
    options.add_listed_images(parser)


def _check(parser: ArgumentParser) -> None:
    options.add_dataset(parser)
    parser.add_argument(
        "--check-report",
        type=project_path,
        metavar="PATH",
        help="write the full report to this JSON file if the data set has no errors "
        "(default: no file)",
    )
    options.add_json(parser)


def _split(parser: ArgumentParser) -> None:
    options.add_dataset(parser)
    parser.add_argument(
        "--share",
        type=options.fraction,
        default=0.1,
        metavar="X",
        help="share of the training images to hold out, above 0 and below 1 (default: 0.1)",
    )
    parser.add_argument(
        "--seed",
        type=options.count,
        default=0,
        metavar="N",
        help="seed of the choice of images (default: 0)",
    )


def _crops(parser: ArgumentParser) -> None:
    parser.add_argument(
        "crops",
        metavar="CROPS",
        nargs="+",
        type=options.run_word,
        help="folder of crops, or a classifier's run: its directory or parts of its name",
    )
    text = "number of threads that cut (default: 1)"
    parser.add_argument("--threads", type=options.positive, default=1, metavar="N", help=text)


def _classifier(parser: ArgumentParser) -> None:
    parser.add_argument(
        "classifier", metavar="CLASSIFIER", help="name of a file in configs/classifiers"
    )
    options.add_dataset(parser)
    options.add_scale(parser)
    parser.add_argument(
        "--seed",
        type=options.count,
        default=0,
        metavar="N",
        help="seed of the training (default: 0)",
    )


GROUP = Group(
    "Data",
    "data sets, and crops for classifier teachers",
    (
        Command(
            "init",
            data.write_new_project,
            "write a new project: the workflow and its configuration",
            "Write the files of a project to a folder: the Snakefile, its rules and profiles, "
            "and all configurations. A clone of the repository is a project already; this command "
            "makes one from an installed package. No file is replaced.",
            "the files of a project to FOLDER",
            (Example("init my-project", "then: cd my-project && snakemake"),),
            _init,
            needs_project=False,
        ),
        Command(
            "start",
            data.start_study,
            "start with a labeled folder: propose a data set and a study",
            "Read a folder of labeled images: COCO, Pascal VOC, YOLO, CVAT or Label Studio, as "
            "Roboflow and other tools export them. Print what it contains, split off validation "
            "and test images where it has none, and propose detector, teacher, student, image "
            "size, anchors and schedule for the data and this machine. The folder is not changed.",
            "annotations to data/NAME/kd-start, and a data set, a schedule and a study to configs, "
            "with the reason for each value",
            (
                Example("start data/cells", "then: snakemake --config study=cells scale=own"),
                Example("start ~/photos --name pets --detector rtmdet", "another detector"),
            ),
            _start,
        ),
        Command(
            "generate",
            data.generate_data,
            "generate a built-in data set",
            "Generate a built-in data set of drawn shapes, unless a complete one exists.",
            "annotations and images to the folder that the data set's file names as `root`",
            (Example("generate shapes-smoke", "data of scale smoke"),),
            options.add_dataset,
        ),
        Command(
            "stand-in",
            data.prepare_rehearsal_data,
            "prepare a data set for rehearsals; if it is absent, draw a stand-in",
            "Prepare a data set for rehearsals: link and check it if it is on this machine. "
            "Otherwise write and check a stand-in: its layout, number of images and statistics of "
            "boxes, with drawn photographs. `snakemake rehearse` and `kd rehearse` do this too.",
            "stand-in data, an entry and a check report to results/rehearsals",
            (
                Example("stand-in coco2017", "123287 images, 150 MB"),
                Example("stand-in voc0712 --images 500", "at most 500 images of each image set"),
            ),
            _stand_in,
        ),
        Command(
            "check",
            data.check_data,
            "check all annotations and images of a data set",
            "Read every annotation and decode every image of a data set. Print what training "
            "learns from, what AP counts, what is left out, and every error with its file. The "
            "exit status is 1 if there are errors.",
            "nothing, or a JSON file with --check-report",
            (
                Example("check shapes-smoke", "data of scale smoke"),
                Example("check coco2017 --json", "the same as JSON, for scripts"),
            ),
            _check,
        ),
        Command(
            "split",
            data.split_data,
            "hold out a validation split of the training split",
            "Divide the training split of a data set into one to train on and one for validation, "
            "on which AP during training and sweeps are measured. Every class is divided alike; "
            "copies of an image stay together. The same seed holds out the same images. Print the "
            "lines for the data set's file, which is not edited. No file is overwritten.",
            "two annotation files (COCO) or image sets (VOC) beside those of the training split",
            (
                Example("split bccd", "hold out a tenth of the training images"),
                Example("split coco2017 --share 0.04", "hold out 4732 of 118287 images"),
            ),
            _split,
        ),
        Command(
            "crops",
            data.cut_crops,
            "cut out the objects that a classifier is trained on",
            "Cut the objects of a data set out of its images, as the training of a classifier "
            "teacher (method dicod) reads them. Complete crops are not cut again.",
            "crops and their records to results/crops/DATASET-DIGEST",
            (
                Example("classifier smoke shapes-smoke", "compose the classifier first"),
                Example("crops classifiers/smoke/shapes-smoke", "cut its crops"),
            ),
            _crops,
        ),
        Command(
            "classifier",
            plan.compose_classifier,
            "compose a classifier's run, and print its directory",
            "Compose the run of a classifier teacher (method dicod) and print its directory, for "
            "`kd crops`, `kd train`, `kd predict` and `kd evaluate`. `snakemake` does the same for "
            "studies with that method.",
            "run.json, config.json and the settings of its crops to results/classifiers/...",
            (Example("classifier smoke shapes-smoke", "the classifier of scale smoke"),),
            _classifier,
        ),
    ),
)
