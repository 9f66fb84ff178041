"""What `kd draw` shows: every map, box and crop of a method, where it belongs."""

from pathlib import Path

import numpy as np
import pytest
import torch

from analysis.figures.focus.compute import View, view
from analysis.figures.focus.plot import draw, plot
from kd.common.errors import UserError
from kd.methods.base import Focus
from kd.training.train import train

MEAN, STD = np.array([120.0, 110.0, 100.0]), np.array([50.0, 60.0, 70.0])


def seen(**found: Focus) -> View:
    """Return an image of 32 x 48 pixels with one object."""
    image = np.full((32, 48, 3), 0.5)
    return View(image, MEAN, STD, np.array([[8.0, 4.0, 24.0, 20.0]]), found)


def panels(shown: View) -> dict[str, object]:
    return {axes.get_title(): axes for axes in plot(shown, "title").axes if axes.get_title()}


def test_there_is_a_panel_for_everything_and_the_object_is_in_each():
    focus = Focus(maps={"mask": torch.eye(2)}, boxes={"chosen": torch.tensor([[0, 0, 9, 9.0]])})
    found = panels(seen(pfi=focus))
    assert list(found) == ["ground truth", "mask", "chosen"]
    assert [len(axes.patches) for axes in found.values()] == [1, 1, 2]
    truth = found["mask"].patches[0]
    assert (truth.get_xy(), truth.get_width(), truth.get_height()) == ((7.5, 3.5), 16, 16)


def test_a_map_covers_the_padded_image_cell_by_cell():
    axes = panels(seen(pfi=Focus(maps={"mask": torch.eye(2)})))["mask"]
    image, overlay = axes.images
    assert image.get_size() == (32, 48)
    assert overlay.get_extent() == [-0.5, 47.5, 31.5, -0.5]
    assert np.array_equal(overlay.get_array(), np.eye(2))
    assert overlay.get_clim() == (0, 1)


def test_crops_are_shown_with_their_normalisation_undone():
    pixels = torch.tensor([255.0, 0.0, 100.0])
    crop = ((pixels - torch.tensor(MEAN)) / torch.tensor(STD))[None, :, None, None]
    axes = panels(seen(dicod=Focus(crops={"crops": crop.expand(3, 3, 4, 4)})))["crops"]
    (sheet,) = axes.images
    assert sheet.get_size() == (12, 12)  # two by two, with a border
    assert np.allclose(sheet.get_array()[1, 1], [1, 0, 100 / 255])
    assert np.allclose(sheet.get_array()[7, 7], 1)  # where a fourth would be


def test_terms_are_told_apart_where_there_are_several():
    focus = Focus(maps={"mask": torch.eye(2)})
    assert list(panels(seen(rm=focus, pfi=focus))) == ["ground truth", "rm: mask", "pfi: mask"]


def test_a_trained_run_is_drawn_and_others_are_refused(study, tmp_path):
    plan = study(["pfi", "fgfi"])
    with pytest.raises(UserError, match="no distilled run of the study has been trained yet"):
        draw(plan, tmp_path / "pictures", 0)
    (run,) = [run for run in plan.runs.values() if run.method == "pfi"]
    run.write()
    train(run.directory)
    draw(plan, tmp_path / "pictures", 0)
    assert [path.name for path in Path(tmp_path / "pictures").iterdir()] == ["pfi.png"]
    shown = view(run.directory, 3)
    assert shown.image.shape == (64, 64, 3)
    assert 0 <= shown.image.min() < shown.image.max() <= 1
    assert shown.found["pfi"].maps
    with pytest.raises(UserError, match="image 10: the training set has images 0 to 9"):
        view(run.directory, 10)
    run.teacher.write()
    with pytest.raises(UserError, match="trained without a method"):
        view(run.teacher.directory)
