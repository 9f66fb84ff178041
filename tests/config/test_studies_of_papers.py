"""Studies of DeFeat, DICOD and FKD: the rows are those of the papers."""

from functools import cache
from typing import Any

import pytest

from kd.config.library import Library
from kd.config.plan import Row, plan
from tests.support.paths import CONFIGS

LIBRARY = Library(CONFIGS)


@cache
def rows_of(study: str) -> list[Row]:
    return plan(study, "paper", LIBRARY).rows


def table(study: str, name: str, kind: str = "distilled") -> list[Row]:
    return [row for row in rows_of(study) if (row.table, row.kind) == (name, kind)]


def term(row: Row, name: str) -> dict[str, Any]:
    """Return the settings of a row's only term of a method."""
    terms = row.runs[0].config["model"]["methods"].values()
    (settings,) = (settings for settings in terms if settings["method"] == name)
    return settings


def classifier(row: Row) -> dict[str, Any]:
    return row.runs[0].config["model"]["classifier"]


# --- DeFeat --------------------------------------------------------------------------------

DECOUPLED, OFF = ("decoupled", 4, 16), ("decoupled", 0, 0)
COLUMNS = {
    # the neck and its two weights; the head and its two weights; the backbone's two weights
    "defeat_all": (("whole", 4, 16), OFF, (0, 0)),
    "defeat": (DECOUPLED, OFF, (0, 0)),
    "defeat_object": (("decoupled", 4, 0), OFF, (0, 0)),
    "defeat_background": (("decoupled", 0, 16), OFF, (0, 0)),
    "defeat_cls_all": (DECOUPLED, ("whole", 2, 0), (0, 0)),
    "defeat_cls": (DECOUPLED, ("decoupled", 2, 2), (0, 0)),
    "defeat_full": (DECOUPLED, ("decoupled", 2, 2), (1, 1)),
    "defeat_backbone": (DECOUPLED, OFF, (1, 1)),
    "defeat_head_positive": (OFF, ("decoupled", 2, 0), (0, 0)),
    "defeat_head_negative": (OFF, ("decoupled", 0, 2), (0, 0)),
    "defeat_head_all": (OFF, ("whole", 2, 0), (0, 0)),
    "defeat_head": (OFF, ("decoupled", 2, 2), (0, 0)),
    "defeat_voc": (("decoupled", 3, 12), OFF, (0, 0)),
}


def test_the_columns_of_defeat_have_the_terms_that_they_name() -> None:
    methods = set()
    for row in rows_of("defeat"):
        if row.kind != "distilled" or row.method == "fgfi_defeat":
            continue
        settings = term(row, "defeat")
        assert COLUMNS[row.method] == (
            (settings["neck"], settings["object_weight"], settings["background_weight"]),
            (settings["head"], settings["positive_weight"], settings["negative_weight"]),
            (settings["backbone_object_weight"], settings["backbone_background_weight"]),
        )
        methods.add(row.method)
    assert methods == COLUMNS.keys()


def test_defeats_ablation_has_the_published_gains_of_its_columns() -> None:
    gains = {
        row.method: round(row.published["AP"] - row.published_baseline["AP"], 1)
        for row in table("defeat", "faster_rcnn")
    }
    assert gains == {
        "defeat_all": 2.7,
        "defeat": 3.0,
        "defeat_cls_all": 3.1,
        "defeat_cls": 3.4,
        "defeat_full": 3.5,
    }
    assert [row.published["AP"] for row in table("defeat", "retinanet")] == [39.1, 39.5, 39.7]
    regions = {row.method: row.published["AP"] for row in table("defeat", "regions")}
    assert regions["defeat_object"] == regions["defeat_background"] == 39.9


README = {
    # normalization, clipping, rate: R101, R50 (README of ggjy/DeFeat.pytorch c46a793d)
    ("BN", None, 0.01): (81.70, 80.52),
    ("BN", None, 0.02): (82.27, None),
    ("BN", 35, 0.02): (None, 80.97),
    ("SyncBN", 35, 0.01): (81.59, 80.66),
    ("SyncBN", None, 0.02): (81.83, 80.76),
}


def test_the_training_settings_of_defeat_are_those_of_its_readme() -> None:
    results: dict[tuple[Any, ...], dict[str, float | None]] = {}
    for kind in ("teacher", "baseline"):
        for row in table("defeat", "voc_training", kind):
            config = row.runs[0].config
            training = (
                config["model"]["backbone"]["norm_cfg"]["type"],
                config["optim_wrapper"].get("clip_grad", {}).get("max_norm"),
                config["optim_wrapper"]["optimizer"]["lr"],
            )
            results.setdefault(training, {})[kind] = row.published.get("VOC07")
    assert {
        training: (result["teacher"], result["baseline"]) for training, result in results.items()
    } == README


