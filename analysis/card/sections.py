"""Sections of a model card on data, training, results and limits."""

from collections.abc import Iterator

from analysis.card.filled import to_fill
from analysis.card.measured import Measured
from analysis.card.record import CardRecord
from analysis.card.tables import between, points, table
from analysis.report.records import hardware
from analysis.runs.titles import backbone_name
from kd.common.durations import duration
from kd.common.errors import UserError
from kd.common.lists import enumerate_names

FEW_OBJECTS, FEW_IMAGES = 30, 100
"""Test objects of a class, and test images, below which a card warns of wide intervals."""
SPLITS = {"train": "training", "val": "validation", "test": "test"}
CALIBRATED = 0.05
"""D-ECE up to which confidences are called close to precisions."""


def data(record: CardRecord) -> str:
    """Return the data set, its splits and the objects of each class."""
    name, dataset = record.parts["dataset"], record.dataset
    splits = [split for split in SPLITS if record.counts(split)]
    counts = {split: record.counts(split) for split in splits}
    sizes = [[SPLITS[s], f"{c['images']:,}", f"{c['boxes']:,}"] for s, c in counts.items()]
    rows = [
        [name, *(f"{c['boxes_per_class'].get(name, 0):,}" for c in counts.values())]
        for name in record.classes
    ]
    by_split = table(["split", "images", "objects"], sizes, 1) if sizes else (
        "The data set has no report of `kd check`, so this card has no counts."
    )  # fmt: skip
    by_class = table(["class", *(f"{SPLITS[split]} objects" for split in splits)], rows, 1)
    license = dataset.license if dataset and dataset.license else None
    license_text = (
        f"License of the data: {license}."
        if license
        else "License of the data: unknown. Set `license` in the data set's file."
    )
    left_out = sum(split.get("left_out", 0) for split in counts.values())
    invalid = f" {left_out} invalid boxes were left out." if left_out else ""
    plural = "classes" if len(record.classes) > 1 else "class"
    return "\n\n".join(
        [
            f"Data set `{name}` with {len(record.classes)} {plural}.{invalid}",
            by_split,
            by_class if sizes else "Classes: " + enumerate_names(record.classes) + ".",
            license_text,
            to_fill("data", "Origin of the images, who annotated them, and how."),
        ]
    )


def training(record: CardRecord) -> str:
    """Return how the detector was trained."""
    return table(["", ""], _training_rows(record))


def _training_rows(record: CardRecord) -> Iterator[list[str]]:
    config, origin = record.config, record.provenance
    yield ["detector", record.detector_title]
    yield ["backbone", record.backbone_title]
    if record.distilled:
        yield ["method", record.method_title]
        yield ["teacher", _teacher(record)]
    start = config.initial_checkpoint or config.imagenet_source
    yield ["start", _start_text(start)]
    if config.published_checkpoint:
        yield ["weights", "published by others, not trained here"]
        return
    optimizer = config.settings["optim_wrapper"]["optimizer"]
    clip = (config.settings["optim_wrapper"].get("clip_grad") or {}).get("max_norm")
    clipped = f", gradients clipped at norm {clip:g}" if clip else ""
    yield ["schedule", f"`{record.parts['schedule']}`: {config.epochs} epochs"]
    yield [
        "optimizer",
        f"{optimizer['type']}, learning rate {optimizer['lr']:g}, batch of {config.batch_size} "
        f"images, weight decay {optimizer.get('weight_decay', 0):g}{clipped}",
    ]
    yield ["image size", _sizes(record, "train")]
    yield ["precision", config.precision]
    yield ["seed", str(config.seed)]
    if "seconds" in origin:
        yield ["time", f"{duration(origin['seconds'])} on {hardware(origin)}"]
    if origin.get("energy_joules"):
        yield ["energy of the GPUs", f"{origin['energy_joules'] / 3.6e6:.2f} kWh"]


def _teacher(record: CardRecord) -> str:
    name = record.parts.get("teacher") or record.parts.get("classifier") or ""
    parts = name.split("/")
    if record.parts.get("teacher") and len(parts) > 3:
        detector, _, backbone = parts[3].partition("-")
        try:
            title = record.library.detector(detector, "model card").title
            return f"{title} {backbone_name(backbone, record.library)} (`{name}`)"
        except UserError:
            pass
    return f"`{name}`"


def _start_text(start: object) -> str:
    if start is None:
        return "random weights"
    if isinstance(start, dict):
        return f"weights of a published detector: `{start}`"
    return f"ImageNet weights `{start}`"


