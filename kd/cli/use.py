"""Commands that use trained detectors: ``infer`` and ``export``."""

from argparse import Namespace
from pathlib import Path

from kd.cli.networks import load_networks


def infer_images(options: Namespace) -> int:
    """Write pictures and COCO files of the detections in a user's images and videos.

    Return 1 if an image or video could not be read.
    """
    from kd.common.files import sha256
    from kd.inference.loading import device_for, load_detector, weights_file
    from kd.inference.results import ResultsFolder, require_usable
    from kd.inference.sources import list_sources

    sources = list_sources(options.images, options.to)
    source = _detector_source(options.source)
    record = {
        "source": str(source),
        "weights_sha256": sha256(weights_file(source)),
        "score": options.score,
    }
    require_usable(options.to, sources, record)
    load_networks(options.threads)
    from kd.inference.infer import Settings, infer

    device = device_for(source, options.device)
    detector = load_detector(source, device)
    settings = Settings(options.score, options.batch, options.workers)
    with ResultsFolder(options.to, sources, {**record, "device": device}) as results:
        summary = infer(detector, results, settings)
    totals, skipped, failures = summary
    skipped_text = f", {skipped} of the files finished before" if skipped else ""
    print(
        f"{options.to}: {totals.images} images with {totals.detections} detections{skipped_text}; "
        f"pictures show scores from {options.score:g}"
    )
    if failures:
        print(f"{len(failures)} files could not be read completely, see above")
    return 1 if failures else 0


def _detector_source(word: str) -> Path:
    """Return an ONNX file, the folder of an export, or the run with a part of a name."""
    from kd.inference.onnx_detector import onnx_file
    from kd.monitoring.run_names import find_run

    path = Path(word)
    return path if onnx_file(path) else find_run(word)


def export_run(options: Namespace) -> int:
    """Write forms of a run's detector, and compare their AP with the run's; 1 if one differs."""
    from kd.config.library import Library
    from kd.export.forms import check_forms
    from kd.monitoring.run_names import find_run

    run, forms = find_run(*options.run), check_forms(options.forms or ("mmdet", "onnx"))
    load_networks(options.threads)
    from kd.export.check import LARGEST_DIFFERENCE, check
    from kd.export.export import TrainedRun, export

    trained = TrainedRun.read(run)
    written = export(trained, forms, options.to)
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
