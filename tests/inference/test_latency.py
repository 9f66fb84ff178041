"""``kd latency``: detectors in turn on the same images, and the record in their runs."""

import json

import numpy as np
import pytest

from kd.cli.main import main
from kd.common.errors import UserError
from kd.common.files import read_json, sha256, write_json
from kd.inference.detector import ImageDetections
from kd.inference.latency import LatencyExtent, LatencyTimes, measure, summarize
from kd.records.latency import BatchLatency, Conditions, Latency, read_latency, write_latency

NOTHING = ImageDetections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))


class LoggingDetector:
    """A detector that finds nothing and lists its batches."""

    classes, device, runtime = ["cell"], "cpu", "none"

    def __init__(self, name, calls, size=(8, 6)):
        self.name, self.calls, self.size = name, calls, size

    def detect(self, images):
        return self.predict(self.prepare(images))

    def prepare(self, images):
        return images

    def predict(self, batch):
        self.calls.append((self.name, [image.shape for image in batch], batch))
        return [NOTHING for _ in batch]


def test_detectors_run_in_turn_on_the_same_images():
    calls = []
    detectors = {name: LoggingDetector(name, calls) for name in ("teacher", "student")}
    images = [np.full((30, 40, 3), value, np.uint8) for value in range(3)]
    times = measure(detectors, images, LatencyExtent(batches=(1, 2), iterations=3, warm_up=1))
    assert [name for name, _, _ in calls] == [
        "teacher", "student", "student", "teacher", "teacher", "student", "student", "teacher",
    ] * 2  # fmt: skip
    values = {
        name: [[int(image.mean()) for image in batch] for who, _, batch in calls if who == name]
        for name in detectors
    }
    assert values["teacher"] == values["student"]
    assert values["teacher"] == [[0], [1], [2], [0], [0, 1], [2, 0], [1, 2], [0, 1]]
    assert {shape for _, shapes, _ in calls for shape in shapes} == {(6, 8, 3)}
    counts = [len(one.prediction) for by_batch in times.values() for one in by_batch.values()]
    assert counts == [3, 3, 3, 3]


def test_detectors_of_two_sizes_get_images_of_their_size():
    calls = []
    detectors = {"a": LoggingDetector("a", calls, (8, 6)), "b": LoggingDetector("b", calls, (5, 5))}
    measure(detectors, [np.zeros((30, 40, 3), np.uint8)], LatencyExtent((1,), 1, 0))
    assert [shapes for _, shapes, _ in calls] == [[(6, 8, 3)], [(5, 5, 3)]]


def test_the_summary_is_median_and_percentile():
    times = {4: LatencyTimes(list(map(float, range(1, 102))), [2.0, 8.0, 4.0])}
    (summary,) = summarize(times)
    assert summary == BatchLatency(4, 51.0, 96.0, 4.0, 101)
    assert summary.images_per_second == pytest.approx(4000 / 51)


@pytest.fixture
def pair(study):
    """Return the directories of a distilled run and its teacher, both with random weights."""
    from tests.support.tiny_detectors import save_random_weights

    run = next(run for run in study(["pfi"]).runs.values() if run.teacher)
    run.write()
    run.teacher.write()
    save_random_weights(run.composed.student, run.directory)
    for one in (run, run.teacher):
        digest = sha256(one.directory / "weights.pth")
        write_json(one.directory / "provenance.json", {"weights_sha256": digest})
    return run.directory, run.teacher.directory


