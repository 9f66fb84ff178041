"""DeFeat's presets, warm-up and adaptation layers."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from kd.config.library import Library
from kd.config.terms import method_of, resolve
from kd.methods.features.defeat import DeFeat
from kd.observers import Channels, Progress
from tests.methods.features.defeat.defeat_scene import (
    ONE_CELL,
    batch_of,
    golden,
    losses,
    random_models,
    view,
)
from tests.support.paths import CONFIGS

torch.set_num_threads(1)


@pytest.mark.parametrize(("step", "rate"), [(0, 0), (500, 0.25), (2000, 1), (9000, 1)])
def test_weights_rise_over_the_warm_up(step, rate):
    batch = replace(batch_of([ONE_CELL]), progress=Progress(step))
    terms = losses(golden(), batch, warmup_steps=2000)
    assert terms["loss_defeat_object"][0].item() == pytest.approx(5 * rate)


READ = {
    "defeat": {"neck"},
    "defeat_object": {"neck"},
    "defeat_background": {"neck"},
    "defeat_all": {"neck"},
    "defeat_voc": {"neck"},
    "defeat_backbone": {"neck", "stages"},
    "defeat_up": {"neck", "stages"},
    "defeat_cls": {"neck", "candidates", "rois"},
    "defeat_cls_all": {"neck", "candidates", "rois"},
    "defeat_full": {"neck", "stages", "candidates", "rois"},
    "defeat_head": {"candidates", "rois"},
    "defeat_head_all": {"candidates", "rois"},
    "defeat_head_positive": {"candidates", "rois"},
    "defeat_head_negative": {"candidates", "rois"},
}


@pytest.mark.parametrize("preset", READ)
def test_presets_read_what_their_terms_need(preset):
    (settings,) = resolve(preset, {}, "faster_rcnn", Library(CONFIGS), "tests").values()
    assert settings["method"] == "defeat"
    assert method_of(settings).needs.both == READ[preset]


def test_every_preset_is_tested():
    presets = Library(CONFIGS).presets.items()
    assert {name for name, preset in presets if preset.method == "defeat"} | {
        "defeat"
    } == READ.keys()


def test_layers_start_small_and_all_of_them_learn():
    widths = Channels([3, 3], [4]), Channels([5, 5], [4])
    layers = nn.ModuleDict(DeFeat().adapters(*widths))
    weights = layers["level0"].weight
    assert weights.shape == (5, 3, 3, 3) and 5e-5 < weights.std() < 1e-4
    assert weights.abs().max() < 2e-4
    student, _ = random_models()
    teacher = view([torch.randn(2, 5, size, size) for size in (8, 4)], [8, 16])
    terms = losses((student, teacher), batch_of([[], []]), layers)
    sum(sum(part) for part in terms.values()).backward()
    assert all(parameter.grad.ne(0).any() for parameter in layers.parameters())
