"""Model cards of runs: metadata, counts, intervals, gains, and the author's parts."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import yaml
from pydantic import BaseModel, ConfigDict, Field

from analysis.card.card import model_card, write_card
from analysis.card.measured import basic_interval
from analysis.card.metadata import CardOptions
from kd.cli.card import card_in, describe_export
from kd.cli.main import main
from kd.common.errors import UserError
from kd.common.files import sha256, write_json
from kd.config.library import Library
from kd.evaluation.evaluate import measure, truth_of
from kd.records import inputs
from kd.records.latency import BatchLatency, Conditions, Latency, write_latency
from tests.analysis.fakes import write_detections
from tests.support.tiny import DISTILLED, STUDENT, TEACHER, copy_run, edit, make_project, write_run

ALL, HALF = range(1, 9), range(1, 5)
"""Test images in which a detector finds every object."""


@pytest.fixture(scope="module", autouse=True)
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Work in a tiny project with checked data."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(make_project(tmp_path_factory.mktemp("project")))
        edit("configs/datasets/shapes-tiny.yaml", license="CC0 | drawn")
        report = "results/checks/shapes-tiny.json"
        assert main(["check", "shapes-tiny", "--check-report", report]) == 0
        yield


def detected(run: Path, images: range) -> Path:
    """Write results of a run that detects all objects of some test images exactly."""
    (run / "weights.pth").write_bytes(b"weights")
    record = {"inputs": {"data": "0123"}, "weights_sha256": sha256(run / "weights.pth")}
    origin = {"seconds": 7260.0, "cpu": "A", "threads": 2, "commit": "abc", "finished": "2026"}
    write_json(run / "provenance.json", record | origin)
    truth = truth_of(run, Library())
    objects = [one for one in truth.coco["annotations"] if one["image_id"] in images]
    write_detections(run, [(o["image_id"], o["category_id"] - 1, o["bbox"], 0.9) for o in objects])
    predicted = {"version": 1, "data": truth.fingerprint, "weights": record["weights_sha256"]}
    predicted["detections"] = inputs.weights_digest(run / "detections.json.gz")
    inputs.record(run, "prediction", predicted)
    measure(run, Library())
    return run


@pytest.fixture(scope="module")
def teacher() -> Path:
    return detected(write_run(TEACHER), ALL)


@pytest.fixture(scope="module")
def alone() -> Path:
    """Return a student alone that detects objects in half of the images."""
    return detected(write_run(STUDENT), HALF)


@pytest.fixture(scope="module")
def distilled(teacher: Path, alone: Path) -> Path:
    return detected(write_run(DISTILLED), ALL)


@pytest.fixture(scope="module")
def card(distilled: Path) -> str:
    return model_card(distilled)


def section(card: str, title: str) -> str:
    """Return the text of a section."""
    return card.split(f"\n## {title}\n")[1].split("\n## ")[0]


# --- Metadata --------------------------------------------------------------------------------


class Documented(BaseModel):
    """Keys of Hugging Face's documentation of model cards, and no other."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Task(Documented):
    type: Literal["object-detection"]
    name: str


class Data(Documented):
    type: str = Field(min_length=1)
    name: str = Field(min_length=1)
    split: Literal["test"]


class Metric(Documented):
    type: str = Field(min_length=1)
    name: str
    value: float = Field(ge=0, le=1)


class Result(Documented):
    task: Task
    dataset: Data
    metrics: list[Metric] = Field(min_length=1)


class Model(Documented):
    name: str = Field(min_length=1)
    results: list[Result] = Field(min_length=1, max_length=1)


class Metadata(Documented):
    license: str = Field(pattern=r"^[a-z0-9.-]+$")
    library_name: Literal["mmdet"]
    pipeline_tag: Literal["object-detection"]
    tags: list[str] = Field(min_length=1)
    datasets: list[str] = []
    metrics: list[str] = Field(min_length=1)
    models: list[Model] = Field(alias="model-index", min_length=1, max_length=1)


