"""Published detectors of ``configs/zoo.yaml`` fit the detectors that they are listed with."""

import json
from functools import cache

import pytest
from mmengine.config import Config

from docs.build.zoo.entries import Composer, entry
from kd.config.compose import compose
from kd.config.library import Library
from kd.config.run import Run
from kd.config.zoo.entries import DATASET, PublishedDetectors
from kd.models.fidelity.compare import compare
from tests.support.paths import CONFIGS

LIBRARY = Library(CONFIGS)
DETECTORS = PublishedDetectors(LIBRARY)
FOLDERS = sorted({DETECTORS.line(name).folder for name in DETECTORS.entries})
EXACT = [name for name, zoo_entry in DETECTORS.entries.items() if not zoo_entry.differs]
CHOICES = ("data.batch_sampler", "data.training.0.filter.min_size")
"""Settings that differ from mmdet's in every training; docs/reference/fidelity.md has reasons."""
INITIAL = ("model.backbone.init_cfg", "model.backbone.frozen_stages", "model.backbone.norm_eval")
"""Initial weights, with what they freeze; entries with other ones have a remark."""
OF_DETECTORS = {
    "rtmdet": (
        *("model.data_preprocessor.pad_size_divisor", "model.neck.norm_cfg.type"),
        *("model.bbox_head.norm_cfg.type", "training.Mosaic", "training.MixUp"),
        "schedule.paramwise_cfg.bypass_duplicate",
    ),
    "yolox": ("schedule.decay.T_max", "schedule.hooks"),
}
"""Settings of the same meaning that are written differently."""


@cache
def composer() -> Composer:
    return Composer(LIBRARY)


@pytest.mark.parametrize("folder", FOLDERS)
def test_entries_equal_mmdets_configurations(quiet_mmdet: None, folder: str) -> None:
    for name, zoo_entry in DETECTORS.entries.items():
        line = DETECTORS.line(name)
        if line.folder != folder:
            continue
        network = composer().network(zoo_entry.detector, zoo_entry.backbone)
        settings = entry(Config.fromfile(str(line.config)), LIBRARY, network)
        assert settings == zoo_entry.model_dump(exclude_defaults=True), name


@pytest.mark.parametrize("name", EXACT)
def test_trainings_of_exact_entries_equal_mmdets(quiet_mmdet: None, name: str) -> None:
    zoo_entry = DETECTORS.entries[name]
    run = Run("paper", DATASET, zoo_entry.schedule, zoo_entry.detector, zoo_entry.backbone, seed=0)
    init = None if LIBRARY.backbone(run.student, "test")[0].imagenet else "scratch"
    config = compose(run, {}, LIBRARY.scale("paper", "test"), LIBRARY, "test", init)
    copy = json.loads(json.dumps(config))
    expected = CHOICES + OF_DETECTORS.get(run.detector, ())
    if zoo_entry.remark:
        expected += INITIAL
    differences = compare(copy, DETECTORS.line(name).config.stem).differences
    assert [one for one in differences if not one.path.startswith(expected)] == []


def test_a_detector_with_an_exact_entry_has_one() -> None:
    """No two entries have the same architecture and schedule, or either would be imported."""
    keys = [(e.detector, e.backbone, e.schedule) for e in map(DETECTORS.entries.get, EXACT) if e]
    assert len(keys) == len({*keys})
