"""``kd resample``: its files, its cache of matches, and intervals of gains from them."""

from pathlib import Path

import numpy as np
import pytest

from analysis.matching import outcomes
from analysis.matching.outcomes import read_arrays
from analysis.statistics.joint import joint_interval
from analysis.statistics.resampled import METRICS, gain_samples, image_interval
from kd.cli.main import main
from kd.common.errors import UserError
from kd.common.files import read_json, sha256, write_json
from kd.config.compose import split_config
from kd.config.library import Library
from kd.data.fingerprint import fingerprints
from kd.evaluation.evaluate import truth_of
from kd.evaluation.stored import coco_results, read_detections
from kd.records import inputs
from tests.analysis.fakes import write_detections, write_run
from tests.support.scenes import reference, repeated
from tests.support.tiny import CLASSES, make_project


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(make_project(tmp_path))
    return tmp_path


def samples(run, figure):
    """Return what `kd resample` wrote of a figure."""
    return read_arrays(run / "resampled.npz")[figure].astype(np.float64)


def write_prediction(run, records):
    """Write detections as `kd predict` does, with the record of what they depend on."""
    write_detections(run, records)
    depends = {
        "version": inputs.VERSIONS["prediction"],
        "data": fingerprints("shapes-tiny", Library().dataset("shapes-tiny", "test"))["test"],
        "detections": sha256(run / "detections.json.gz"),
    }
    inputs.record(run, "prediction", depends)


def make_run(folder, noise=2.0, seed=0, resample=True):
    """Return a run whose boxes are off by ``noise`` pixels; ``resample``: run that step, too."""
    write_run(folder, seed=seed, dataset="shapes-tiny")
    entry = Library().dataset("shapes-tiny", "test")
    loader = {"dataset": split_config(entry, "test", CLASSES, [])}
    config = read_json(folder / "config.json") | {"test_dataloader": loader}
    write_json(folder / "config.json", config)
    truth = truth_of(folder, Library()).coco
    generator = np.random.default_rng(seed)
    labels = {category["id"]: rank for rank, category in enumerate(truth["categories"])}
    results = [
        (
            item["image_id"],
            labels[item["category_id"]],
            np.abs(item["bbox"] + generator.normal(0, noise, 4)).tolist(),
            round(generator.uniform(), 1),
        )
        for item in truth["annotations"]
        for _ in range(3)
    ]
    write_prediction(folder, results)
    if resample:
        assert main(["resample", str(folder)]) == 0
    return folder


def edit_split(count):
    """Reduce the test split to ``count`` images with objects."""
    dataset = Library().dataset("shapes-tiny", "test")
    path = Path(dataset.root, dataset.test.annotations)
    truth = read_json(path)
    with_objects = {item["image_id"] for item in truth["annotations"]}
    images = [image for image in truth["images"] if image["id"] in with_objects][:count]
    ids = {image["id"] for image in images}
    boxes = [item for item in truth["annotations"] if item["image_id"] in ids]
    write_json(path, truth | {"images": images, "annotations": boxes})


def gain_interval(students, baselines, metric):
    samples = gain_samples(students, baselines, metric)
    return None if samples is None else image_interval(samples)


def test_it_writes_ap_of_the_images_and_of_a_thousand_resamples(project):
    run = make_run(project / "run")
    ap = {figure: samples(run, figure) for figure in METRICS}
    assert all(values.shape == (1001,) and (values >= 0).all() for values in ap.values())
    truth = truth_of(run, Library()).coco
    results = coco_results(read_detections(run / "detections.json.gz", truth), truth)
    names = [category["name"] for category in truth["categories"]]
    plain = reference(truth, results, names).stats
    assert [ap["AP"][0], ap["AP50"][0]] == pytest.approx(100 * plain[:2], rel=1e-6)
    assert len(np.unique(ap["AP"])) > 20

    # The last resample, draws here as the documentation says.
    images = len(truth["images"])
    draws = np.random.default_rng(0).multinomial(images, np.full(images, 1 / images), 1000)[-1]
    last = reference(*repeated(truth, results, draws), names).stats
    assert ap["AP"][-1] == pytest.approx(100 * last[0], rel=1e-6)


def test_running_again_reuses_the_matches(project, monkeypatch):
    run = make_run(project / "run")
    before = (run / "resampled.npz").read_bytes()
    (run / "resampled.npz").unlink()

    def match(*_):
        raise AssertionError("matched again")

    monkeypatch.setattr(outcomes.MatchedRun, "of", match)
    assert main(["resample", str(run)]) == 0
    assert (run / "resampled.npz").read_bytes() == before

    write_prediction(run, [])
    with pytest.raises(AssertionError, match="matched again"):
        main(["resample", str(run)])