def test_defeats_voc_student_is_clipped_and_its_teacher_was_not() -> None:
    (teacher,) = table("defeat", "voc", "teacher")
    assert teacher.published["VOC07"] == 82.27
    for row in table("defeat", "voc"):
        run = row.runs[0]
        assert run.teacher == teacher.runs[0]
        assert run.config["optim_wrapper"]["clip_grad"] == {"max_norm": 35}
        assert run.config["optim_wrapper"]["optimizer"]["lr"] == 0.01
        assert "clip_grad" not in teacher.runs[0].config["optim_wrapper"]
        assert teacher.runs[0].config["optim_wrapper"]["optimizer"]["lr"] == 0.02
    assert {row.method: dict(row.published) for row in table("defeat", "voc")} == {
        "fgfi_defeat": {},  # the README's w1 and w2 are not explained
        "defeat_voc": {},
    }


# --- DICOD ---------------------------------------------------------------------------------


def test_dicods_students_of_table_1() -> None:
    rows = table("dicod", "table1_ssd", "baseline") + table(
        "dicod", "table1_faster_rcnn", "baseline"
    )
    values = {(row.detector, row.student): row.published["AP"] for row in rows}
    assert values == {
        ("ssd300", "vgg16-fc7"): 25.6,
        ("ssd512", "vgg16-fc7"): 29.4,
        ("faster_rcnn", "r50-w0.25"): 23.3,
        ("faster_rcnn", "mbv2"): 31.9,
    }
    backbone = {row.student: row.runs[0].config["model"]["backbone"] for row in rows}
    assert backbone["r50-w0.25"]["base_channels"] == 16
    assert backbone["mbv2"]["widen_factor"] == 1


@pytest.mark.parametrize("name", ["table1_ssd", "table1_faster_rcnn"])
def test_dicods_columns_learn_from_the_classifier_of_their_family(name: str) -> None:
    of_ssd = name == "table1_ssd"
    for row in table("dicod", name):
        weights = [term(row, "dicod")[key] for key in ("lambda_kc", "lambda_l", "lambda_kl")]
        assert (
            weights
            == {
                "dicod_cls": [0.4, 0, 0],
                "dicod_loc": [0, 0.15, 0],
                "dicod_loc_kd": [0, 0.15, 0.15],
                "dicod": [0.4, 0.15, 0.15],
            }[row.method]
        )
        if row.method == "dicod_loc":
            assert (row.teacher, row.classifier) == ("", "")
            assert "classifier" not in row.runs[0].config["model"]
            continue
        assert row.teacher == row.classifier == ("r50-ssd" if of_ssd else "r50")
        model = classifier(row)
        assert (model["architecture"], model["size"]) == ("resnet50", 112)
        assert (model["std"] == [1.0, 1.0, 1.0]) is of_ssd
        assert model["loss"] == ("cross_entropy" if of_ssd else "cross_entropy+focal")


def test_dicod_with_fkd_has_both_teachers() -> None:
    rows = [row for row in rows_of("dicod") if row.method == "dicod+fkd"]
    assert {(row.table, row.detector, row.teacher, row.student) for row in rows} == {
        ("table2_faster_rcnn", "faster_rcnn", "r101", "r50"),
        ("table2_retinanet", "retinanet", "r101", "r50"),
        ("table2_compact", "faster_rcnn", "r50", "mbv2"),
        ("table2_compact", "faster_rcnn", "r50", "r50-w0.25"),
        ("table2_ssd", "ssd512", "r101", "vgg16-fc7"),
        ("camera_ready_faster_rcnn", "faster_rcnn", "r50", "r50-w0.25"),
        ("camera_ready_ssd", "ssd512", "r101", "vgg16-fc7"),
    }
    for row in rows:
        model = row.runs[0].config["model"]
        assert {"teacher", "checkpoint", "classifier", "classifier_checkpoint"} <= model.keys()
        assert row.classifier == ("r50-ssd" if row.detector == "ssd512" else "r50")
        assert not row.published or "teacher not stated" in row.differs


def test_dicods_weights_and_temperatures() -> None:
    rows = table("dicod", "table3a")
    values = [(term(row, "dicod")["lambda_kc"], term(row, "dicod")["temperature"]) for row in rows]
    assert values == [(0.1, 1), (0.1, 2), (0.2, 1), (0.3, 1), (0.4, 1), (0.4, 2), (0.4, 3)]
    assert [row.published["AP"] for row in rows] == [25.8, 25.4, 25.8, 26.0, 26.1, 26.3, 26.0]
    (default,) = (row for row in table("dicod", "table5") if row.method == "dicod_cls")
    terms = [term(row, "dicod") for row in (rows[5], default)]
    assert terms[0] == terms[1]


