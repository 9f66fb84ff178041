"""Regions of methods: the maps, boxes and crops in their places, the files, and the messages."""

import numpy as np
import pandas as pd
import pytest
import torch

from analysis.figures.analyze import analyze
from analysis.figures.regions.analysis import Regions
from analysis.figures.regions.compute import RegionImage, compute_tables
from analysis.figures.regions.plot import plot
from kd.common.errors import UserError
from kd.config.library import Library
from kd.methods.base import Focus
from tests.support.tiny_detectors import save_random_weights

MEAN, STD = np.array([120.0, 110.0, 100.0]), np.array([50.0, 60.0, 70.0])
MASK = Focus(maps={"stride 8": torch.eye(2)}, quantity="object mask")


def region_image(**focus: Focus) -> RegionImage:
    """Return an image of 32 x 48 pixels with one object."""
    image = np.full((32, 48, 3), 0.5)
    return RegionImage(image, MEAN, STD, np.array([[8.0, 4.0, 24.0, 20.0]]), focus)


def panels_and_scales(**images: RegionImage):
    """Return the panels of a picture by title, and the labels of its color scales."""
    panels = {axes.get_title(): axes for axes in plot(images).axes if axes.get_title()}
    return panels, [axes.get_ylabel() for axes in plot(images).axes if axes.get_ylabel()]


def test_each_region_has_a_panel_with_the_object():
    boxes = {"proposals": torch.tensor([[0, 0, 9, 9.0]])}
    focus = Focus(maps=MASK.maps, boxes=boxes, quantity="object mask")
    panels, scales = panels_and_scales(PFI=region_image(PFI=focus))
    assert list(panels) == ["image", "stride 8", "proposals (1)"]
    assert [len(axes.patches) for axes in panels.values()] == [1, 1, 2]
    assert scales == ["object mask"]
    truth = panels["stride 8"].patches[0]
    assert (truth.get_xy(), truth.get_width(), truth.get_height()) == ((7.5, 3.5), 16, 16)


def test_a_map_covers_the_padded_image_cell_by_cell():
    axes = panels_and_scales(PFI=region_image(PFI=MASK))[0]["stride 8"]
    image, overlay = axes.images
    assert image.get_size() == (32, 48)
    assert overlay.get_extent() == [-0.5, 47.5, 31.5, -0.5]
    assert np.array_equal(overlay.get_array(), np.eye(2))


def test_all_maps_of_a_method_share_one_color_scale_and_an_empty_one_says_so():
    maps = {"stride 8": torch.tensor([[0, 3.0]]), "stride 16": torch.zeros(1, 1)}
    panels, scales = panels_and_scales(FGFI=region_image(FGFI=Focus(maps=maps, quantity="mask")))
    overlays = [panels[name].images[1] for name in maps]
    assert [overlay.get_clim() for overlay in overlays] == [(0, 3), (0, 3)]
    assert len(scales) == 1
    texts = [[text.get_text() for text in panels[name].texts] for name in maps]
    assert texts == [[], ["no cell"]]


def test_crops_are_denormalized():
    pixels = torch.tensor([255.0, 0.0, 100.0])
    crop = ((pixels - torch.tensor(MEAN)) / torch.tensor(STD))[None, :, None, None]
    focus = Focus(crops={"objects": crop.expand(3, 3, 4, 4)})
    (sheet,) = panels_and_scales(DICOD=region_image(DICOD=focus))[0]["crops of objects (3)"].images
    assert sheet.get_size() == (12, 12)  # two by two, with a border
    assert np.allclose(sheet.get_array()[1, 1], [1, 0, 100 / 255])
    assert np.allclose(sheet.get_array()[7, 7], 1)  # the place of a fourth crop


def test_titles_name_the_term_if_there_are_several():
    panels, scales = panels_and_scales(sum=region_image(RM=MASK, PFI=MASK))
    assert list(panels) == ["image", "RM: stride 8", "PFI: stride 8"]
    assert scales == ["RM: object mask", "PFI: object mask"]


def test_every_run_has_a_block_and_a_key_names_the_colors():
    boxes = Focus(boxes={"proposals": torch.zeros(70, 4)})
    figure = plot({"PFI": region_image(PFI=MASK), "Mimic": region_image(Mimic=boxes)})
    key, *blocks = figure.subfigs
    assert [part.get_suptitle() for part in blocks] == ["PFI", "Mimic"]
    assert blocks[1].axes[1].get_title() == "proposals (60 of 70)"
    entries = [text.get_text() for text in key.legends[0].get_texts()]
    assert entries == ["object (ground truth)", "box that the method uses"]


def test_tables_count_the_regions_and_list_all_boxes():
    focus = Focus(
        maps=MASK.maps,
        boxes={"proposals": torch.tensor([[0, 1, 2, 3.0]]).expand(70, 4)},
        crops={"objects": torch.zeros(5, 3, 4, 4)},
        quantity="object mask",
    )
    tables = compute_tables({"A": region_image(A=focus)})
    regions = tables["regions"].set_index("region")
    assert list(regions["kind"]) == ["map", "boxes", "crops"]
    assert list(regions["count"][1:]) == [70, 5]
    first = regions.loc["stride 8"]
    assert (first["quantity"], first["rows"], first["columns"]) == ("object mask", 2, 2)
    assert (first["nonzero"], first["lowest"], first["mean"], first["highest"]) == (2, 0, 0.5, 1)
    assert tables["regions-boxes"][["x1", "y1", "x2", "y2"]].drop_duplicates().to_numpy().tolist() \
        == [[0, 1, 2, 3]]  # fmt: skip
    assert len(tables["regions-boxes"]) == 70


def test_runs_of_methods_are_drawn_on_the_same_pixels_and_others_are_left_out(study, tmp_path):
    plan = study(["rm+pfi", "fgfi"])
    runs = list(plan.runs.values())
    for run in runs:
        run.write()
        save_random_weights(run.composed.student, run.directory)
    directories = [run.directory for run in runs]
    paths = analyze(Regions(image=3), directories, tmp_path, Library())
    assert {path.name for path in paths} == set(Regions.files())
    regions = pd.read_csv(tmp_path / "regions.csv")
    assert list(regions.groupby("run", sort=False)["term"].unique().map(list)) == [
        ["RM", "PFI"], ["FGFI"]
    ]  # fmt: skip
    assert (tmp_path / "caption.md").read_text().splitlines()[2].startswith("Training image 3.")
    with pytest.raises(UserError, match="image 10: the training set has images 0 to 9"):
        analyze(Regions(image=10), directories, tmp_path, Library())
    alone = [run.directory for run in runs if not run.method]
    with pytest.raises(UserError, match="none of the runs was trained with a method"):
        analyze(Regions(), alone, tmp_path, Library())
