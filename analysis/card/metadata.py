"""YAML front matter of a model card, in the form of Hugging Face's metadata."""

from typing import Any, NamedTuple

import yaml

from analysis.card.record import CardRecord
from kd.common.errors import UserError

UNKNOWN = "unknown"
"""License of weights whose author has not stated one."""
METRIC_NAMES = {
    "AP": "AP (IoU 0.50 to 0.95)",
    "AP50": "AP50 (IoU 0.50)",
    "AP75": "AP75 (IoU 0.75)",
    "APS": "AP of small objects",
    "APM": "AP of medium objects",
    "APL": "AP of large objects",
    "AR100": "AR (100 detections per image)",
    "VOC07": "mAP (IoU 0.50, VOC 2007)",
}
"""COCO's metrics by their keys in ``metrics.json``."""
DIGITS = 4
FENCE = "---"


class CardOptions(NamedTuple):
    """Facts on the weights that a run does not record."""

    license: str | None = None
    """Identifier of the license of the weights, such as ``apache-2.0``."""
    datasets: tuple[str, ...] = ()
    """Identifiers of the data set on the hub."""
    use: str | None = None
    """Text on the use of the files beside the card; None for those of a run."""


def front_matter(record: CardRecord, options: CardOptions) -> str:
    """Return the metadata between two fences."""
    text = yaml.safe_dump(metadata(record, options), sort_keys=False, allow_unicode=True)
    return f"{FENCE}\n{text}{FENCE}\n"


def metadata(record: CardRecord, options: CardOptions) -> dict[str, Any]:
    """Return the metadata as plain data. Metrics are from 0 to 1."""
    parts = record.parts
    tags = ["object-detection", "mmdetection", "kd-detection", parts["detector"]]
    if record.distilled:
        tags += ["knowledge-distillation", *parts["method"].split("+")]
    dataset = {"name": parts["dataset"], "type": parts["dataset"], "split": "test"}
    return {
        "license": options.license or UNKNOWN,
        "library_name": "mmdet",
        "pipeline_tag": "object-detection",
        "tags": list(dict.fromkeys(tags)),
        **({"datasets": list(options.datasets)} if options.datasets else {}),
        "metrics": ["mean_average_precision"],
        "model-index": [
            {
                "name": record.title,
                "results": [
                    {
                        "task": {"type": "object-detection", "name": "Object detection"},
                        "dataset": dataset,
                        "metrics": list(_metrics(record)),
                    }
                ],
            }
        ],
    }


def _metrics(record: CardRecord) -> list[dict[str, Any]]:
    """Return each defined metric; UserError if there is none, as without a test object."""
    values = {key: record.metrics.get(key) for key in METRIC_NAMES}
    defined = {key: value for key, value in values.items() if value is not None}
    if not defined:
        raise UserError(
            f"{record.directory / 'metrics.json'}: AP is undefined, because the test split has no "
            "object; a model card needs measured metrics"
        )
    return [
        {"type": "mean_average_precision", "name": METRIC_NAMES[key], "value": round(value, DIGITS)}
        for key, value in defined.items()
    ]