def test_dicods_classifiers() -> None:
    rows = table("dicod", "table3b")
    values = [
        (classifier(row)["architecture"], classifier(row)["size"], row.published["AP"])
        for row in rows
    ]
    assert values == [
        ("resnet18", 112, 25.9),
        ("resnet50", 112, 26.3),
        ("resnext101_32x8d", 112, 25.3),
        ("resnet50", 56, 26.2),
        ("resnet50", 224, 26.2),
    ]
    assert {classifier(row)["loss"] for row in rows} == {"cross_entropy"}
    assert len({row.runs[0].name for row in rows}) == 5


def test_dicods_sampling_and_pooling() -> None:
    sampled, pooled = table("dicod", "table4a"), table("dicod", "table4b")
    assert [term(row, "dicod")["crop_size"] for row in sampled] == [14, 28, 56, 112, 224]
    assert {term(row, "dicod")["pixel_pool"] for row in sampled} == {4}
    assert [term(row, "dicod")["pixel_pool"] for row in pooled] == [2, 4, 8, 16]
    assert [row.published["AP"] for row in sampled] == [26.4, 26.7, 26.8, 27.0, 27.0]
    assert [row.published["AP"] for row in pooled] == [26.6, 27.0, 27.1, 26.9]
    assert {row.teacher for row in sampled + pooled} == {""}


def test_dicods_layers() -> None:
    values = {}
    for row in table("dicod", "table4c"):
        settings = term(row, "dicod")
        pixels = [settings["pixel_pool"]] if settings["lambda_l"] else []
        stages = (
            list(zip(settings["stages"], settings["stage_pools"], strict=True))
            if settings["lambda_kl"]
            else []
        )
        values[row.published["AP"]] = (pixels, stages)
    assert values == {
        27.1: ([8], []),
        26.8: ([], [(0, 4)]),
        27.2: ([4], [(0, 8)]),
        26.9: ([4], [(0, 8), (1, 16)]),
    }


# --- FKD -----------------------------------------------------------------------------------

ONE, TWO = (2.4e-2, 4.2e-4, 4.2e-4, 0.1), (4e-3, 7e-5, 7e-5, 0.5)
"""Weights of transfer, features and relations, and the temperature, in the published code."""
PAPER_ONE, PAPER_TWO = (4e-4, 2e-2, 4e-4, 0.5), (7e-5, 4e-3, 7e-5, 0.1)


def numbers(row: Row) -> tuple[float, ...]:
    settings = term(row, "fkd")
    keys = ("transfer_weight", "feature_weight", "nonlocal_weight", "temperature")
    return tuple(settings[key] for key in keys)


def test_fkds_numbers_follow_form_and_detector() -> None:
    for name, code, paper in (
        ("faster_rcnn", TWO, PAPER_TWO),
        ("abstract", TWO, PAPER_TWO),
        ("retinanet", ONE, PAPER_ONE),
    ):
        assert {row.method: numbers(row) for row in table("fkd", name)} == {
            "fkd": code,
            "fkd_paper": paper,
        }
    (mmrazor,) = table("fkd", "mmrazor")
    assert numbers(mmrazor) == TWO
    assert term(mmrazor, "fkd")["levels"] == 4


def test_fkds_separate_terms() -> None:
    transfer, features, relations, temperature = TWO
    assert {row.method: numbers(row) for row in table("fkd", "terms")} == {
        "fkd_at": (transfer, 0, 0, temperature),
        "fkd_am": (0, features, 0, temperature),
        "fkd_attention": (transfer, features, 0, temperature),
        "fkd_nonlocal": (0, 0, relations, temperature),
        "fkd": TWO,
    }


def test_fkds_rows_except_mmrazors_train_on_the_2x_schedule() -> None:
    epochs = {row.table: row.runs[0].config["train_cfg"]["max_epochs"] for row in rows_of("fkd")}
    assert epochs == {
        "mmrazor": 12,
        "abstract": 24,
        "faster_rcnn": 24,
        "retinanet": 24,
        "terms": 24,
    }
    (mmrazor,) = table("fkd", "mmrazor")
    assert (mmrazor.published["AP"], mmrazor.published_baseline["AP"]) == (39.3, 37.4)
    assert "starts from a checkpoint trained on COCO" in mmrazor.differs


def test_fkds_abstract_is_taught_by_a_cascade() -> None:
    row = next(row for row in table("fkd", "abstract") if row.method == "fkd")
    teacher = row.runs[0].teacher
    assert teacher is not None
    assert (teacher.detector, teacher.student) == ("cascade_rcnn", "r152")
    assert (row.published["AP"], row.published_baseline["AP"]) == (43.9, 39.8)
    assert "here Cascade R-CNN on ResNet-152" in row.differs
