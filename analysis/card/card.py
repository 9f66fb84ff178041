"""The model card of a run: metadata and Markdown."""

from collections.abc import Iterator
from importlib import metadata as installed
from pathlib import Path

from analysis.card import sections
from analysis.card.filled import (
    LICENSED,
    between_marks,
    earlier_card,
    keep_filled,
    license_of,
    to_fill,
)
from analysis.card.gain_text import gain_text
from analysis.card.measured import Measured, gain_over_alone, measure
from analysis.card.metadata import UNKNOWN, CardOptions, front_matter
from analysis.card.record import CardRecord
from analysis.card.speed import speed
from analysis.card.tables import between, points, table
from analysis.report.methods_text import PACKAGE, SOFTWARE, TOOLBOX
from kd import methods
from kd.common.errors import UserError
from kd.common.files import write_text
from kd.config.composed import mmdet_config
from kd.config.library import Library

INTENDED_USE = (
    "Who uses this detector, for which images and decisions, and for which it must not be used."
)
FILE = "README.md"
"""Name of a model card, which model hubs show."""
USE = """```python
from mmdet.apis import inference_detector, init_detector

detector = init_detector("mmdet_config.py", "weights.pth", device="cpu")
detections = inference_detector(detector, "image.jpg").pred_instances
for box, label, score in zip(detections.bboxes, detections.labels, detections.scores):
    if score > 0.3:
        print(detector.dataset_meta["classes"][label], f"{score:.2f}", box.tolist())
```"""
NEEDS_PROJECT = (
    "This detector has a part that mmdet lacks: it needs an installation of kd-detection, which "
    "the configuration imports."
)


def write_card(run: Path, path: Path, options: CardOptions, library: Library) -> Path:
    """Write the card of a run to a file or into a folder; return the file.

    A path that ends in ``.md`` is a file. Parts that an author filled in an earlier card there are
    preserved, and its license. UserError for a file there that is no card.
    """
    file = path / FILE if path.is_dir() or path.suffix.lower() != ".md" else path
    write_text(file, renewed_card(run, earlier_card(file), options, library))
    return file


def renewed_card(run: Path, earlier: str, options: CardOptions, library: Library) -> str:
    """Return the card of a run with the author's parts and the license of an earlier card."""
    if options.license is None and (license := license_of(earlier)) != UNKNOWN:
        options = options._replace(license=license)
    return keep_filled(model_card(run, options, library), earlier)


def model_card(
    run: Path, options: CardOptions | None = None, library: Library | None = None
) -> str:
    """Return the model card of a trained and evaluated run, Markdown with metadata before it.

    Test images are resampled if that was not done yet. UserError for a run without results.
    """
    record = CardRecord.read(run, library or Library())
    options = options or CardOptions()
    measured = measure(record)
    parts = [f"# {record.title}", _summary(record, measured)]
    for title, text in _sections(record, measured, options):
        parts += [f"## {title}", text]
    return front_matter(record, options) + "\n" + "\n\n".join(parts) + "\n"


def _summary(record: CardRecord, measured: Measured) -> str:
    name = "mAP" if record.metric == "VOC07" else "AP"
    interval = measured.metrics.get(record.metric)
    ends = f" (95 % interval {between(interval)})" if interval else ""
    plural = "classes" if len(record.classes) > 1 else "class"
    return (
        f"An object detector of {len(record.classes)} {plural}, trained with kd-detection. On "
        f"{record.metrics['images']:,} test images it has {name} "
        f"{points(record.metrics.get(record.metric))}{ends}."
    )


def _sections(
    record: CardRecord, measured: Measured, options: CardOptions
) -> Iterator[tuple[str, str]]:
    yield "Intended use", to_fill("intended-use", INTENDED_USE)
    yield "Use", options.use or _use(record)
    yield "Data", sections.data(record)
    yield "Training", sections.training(record)
    yield "Results", sections.results(record, measured)
    yield "Gain from distillation", gain_text(record, gain_over_alone(record))
    yield "Calibration", sections.calibration(record)
    yield "Size and speed", speed(record)
    yield "Limitations", sections.limitations(record, measured)
    yield "License", _license(options)
    yield "Provenance", _provenance(record)
    yield "Citation", f"```bibtex\n{_citation(record)}\n```"


def _use(record: CardRecord) -> str:
    """Return the code that detects objects with mmdet."""
    needs_project = "custom_imports" in mmdet_config(record.config.settings)
    text = "With mmdet 3.3, in the folder of the weights:"
    return "\n\n".join([text, USE, *([NEEDS_PROJECT] if needs_project else [])])


def _license(options: CardOptions) -> str:
    code = "kd-detection, which trained the weights, and mmdet have the license Apache-2.0."
    if options.license:
        return f"{between_marks('license', f'{LICENSED} {options.license}.')}\n\n{code}"
    request = (
        "License of the weights, here and in the metadata (`kd card --license ID`). Consider the "
        "licenses of the data and of the weights that the training started from."
    )
    return f"{to_fill('license', request)}\n\n{code}"


def _provenance(record: CardRecord) -> str:
    origin = record.provenance
    inputs = origin.get("inputs", {})
    packages = origin.get("packages") or {}
    rows = [
        ["run", f"`{record.name}`"],
        ["trained", origin.get("finished", "")],
        ["commit of kd-detection", origin.get("commit")],
        ["command", f"`{origin['command']}`" if origin.get("command") else ""],
        ["SHA-256 of `weights.pth`", origin.get("weights_sha256")],
        *([f"SHA-256 of the {name}", value] for name, value in inputs.items() if name != "version"),
        ["software", ", ".join(f"{name} {version}" for name, version in packages.items())],
    ]
    return table(["", ""], [[name, value] for name, value in rows if value])


def _citation(record: CardRecord) -> str:
    presets = record.library.presets
    terms = (record.parts.get("method") or "").split("+") if record.distilled else []
    names = [presets[term].method if term in presets else term for term in terms]
    keys = [methods.get(name).cite for name in names if name in methods.names()]
    entries = []
    for key in dict.fromkeys([*filter(None, keys), TOOLBOX]):
        try:
            entries.append(record.library.reference(key, "model card"))
        except UserError:  # a project without this project's references
            continue
    return "\n\n".join([*entries, SOFTWARE % installed.version(PACKAGE)])
