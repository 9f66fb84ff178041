"""Distances by channel: maps made by hand, networks of every family, tables and picture."""

import math
import weakref
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import analysis.figures.channel_distance.compute as module
from analysis.figures.analyze import analyze
from analysis.figures.channel_distance.analysis import ChannelDistance
from analysis.figures.channel_distance.compute import (
    Distances,
    channel_distances,
    describe_changes,
    level_adapters,
    means,
    table,
)
from analysis.figures.channel_distance.plot import plot
from analysis.figures.networks import RunNetworks, annotated_images
from analysis.plotting.style import BASELINE, look
from kd.common.errors import UserError
from kd.config.library import Library
from kd.observers import Batch, observe
from tests.analysis.figures.legibility import faults
from tests.analysis.random_runs import write_runs

FAMILIES = ["retinanet", "gfl", "fcos", "atss", "ssd300", "yolov3", "faster_rcnn", "cascade_rcnn"]


def network(maps, name="student"):
    """Return networks whose neck for image i is the map ``maps[i]`` (C, H, W), of stride 8."""
    return SimpleNamespace(directory=Path(name), detector=maps, batch=lambda sample: sample)


def image(index, *boxes):
    """Return image ``index`` with objects, xyxy in pixels."""
    objects = SimpleNamespace(bboxes=torch.tensor(boxes), labels=torch.zeros(len(boxes)))
    sample = SimpleNamespace(gt_instances=objects, index=index)
    return Batch(torch.zeros(1, 3, 16, 16), [sample])


@pytest.fixture
def handmade(monkeypatch):
    """Replace ``observe`` by a function for the networks of ``network``."""

    def observed(detector, batch, frozen):
        assert frozen
        return SimpleNamespace(neck=[detector[batch.samples[0].index][None]], strides=[8])

    monkeypatch.setattr(module, "observe", observed)


def test_means_are_over_the_cells_of_a_region_in_all_images(handmade):
    student = network(torch.tensor([[[[1.0, -2], [3, 4]], [[0, 0], [0, 8]]]] * 2))
    teacher = network(torch.zeros(2, 2, 2, 2))
    boxes = [image(0, (0.0, 0, 8, 8)), image(1, (0.0, 0, 8, 8), (8.0, 0, 16, 8))]
    distances = channel_distances(student, teacher, boxes)
    objects = [(1 + 1 + 2) / 3, 0]
    background = [(2 + 3 + 4 + 3 + 4) / 5, 16 / 5]
    np.testing.assert_allclose(distances.mean, [objects, background])
    assert (distances.cells.tolist(), distances.images, distances.stride) == ([3, 5], 2, 8)


def test_levels_of_another_pyramid_are_compared_by_stride(monkeypatch):
    fine, coarse = torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 2, 2)
    student = network(SimpleNamespace(neck=[3 * coarse], strides=[8]))
    teacher = network(SimpleNamespace(neck=[fine, coarse], strides=[4, 8]), "teacher")
    monkeypatch.setattr(module, "observe", lambda detector, batch, frozen: detector)
    samples = [image(0, (0.0, 0, 8, 8))]
    np.testing.assert_allclose(channel_distances(student, teacher, samples).mean, [[2], [2]])
    message = r"level 0 of the neck of teacher has the stride 4; .* has 8"
    with pytest.raises(UserError, match=message):
        channel_distances(teacher, student, samples)


def test_a_region_without_cells_has_no_distance(handmade):
    covered = image(0, (0.0, 0, 16, 16))
    distances = channel_distances(
        network(torch.ones(1, 1, 2, 2)), network(torch.ones(1, 1, 2, 2)), [covered]
    )
    assert distances.cells.tolist() == [4, 0]
    assert distances.mean[0, 0] == 0 and math.isnan(distances.mean[1, 0])
    frame = table({"Student": distances})
    assert "undefined" in describe_changes(
        means(pd.concat([frame, frame.assign(run="RM")])), "Student"
    )
    lower = plot(frame, {"Student": BASELINE}).axes[3]
    assert [text.get_text() for text in lower.texts] == ["no such cell"]


