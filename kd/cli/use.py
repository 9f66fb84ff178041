"""Commands that use trained detectors: ``infer``, ``latency`` and ``export``."""

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from kd.cli import card
from kd.cli.networks import load_networks
from kd.common.errors import UserError


def infer_images(options: Namespace) -> int:
    """Write pictures and COCO files of the detections in a user's images and videos.

    Return 1 if an image or video could not be read.
    """
    from kd.common.files import sha256
    from kd.inference.loading import load_detector, weights_file
    from kd.inference.results import ResultsFolder, require_usable
    from kd.inference.sources import list_sources

    sources = list_sources(options.images, options.to)
    source = _find_source(options.source)
    record = {
        "source": str(source),
        "weights_sha256": sha256(weights_file(source)),
        "score": options.score,
    }
    require_usable(options.to, sources, record)
    _load_libraries([source], options.threads)
    from kd.inference.infer import Settings, infer

    detector = load_detector(source, options.device)
    settings = Settings(options.score, options.batch, options.workers)
    with ResultsFolder(options.to, sources, {**record, "device": detector.device}) as results:
        summary = infer(detector, results, settings)
    totals, skipped, failures = summary
    skipped_text = f", {skipped} of the files finished before" if skipped else ""
    print(
        f"{options.to}: {totals.images} images with {totals.detections} detections{skipped_text}; "
        f"pictures show scores from {options.score:g}"
    )
    if failures:
        files = "1 file" if len(failures) == 1 else f"{len(failures)} files"
        print(f"{files} could not be read completely, see above")
    return 1 if failures else 0


def export_run(options: Namespace) -> int:
    """Write forms of a run's detector, and compare their AP with the run's; 1 if one differs."""
    from kd.common.results import require_result
    from kd.config.library import Library
    from kd.export.forms import check_folder, check_forms
    from kd.monitoring.run_names import find_run

    run, forms = find_run(*options.run), check_forms(options.forms or ("mmdet", "onnx"))
    check_folder(options.to)
    earlier = card.card_in(options.to)
    if options.check:
        require_result(run / "metrics.json")
    load_networks(options.threads)
    from kd.export.check import LARGEST_DIFFERENCE, check
    from kd.export.export import TrainedRun, export
    from kd.records.inputs import outdated_results

    trained = TrainedRun.read(run)
    if options.check and (problem := outdated_results(run)):
        raise UserError(problem)
    written = export(trained, forms, options.to)
    card.describe_export(run, options.to, earlier)
    for files in written.values():
        for path in files:
            print(f"{path}: {path.stat().st_size / 1e6:.1f} MB", flush=True)
    if not options.check:
        return 0
    results = check(trained, written, Library())
    for one in results:
        print(f"{one.form}: AP {one.ap:.2f}, {one.difference:+.2f} to the run's")
    failed = [one.form for one in results if not one.passed]
    if failed:
        print(f"more than {LARGEST_DIFFERENCE} AP from the run: {', '.join(failed)}")
    return 1 if failed else 0


def measure_latency(options: Namespace) -> None:
    """Measure detectors in turn, print their times, and record those of runs."""
    from kd.inference.loading import weights_file

    sources = list(dict.fromkeys(_find_source(word) for word in options.sources))
    teachers = {source: teacher for source in sources if (teacher := _teacher_of(source))}
    ordered = dict.fromkeys(
        path for source in sources for path in (teachers.get(source), source) if path
    )
    for source in ordered:
        weights_file(source)
    _load_libraries([*ordered], options.threads)
    from kd.common.documents import json_document
    from kd.inference.latency import LatencyExtent
    from kd.inference.latency_table import describe, document
    from kd.inference.measurement import measure_sources

    extent = LatencyExtent(options.batch, options.iterations, options.warm_up)
    rows = measure_sources([*ordered], options.device, options.size, extent)
    names = {row.source: row.name for row in rows}
    teacher_names = {names[source]: names[path] for source, path in teachers.items()}
    if options.json:
        print(json_document(document(rows, teacher_names)))
    else:
        print(describe(rows, teacher_names))


def _find_source(word: str) -> Path:
    """Return an ONNX file, the folder of an export, or the run with a part of a name."""
    from kd.inference.onnx_detector import onnx_file
    from kd.monitoring.run_names import find_run

    path = Path(word)
    return path if onnx_file(path) else find_run(word)


def _load_libraries(sources: Sequence[Path], threads: int | None) -> None:
    """Set the number of threads, and import mmdet if one of the sources is a run."""
    from kd.inference.loading import is_run

    if any(map(is_run, sources)):
        load_networks(threads)
    elif threads:
        import torch

        torch.set_num_threads(threads)


def _teacher_of(source: Path) -> Path | None:
    """Return the directory of the detector that taught a run, if it is trained.

    A teacher whose weights or directory are absent is reported on stderr.
    """
    from kd.config.composed import ComposedConfig
    from kd.inference.loading import is_run

    if not is_run(source):
        return None
    path = ComposedConfig.read(source).teacher_checkpoints.get("teacher")
    if path is None:
        return None
    for file in (path, path.parent / "config.json"):
        if not file.exists():
            print(f"{source}: measured without its teacher: no file {file}", file=sys.stderr)
            return None
    return path.parent
