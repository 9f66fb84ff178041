"""Gradient maps: losses made by hand, gradients of a training step, tables and pictures."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from mmengine.model import BaseModel

import analysis.figures.gradient_maps.gradients as module
from analysis.figures.analyze import analyze
from analysis.figures.gradient_maps.analysis import GradientMaps
from analysis.figures.gradient_maps.compute import (
    AnnotatedImage,
    describe_ratios,
    maps,
    means,
    sums,
)
from analysis.figures.gradient_maps.gradients import SETTLED, Gradients, gradients
from analysis.figures.gradient_maps.plot import plot_maps, plot_means
from analysis.figures.networks import RunNetworks, annotated_images
from analysis.plotting.style import BASELINE
from kd.common.errors import UserError
from kd.config.library import Library
from kd.observers import Batch
from tests.analysis.figures.legibility import faults
from tests.analysis.random_runs import add_adapters, write_runs

# --- Gradients -----------------------------------------------------------------------------


class Handmade(SimpleNamespace):
    """Network with two neck levels of ones, and losses of their values."""

    def losses(self):
        fine, _ = self.neck
        corner = 3 * fine[0, 0, 0, 0] + 4 * fine[0, 1, 0, 0]
        return {"loss_cls": corner, "loss_bbox": [fine[0, 1, 1, 1], fine[0, 1, 1, 1]], "acc": fine}


def test_the_norm_is_over_channels_and_zero_for_an_unused_map(monkeypatch):
    box = SimpleNamespace(bboxes=torch.tensor([[0.0, 0, 8, 8]]), labels=torch.zeros(1))
    batch = Batch(torch.zeros(1, 3, 16, 16), [SimpleNamespace(gt_instances=box)])
    neck = [torch.ones(1, 2, size, size, requires_grad=True) for size in (2, 1)]
    observation = Handmade(neck=neck, stages=[], strides=[8, 16])
    monkeypatch.setattr(module, "observe", lambda detector, batch, frozen: observation)
    model = SimpleNamespace(parse_losses=lambda losses: BaseModel.parse_losses(None, losses))
    run = SimpleNamespace(
        detector=None, model=model, check_adapters=lambda: None, batch=lambda sample: batch
    )
    image_gradients = gradients(run, {})
    assert list(image_gradients.norms) == ["total", "detection"]
    for fine, coarse in image_gradients.norms.values():
        assert fine.tolist() == [[5, 0], [0, 2]]
        assert coarse.tolist() == [[0]]
    assert [level.tolist() for level in image_gradients.objects] == [
        [[True, False], [False, False]],
        [[True]],
    ]
    assert image_gradients.strides == [8, 16]


@pytest.fixture
def distilled(study):
    """Return a function that loads a run of methods with random weights."""

    def load(methods, family="retinanet", settings=None):
        _, students = write_runs(study([methods], settings, detectors=(family,)), adapters=True)
        return RunNetworks.load(next(path for path in students if methods in str(path)))

    return load


@pytest.mark.parametrize(
    ("methods", "family"),
    [
        ("rm+fitnets", "retinanet"),
        ("defeat_full", "faster_rcnn"),
        ("fitnets", "cascade_rcnn"),
        ("fitnets", "ssd300"),
        ("fitnets", "yolov3"),
    ],
)
def test_the_total_is_the_gradient_of_a_training_step_on_the_neck(distilled, methods, family):
    run = distilled(methods, family)
    (sample,) = annotated_images(run.directory, 1, 0, "train")
    image_gradients = gradients(run, sample, seed=5)
    neck_levels: list[torch.Tensor] = []

    def retain(neck, inputs, levels):
        neck_levels.extend(levels)
        for level in levels:
            level.retain_grad()

    run.detector.requires_grad_(True)
    run.detector.neck.register_forward_hook(retain)
    batch = run.batch(sample)
    run.model.progress = SETTLED
    torch.manual_seed(5)
    losses = run.model(batch.inputs, batch.samples, "loss")
    run.model.parse_losses(losses)[0].backward()
    for level, norms in zip(neck_levels, image_gradients.norms["total"], strict=True):
        gradient = torch.zeros_like(level) if level.grad is None else level.grad
        np.testing.assert_allclose(norms, gradient[0].norm(dim=0), rtol=1e-4, atol=1e-7)
    assert set(image_gradients.norms) == {"total", "detection", "distillation"} | set(
        run.model.distilled
    )


def test_sampled_rois_depend_on_the_seed(distilled):
    run = distilled("soft_labels", "faster_rcnn")
    (sample,) = annotated_images(run.directory, 1, 0, "train")
    first, second, other = (gradients(run, sample, seed).norms["total"] for seed in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_a_loss_on_the_backbone_has_no_gradient_in_the_neck(distilled):
    settings = {"chen": {"hint": "stages"}}
    run = distilled("chen", settings=settings)
    (sample,) = annotated_images(run.directory, 1, 0, "train")
    image_gradients = gradients(run, sample).norms
    assert not any(level.any() for level in image_gradients["loss_chen_hint"])
    assert any(level.any() for level in image_gradients["distillation"])


def test_the_backbone_has_no_graph_and_parameters_have_no_gradient(distilled, monkeypatch):
    run = distilled("rm")
    observations = []
    observe = module.observe

    def recorded(detector, batch, frozen):
        observations.append(observe(detector, batch, frozen=frozen))
        return observations[-1]

    monkeypatch.setattr(module, "observe", recorded)
    (sample,) = annotated_images(run.directory, 1, 0, "train")
    gradients(run, sample)
    assert all(stage.is_leaf for stage in observations[0].stages)
    assert all(parameter.grad is None for parameter in run.model.parameters())


# --- Tables --------------------------------------------------------------------------------


def image_gradients(total, objects, distillation=None):
    """Return gradients of an image with one level of stride 8."""
    norms = {"total": total, "detection": total}
    if distillation:
        norms |= {"distillation": distillation, "loss_fitnets": distillation}
    return Gradients(
        {term: [np.array(values, dtype=np.float32)] for term, values in norms.items()},
        [np.array(objects, dtype=bool)],
        [8],
    )


def test_means_are_over_the_cells_of_all_images():
    first = image_gradients([[6, 1], [2, 3]], [[1, 0], [0, 0]])
    second = image_gradients([[2, 4], [0, 0]], [[1, 1], [0, 0]])
    frame = means(pd.concat([sums("Student", first), sums("Student", second)]))
    assert frame["term"].tolist() == ["total", "detection"]
    total = frame.iloc[0]
    assert (total["objects"], total["background"]) == (12 / 3, 6 / 5)
    assert total["ratio"] == pytest.approx(10 / 3)
    assert (total["object_cells"], total["background_cells"]) == (3, 5)
    assert describe_ratios(frame).endswith("by level: Student 3.3.")


def test_undefined_means_and_ratios_are_nan():
    covered = means(sums("Student", image_gradients([[1, 1]], [[1, 1]], distillation=[[0, 0]])))
    assert covered["background"].isna().all() and covered["ratio"].isna().all()
    assert covered["objects"].tolist() == [1, 1, 0, 0]
    without = means(sums("Student", image_gradients([[1, 1]], [[0, 0]])))
    assert without["objects"].isna().all() and without["background"].tolist() == [1, 1]
    nothing = means(sums("Student", image_gradients([[1, 0]], [[1, 0]])))
    assert nothing["ratio"].isna().all() and nothing["background"].tolist() == [0, 0]
    assert "Student undefined" in describe_ratios(covered)


def test_large_maps_are_stored_as_means_of_blocks():
    total = np.arange(3 * 250, dtype=np.float32).reshape(3, 250)
    large = Gradients({"total": [total]}, [total > 0], [8])
    frame = maps("Student", 7, large)
    assert set(frame["cell"]) == {24} and len(frame) == 84
    grid = frame.pivot(index="y", columns="x", values="total").to_numpy()
    assert grid[0, 0] == total[:, :3].mean() and grid[0, -1] == total[:, 249:].mean()
    assert frame["distillation"].isna().all()
    small = maps("RM", 7, image_gradients([[1, 2]], [[1, 0]], distillation=[[3, 4]]))
    assert small["cell"].tolist() == [8, 8] and small["distillation"].tolist() == [3, 4]


SIX = "6.0\u00b710\u2070"
"""The number 6 as figures print it."""

# --- Figures -------------------------------------------------------------------------------


def annotated_image(*boxes):
    return AnnotatedImage(np.full((8, 16, 3), 0.5), np.array(boxes, dtype=float).reshape(-1, 4))


def test_all_maps_share_one_scale_and_show_the_boxes():
    frame = pd.concat(
        [
            maps("Student", 7, image_gradients([[1, 0]], [[1, 0]])),
            maps("FitNets", 7, image_gradients([[100, 0.5]], [[1, 0]])),
        ]
    )
    upper, lower, scale = plot_maps(frame, {7: annotated_image((0, 0, 8, 8))}).axes
    assert upper.texts[0].get_text() == "Level 0\nstride 8"
    assert [axes.get_title() for axes in (upper, lower)] == ["Student", "FitNets"]
    ticks = [text.get_text() for text in scale.get_xticklabels()]
    assert ticks == ["10\u207b\u00b9", "10\u2070", "10\u00b9", "10\u00b2"]
    for axes in (upper, lower):
        (box,) = axes.patches
        assert (box.get_width(), box.get_height()) == (8, 8)
        assert axes.images[1].norm.vmin == pytest.approx(0.1)
        assert axes.images[1].norm.vmax == 100
        assert axes.images[1].get_extent() == [-0.5, 15.5, 7.5, -0.5]
    np.testing.assert_allclose(upper.images[1].get_array(), [[1, 0.1]])


def test_the_scale_of_a_level_without_gradient_states_this():
    frame = maps("Student", 7, image_gradients([[0, 0]], [[1, 0]]))
    *_, scale = plot_maps(frame, {7: annotated_image()}).axes
    assert scale.get_xlabel() == "no gradient"
    assert not scale.get_xticks().size


def test_titles_of_rows_name_the_image_if_there_are_several():
    frame = pd.concat(
        [maps("Student", name, image_gradients([[1, 2]], [[1, 0]])) for name in (3, 4)]
    )
    first, second, _ = plot_maps(frame, {3: annotated_image(), 4: annotated_image()}).axes
    assert [axes.get_title() for axes in (first, second)] == [
        "Student\nimage 3", "Student\nimage 4",
    ]  # fmt: skip


def test_markers_show_ratios_and_numbers_show_means():
    frame = means(
        pd.concat(
            [
                sums("Student", image_gradients([[6, 2]], [[1, 0]])),
                sums("FitNets", image_gradients([[6, 2]], [[1, 0]], distillation=[[1, 1000]])),
            ]
        )
    )
    (axes,) = plot_means(frame, {"Student": BASELINE, "FitNets": BASELINE}).axes
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names == ["Student", "Total", "Detection", "FitNets", "Total", "Detection", "FitNets"]
    ratios = [line.get_xdata()[0] for line in axes.lines[1:]]
    expected = [math.nan, 3, 3, math.nan, 3, 3, 1 / 30]  # the last is at the edge
    np.testing.assert_allclose(ratios, expected)
    assert axes.get_xlim() == (pytest.approx(1 / 30), pytest.approx(3.9))
    assert [text.get_text() for text in axes.texts] == [
        "mean on\nobjects", "", SIX, SIX, "", SIX, SIX, "1.0\u00b710\u2070",
    ]  # fmt: skip


def test_the_sum_of_several_terms_has_a_row():
    two = image_gradients([[6, 2]], [[1, 0]], distillation=[[1, 1]])
    two.norms["loss_rm_cls"] = two.norms["loss_fitnets"]
    (axes,) = plot_means(means(sums("RM", two)), {"RM": BASELINE}).axes
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names == [
        "RM", "Total", "Detection", "Distillation", "FitNets", "RM: classification",
    ]  # fmt: skip


@pytest.mark.parametrize("number", [2, 13])
def test_pictures_are_legible(number):
    runs = [f"Method {index}" for index in range(number)]
    frame = pd.concat([maps(run, 7, image_gradients([[1, 0]], [[1, 0]])) for run in runs])
    assert not faults(plot_maps(frame, {7: annotated_image((0, 0, 8, 8))}))
    averages = means(pd.concat([sums(run, image_gradients([[6, 2]], [[1, 0]])) for run in runs]))
    assert not faults(plot_means(averages, dict.fromkeys(runs, BASELINE)))


# --- Runs ----------------------------------------------------------------------------------


def test_the_analysis_writes_what_it_declares(study, tmp_path):
    teacher, students = write_runs(study(["fitnets"]), adapters=True)
    settings = GradientMaps(images=3, examples=2)
    written = analyze(settings, [teacher, *students], tmp_path / "out", Library())
    assert {path.name for path in written} == set(GradientMaps.files())
    averages = pd.read_csv(tmp_path / "out" / "gradient_maps-means.csv")
    assert averages[averages["run"] == "Student"]["term"].unique().tolist() == [
        "total",
        "detection",
    ]
    distilled = averages[averages["run"] == "FitNets"]
    assert distilled["term"].unique().tolist() == [
        "total", "detection", "distillation", "loss_fitnets",
    ]  # fmt: skip
    cells = averages["object_cells"] + averages["background_cells"]
    assert cells[averages["level"] == 0].tolist() == [3 * 8 * 8] * 6
    frame = pd.read_csv(tmp_path / "out" / "gradient_maps.csv")
    assert frame.groupby("run")["image"].nunique().tolist() == [2, 2]
    assert frame[frame["run"] == "Student"]["distillation"].isna().all()


def test_untrained_adaptation_layers_are_errors(study, tmp_path):
    _, students = write_runs(study(["fitnets"], {"fitnets": {"adaptation": "1x1"}}))
    settings = GradientMaps(images=1)
    with pytest.raises(UserError, match=r"weights.pth: does not hold the adaptation layers.*again"):
        analyze(settings, students, tmp_path / "out", Library())
    for directory in students:
        add_adapters(directory)
    assert analyze(settings, students, tmp_path / "out", Library())
