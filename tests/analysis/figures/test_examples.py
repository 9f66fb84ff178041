"""Qualitative pairs: which images are chosen, what is drawn in them, and that nobody picks."""

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from analysis.figures.examples.analysis import Examples
from analysis.figures.examples.plot import (
    CORNERS,
    best_score,
    boxes,
    choose,
    compare,
    count,
    load,
    plot,
    see,
)
from analysis.matching.matching import pair
from kd.common.errors import UserError
from kd.common.files import read_json, write_json
from kd.config.compose import split_config
from kd.config.library import Library
from tests.analysis.fakes import groups, write_detections, write_run

SIDE = 64
BOX, OTHER, FAR = [4, 4, 20, 20], [36, 4, 20, 20], [30, 40, 20, 20]


def truth(*objects, images=3, classes=("cat", "dog")):
    """Return a COCO dict of objects, each image, label and xywh box; images are 1 to ``images``."""
    return {
        "images": [
            {"id": i, "file_name": f"{i}.png", "width": SIDE, "height": SIDE}
            for i in range(1, images + 1)
        ],
        "categories": [{"id": i, "name": name} for i, name in enumerate(classes, 1)],
        "annotations": [
            {"id": n, "image_id": image, "category_id": label + 1, "bbox": box, "iscrowd": 0}
            | {"area": box[2] * box[3]}
            for n, (image, label, box) in enumerate(objects, 1)
        ],
    }


def detection(image, label, box, score):
    return {"image_id": image, "category_id": label + 1, "bbox": box, "score": score}


def seen(ground_truth, *detections, run="run", score=0.5, iou=0.5):
    listed = [detection(*each) for each in detections]
    return see(run, pair(ground_truth, listed), iou, score)


SCENE = truth((1, 0, BOX), (1, 1, OTHER), (2, 0, BOX))


def test_counts_and_f1_by_hand():
    """Image 1: one of two found, one false: 2 / (2 + 1 + 1). Image 2: a score too low."""
    found = seen(SCENE, (1, 0, BOX, 0.9), (1, 0, OTHER, 0.8), (2, 0, BOX, 0.4))
    frame = count(found)
    assert frame["image"].tolist() == [1, 2, 3]
    assert frame[["right", "wrong", "missed"]].to_numpy().tolist() == [
        [1, 1, 1],
        [0, 0, 1],
        [0, 0, 0],
    ]
    assert frame["f1"].tolist() == pytest.approx([0.5, 0, np.nan], nan_ok=True)


def test_an_image_without_objects_has_no_f1_and_is_only_chosen_at_random():
    base, better = seen(SCENE, (3, 0, BOX, 0.9), run="a"), seen(SCENE, run="b")
    frame = compare(base, [better])
    assert frame.loc[frame["image"] == 3, ["f1", "gain"]].isna().all(axis=None)
    assert frame.loc[frame["image"] == 3, "fewer"].tolist() == [1, 1]
    chosen = choose(frame, ("gain", "loss", "random"), 3, 0)
    assert (chosen["gain"], chosen["loss"], sorted(chosen["random"])) == ([], [], [1, 2, 3])


def test_a_second_detection_of_an_object_is_wrong():
    frame = count(seen(SCENE, (2, 0, BOX, 0.9), (2, 0, BOX, 0.8)))
    assert frame.loc[1, ["right", "wrong", "missed"]].tolist() == [1, 1, 0]


def test_the_iou_decides():
    shifted = [12, 4, 20, 20]  # 12 of 28 columns are shared: IoU 3/7
    assert count(seen(SCENE, (2, 0, shifted, 0.9), iou=0.5))["right"].sum() == 0
    assert count(seen(SCENE, (2, 0, shifted, 0.9), iou=0.4))["right"].sum() == 1


@pytest.mark.parametrize(
    ("detections", "best"),
    [
        # F1 of the first, the first two, all three: 1/2, 4/5, 2/3
        ([(1, 0, BOX, 0.9), (1, 1, OTHER, 0.7), (3, 0, BOX, 0.6)], 0.7),
        # equal scores are taken together: 2/5, then 2 * 2 / (4 + 1 + 1)
        ([(3, 0, BOX, 0.9), (1, 0, BOX, 0.9), (2, 0, BOX, 0.3)], 0.3),
        ([], 1.0),
        ([(3, 0, BOX, 0.9), (3, 0, BOX, 0.2)], 0.9),  # nothing is found from any score on
    ],
)
def test_each_run_counts_from_its_best_score_on(detections, best):
    assert seen(SCENE, *detections, score=None).score == best


def test_the_best_score_is_the_best_of_all():
    rng = np.random.default_rng(0)
    found = [
        (int(rng.integers(1, 4)), int(rng.integers(2)), [int(rng.integers(9)), 4, 20, 20], s)
        for s in rng.random(40).round(1)
    ]
    pairing = pair(SCENE, [detection(*each) for each in found])
    whole = see("run", pairing, 0.3, 0.0).matches

    def f1(score):
        kept = pairing.detections.score >= score
        right, wrong = (whole.right & kept).sum(), (whole.wrong & kept).sum()
        return 2 * right / (right + wrong + whole.counted.sum())

    scores = pairing.detections.score
    best = best_score(scores, whole)
    assert f1(best) == max(f1(score) for score in scores)
    assert all(f1(score) < f1(best) for score in scores[scores > best])