def test_matches_of_another_version_are_computed_again(project, monkeypatch):
    run = make_run(project / "run")
    before = (run / "matches.npz").read_bytes()
    monkeypatch.setattr(outcomes, "VERSION", "another")
    assert main(["resample", str(run)]) == 0
    assert (run / "matches.npz").read_bytes() != before


def test_a_split_of_one_image_has_no_interval(project):
    first, second = (make_run(project / name) for name in ("first", "second"))
    edit_split(count=1)
    for run in (first, second):
        write_prediction(run, [])
        assert main(["resample", str(run)]) == 0
    assert samples(first, "AP")[0] == 0
    assert np.isnan(samples(first, "AP")[1:]).all()
    assert gain_interval({0: first}, {0: second}, "AP") is None


def test_the_interval_of_a_gain_is_of_paired_resamples_and_shared_seeds(project):
    good, better = (make_run(project / f"good{seed}", 2, seed) for seed in (0, 1))
    bad, worse = (make_run(project / f"bad{seed}", 5, seed) for seed in (0, 1))
    low, high = gain_interval({0: good, 1: better, 2: bad}, {1: worse, 0: bad}, "AP")
    gains = (
        samples(good, "AP") - samples(bad, "AP") + samples(better, "AP") - samples(worse, "AP")
    ) / 2
    assert (low, high) == pytest.approx(tuple(np.quantile(gains[1:], [0.025, 0.975])))
    assert low < gains[0] < high
    assert gain_interval({0: good}, {0: good}, "AP50") == (0, 0)


def test_no_interval_without_a_shared_seed_or_without_samples(project):
    done, other = make_run(project / "done"), make_run(project / "other", resample=False)
    assert gain_interval({0: done}, {1: done}, "AP") is None
    assert gain_interval({0: done, 1: other}, {0: done, 1: done}, "AP") is None
    assert gain_interval({0: done, 1: done}, {0: done, 1: other}, "AP") is None
    assert not (other / "resampled.npz").exists()


def test_no_interval_of_earlier_detections(project):
    one, other = make_run(project / "one"), make_run(project / "other", seed=1)
    ap = samples(one, "AP")[0] / 100
    write_json(one / "metrics.json", {"AP": ap})
    assert gain_interval({0: other}, {0: one}, "AP") is not None
    write_json(one / "metrics.json", {"AP": ap + 1e-4})
    assert gain_interval({0: other}, {0: one}, "AP") is None


def test_runs_of_different_splits_are_refused(project):
    before = make_run(project / "before")
    edit_split(count=2)
    after = make_run(project / "after")
    with pytest.raises(UserError, match=r"before/resampled\.npz and .*after.*: of different test"):
        gain_interval({0: before}, {0: after}, "AP")


@pytest.mark.parametrize("name", ["matches.npz", "resampled.npz"])
def test_a_damaged_file_is_named(project, capsys, name):
    run = make_run(project / "run")
    (run / name).write_bytes((run / name).read_bytes()[:1000])
    if name == "matches.npz":
        assert main(["resample", str(run)]) == 2
        assert "matches.npz: cannot be read" in capsys.readouterr().err
    else:
        with pytest.raises(UserError, match=r"resampled\.npz: cannot be read .*delete it"):
            samples(run, "AP")


def test_a_folder_that_is_no_detectors_run_is_refused(project, capsys):
    run = make_run(project / "run", resample=False)
    (run / "detections.json.gz").unlink()
    assert main(["resample", str(run)]) == 2
    assert "detections.json.gz: no such file; write it with `kd predict " in capsys.readouterr().err
    (run / "run.json").write_text("{}")
    assert main(["resample", str(run)]) == 2
    assert "not the run of a detector" in capsys.readouterr().err


def test_the_joint_interval_is_of_all_shared_seeds(project):
    students = {seed: make_run(project / f"good{seed}", 2, seed) for seed in (0, 1)}
    baselines = {seed: make_run(project / f"bad{seed}", 5, seed) for seed in (0, 1)}
    gains = gain_samples(students, baselines, "AP")
    assert gains.shape == (2, 1001)
    assert gains[1] == pytest.approx(samples(students[1], "AP") - samples(baselines[1], "AP"))
    low, high = joint_interval(gains)
    by_images = gain_interval(students, baselines, "AP")
    assert low < by_images.low < by_images.high < high
    assert gain_samples({0: students[0]}, {1: baselines[1]}, "AP") is None