def metadata(card: str) -> Metadata:
    assert card.startswith("---\n")
    return Metadata.model_validate(yaml.safe_load(card.split("---\n")[1]))


def test_the_metadata_have_the_documented_keys(distilled: Path, card: str) -> None:
    content = metadata(card)
    assert content.license == "unknown"
    assert {"retinanet", "knowledge-distillation", "rm", "pfi"} <= {*content.tags}
    (result,) = content.models[0].results
    values = {metric.name: metric.value for metric in result.metrics}
    assert values["AP (IoU 0.50 to 0.95)"] == 1.0
    options = CardOptions("mit", ("me/shapes",))
    content = metadata(model_card(distilled, options))
    assert (content.license, content.datasets) == ("mit", ["me/shapes"])


# --- Sections --------------------------------------------------------------------------------


def test_the_card_counts_images_and_objects_by_class(card: str) -> None:
    counts = json.loads(Path("results/checks/shapes-tiny.json").read_text())["splits"]
    data = section(card, "Data")
    assert f"| training | 22 | {counts['train']['boxes']} |" in data
    assert f"| test | 8 | {counts['test']['boxes']} |" in data
    by_class = [counts[split]["boxes_per_class"]["star"] for split in ("train", "test")]
    assert f"| star | {by_class[0]} | {by_class[1]} |" in data
    assert "License of the data: CC0 | drawn." in data


def test_the_card_describes_training_and_provenance(card: str, distilled: Path) -> None:
    training = section(card, "Training")
    assert "| method | RM + PFI |" in training
    assert "| teacher | RetinaNet ResNet-18 x0.1875 (`tiny/" in training
    assert "| optimizer | SGD, learning rate 0.01, batch of 4 images" in training
    assert "| time | 2 h 01 m on A CPU, 2 threads |" in training
    provenance = section(card, "Provenance")
    assert sha256(distilled / "weights.pth") in provenance
    assert "| commit of kd-detection | abc |" in provenance
    assert str(Path.cwd()) not in model_card(distilled.resolve())
    assert "li2022knowledge" in section(card, "Citation")


def test_a_perfect_detector_has_no_interval(card: str) -> None:
    """Resamples of a perfect detector do not vary, which is no proof of perfection."""
    results = section(card, "Results")
    assert "| AP | 100.0 | \u2013 |" in results
    assert re.search(r"\| star \| \d+ \| 100.0 \| \u2013 \| 100.0 \|", results)
    assert "it has AP 100.0.\n" in card


def test_a_basic_interval_mirrors_the_percentiles_at_the_value() -> None:
    samples = np.array([40.0, *np.linspace(41, 61, 1001)])
    assert basic_interval(samples) == pytest.approx((80 - 60.5, 80 - 41.5))
    near_zero = basic_interval(np.array([1.0, *np.linspace(0, 4, 1001)]))
    assert near_zero == pytest.approx((0, 2 - 0.1))
    assert basic_interval(np.zeros(1001)) is None
    assert basic_interval(np.array([1.0, np.nan, 2.0])) is None


def test_half_of_the_images_have_an_interval_around_their_share(alone: Path) -> None:
    results = section(model_card(alone), "Results")
    (low, high) = re.search(r"\| AP50 \| [\d.]+ \| ([\d.]+) to ([\d.]+) \|", results).groups()
    assert 0 <= float(low) < float(high) < 100


# --- Gain ------------------------------------------------------------------------------------


def gain_of(run: Path) -> str:
    return section(model_card(run), "Gain from distillation")


def test_a_gain_has_its_interval_and_the_run_that_it_is_over(card: str, alone: Path) -> None:
    gain = section(card, "Gain from distillation")
    measured = json.loads((alone / "metrics.json").read_text())["AP"]
    assert f"**+{100 * (1 - measured):.1f}** AP points (95 % interval +" in gain
    assert f"`{alone.relative_to('results')}`" in gain
    assert "The distilled student is better on these test images." in gain
    assert "one pair of trainings does not show how much" in gain


