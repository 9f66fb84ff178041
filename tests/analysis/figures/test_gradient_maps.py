"""Gradient maps: hand-made losses, the gradients of a whole training step, and the figures."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from mmengine.model import BaseModel

import analysis.figures.gradient_maps.compute as module
from analysis.figures.analyze import analyze
from analysis.figures.gradient_maps.analysis import GradientMaps
from analysis.figures.gradient_maps.compute import SETTLED, Gradients, gradients
from analysis.figures.gradient_maps.plot import (
    Picture,
    maps,
    means,
    plot_maps,
    plot_means,
    sums,
    total_ratios,
)
from analysis.figures.networks import Probe, images
from analysis.plotting.style import BASELINE
from kd.common.errors import UserError
from kd.config.library import Library
from kd.observers import Batch
from tests.analysis.random_runs import add_adapters, write_runs

# --- Gradients -----------------------------------------------------------------------------


class Handmade(SimpleNamespace):
    """A network with two neck levels of ones, and losses of them."""

    def losses(self):
        fine, _ = self.neck
        corner = 3 * fine[0, 0, 0, 0] + 4 * fine[0, 1, 0, 0]
        return {"loss_cls": corner, "loss_bbox": [fine[0, 1, 1, 1], fine[0, 1, 1, 1]], "acc": fine}


def test_the_norm_is_over_channels_and_a_map_that_is_not_read_has_none(monkeypatch):
    box = SimpleNamespace(bboxes=torch.tensor([[0.0, 0, 8, 8]]), labels=torch.zeros(1))
    batch = Batch(torch.zeros(1, 3, 16, 16), [SimpleNamespace(gt_instances=box)])
    neck = [torch.ones(1, 2, size, size, requires_grad=True) for size in (2, 1)]
    seen = Handmade(neck=neck, stages=[], strides=[8, 16])
    monkeypatch.setattr(module, "observe", lambda detector, batch, frozen: seen)
    model = SimpleNamespace(parse_losses=lambda losses: BaseModel.parse_losses(None, losses))
    run = SimpleNamespace(
        detector=None, model=model, check_adapters=lambda: None, batch=lambda sample: batch
    )
    found = gradients(run, {})
    assert list(found.norms) == ["total", "detection"]
    for fine, coarse in found.norms.values():
        assert fine.tolist() == [[5, 0], [0, 2]]
        assert coarse.tolist() == [[0]]
    assert [level.tolist() for level in found.objects] == [
        [[True, False], [False, False]],
        [[True]],
    ]
    assert found.strides == [8, 16]


@pytest.fixture
def distilled(study):
    """Return a run of a detector with random weights that learns by methods."""

    def load(methods, family="retinanet", settings=None):
        _, students = write_runs(study([methods], settings, detectors=(family,)), adapters=True)
        return Probe.load(next(path for path in students if methods in str(path)))

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
def test_the_total_is_what_a_step_of_training_hands_to_the_neck(distilled, methods, family):
    run = distilled(methods, family)
    (sample,) = images(run.directory, 1, 0, "train")
    found = gradients(run, sample, seed=5)
    kept: list[torch.Tensor] = []

    def keep(neck, inputs, levels):
        kept.extend(levels)
        for level in levels:
            level.retain_grad()

    run.detector.requires_grad_(True)
    run.detector.neck.register_forward_hook(keep)
    batch = run.batch(sample)
    run.model.progress = SETTLED
    torch.manual_seed(5)
    losses = run.model(batch.inputs, batch.samples, "loss")
    run.model.parse_losses(losses)[0].backward()
    for level, norms in zip(kept, found.norms["total"], strict=True):
        gradient = torch.zeros_like(level) if level.grad is None else level.grad
        np.testing.assert_allclose(norms, gradient[0].norm(dim=0), rtol=1e-4, atol=1e-7)
    assert set(found.norms) == {"total", "detection", "distillation"} | set(run.model.distilled)


def test_the_same_seed_gives_the_same_and_another_other_rois(distilled):
    run = distilled("soft_labels", "faster_rcnn")
    (sample,) = images(run.directory, 1, 0, "train")
    first, again, other = (gradients(run, sample, seed).norms["total"] for seed in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_a_term_of_the_backbone_has_no_gradient_in_the_neck(distilled):
    settings = {"chen": {"hint": "stages"}}
    run = distilled("chen", settings=settings)
    (sample,) = images(run.directory, 1, 0, "train")
    found = gradients(run, sample).norms
    assert not any(level.any() for level in found["loss_chen_hint"])
    assert any(level.any() for level in found["distillation"])


def test_no_graph_is_kept_of_the_backbone_and_no_parameter_has_a_gradient(distilled, monkeypatch):
    run = distilled("rm")
    seen = []
    real = module.observe

    def kept(detector, batch, frozen):
        seen.append(real(detector, batch, frozen=frozen))
        return seen[-1]

    monkeypatch.setattr(module, "observe", kept)
    (sample,) = images(run.directory, 1, 0, "train")
    gradients(run, sample)
    assert all(stage.is_leaf for stage in seen[0].stages)
    assert all(parameter.grad is None for parameter in run.model.parameters())


# --- Tables --------------------------------------------------------------------------------


def found(total, objects, distillation=None):
    """Return the gradients of an image with one level of stride 8."""
    norms = {"total": total, "detection": total}
    if distillation:
        norms |= {"distillation": distillation, "loss_fitnets": distillation}
    return Gradients(
        {term: [np.array(values, dtype=np.float32)] for term, values in norms.items()},
        [np.array(objects, dtype=bool)],
        [8],
    )


def test_means_are_over_the_cells_of_all_images():
    first = found([[6, 1], [2, 3]], [[1, 0], [0, 0]])
    second = found([[2, 4], [0, 0]], [[1, 1], [0, 0]])
    frame = means(pd.concat([sums("Student", first), sums("Student", second)]))
    assert frame["term"].tolist() == ["total", "detection"]
    total = frame.iloc[0]
    assert (total["objects"], total["background"]) == (12 / 3, 6 / 5)
    assert total["ratio"] == pytest.approx(10 / 3)
    assert (total["object_cells"], total["background_cells"]) == (3, 5)
    assert total_ratios(frame).endswith("by level: Student 3.3.")


def test_what_is_undefined_is_not_a_number():
    covered = means(sums("Student", found([[1, 1]], [[1, 1]], distillation=[[0, 0]])))
    assert covered["background"].isna().all() and covered["ratio"].isna().all()
    assert covered["objects"].tolist() == [1, 1, 0, 0]
    without = means(sums("Student", found([[1, 1]], [[0, 0]])))
    assert without["objects"].isna().all() and without["background"].tolist() == [1, 1]
    nothing = means(sums("Student", found([[1, 0]], [[1, 0]])))
    assert nothing["ratio"].isna().all() and nothing["background"].tolist() == [0, 0]
    assert "Student undefined" in total_ratios(covered)


def test_large_maps_are_stored_as_means_of_blocks():
    total = np.arange(3 * 250, dtype=np.float32).reshape(3, 250)
    large = Gradients({"total": [total]}, [total > 0], [8])
    frame = maps("Student", 7, large)
    assert set(frame["cell"]) == {24} and len(frame) == 84
    grid = frame.pivot(index="y", columns="x", values="total").to_numpy()
    assert grid[0, 0] == total[:, :3].mean() and grid[0, -1] == total[:, 249:].mean()
    assert frame["distillation"].isna().all()
    small = maps("RM", 7, found([[1, 2]], [[1, 0]], distillation=[[3, 4]]))
    assert small["cell"].tolist() == [8, 8] and small["distillation"].tolist() == [3, 4]


# --- Figures -------------------------------------------------------------------------------


def picture(*boxes):
    return Picture(np.full((8, 16, 3), 0.5), np.array(boxes, dtype=float).reshape(-1, 4))


def test_maps_of_a_level_share_one_scale_and_have_the_boxes():
    frame = pd.concat(
        [
            maps("Student", 7, found([[1, 0]], [[1, 0]])),
            maps("FitNets", 7, found([[100, 0.5]], [[1, 0]])),
        ]
    )
    upper, lower, _ = plot_maps(frame, {7: picture((0, 0, 8, 8))}).axes
    assert upper.get_title() == "level 0\nstride 8"
    assert [axes.texts[0].get_text() for axes in (upper, lower)] == ["Student", "FitNets"]
    for axes in (upper, lower):
        (box,) = axes.patches
        assert (box.get_width(), box.get_height()) == (8, 8)
        assert axes.images[1].norm.vmin == pytest.approx(0.1)
        assert axes.images[1].norm.vmax == 100
        assert axes.images[1].get_extent() == [-0.5, 15.5, 7.5, -0.5]
    np.testing.assert_allclose(upper.images[1].get_array(), [[1, 0.1]])


def test_a_level_without_gradient_says_so():
    frame = maps("Student", 7, found([[0, 0]], [[1, 0]]))
    *_, scale = plot_maps(frame, {7: picture()}).axes
    assert scale.get_xlabel() == "no gradient"
    assert not scale.get_xticks().size


def test_rows_of_several_images_are_told_apart():
    frame = pd.concat([maps("Student", name, found([[1, 2]], [[1, 0]])) for name in (3, 4)])
    first, second, _ = plot_maps(frame, {3: picture(), 4: picture()}).axes
    assert [axes.texts[0].get_text() for axes in (first, second)] == [
        "Student\nimage 3", "Student\nimage 4",
    ]  # fmt: skip


def test_means_are_drawn_as_ratios_with_the_mean_beside():
    frame = means(
        pd.concat(
            [
                sums("Student", found([[6, 2]], [[1, 0]])),
                sums("FitNets", found([[6, 2]], [[1, 0]], distillation=[[1, 1000]])),
            ]
        )
    )
    (axes,) = plot_means(frame, {"Student": BASELINE, "FitNets": BASELINE}).axes
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names == ["Student", "total", "detection", "FitNets", "total", "detection", "fitnets"]
    shown = [line.get_xdata()[0] for line in axes.lines[1:]]
    expected = [math.nan, 3, 3, math.nan, 3, 3, 1 / 30]  # the last is at the edge
    np.testing.assert_allclose(shown, expected)
    assert axes.get_xlim() == (pytest.approx(1 / 30), pytest.approx(30))
    assert [text.get_text() for text in axes.texts] == [
        "", "6.0e0", "6.0e0", "", "6.0e0", "6.0e0", "1.0e0",
    ]  # fmt: skip


def test_the_sum_of_several_terms_has_a_line_of_its_own():
    two = found([[6, 2]], [[1, 0]], distillation=[[1, 1]])
    two.norms["loss_rm_cls"] = two.norms["loss_fitnets"]
    (axes,) = plot_means(means(sums("RM", two)), {"RM": BASELINE}).axes
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names == ["RM", "total", "detection", "distillation", "fitnets", "rm cls"]


# --- Runs ----------------------------------------------------------------------------------


def test_the_analysis_writes_what_it_declares(study, tmp_path):
    teacher, students = write_runs(study(["fitnets"]), adapters=True)
    settings = GradientMaps(images=3, shown=2)
    written = analyze(settings, [teacher, *students], tmp_path / "out", Library())
    assert {path.name for path in written} == set(GradientMaps.files())
    averages = pd.read_csv(tmp_path / "out" / "gradient_maps-means.csv")
    assert averages[averages["run"] == "Student"]["term"].unique().tolist() == [
        "total",
        "detection",
    ]
    learned = averages[averages["run"] == "FitNets"]
    assert learned["term"].unique().tolist() == [
        "total", "detection", "distillation", "loss_fitnets",
    ]  # fmt: skip
    cells = averages["object_cells"] + averages["background_cells"]
    assert cells[averages["level"] == 0].tolist() == [3 * 8 * 8] * 6
    frame = pd.read_csv(tmp_path / "out" / "gradient_maps.csv")
    assert frame.groupby("run")["image"].nunique().tolist() == [2, 2]
    assert frame[frame["run"] == "Student"]["distillation"].isna().all()


def test_layers_that_are_not_those_of_the_training_are_refused(study, tmp_path):
    _, students = write_runs(study(["fitnets"], {"fitnets": {"adaptation": "1x1"}}))
    settings = GradientMaps(images=1)
    with pytest.raises(UserError, match=r"weights.pth: does not hold the adaptation layers.*again"):
        analyze(settings, students, tmp_path / "out", Library())
    for directory in students:
        add_adapters(directory)
    assert analyze(settings, students, tmp_path / "out", Library())
