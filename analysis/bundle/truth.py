"""Ground truth in a bundle: the annotations that results were measured on, without images."""

import gzip
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis.bundle.archive import Member, packed_json
from analysis.bundle.crate import DatasetFacts
from kd.common.errors import UserError
from kd.common.files import uncollected
from kd.common.results import results_folder
from kd.config.composed import read_config
from kd.config.library import Library
from kd.data.entry import SplitName
from kd.data.readers import GroundTruth, read_split
from kd.evaluation.evaluate import DETECTIONS
from kd.records import inputs


@dataclass
class SplitTruths:
    """Ground truth of the splits of a study's data sets; each is read once."""

    library: Library
    splits: dict[tuple[str, SplitName], GroundTruth] = field(default_factory=dict)

    def add(self, run: Path, split: SplitName) -> None:
        """Read the split that a run's detections were measured on.

        UserError if the data are absent, or if detections or metrics are those of another version.
        """
        name, dataset = inputs.entry_of(read_config(run), run, split, self.library)
        if (name, split) not in self.splits:
            with uncollected():
                self.splits[name, split] = read_split(dataset, split)
        truth, folder = self.splits[name, split], results_folder(run, split)
        now = inputs.of_evaluation(run, folder / DETECTIONS, truth.fingerprint, "evaluation", split)
        if problem := inputs.changes(inputs.recorded(folder, "evaluation"), now):
            option = f" --split {split}" if split != "test" else ""
            raise UserError(
                f"{folder / 'metrics.json'}: {problem}; evaluate again: kd evaluate {run}{option}"
            )

    def facts(self, dataset: str, train: str) -> DatasetFacts:
        """Return the license of a data set, and the fingerprints of its splits.

        ``train``: fingerprint of the training split, empty if it was not recorded. The others are
        those of the splits that were read.
        """
        entry = self.library.dataset(dataset, "kd bundle")
        splits: dict[str, str] = {
            split: truth.fingerprint
            for (name, split), truth in self.splits.items()
            if name == dataset
        }
        trained = {"train": train} if train else {}
        return DatasetFacts(dataset, entry.license, trained | splits)

    def members(self) -> list[Member]:
        """Return a file for each split, a COCO dict."""
        return [
            Member(truth_file(name, split).as_posix(), packed_json(truth.coco))
            for (name, split), truth in self.splits.items()
        ]


def truth_file(dataset: str, split: SplitName) -> Path:
    """Return the place of a split's ground truth in a bundle."""
    return Path("truth", f"{dataset}-{split}.json.gz")


def read_truth(path: Path) -> dict[str, Any]:
    """Return the ground truth in a file of a bundle; UserError for one that is no COCO dict."""
    try:
        content = json.loads(gzip.decompress(path.read_bytes()))
    except FileNotFoundError:
        raise UserError(f"{path}: not in the bundle; get the bundle again") from None
    except (OSError, EOFError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); get the bundle again") from None
    if not isinstance(content, dict) or not content.keys() >= {"images", "annotations"}:
        raise UserError(f"{path}: no COCO annotations; get the bundle again")
    return content
