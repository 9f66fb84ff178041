"""Proposed networks, anchors and schedules; every detector can be planned at scale own."""

from pathlib import Path
from typing import Any

import pytest

from kd.cli.main import main
from kd.common.errors import UserError
from kd.common.files import read_json
from kd.common.schema import read_yaml
from kd.config.library import Library
from kd.config.plan import plan
from kd.config.stand_ins import adapted
from kd.config.study_parts import Study
from kd.start.labels import LabeledBox
from kd.start.machine import Machine
from kd.start.measures import Measures, measure
from kd.start.networks import levels, smallest_anchor
from kd.start.proposal import Proposal, propose
from kd.start.samples import Sample
from tests.start.drawing import yolo
from tests.support.paths import CONFIGS
from tests.support.tiny import make_project
from tests.test_imports import COMMAND_LINE, heavy_modules

CPU = Machine("cpu", "2 CPU cores", 16.0)
GPU = Machine("gpu", "a GPU", 40.0)
LIBRARY = Library(CONFIGS)


def measures(**changes: Any) -> Measures:
    """Return the measures of photographs of 1920 x 1080 pixels with objects of 4 to 50 %."""
    values = {
        "train_images": 800, "test_images": 200, "classes": 3, "image_size": (1920, 1080),
        "small": 0.04, "tenth": 0.05, "large": 0.5, "mixes_aspects": False, "rare": {},
    } | changes  # fmt: skip
    return Measures(**values)


def proposed(machine: Machine, detector: str | None = None, **changes: Any) -> Proposal:
    return propose(measures(**changes), machine, LIBRARY, detector)


def test_measures_by_hand() -> None:
    def sample(size: tuple[int, int], *sides: float) -> Sample:
        boxes = [LabeledBox("cat", (0, 0, side, side), "") for side in sides]
        return Sample(Path("a"), size, boxes)

    wide, tall = sample((200, 100), 10, 20), sample((100, 200), 40)
    one = measure({"train": [wide, tall], "val": [wide], "test": [tall]}, ["cat", "dog"])
    assert (one.train_images, one.test_images, one.image_size) == (2, 1, (200, 100))
    assert (one.small, one.large) == (0.05, 0.2)
    assert one.mixes_aspects and one.test_is_small
    assert one.rare["train"] == ["cat", "dog"]


@pytest.mark.parametrize(
    ("side", "anchor"), [(4, 8), (11, 8), (12, 16), (22, 16), (23, 32), (200, 32)]
)
def test_the_smallest_anchor_matches_the_smallest_objects(side: float, anchor: int) -> None:
    assert smallest_anchor(side) == anchor


def test_levels_reach_the_largest_objects() -> None:
    # The largest anchor of level n of RetinaNet is anchor * 2^(n - 1) * 2^(2/3); it matches objects
    # of 1 / 0.71 of its side.
    assert [levels(16, side) for side in (50, 143, 144, 286, 287, 2000)] == [3, 3, 4, 4, 5, 5]


def test_small_objects_need_larger_images_and_smaller_anchors() -> None:
    large = proposed(CPU, small=0.2, tenth=0.3)
    tiny = proposed(CPU, small=0.01, tenth=0.02)
    assert large.image_size[0][0] == 256 and tiny.image_size[0][0] == 640
    anchors = [
        one.changes[0]["bbox_head"]["anchor_generator"]["octave_base_scale"] * 8
        for one in (large, tiny)
        if one.changes
    ]
    assert anchors == [32, 8]


def test_images_are_not_enlarged() -> None:
    assert proposed(GPU, image_size=(100, 80)).image_size[0] == [96, 64]


def test_a_gpu_gets_wider_networks_and_more_steps() -> None:
    cpu, gpu = proposed(CPU), proposed(GPU)
    assert (cpu.teacher[0], cpu.student[0]) == ("mbv2", "mbv2-w0.5")
    assert (gpu.teacher[0], gpu.student[0]) == ("r50", "r18")
    assert proposed(GPU, train_images=9000).teacher[0] == "r101"
    assert cpu.schedule["batch_size"][0] == 4 and gpu.schedule["batch_size"][0] == 16
    assert cpu.seeds[0] == 1 and gpu.seeds[0] == 3


def test_few_images_get_more_epochs_and_many_get_sgd() -> None:
    few, many = proposed(CPU, train_images=90), proposed(GPU, train_images=20000)
    assert few.schedule["epochs"][0] == 40  # 900 steps of 4 images
    assert few.schedule["optimizer"][0] == "AdamW"
    assert (many.schedule["epochs"][0], many.schedule["optimizer"][0]) == (12, "SGD")


