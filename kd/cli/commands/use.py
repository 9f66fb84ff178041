"""Commands that use trained detectors: ``infer``, ``latency`` and ``export``."""

from argparse import ArgumentParser

from kd.cli import options, use
from kd.cli.command import Command, Example, Group
from kd.cli.project import project_path

STUDENT = "rm+pfi_from_gfl-r18-w0.5"
"""Part of the name of a student of study demo at scale smoke."""


def _infer(parser: ArgumentParser) -> None:
    parser.add_argument(
        "source",
        metavar="RUN",
        type=options.run_word,
        help="the run: its directory, or a part of its name; or an ONNX file or folder of "
        "`kd export`",
    )
    parser.add_argument(
        "images",
        metavar="IMAGES",
        nargs="+",
        type=project_path,
        help="images, videos, and folders, which are searched with their subfolders",
    )
    parser.add_argument(
        "--to", type=project_path, metavar="DIR", required=True, help="folder for the results"
    )
    parser.add_argument(
        "--score",
        type=options.share,
        default=0.3,
        metavar="S",
        help="draw detections that score S or more, from 0 to 1; the JSON files have all "
        "(default: 0.3)",
    )
    parser.add_argument(
        "--batch",
        type=options.positive,
        default=1,
        metavar="N",
        help="number of images that the network computes together (default: 1)",
    )
    _add_device(parser)
    parser.add_argument(
        "--workers",
        type=options.count,
        default=0,
        metavar="N",
        help="number of threads that read images and write pictures while the network runs "
        "(default: 0, none)",
    )
    options.add_threads(parser)


def _latency(parser: ArgumentParser) -> None:
    parser.add_argument(
        "sources",
        metavar="RUN",
        nargs="+",
        type=options.run_word,
        help="runs: the directory, or a part of the name, of each; also ONNX files and folders of "
        "`kd export`",
    )
    parser.add_argument(
        "--batch",
        type=options.positive_list,
        default=[1, 8],
        metavar="N,...",
        help="batch sizes, separated by commas (default: 1,8)",
    )
    parser.add_argument(
        "--size",
        type=options.size,
        metavar="W,H",
        help="width and height in pixels of the network's images (default: the run's test size)",
    )
    parser.add_argument(
        "--iterations",
        type=options.positive,
        default=50,
        metavar="N",
        help="measured batches of each detector and batch size (default: 50)",
    )
    parser.add_argument(
        "--warm-up",
        type=options.count,
        default=10,
        metavar="N",
        help="batches before them that are not measured (default: 10)",
    )
    _add_device(parser)
    options.add_threads(parser)
    options.add_json(parser)


def _add_device(parser: ArgumentParser) -> None:
    text = "cpu, cuda or cuda:N (default: a GPU if there is one; cpu for ONNX)"
    parser.add_argument("--device", metavar="DEVICE", help=text)


def _export(parser: ArgumentParser) -> None:
    options.add_run(parser)
    options.add_folder(parser, "folder for the files", required=True)
    parser.add_argument(
        "--forms",
        nargs="+",
        action=options.ListAction,
        metavar="FORM",
        help="mmdet, onnx or torchscript, separated by commas or spaces (default: mmdet,onnx)",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="measure the AP of each form on the test split; exit status 1 if it is more than 0.1 "
        "from the run's",
    )
    options.add_threads(parser)


GROUP = Group(
    "Use",
    "trained detectors on images, their speed, and as files for other programs",
    (
        Command(
            "infer",
            use.infer_images,
            "detect objects in images and videos",
            "Detect objects in images and videos with the detector of a run; of a distilled run, "
            "with its student. Write pictures with boxes, class names and scores, and detections "
            "in COCO's format. Images are turned by their EXIF orientation, as in training. A file "
            "that cannot be read is reported and left out, and the exit status is 1. The same "
            "command again skips finished files.",
            "pictures, videos, detections.json, images.json, infer.json and progress.jsonl to "
            "--to, an empty or new folder",
            (
                Example(f"infer {STUDENT} data/shapes-smoke/test --to out", "a folder"),
                Example(f"infer {STUDENT} film.mp4 --to out --score 0.5", "a video"),
            ),
            _infer,
            needs_project=False,
        ),
        Command(
            "latency",
            use.measure_latency,
            "measure how long detectors take for an image",
            "Measure the time of detectors from resized images to boxes, by batch size, beside "
            "their parameters, GFLOPs and file. The trained teacher of a distilled run is added. "
            "Detectors run in turn, one batch each, so that a drift of the machine's speed does "
            "not favor one. Run it on an idle machine.",
            "latency.json, and model.json where it is absent, to the directory of each run; tables "
            "show both",
            (
                Example(f"latency {STUDENT}", "a student and its teacher"),
                Example(f"latency {STUDENT} --batch 1 --threads 4", "one image, four CPU threads"),
            ),
            _latency,
            needs_project=False,
        ),
        Command(
            "export",
            use.export_run,
            "write a trained detector as files for mmdet, ONNX Runtime or torch",
            "Write the detector of a run, of a distilled run its student, as files that need "
            "nothing of this project. The ONNX form contains normalization and post-processing. "
            "With --check, print the AP of each form on the test split beside the run's.",
            "mmdet_config.py, mmdet_weights.pth, detector.onnx, detect_onnx.py, detector.pt and "
            "README.md to --to, by form",
            (
                Example(f"export {STUDENT} --to exported", "for mmdet and ONNX Runtime"),
                Example(f"export {STUDENT} --to exported --forms onnx --check", "with its AP"),
            ),
            _export,
        ),
    ),
)