def test_the_student_map_goes_through_an_adapter(handmade):
    double = nn.Conv2d(1, 2, 1, bias=False)
    double.weight.data = torch.tensor([2.0, 3.0]).reshape(2, 1, 1, 1)
    narrow, wide = network(torch.ones(1, 1, 2, 2)), network(torch.ones(1, 2, 2, 2), "teacher")
    samples = [image(0, (0.0, 0, 8, 8))]
    distances = channel_distances(narrow, wide, samples, 0, nn.ModuleDict({"level0": double}))
    np.testing.assert_allclose(distances.mean, [[1, 2], [1, 2]])
    with pytest.raises(
        UserError, match=r"neck of student has 1 channels.*teacher teacher 2; .*true"
    ):
        channel_distances(narrow, wide, samples)
    with pytest.raises(UserError, match="neck of student has 2 x 2 cells, that of teacher 1 x 1"):
        channel_distances(narrow, network(torch.ones(1, 1, 1, 1), "teacher"), samples)
    with pytest.raises(UserError, match="level 1: the neck of student has levels 0 to 0"):
        channel_distances(narrow, narrow, samples, level=1)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_two_regions_cover_the_map_of_every_family(build, batch, family):
    data = batch()
    networks = [
        SimpleNamespace(
            directory=Path("run"), detector=build(family, seed).eval(), batch=lambda sample: sample
        )
        for seed in (0, 1)
    ]
    distances = channel_distances(networks[0], networks[1], [data], level=1)
    maps = [observe(run.detector, data, frozen=True).neck[1] for run in networks]
    assert distances.cells.sum() == maps[0][:, 0].numel()
    whole = (maps[0] - maps[1]).detach().double().abs().mean((0, 2, 3))
    weighted = (distances.mean * distances.cells[:, None]).sum(0) / distances.cells.sum()
    np.testing.assert_allclose(weighted, whole, rtol=1e-6)
    same = channel_distances(networks[0], networks[0], [data], level=1)
    assert not same.mean.any()


def test_one_image_is_in_memory_at_a_time(build, batch, monkeypatch):
    maps: list[weakref.ref[torch.Tensor]] = []
    alive: list[int] = []

    def observed(detector, batch, frozen):
        alive.append(sum(neck_map() is not None for neck_map in maps))
        output = observe(detector, batch, frozen=frozen)
        maps.append(weakref.ref(output.neck[0]))
        return output

    monkeypatch.setattr(module, "observe", observed)
    run = SimpleNamespace(directory=Path(), detector=build().eval(), batch=lambda sample: sample)
    channel_distances(run, run, (batch(seed=seed) for seed in range(4)))
    assert alive == [0, 1] * 4  # only the student's map of the same image


# --- Tables and figures --------------------------------------------------------------------


def random_distances(channels=3, runs=("Student", "FitNets"), seed=0):
    generator = np.random.default_rng(seed)
    return table(
        {
            run: Distances(generator.random((2, channels)), np.array([30, 70]), 5, 8, False)
            for run in runs
        }
    )


def looks(*runs):
    return {
        run: look("distilled", "fitnets") if number else BASELINE for number, run in enumerate(runs)
    }


def test_the_table_has_every_value_and_its_means():
    distances = Distances(np.array([[1.0, 3], [4, 8]]), np.array([30, 70]), 5, 8, False)
    half = Distances(distances.mean / 2, distances.cells, 5, 8, False)
    frame = table({"Student": distances, "FitNets": half})
    assert frame["distance"].tolist() == [1, 3, 4, 8, 0.5, 1.5, 2, 4]
    assert frame["channel"].tolist() == [0, 1] * 4
    averages = means(frame)
    assert averages["mean"].tolist() == [2, 6, 1, 3]
    assert averages["cells"].tolist() == [30, 70] * 2
    sentence = describe_changes(averages, "Student")
    assert sentence.startswith("Mean over the channels: Student 2 on objects and 6 on background. ")
    assert sentence.endswith("FitNets -50% and -50%.")


@pytest.mark.parametrize("order", ["network", "baseline", "own"])
def test_curves_are_in_the_order_of_the_setting(order):
    frame = random_distances(channels=8)
    axes = plot(frame, looks("Student", "FitNets"), order, "Student").axes[0]
    lines = frame[frame["region"] == "objects"]
    student, fitnets = (
        lines[lines["run"] == run]["distance"].to_numpy() for run in ("Student", "FitNets")
    )
    orders = {
        "network": np.arange(8),
        "baseline": np.argsort(-student),
        "own": np.argsort(-fitnets),
    }
    (line,) = [line for line in axes.lines if line.get_label() == "FitNets"]
    np.testing.assert_array_equal(line.get_ydata(), fitnets[orders[order]])