def test_every_value_has_a_reason_or_belongs_to_the_value_above() -> None:
    for detector in LIBRARY.names("detectors"):
        for machine in (CPU, GPU):
            one = proposed(machine, detector)
            for setting in (one.detector, one.teacher, one.image_size, one.methods, one.seeds):
                assert setting[1].endswith(".")
            assert one.schedule["epochs"][1]


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_every_detector_can_be_planned_at_scale_own(
    device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(make_project(tmp_path, data=False))
    yolo(Path("data/pets"), 12)
    output = ""
    for detector in LIBRARY.names("detectors"):
        name = f"my-{detector}"
        command = ["start", "data/pets", "--name", name]
        assert main([*command, "--detector", detector, "--device", device]) == 0
        output = capsys.readouterr().out
        for side in read_yaml(Path(f"configs/studies/{name}.yaml")).get("input_sizes", {}).values():
            assert f"images of {side} x {side} pixels" in output
        library = Library()
        planned = plan(name, "own", library)
        assert [row.kind for row in planned.rows] == ["teacher", "baseline", *["distilled"] * 2]
        assert {run.detector for run in planned.runs.values()} == {detector}
    assert "gpus=1" in output or device == "cpu"


def test_the_record_states_folder_format_and_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(make_project(tmp_path, data=False))
    yolo(tmp_path / "else where" / "Über", 12)
    assert main(["start", "else where/Über", "--name", "pets", "--seed", "3"]) == 0
    record = read_json(Path("data/pets/kd-start/start.json"))
    assert (record["folder"], record["format"], record["seed"]) == ("else where/Über", "YOLO", 3)
    assert record["split_off"] == {"val": 0.1, "test": 0.2}
    assert main(["check", "pets"]) == 0


def test_a_folder_with_a_number_as_its_name_gets_a_name_that_snakemake_reads_as_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(make_project(tmp_path, data=False))
    yolo(Path("data/2024"), 12)
    assert main(["start", "data/2024"]) == 0
    assert "snakemake --config study=data-2024 scale=own" in capsys.readouterr().out


def test_a_start_names_the_files_of_an_earlier_one_that_it_removes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(make_project(tmp_path, data=False))
    yolo(Path("data/pets"), 12)
    assert main(["start", "data/pets", "--study", "first"]) == 0
    assert "Removed" not in capsys.readouterr().out
    assert main(["start", "data/pets", "--study", "second", "--force"]) == 0
    assert "has others:\n  configs/studies/first.yaml\n" in capsys.readouterr().out
    assert not Path("configs/studies/first.yaml").exists()


def test_a_start_imports_no_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_project(tmp_path, data=False))
    yolo(Path("data/pets"), 12)
    assert heavy_modules(COMMAND_LINE, "start", "data/pets") == set()


def study(**changes: Any) -> Study:
    table = {"title": "t", "dataset": "bccd", "schedule": "bccd", "detectors": ["retinanet"],
             "pairs": [{"student": "r18"}], "methods": []}  # fmt: skip
    return Study.model_validate({"title": "t", "tables": {"own": table}, **changes})


def test_changes_of_a_study_replace_those_of_the_scale() -> None:
    changes = {"retinanet": {"bbox_head": {"anchor_generator": {"octave_base_scale": 1}}}}
    laptop = LIBRARY.scale("laptop", "test")
    scale = adapted(laptop, study(detectors=changes, input_sizes={"yolox": 96}), LIBRARY, "s.yaml")
    head = scale.detectors["retinanet"]["bbox_head"]
    assert head["anchor_generator"] == {"octave_base_scale": 1, "strides": [8, 16, 32, 64]}
    assert head["in_channels"] == 128 and scale.input_sizes["yolox"] == 96
    assert adapted(laptop, study(), LIBRARY, "s.yaml") == laptop


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"detectors": {"retinanet": {"head": {}}}},
            "s.yaml: key 'detectors': retinanet: no set",
        ),
        ({"detectors": {"retina": {}}}, "s.yaml: key 'detectors': no 'retina'"),
        ({"input_sizes": {"retinanet": 3}}, "'input_sizes': detector 'retinanet' has no 'input_s"),
    ],
)
def test_changes_of_a_study_that_change_nothing_are_refused(
    changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        adapted(LIBRARY.scale("own", "test"), study(**changes), LIBRARY, "s.yaml")


def test_a_study_with_published_numbers_needs_a_source() -> None:
    with pytest.raises(ValueError, match="'source' is missing"):
        study(published="fkd.csv")
