"""Pictures of `kd draw`: the maps, boxes and crops of a method in their places."""

from pathlib import Path

import numpy as np
import pytest
import torch

from analysis.figures.focus.compute import FocusImage, compute_focus
from analysis.figures.focus.plot import plot, plot_study
from kd.common.errors import UserError
from kd.methods.base import Focus
from kd.training.train import train

MEAN, STD = np.array([120.0, 110.0, 100.0]), np.array([50.0, 60.0, 70.0])


def focus_image(**focus: Focus) -> FocusImage:
    """Return an image of 32 x 48 pixels with one object."""
    image = np.full((32, 48, 3), 0.5)
    return FocusImage(image, MEAN, STD, np.array([[8.0, 4.0, 24.0, 20.0]]), focus)


def panels(image: FocusImage) -> dict[str, object]:
    return {axes.get_title(): axes for axes in plot(image, "title").axes if axes.get_title()}


def test_each_region_has_a_panel_with_the_object():
    focus = Focus(maps={"mask": torch.eye(2)}, boxes={"chosen": torch.tensor([[0, 0, 9, 9.0]])})
    by_title = panels(focus_image(pfi=focus))
    assert list(by_title) == ["ground truth", "mask", "chosen"]
    assert [len(axes.patches) for axes in by_title.values()] == [1, 1, 2]
    truth = by_title["mask"].patches[0]
    assert (truth.get_xy(), truth.get_width(), truth.get_height()) == ((7.5, 3.5), 16, 16)


def test_a_map_covers_the_padded_image_cell_by_cell():
    axes = panels(focus_image(pfi=Focus(maps={"mask": torch.eye(2)})))["mask"]
    image, overlay = axes.images
    assert image.get_size() == (32, 48)
    assert overlay.get_extent() == [-0.5, 47.5, 31.5, -0.5]
    assert np.array_equal(overlay.get_array(), np.eye(2))
    assert overlay.get_clim() == (0, 1)


def test_crops_are_denormalized():
    pixels = torch.tensor([255.0, 0.0, 100.0])
    crop = ((pixels - torch.tensor(MEAN)) / torch.tensor(STD))[None, :, None, None]
    axes = panels(focus_image(dicod=Focus(crops={"crops": crop.expand(3, 3, 4, 4)})))["crops"]
    (sheet,) = axes.images
    assert sheet.get_size() == (12, 12)  # two by two, with a border
    assert np.allclose(sheet.get_array()[1, 1], [1, 0, 100 / 255])
    assert np.allclose(sheet.get_array()[7, 7], 1)  # the place of a fourth crop


def test_titles_name_the_term_if_there_are_several():
    focus = Focus(maps={"mask": torch.eye(2)})
    assert list(panels(focus_image(rm=focus, pfi=focus))) == [
        "ground truth",
        "rm: mask",
        "pfi: mask",
    ]


def test_trained_runs_are_drawn_and_others_are_errors(study, tmp_path):
    plan = study(["pfi", "fgfi"])
    with pytest.raises(UserError, match="no distilled run of the study has been trained yet"):
        plot_study(plan, tmp_path / "pictures", 0)
    (run,) = [run for run in plan.runs.values() if run.method == "pfi"]
    run.write()
    train(run.directory)
    plot_study(plan, tmp_path / "pictures", 0)
    assert [path.name for path in Path(tmp_path / "pictures").iterdir()] == ["pfi.png"]
    image = compute_focus(run.directory, 3)
    assert image.pixels.shape == (64, 64, 3)
    assert 0 <= image.pixels.min() < image.pixels.max() <= 1
    assert image.focus["pfi"].maps
    with pytest.raises(UserError, match="image 10: the training set has images 0 to 9"):
        compute_focus(run.directory, 10)
    run.teacher.write()
    with pytest.raises(UserError, match="trained without a method"):
        compute_focus(run.teacher.directory)
