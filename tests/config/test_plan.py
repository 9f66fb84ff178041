"""Plans: the rows and runs of a study, and the parts of a run."""

import csv
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from kd.common.errors import UserError
from kd.common.files import sha256
from kd.common.schema import read_yaml
from kd.config.library import Library
from kd.config.plan import Plan, Row, plan
from kd.config.published import METRICS
from kd.config.run import Run
from kd.config.selection import StudyOptions
from tests.support.tiny import CHANNELS, CLASSES, edit, make_project, write_run

STUDY = "configs/studies/tiny.yaml"
SCALE = "configs/scales/tiny.yaml"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a copy of the configuration, without data."""
    monkeypatch.chdir(make_project(tmp_path, data=False))


def planned(study: str = "tiny", scale: str = "tiny", **options: Any) -> Plan:
    return plan(study, scale, Library(), StudyOptions(**options))


def row_of(planned_study: Plan, detector: str, method: str) -> Row:
    (row,) = (row for row in planned_study.rows if (row.detector, row.method) == (detector, method))
    return row


def test_a_plan_reads_each_file_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = Counter[Path]()

    def read(path: Path) -> Any:
        reads[path] += 1
        return read_yaml(path)

    monkeypatch.setattr("kd.config.library.read_yaml", read)
    planned("demo", "smoke")
    assert {Path("configs/studies/demo.yaml"), Path("configs/schedules/1x.yaml")} <= reads.keys()
    assert {*reads.values()} == {1}


# The real study


@pytest.mark.parametrize("scale", ["paper", "smoke"])
def test_rows_of_the_study(scale: str) -> None:
    planned_study = planned("demo", scale)
    methods = ["teacher", "baseline", "rm", "pfi", "rm+pfi"]
    assert [row.method for row in planned_study.rows] == methods * 2
    assert [row.detector for row in planned_study.rows] == ["retinanet"] * 5 + ["gfl"] * 5
    assert [row.kind for row in planned_study.rows] == (
        ["teacher", "baseline"] + ["distilled"] * 3
    ) * 2
    assert {(row.teacher, row.student) for row in planned_study.rows} == {
        ("r50", ""),
        ("", "r18"),
        ("r50", "r18"),
    }
    assert len(planned_study.runs) == 10


def test_a_distilled_row_has_the_teacher_and_baseline_of_its_detector() -> None:
    planned_study = planned("demo", "smoke", seeds=2)
    for detector in ("retinanet", "gfl"):
        teacher = row_of(planned_study, detector, "teacher").runs
        baseline = row_of(planned_study, detector, "baseline").runs
        assert list(teacher) == [0]
        assert list(baseline) == [0, 1]
        for method in ("rm", "pfi", "rm+pfi"):
            row = row_of(planned_study, detector, method)
            assert row.baselines == baseline
            assert list(row.runs) == [0, 1]
            assert {run.seed: run.teacher for run in row.runs.values()} == dict.fromkeys(
                (0, 1), teacher[0]
            )


def test_names_are_spelled_out_and_end_in_the_digest() -> None:
    run = row_of(planned("demo", "smoke"), "gfl", "rm+pfi").runs[0]
    assert run.name == (
        "smoke/shapes-smoke/smoke/gfl-r18-w0.25/rm+pfi_from_gfl-r18-w0.5/seed0-" + run.digest
    )
    assert run.directory == Path("results/runs") / run.name
    assert run.teacher is not None
    assert run.config["model"]["checkpoint"] == f"results/runs/{run.teacher.name}/weights.pth"
    paper = row_of(planned("demo", "paper"), "gfl", "baseline").runs[0]
    assert paper.name == f"paper/coco2017/1x/gfl-r18/alone/seed0-{paper.digest}"


def test_teachers_come_before_their_students() -> None:
    earlier: set[str] = set()
    for name, run in planned("demo", "paper", seeds=2).runs.items():
        assert run.teacher is None or run.teacher.name in earlier
        earlier.add(name)


def test_rows_have_their_published_numbers() -> None:
    with open("configs/published/rm_pfi.csv", newline="") as stream:
        lines = [line for line in csv.DictReader(stream) if line["table"] == "T1"]
    expected = {
        (line["detector"], line["method"]): {
            name: float(line[name]) for name in METRICS if line[name]
        }
        for line in lines
    }
    for row in planned("demo", "paper").rows:
        assert row.published == expected[row.detector, row.method]
        baseline = expected[row.detector, "baseline"] if row.kind == "distilled" else {}
        assert row.published_baseline == baseline
    row = row_of(planned("demo", "paper"), "retinanet", "rm+pfi")
    assert (row.published["AP"], row.published_baseline["AP"]) == (34.8, 31.9)


def test_unpublished_figures_are_left_out() -> None:
    edit("configs/studies/demo.yaml", tables__table1__published="T4")
    row = row_of(planned("demo", "paper"), "retinanet", "rm")
    assert row.published == {"AP": 33.3, "AP50": 51.2, "AP75": 35.6}
    assert row_of(planned("demo", "paper"), "retinanet", "pfi").published == {}


def test_a_plan_may_have_some_of_the_tables() -> None:
    content = yaml.safe_load(Path(STUDY).read_text())
    other = {**content["tables"]["pair"], "title": "Other", "methods": ["pfi"]}
    edit(STUDY, tables__other=other)
    assert {row.table for row in planned().rows} == {"pair", "other"}
    assert {row.table for row in planned(tables=["other"]).rows} == {"other"}


def test_rows_share_their_runs() -> None:
    pairs = [{"teacher": "r50", "student": "r18"}, {"teacher": "r18", "student": "r50"}]
    edit(STUDY, tables__pair__pairs=pairs)
    planned_study = planned()
    assert len(planned_study.rows) == 8
    assert len(planned_study.runs) == 6  # each backbone is a teacher and a baseline


# Parts of a run


def distilled(method: str = "rm") -> Run:
    return row_of(planned(), "retinanet", method).runs[0]


def test_a_preset_is_a_method_with_settings() -> None:
    edit(STUDY, tables__pair__methods=["rm_class", "rm_loc", "rm"])
    terms = {name: distilled(name).config["model"]["methods"] for name in ("rm_class", "rm_loc")}
    assert terms["rm_class"]["rm_class"]["method"] == "rm"
    assert terms["rm_class"]["rm_class"]["classification"] is True
    assert terms["rm_class"]["rm_class"]["localisation"] is False
    assert terms["rm_loc"]["rm_loc"]["classification"] is False
    assert terms["rm_loc"]["rm_loc"]["localisation"] is True
    assert "rm_class_from_" in distilled("rm_class").name


def test_settings_of_a_table_override_those_of_a_preset() -> None:
    overrides = {
        "rm_class": {"weight": 2.5, "localisation": True},
        "pfi": {"detach_prediction": True},
    }
    edit(STUDY, tables__pair__methods=["rm_class+pfi"], tables__pair__settings=overrides)
    terms = distilled("rm_class+pfi").config["model"]["methods"]
    expected: dict[str, dict[str, Any]] = {
        "rm_class": {
            "method": "rm",
            "weight": 2.5,
            "classification": True,
            "localisation": True,
            "score": "logit",
        },
        "pfi": {
            "method": "pfi",
            "weight": 1.5,
            "input": "logit",
            "reduction": "image_norm",
            "detach_prediction": True,
        },
    }
    assert terms.keys() == expected.keys()
    for name, settings in expected.items():
        assert terms[name].items() >= settings.items()


def test_a_scale_replaces_parts_and_merges_into_detectors() -> None:
    config = row_of(planned(), "retinanet", "baseline").runs[0].config
    model = config["model"]
    assert model["backbone"]["base_channels"] == 8
    assert model["neck"]["in_channels"] == [8, 16, 32, 64]
    assert model["neck"]["out_channels"] == CHANNELS["retinanet"]
    assert model["neck"]["num_outs"] == 5  # of the detector
    assert model["bbox_head"]["num_classes"] == len(CLASSES)
    assert config["train_cfg"]["max_epochs"] == 2
    assert config["train_dataloader"]["batch_size"] == 4


def test_weights_and_data_have_the_seed_of_the_run() -> None:
    for seed, run in row_of(planned(seeds=3), "retinanet", "rm").runs.items():
        assert run.config["randomness"] == {"seed": seed}
        assert run.config["train_dataloader"]["dataset"]["seed"] == seed


def test_a_teacher_may_have_another_detector() -> None:
    pair = {"teacher": "r50", "student": "r18", "teacher_detector": "gfl"}
    edit(STUDY, tables__pair__pairs=[pair], tables__pair__methods=["fitnets"])
    planned_study = planned()
    assert row_of(planned_study, "retinanet", "teacher").runs[0].detector == "gfl"
    model = row_of(planned_study, "retinanet", "fitnets").runs[0].config["model"]
    assert (model["student"]["type"], model["teacher"]["type"]) == ("RetinaNet", "GFL")


def test_voc_splits_are_joined() -> None:
    edit(SCALE, datasets={})
    edit(STUDY, tables__pair__dataset="voc0712")
    config = row_of(planned(), "retinanet", "baseline").runs[0].config
    training = config["train_dataloader"]["dataset"]["dataset"]
    assert training["type"] == "ConcatDataset"
    assert [part["type"] for part in training["datasets"]] == ["VocImages"] * 2
    assert [part["data_root"] for part in training["datasets"]] == [
        "data/VOCdevkit/VOC2007",
        "data/VOCdevkit/VOC2012",
    ]
    assert {part["ann_file"] for part in training["datasets"]} == {"ImageSets/Main/trainval.txt"}
    test = config["test_dataloader"]["dataset"]
    assert (test["type"], test["ann_file"]) == ("VocImages", "ImageSets/Main/test.txt")
    assert test["metainfo"]["classes"][:2] == ["aeroplane", "bicycle"]
    assert config["model"]["bbox_head"]["num_classes"] == 20


# Published weights instead of a trained teacher


def teach_by(source: str, digest: str) -> None:
    pair = {"teacher": "r50", "student": "r18", "checkpoint": {"source": source, "sha256": digest}}
    edit(STUDY, tables__pair__pairs=[pair])


@pytest.fixture
def checkpoint() -> Iterator[Path]:
    """Return a file of random weights of the teacher."""
    import torch

    import kd.runtime  # noqa: F401
    from kd.models import weights
    from kd.models.build import build_model

    teacher = row_of(planned(), "retinanet", "teacher").runs[0]
    torch.manual_seed(0)
    model = build_model(teacher.config["model"])
    path = Path("published.pth")
    weights.save(path, {"state_dict": model.state_dict(), "meta": {"epoch": 12}})
    return path


def test_a_published_checkpoint_replaces_a_training(checkpoint: Path) -> None:
    from kd.models import weights
    from kd.training.train import train

    trained = row_of(planned(), "retinanet", "teacher").runs[0]
    teach_by(str(checkpoint), sha256(checkpoint))
    planned_study = planned()
    teacher = row_of(planned_study, "retinanet", "teacher").runs[0]
    assert teacher.digest != trained.digest
    assert row_of(planned_study, "retinanet", "rm").runs[0].teacher == teacher
    assert "train_dataloader" not in teacher.config

    teacher.write()
    train(teacher.directory)
    published, stored = (
        weights.read_state(path) for path in (checkpoint, teacher.directory / "weights.pth")
    )
    assert published.keys() == stored.keys()
    assert all(published[key].equal(stored[key]) for key in published)
    record = json.loads((teacher.directory / "provenance.json").read_text())
    assert record["published_checkpoint"]["sha256"] == sha256(checkpoint)


def test_a_checkpoint_of_another_content_is_refused(checkpoint: Path) -> None:
    from kd.training.train import train

    teach_by(str(checkpoint), "0" * 64)
    teacher = row_of(planned(), "retinanet", "teacher").runs[0]
    teacher.write()
    with pytest.raises(UserError, match=r"published\.pth: SHA-256 is [0-9a-f]{64}, expected 0000"):
        train(teacher.directory)
    assert not (teacher.directory / "weights.pth").exists()
    assert "SHA-256" in json.loads((teacher.directory / "failure.json").read_text())["reason"]


def test_a_checkpoint_of_classes_in_another_order_is_refused(checkpoint: Path) -> None:
    from kd.models import weights
    from kd.training.train import train

    classes = row_of(planned(), "retinanet", "teacher").runs[0].config["test_dataloader"]
    names = classes["dataset"]["metainfo"]["classes"]
    content = weights.read(checkpoint)
    weights.save(checkpoint, content | {"meta": {"dataset_meta": {"classes": names[::-1]}}})
    teach_by(str(checkpoint), sha256(checkpoint))
    teacher = row_of(planned(), "retinanet", "teacher").runs[0]
    teacher.write()
    with pytest.raises(UserError, match="the same classes in another order: label 0 is"):
        train(teacher.directory)
    assert not (teacher.directory / "weights.pth").exists()


def test_another_checkpoint_makes_new_students() -> None:
    teach_by("a.pth", "0" * 64)
    before = planned().runs
    teach_by("a.pth", "1" * 64)
    after = planned().runs
    unchanged = [name for name in before if name in after]
    assert [before[name].method for name in unchanged] == [None]  # the baseline


# The composed configuration and plain mmengine


def test_a_written_run_is_not_written_again() -> None:
    run = row_of(planned(), "retinanet", "rm").runs[0]
    run.write()
    written = (run.directory / "config.json").read_bytes()
    (run.directory / "run.json").write_text("{}")
    run.write()
    assert (run.directory / "run.json").read_text() == "{}"
    assert json.loads(written) == run.config
    assert replace(run, config=json.loads(written)).digest == run.digest


def test_plain_mmengine_trains_a_written_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmengine.config import Config
    from mmengine.runner import Runner

    make_project(tmp_path / "with-data")
    monkeypatch.chdir(tmp_path / "with-data")
    run = write_run("r18-w0.125/alone")
    config = Config.fromfile(run / "config.json")
    assert config.custom_imports.imports == ["kd.runtime"]
    config.work_dir = str(run / "mmengine")
    runner = Runner.from_cfg(config)
    runner.train()
    assert runner.iter == 12
    assert (run / "log.jsonl").read_text().count("\n") == 12


def test_a_table_with_a_first_seed_shares_no_run_with_one_that_begins_at_0():
    edit(STUDY, tables__pair__first_seed=100)
    later = planned(seeds=2)
    assert list(row_of(later, "retinanet", "rm").runs) == [100, 101]
    assert [run.seed for run in row_of(later, "retinanet", "teacher").runs.values()] == [0]
    edit(STUDY, tables__pair__first_seed=0)
    shared = later.runs.keys() & planned(seeds=2).runs.keys()
    assert shared == {row_of(later, "retinanet", "teacher").runs[0].name}