def test_a_loss_and_no_difference_are_stated(distilled: Path) -> None:
    worse = detected(copy_run(distilled, "worse"), range(0))
    same = detected(copy_run(distilled, "same"), HALF)
    assert "**worse** on these test images: use the student alone" in gain_of(worse)
    assert "**0.0** AP points (95 % interval 0.0 to 0.0)" in gain_of(same)
    assert "The interval includes 0: this test set shows neither" in gain_of(same)


def test_without_the_student_alone_the_gain_is_unknown(distilled: Path, alone: Path) -> None:
    metrics = alone / "metrics.json"
    content = metrics.read_text()
    metrics.unlink()
    try:
        assert gain_of(distilled).strip().startswith("**Unknown.**")
    finally:
        metrics.write_text(content)


def test_a_student_of_another_schedule_is_not_the_student_alone(distilled: Path) -> None:
    other = write_run(DISTILLED, schedule="lr=0.02")
    detected(other, ALL)
    assert "**Unknown.**" in gain_of(other)


def test_several_seeds_have_the_mean_over_seeds(distilled: Path, alone: Path) -> None:
    runs = []
    for images, name in ((HALF, STUDENT), (range(1, 7), DISTILLED)):
        config = json.loads((write_run(name) / "config.json").read_text())
        config["randomness"]["seed"] = 1
        run = copy_run(write_run(name), "seed1-00000000")
        write_json(run / "config.json", config)
        runs.append(detected(run, images))
    try:
        assert "Over 2 seeds the mean gain is +" in gain_of(distilled)
    finally:
        for run in runs:
            (run / "metrics.json").unlink()


def test_a_detector_without_a_teacher_has_no_gain(alone: Path) -> None:
    assert "trained without a teacher" in gain_of(alone)


# --- The author's parts ----------------------------------------------------------------------


def test_a_new_card_preserves_what_the_author_wrote(distilled: Path, tmp_path: Path) -> None:
    path = write_card(distilled, tmp_path, CardOptions(), Library())
    assert path == tmp_path / "README.md"
    text = path.read_text()
    request = re.search(r"> \*\*To fill in.\*\* Who uses.*", text)[0]
    path.write_text(
        text.replace(request, "Counting shapes.").replace("license: unknown", "license: cc0-1.0")
    )
    written = write_card(distilled, tmp_path, CardOptions(), Library()).read_text()
    assert "Counting shapes." in section(written, "Intended use")
    assert "To fill in" not in section(written, "Intended use")
    assert "License of the weights: cc0-1.0." in section(written, "License")
    assert metadata(written).license == "cc0-1.0"
    written = write_card(distilled, tmp_path, CardOptions("mit"), Library()).read_text()
    assert "License of the weights: mit." in section(written, "License")
    assert "Counting shapes." in written