def test_gains_are_means_over_the_distilled():
    base = seen(SCENE, (1, 0, BOX, 0.9), run="baseline")
    better = seen(SCENE, (1, 0, BOX, 0.9), (2, 0, BOX, 0.9), run="a")
    worse = seen(SCENE, run="b")
    frame = compare(base, [better, worse]).drop_duplicates("image").set_index("image")
    assert frame.loc[1, "gain"] == pytest.approx((0 - 2 / 3) / 2)
    assert frame.loc[2, ["gain", "fewer"]].tolist() == [0.5, 0.5]
    assert np.isnan(frame.loc[3, "gain"])


def gains(values, fewer=None):
    frame = pd.DataFrame({"image": range(1, len(values) + 1), "gain": values})
    return frame.assign(fewer=fewer or 0)


def test_the_largest_gains_and_losses_are_chosen():
    chosen = choose(gains([0.1, -0.5, 0.3, 0.0, -0.1, 0.2]), ("gain", "loss", "random"), 2, 0)
    assert chosen["gain"] == [3, 6]
    assert chosen["loss"] == [2, 5]
    assert set(chosen["random"]) == {1, 4}


def test_of_equal_gains_more_errors_avoided_then_the_lower_id():
    frame = gains([0.5, 0.5, 0.5, -0.5, -0.5], [1, 2, 2, -1, -3])
    assert choose(frame, ("gain",), 3, 0)["gain"] == [2, 3, 1]
    assert choose(frame, ("loss",), 2, 0)["loss"] == [5, 4]


def test_images_that_do_not_gain_are_no_gains():
    chosen = choose(gains([0.0, 0.0, -0.1]), ("random", "gain", "loss"), 5, 0)
    assert list(chosen) == ["gain", "loss", "random"]
    assert chosen["gain"] == []
    assert (chosen["loss"], sorted(chosen["random"])) == ([3], [1, 2])


def test_the_seed_alone_decides_the_random_ones():
    frame = gains([0.0] * 50)
    first, same, other = (choose(frame, ("random",), 5, s)["random"] for s in (1, 1, 2))
    assert first == same != other
    assert choose(frame.sample(frac=1, random_state=0), ("random",), 5, 1)["random"] == first


def test_the_boxes_are_those_of_the_chosen_images():
    found = seen(SCENE, (1, 0, BOX, 0.9), (1, 0, FAR, 0.75), (2, 0, BOX, 0.9), run="a")
    frame = boxes([found], [1])
    rows = frame[["run", "kind", "class", *CORNERS]].to_numpy().tolist()
    assert rows == [
        ["", "object", "cat", 4, 4, 24, 24],
        ["", "object", "dog", 36, 4, 56, 24],
        ["a", "right", "cat", 4, 4, 24, 24],
        ["a", "wrong", "cat", 30, 40, 50, 60],
        ["a", "missed", "dog", 36, 4, 56, 24],
    ]
    assert frame["score"].dropna().tolist() == [0.9, 0.75]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Return a function that makes runs of a small data set in the project's root."""
    (tmp_path / "configs/datasets").mkdir(parents=True)
    coco = {**SCENE, "categories": SCENE["categories"]}
    entry = {"annotations": "test.json", "images": "test"}
    dataset = {"format": "coco", "root": "data", "train": entry, "test": entry}
    settings = {"classes": ["cat", "dog"], "image_size": [SIDE, SIDE]}
    (tmp_path / "configs/datasets/pets.yaml").write_text(yaml.safe_dump(dataset | settings))
    write_json(tmp_path / "data/test.json", coco)
    (tmp_path / "data/test").mkdir()
    for image in coco["images"]:
        Image.new("RGB", (SIDE, SIDE), (90, 120, 90)).save(
            tmp_path / "data/test" / image["file_name"]
        )

    def make(name, found, methods=None, seed=0):
        run = write_run(tmp_path / name, methods, seed, dataset="pets")
        split = split_config(Library().dataset("pets", "test"), "test", ["cat", "dog"], [])
        config = read_json(run / "config.json") | {"test_dataloader": {"dataset": split}}
        write_json(run / "config.json", config)
        write_detections(run, found)
        return run

    library = Library()
    for name in ("configs/detectors", "configs/backbones", "configs/presets"):
        (tmp_path / name).symlink_to((library.root / name.rpartition("/")[2]).resolve())
    monkeypatch.chdir(tmp_path)
    return make


def find(*runs, **settings):
    return Examples(**settings).run(groups(*runs), Library())


@pytest.fixture
def pairs(project):
    return (
        project("alone", [(1, 0, BOX, 0.9), (2, 1, OTHER, 0.9)]),
        project("rm", [(1, 0, BOX, 0.9), (2, 0, BOX, 0.9)], {"rm": {"weight": 1.0}}),
    )


