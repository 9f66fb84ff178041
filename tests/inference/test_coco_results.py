"""``kd predict --coco``: detections with the ids of the annotation file."""

import json
from pathlib import Path

import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from kd.cli.main import main
from kd.common.files import read_json


@pytest.fixture
def run(run_of):
    return run_of(trained=True).directory


def predict(run, *arguments):
    return main(["predict", str(run), *arguments])


def test_the_results_have_the_ids_of_the_annotation_file(run, capsys):
    data = read_json(run / "config.json")["test_dataloader"]["dataset"]
    annotations = Path(data["data_root"], data["ann_file"])
    assert predict(run, "--coco", "results.json") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "results.json"
    truth = COCO(str(annotations))
    results = truth.loadRes("results.json")
    assert {one["category_id"] for one in results.anns.values()} <= {*truth.getCatIds()}

    main(["evaluate", str(run)])
    evaluation = COCOeval(truth, results, "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(read_json(run / "metrics.json")["AP"], abs=1e-9)


def test_current_detections_are_not_computed_again(run):
    predict(run)
    before = (run / "detections.json.gz").stat().st_mtime_ns
    predict(run, "--coco", "results.json")
    assert (run / "detections.json.gz").stat().st_mtime_ns == before
    (run / "detections.json.gz").write_bytes(b"")
    predict(run, "--coco", "again.json")
    assert Path("again.json").read_text() == Path("results.json").read_text()


def test_an_existing_file_is_not_overwritten(run, capsys):
    Path("results.json").write_text(json.dumps("mine"))
    assert predict(run, "--coco", "results.json") == 2
    assert "results.json: exists; give another name" in capsys.readouterr().err
    assert read_json(Path("results.json")) == "mine"
