"""Commands that prepare data: ``start``, ``generate``, ``check``, ``split`` and more."""

import shlex
from argparse import Namespace
from pathlib import Path

from kd.common.errors import UserError


def start_study(options: Namespace) -> None:
    """Propose a data set and a study for a labeled folder, and print what it contains."""
    from kd.config.library import Library
    from kd.start.description import describe
    from kd.start.start import Request, start

    request = Request(
        folder=options.source.expanduser(),
        name=options.name,
        study=options.study,
        detector=options.detector,
        format=options.format,
        device=options.device,
        seed=options.seed,
        force=options.force,
    )
    print(describe(start(request, Library())))


def write_new_project(options: Namespace) -> None:
    """Write the files of a project to a folder, and print the next command."""
    from kd.workflow.project_files import write_project

    folder = options.folder / options.project
    count = write_project(folder)
    command = shlex.join(["cd", str(options.project)])
    print(f"{options.project}: {count} files of a project written; next: {command}")


def generate_data(options: Namespace) -> None:
    """Generate a built-in data set unless it is complete."""
    from kd.config.library import Library
    from kd.data.builtin.shapes import generate

    library = Library()
    dataset = library.dataset(options.dataset, "kd generate")
    if dataset.generate is None:
        names = library.names("datasets")
        built_in = [name for name in names if library.dataset(name, "kd generate").generate]
        raise UserError(
            f"configs/datasets/{options.dataset}.yaml: not a generated data set; valid: "
            f"{', '.join(built_in) or 'none'}"
        )
    generate(dataset.generate, Path(dataset.root))


def prepare_rehearsal_data(options: Namespace) -> None:
    """Prepare a data set for rehearsals, and print its origin."""
    from kd.config.library import Library
    from kd.rehearsal.project import prepare

    dataset = Library().dataset(options.dataset, "kd stand-in")
    print(prepare(options.dataset, dataset, options.images))


def check_data(options: Namespace) -> int:
    """Check a data set, print the report, and return 1 if the data set has errors."""
    from kd.common.documents import json_document
    from kd.common.files import write_json
    from kd.config.library import Library
    from kd.data.check import check

    report = check(options.dataset, Library().dataset(options.dataset, "kd check"))
    print(json_document(report.to_json()) if options.json else report.describe())
    if report.errors:
        return 1
    if options.check_report:
        write_json(options.check_report, report.to_json())
    return 0


def split_data(options: Namespace) -> None:
    """Hold out a validation split, and print its size and the lines for the entry."""
    from kd.config.library import Library
    from kd.data.splitting import describe, divide, write

    dataset = Library().dataset(options.dataset, "kd split")
    division = divide(options.dataset, dataset, options.share, options.seed)
    written = write(division)
    print(describe(options.dataset, division, written))


def cut_crops(options: Namespace) -> None:
    """Cut out the objects that a classifier is trained on."""
    from kd.classifiers.cutting import build, describe
    from kd.config.library import Library
    from kd.config.run import CROPS, Crops
    from kd.monitoring.run_names import find_run

    folder = Path(options.crops[0])
    if len(options.crops) > 1 or not (folder / CROPS).exists():
        folder = find_run(*options.crops)
    print(describe(build(Crops.read(folder), Library(), options.threads)))