def test_only_a_card_is_replaced(distilled: Path, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("# Photographs of cells\n")
    for write in (lambda: write_card(distilled, tmp_path, CardOptions(), Library()),
                  lambda: card_in(tmp_path)):  # fmt: skip
        with pytest.raises(UserError, match=r"README\.md: exists, and is no model card; move it"):
            write()
    assert readme.read_text() == "# Photographs of cells\n"
    readme.write_text("# Detector of 2 classes\n")
    assert card_in(tmp_path) == "# Detector of 2 classes\n"


def test_a_folder_may_have_a_dot_in_its_name(distilled: Path, tmp_path: Path) -> None:
    folder, file = tmp_path / "cells-v1.2", tmp_path / "card.md"
    assert write_card(distilled, folder, CardOptions(), Library()) == folder / "README.md"
    assert write_card(distilled, file, CardOptions(), Library()) == file


# --- The command -----------------------------------------------------------------------------


def test_the_command_writes_the_card_beside_the_weights(
    distilled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["card", str(distilled)]) == 0
    assert capsys.readouterr().out == f"{distilled / 'README.md'}\n"
    assert metadata((distilled / "README.md").read_text())


def test_a_run_without_results_ends_with_one_line(
    distilled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copy_run(distilled, "untrained")
    assert main(["card", str(run)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {run}/weights.pth: no such file; ")
    assert error.count("\n") == 1
    (run / "weights.pth").touch()
    write_json(run / "provenance.json", {})
    with pytest.raises(UserError, match=r"metrics\.json: no such file"):
        model_card(run)


def test_a_card_without_data_states_why_it_has_no_intervals(
    distilled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("data").rename("away")
    try:
        text: Any = model_card(distilled)
    finally:
        Path("away").rename("data")
    assert "This card has no intervals: " in section(text, "Results")
    assert "The uncertainty of AP is unknown." in section(text, "Limitations")


def test_an_export_has_the_card_with_the_use_of_its_files(
    distilled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    readme, usage = tmp_path / "README.md", "# Detector\n\nLabels.\n\n## ONNX\n\nRun it.\n"
    earlier = card_in(tmp_path)
    readme.write_text(usage)
    describe_export(distilled, tmp_path, earlier)
    first = readme.read_text()
    assert section(first, "Use").strip() == "Labels.\n\n### ONNX\n\nRun it."
    request = re.search(r"> \*\*To fill in.\*\* Who uses.*", first)[0]
    earlier = first.replace(request, "Counting shapes.")
    readme.write_text(usage)
    describe_export(distilled, tmp_path, earlier)
    assert "Counting shapes." in readme.read_text()
    readme.write_text(usage)
    describe_export(copy_run(distilled, "unevaluated"), tmp_path, "")
    assert readme.read_text() == usage
    assert "without a model card: " in capsys.readouterr().err


@pytest.mark.parametrize("name", ["metrics.json", "provenance.json"])
def test_results_of_other_weights_are_not_described(distilled: Path, name: str) -> None:
    run = copy_run(distilled, f"changed-{name}")
    for file in ("weights.pth", "provenance.json", "metrics.json"):
        (run / file).write_bytes((distilled / file).read_bytes())
    digest = {"weights": sha256(run / "weights.pth")}
    inputs.record(run, "evaluation", digest)
    model_card(run)
    (run / "weights.pth").write_bytes(b"others")
    if name == "provenance.json":
        inputs.record(run, "evaluation", {"weights": sha256(run / "weights.pth")})
    with pytest.raises(UserError, match=f"/{name}: "):
        model_card(run)


# --- Latency ---------------------------------------------------------------------------------


def write_times(run: Path, median: float, measured: str) -> None:
    conditions = Conditions("a processor", "torch 2.11.0", 1, 64, 64, "8 test images")
    batches = (BatchLatency(1, median, 2 * median, 0.5, 20),)
    facts = {"weights_sha256": sha256(run / "weights.pth")}
    write_latency(run, Latency(conditions, batches, measured), facts)


def test_latency_is_beside_that_of_a_teacher_measured_in_turn(
    distilled: Path, teacher: Path
) -> None:
    assert "The latency was not measured" in section(model_card(distilled), "Size and speed")
    write_times(distilled, 4.0, "noon")
    write_times(teacher, 9.0, "noon")
    speed = section(model_card(distilled), "Size and speed")
    assert "| 1 | 4.0 | 8.0 | 250.0 | 9.0 |" in speed
    assert "at 64 x 64 pixels, a processor, 1 thread, torch 2.11.0, 8 test images." in speed
    write_times(teacher, 9.0, "midnight")
    assert "| 1 | 4.0 | 8.0 | 250.0 |\n" in section(model_card(distilled), "Size and speed")
    for run in (distilled, teacher):
        (run / "latency.json").unlink()