def test_a_student_is_measured_beside_its_teacher(pair, capsys):
    student, teacher = pair
    words = ["--batch", "2,1", "--iterations", "2", "--warm-up", "0", "--device", "cpu"]
    assert main(["latency", str(student), *words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    first, second = document["rows"]
    assert (first["source"], second["source"]) == (str(teacher), str(student))
    assert second["teacher"] == first["name"] and first["teacher"] is None
    assert [one["batch"] for one in second["batches"]] == [1, 2]
    assert second["multiply_adds"] < first["multiply_adds"]
    assert second["file_bytes"] == (student / "weights.pth").stat().st_size
    for run in pair:
        latency = read_latency(run)
        assert latency.conditions[2:] == (1, 64, 64, "2 test images of tiny")
        assert [one.iterations for one in latency.batches] == [2, 2]
    assert read_latency(student).measured == read_latency(teacher).measured
    assert read_json(student / "latency.json")["in_turn_with"] == [str(teacher)]


def test_the_text_names_conditions_and_the_ratio(pair, capsys):
    words = ["--batch", "1", "--iterations", "1", "--size", "96,32", "--device", "cpu"]
    assert main(["latency", *map(str, pair), *words]) == 0
    text = capsys.readouterr().out
    assert text.count("alone") == 2 and "times as long as its teacher" in text
    assert "96 x 32 pixels, " in text and "1 batches of each size, detectors in turn" in text
    assert "Reading files is not timed" in text


def test_an_absent_teacher_is_reported(pair, capsys):
    (pair[1] / "weights.pth").unlink()
    words = ["--batch", "1", "--iterations", "1", "--warm-up", "0", "--device", "cpu"]
    assert main(["latency", str(pair[0]), *words]) == 0
    assert f"measured without its teacher: no file {pair[1]}" in capsys.readouterr().err


def test_without_test_images_drawn_images_are_measured_on(pair, capsys):
    config = read_json(pair[1] / "config.json")
    config["test_dataloader"]["dataset"]["data_root"] = "absent"
    write_json(pair[1] / "config.json", config)
    main(["latency", str(pair[1]), "--batch", "1", "--iterations", "1", "--warm-up", "0"])
    assert "16 drawn images" in capsys.readouterr().out


MISTAKES = [
    (["--batch", "0"], "must be 1 or more"),
    (["--batch", "1,x"], "'x' is not a whole number"),
    (["--size", "640"], "'640' is not a width and a height, such as 640,480"),
    (["--device", "tpu"], "device 'tpu'"),
    (["--size", "99999999,99999999"], "--size 99999999,99999999: "),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES)
def test_a_wrong_option_is_one_line(pair, words, message, capsys):
    assert main(["latency", str(pair[0]), *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not (pair[0] / "latency.json").exists()


def test_a_run_without_weights_is_refused_first(pair, capsys):
    (pair[0] / "weights.pth").unlink()
    assert main(["latency", str(pair[0])]) == 2
    assert (
        f"weights.pth: no such file; write it with `kd train {pair[0]}`" in capsys.readouterr().err
    )


LATENCY = Latency(
    Conditions("a processor", "torch 2.11.0", 4, 640, 480, "16 drawn images"),
    (BatchLatency(1, 10.0, 12.5, 1.0, 50),),
    "2026-12-01T00:00:00+00:00",
)


def test_the_record_of_other_weights_does_not_count(tmp_path):
    assert read_latency(tmp_path) is None
    write_latency(tmp_path, LATENCY, {"weights_sha256": "1a"})
    write_json(tmp_path / "provenance.json", {"weights_sha256": "1a"})
    assert read_latency(tmp_path) == LATENCY
    write_json(tmp_path / "provenance.json", {"weights_sha256": "2b"})
    assert read_latency(tmp_path) is None


@pytest.mark.parametrize("content", [[], {}, {"weights_sha256": "1a", "batches": [{}]}])
def test_a_damaged_record_names_the_command(tmp_path, content):
    write_json(tmp_path / "provenance.json", {"weights_sha256": "1a"})
    write_json(tmp_path / "latency.json", content)
    with pytest.raises(UserError, match="not the latency of a detector; run `kd latency"):
        read_latency(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [("threads", [1]), ("width", None), ("median_ms", "x"), ("median_ms", 0), ("batch", True)],
)
def test_a_record_with_wrong_values_is_refused(tmp_path, key, value):
    write_json(tmp_path / "provenance.json", {"weights_sha256": "1a"})
    write_latency(tmp_path, LATENCY, {"weights_sha256": "1a"})
    record = read_json(tmp_path / "latency.json")
    (record if key in record else record["batches"][0])[key] = value
    write_json(tmp_path / "latency.json", record)
    with pytest.raises(UserError, match="not the latency of a detector"):
        read_latency(tmp_path)