def test_the_figure_has_a_row_for_each_image_and_every_box(pairs):
    findings = find(*pairs, score=0.5)
    figure, frame = findings.pictures["examples"], findings.tables["examples"]
    assert len(figure.axes) == 3 * 3
    assert [axes.get_title() for axes in figure.axes[:3]] == ["2.png", "F1 0.00", "F1 1.00"]
    titles = {axes.get_title() for axes in figure.axes[3:]}
    assert titles == {"1.png", "F1 0.67", "3.png", "nothing to find"}
    (reason,) = (text for text in figure.axes[0].texts if text.get_rotation() == 90)
    assert reason.get_text() == "Largest gain\n(+1.00)"
    wrong, missed = sorted(figure.axes[1].patches, key=lambda patch: patch.get_linestyle())
    assert (wrong.get_linestyle(), wrong.get_xy()) == ("--", (35.5, 3.5))
    assert (missed.get_linestyle(), missed.get_xy()) == (":", (3.5, 3.5))
    (right,) = figure.axes[2].patches
    assert (right.get_linestyle(), right.get_width()) == ("-", 20)
    assert figure.axes[2].texts[0].get_text() == "cat 0.90"
    assert len(findings.tables["examples-boxes"]) == 3 + 2 + 2 + 3
    assert sorted(frame["chosen"]) == ["gain"] * 2 + ["random"] * 4
    assert "Of 2 images with objects 1 gain and 0 lose" in findings.caption
    assert "No image to show for 'loss'" in findings.caption


def test_choices_are_settings(pairs):
    assert len(find(*pairs, choose=["gain"], number=1).pictures["examples"].axes) == 3
    assert len(find(*pairs, choose=["loss"]).pictures["examples"].texts) == 1
    with pytest.raises(UserError, match="key 'choose"):
        Examples.parse({"choose": ["best"]}, "settings")


def test_the_same_runs_give_the_same_tables(pairs):
    first, second = (find(*pairs).tables for _ in range(2))
    assert all(first[name].equals(second[name]) for name in first)


def test_drawing_from_the_csv_gives_the_same_boxes(pairs, tmp_path):
    findings = find(*pairs)
    tables = {}
    for name, frame in findings.tables.items():
        frame.to_csv(tmp_path / name, index=False)
        tables[name] = pd.read_csv(tmp_path / name).fillna({"run": "", "chosen": ""})
    pictures = {image: np.zeros((SIDE, SIDE, 3)) for image in (1, 2, 3)}
    again = plot(tables["examples"], tables["examples-boxes"], pictures)
    for axes, same in zip(findings.pictures["examples"].axes, again.axes, strict=True):
        assert [p.get_xy() for p in axes.patches] == [p.get_xy() for p in same.patches]
        assert [t.get_text() for t in axes.texts] == [t.get_text() for t in same.texts]


def test_no_names_lie_on_each_other(project):
    rng = np.random.default_rng(0)
    found = [(1, 0, [*rng.uniform(0, 40, 2), 15, 15], 0.9) for _ in range(60)]
    runs = project("alone", found), project("rm", [(1, 0, BOX, 0.9)], {"rm": {"weight": 1.0}})
    figure = find(*runs, score=0.5, choose=["gain"], number=1).pictures["examples"]
    figure.draw_without_rendering()
    axes = figure.axes[1]
    areas = [text.get_window_extent() for text in axes.texts if "cat" in text.get_text()]
    assert 3 < len(areas) < 60
    assert not any(a.overlaps(b) for n, a in enumerate(areas) for b in areas[:n])
    assert len(axes.patches) >= len(found)  # the boxes are all there


def test_more_than_four_distilled_are_named_and_left_out(project):
    names = ("rm", "pfi", "fitnets", "fgfi", "gid", "fkd")
    runs = [project(name, [(1, 0, BOX, 0.9)], {name: {"weight": 1.0}}) for name in names]
    findings = find(project("alone", []), *runs, number=1)
    assert len(findings.tables["examples"]["run"].unique()) == 5
    assert "2 more were given" in findings.caption


def test_without_any_detection_or_object(project):
    runs = project("alone", []), project("rm", [], {"rm": {"weight": 1.0}})
    findings = find(*runs)
    assert "0 gain and 0 lose" in findings.caption
    assert findings.tables["examples"]["f1"].dropna().tolist() == [0] * 4


def test_a_pair_needs_a_baseline_and_a_distilled_run(pairs, project):
    with pytest.raises(UserError, match="no run of a distilled student; give its directory"):
        find(pairs[0])
    with pytest.raises(UserError, match="no run of a student trained without distillation"):
        find(pairs[1])
    with pytest.raises(UserError, match="several students without distillation"):
        find(*pairs, write_run(project("other", []), student="r34", dataset="pets"))


def test_a_lost_image_is_named(pairs, tmp_path):
    (tmp_path / "data/test/2.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"2\.png"):
        load(tmp_path / "data/test/2.png")
    with pytest.raises(UserError, match=r"absent\.png: the image cannot be read"):
        load(tmp_path / "absent.png")