def test_in_the_order_of_the_network_each_run_has_a_panel_over_the_baseline():
    runs = ["Student", "FitNets", "PFI", "RM"]
    frame = random_distances(16, runs)
    figure = plot(frame, looks(*runs), "network", "Student")
    *panels, _, _ = figure.axes
    assert [[line.get_label() for line in axes.lines] for axes in panels[::2]] == [
        ["FitNets"], ["PFI"], ["RM"],
    ]  # fmt: skip
    assert all(len(axes.collections) == 1 for axes in panels)
    assert len({axes.get_ylim() for axes in panels}) == 1
    assert panels[-1].get_xlabel() == "Channel"
    assert not faults(figure)


def test_panels_share_axes_that_contain_all_values():
    frame = random_distances(channels=256)
    frame.loc[frame["region"] == "background", "distance"] *= 3
    left, right, below, _ = plot(frame, looks("Student", "FitNets")).axes
    assert [axes.get_title(loc="left") for axes in (left, right)] == [
        "Object cells", "Background cells",
    ]  # fmt: skip
    assert left.get_ylim() == right.get_ylim()
    assert left.get_ylim()[0] == 0 and left.get_ylim()[1] > frame["distance"].max()
    assert below.get_xlim()[1] > means(frame)["mean"].max()
    assert [text.get_text() for text in below.get_yticklabels()] == ["Student", "FitNets"]
    average = means(frame)["mean"].tolist()
    assert [text.get_text() for text in below.texts] == [f"{average[i]:.2f}" for i in (0, 2)]


@pytest.mark.parametrize("number", [1, 12])
def test_each_run_has_a_line(number):
    runs = [f"run {index}" for index in range(number)]
    curves = plot(random_distances(1, runs), looks(*runs)).axes[0]
    assert len(curves.lines) == number


@pytest.mark.parametrize("number", [4, 13])
def test_the_picture_is_legible(number):
    runs = [f"run {index}" for index in range(number)]
    figure = plot(random_distances(64, runs), looks(*runs), "own", runs[0])
    assert figure.axes[0].get_xlabel() == "Channel rank (each run sorted separately)"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == runs
    assert not faults(figure)


# --- Runs ----------------------------------------------------------------------------------


def test_the_analysis_writes_what_it_declares(study, tmp_path):
    teacher, students = write_runs(study(["fitnets", "chen"]))
    written = analyze(ChannelDistance(images=2), [teacher, *students], tmp_path / "out", Library())
    assert {path.name for path in written} == set(ChannelDistance.files())
    frame = pd.read_csv(tmp_path / "out" / "channel_distance.csv")
    assert frame["run"].unique().tolist() == ["Student", "FitNets", "Chen 2017"]
    averages = pd.read_csv(tmp_path / "out" / "channel_distance-means.csv")
    assert averages.groupby("run")["cells"].sum().tolist() == [2 * 8 * 8] * 3
    assert "raw, before any adaptation layer" in (tmp_path / "out" / "caption.md").read_text()


def test_maps_go_through_trained_adaptation_layers(study, tmp_path):
    plan = study(["fitnets", "chen"], settings={"fitnets": {"adaptation": "3x3"}})
    teacher, students = write_runs(plan)
    adapted = ChannelDistance(images=2, adapted=True)
    with pytest.raises(UserError, match=r"weights.pth: does not hold the adaptation layers.*again"):
        analyze(adapted, students, tmp_path / "none", Library())
    teacher, students = write_runs(plan, adapters=True)
    analyze(adapted, [teacher, *students], tmp_path / "out", Library())
    text = (tmp_path / "out" / "caption.md").read_text()
    assert (
        "adaptation layer of their training: FitNets; raw, because they have none: Student, Chen"
        in text
    )
    frame = pd.read_csv(tmp_path / "out" / "channel_distance.csv").set_index("run")
    student = RunNetworks.load(next(path for path in students if "fitnets" in str(path)))
    samples = annotated_images(student.directory, 2, 0)
    layers = level_adapters(student, 0)
    expected = channel_distances(student, RunNetworks.load(teacher), samples, 0, layers)
    np.testing.assert_allclose(frame.loc["FitNets", "distance"], expected.mean.ravel(), rtol=1e-6)