def _sizes(record: CardRecord, split: str) -> str:
    sizes = record.config.image_sizes("train" if split == "train" else "test")
    texts = dict.fromkeys(f"{width} x {height}" for width, height in sizes)
    return f"fit into {enumerate_names(texts)} pixels" if texts else "that of the images"


def results(record: CardRecord, measured: Measured) -> str:
    """Return AP with intervals, in all and by class."""
    metrics, split = record.metrics, record.counts("test")
    names = ("AP", "AP50", "AP75", "APS", "APM", "APL", "AR100", "VOC07")
    rows = [
        [name, points(metrics.get(name)), between(measured.metrics.get(name))]
        for name in names
        if metrics.get(name) is not None
    ]
    per_class = metrics.get("per_class", {})
    objects = split.get("boxes_per_class", {})
    class_rows = [
        [
            name,
            f"{objects[name]:,}" if name in objects else "",
            points(per_class.get(name, {}).get("AP")),
            between(measured.classes.get(name)),
            points(per_class.get(name, {}).get("AP50")),
        ]
        for name in record.classes
    ]
    intervals = (
        f"This card has no intervals: {measured.problem}."
        if measured.problem
        else "Intervals are basic bootstrap intervals over 1,000 resamples of the test images; "
        "they do not include the variation between seeds."
    )
    return "\n\n".join(
        [
            f"Measured on {metrics['images']:,} test images with {metrics['boxes']:,} objects, in "
            "points (hundredths of AP). AP is COCO's, the mean over IoU 0.50 to 0.95. "
            f"{intervals}",
            table(["metric", "value", "95 % interval"], rows, 1),
            table(["class", "test objects", "AP", "95 % interval", "AP50"], class_rows, 1),
        ]
    )


def calibration(record: CardRecord) -> str:
    """Return the calibration errors and their meaning."""
    error = record.metrics.get("D_ECE")
    if error is None:
        return "Not measured: `kd evaluate` of this version writes it."
    meaning = (
        "Confidences are close to precisions."
        if error <= CALIBRATED
        else "Do not read a confidence as a probability; choose the threshold on your own images."
    )
    location = record.metrics.get("LaECE")
    text = f" LaECE, with the IoU as target, is {100 * location:.1f} %." if location else ""
    return (
        f"D-ECE is {100 * error:.1f} %: the mean gap between the confidence of detections and the "
        f"share of them that is right at IoU 0.50 (0 is best).{text} {meaning}"
    )


def limitations(record: CardRecord, measured: Measured) -> str:
    """Return what the run's files show about the limits of the detector."""
    items = "\n".join(f"- {item}" for item in _limits(record, measured))
    request = to_fill("limitations", "Conditions in which the detector was not tested or fails.")
    return f"{items}\n\n{request}"


def _limits(record: CardRecord, measured: Measured) -> Iterator[str]:
    metrics, dataset = record.metrics, record.dataset
    yield f"It finds only these classes: {enumerate_names(record.classes)}."
    yield f"Images are resized to {_sizes(record, 'test')}. Objects of few pixels are missed."
    if dataset and dataset.generate:
        yield "It was trained on drawn images, so it is of no use for photographs."
    if metrics["images"] < FEW_IMAGES:
        yield f"It was tested on {metrics['images']} images only, so intervals are wide."
    objects = record.counts("test").get("boxes_per_class", {})
    if rare := [name for name in record.classes if objects.get(name, FEW_OBJECTS) < FEW_OBJECTS]:
        yield f"Fewer than {FEW_OBJECTS} test objects: {enumerate_names(rare)}."
    if weak := _weakest(record):
        yield weak
    small, large = metrics.get("APS"), metrics.get("APL") or metrics.get("APM")
    if small is not None and large and small < large / 2:
        yield (
            f"AP of small objects (below 32 x 32 pixels) is {points(small)}, of larger ones "
            f"{points(large)}."
        )
    if "val" not in (dataset.splits if dataset else ()):
        yield (
            "No validation split was held out. If settings were chosen by AP on the test split, "
            "the AP above is too high."
        )
    if measured.problem:
        yield "The uncertainty of AP is unknown."


def _weakest(record: CardRecord) -> str:
    values = {
        name: content["AP"]
        for name, content in record.metrics.get("per_class", {}).items()
        if content.get("AP") is not None
    }
    if len(values) < 2:
        return ""
    name = min(values, key=lambda key: values[key])
    return f"Its weakest class is {name}, with AP {points(values[name])}."
