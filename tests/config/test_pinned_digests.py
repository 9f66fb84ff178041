"""Digests of ten shipped runs: a change of the code that moves one orphans everyone's results."""

import pytest

from kd.config.library import Library
from kd.config.plan import plan
from tests.support.paths import CONFIGS

PINNED = {
    ("rm_pfi", "paper"): [
        "paper/coco2017/1x/atss-r18/pfi_from_atss-r50/seed0-45265f2b",
        "paper/coco2017/1x/fcos-r50/alone/seed0-c3bb1be8",
        "paper/coco2017/1x/gfl-r18/fitnets_negative_from_gfl-r50/seed0-3f584d48",
    ],
    ("dicod", "paper"): [
        "paper/coco2017/2x-lr0.01/retinanet-r50/"
        "dicod+fkd_from_retinanet-r101+classifier-r50/seed0-30340ca9",
        "paper/coco2017/ssd/ssd300-vgg16-fc7/dicod_cls_from_classifier-r50-ssd/seed0-15bcf379",
        "paper/coco2017/classifier/r50/seed0-e0d45723",
    ],
    ("defeat", "paper"): ["paper/voc0712/voc12/faster_rcnn-r101/alone/seed0-ab438400"],
    ("ours", "paper"): [
        "paper/coco2017/1x/retinanet-r18/rm+pfi_from_retinanet-r50/seed0-2e60fa98",
    ],
    ("fkd", "smoke"): ["smoke/shapes-smoke/smoke/cascade_rcnn-r18/alone/seed0-8fac3b9a"],
    ("bccd", "smoke"): [
        "smoke/bccd/bccd/retinanet-mbv2-w0.25/rm_from_retinanet-mbv2-w0.5/seed0-824a7b68",
    ],
}
"""Names of runs, which end in their digests, by study and scale."""


@pytest.mark.parametrize(("study", "scale"), PINNED)
def test_a_shipped_run_keeps_its_digest(study: str, scale: str) -> None:
    planned = plan(study, scale, Library(CONFIGS))
    names = {*planned.runs, *planned.classifiers}
    assert {*PINNED[study, scale]} <= names


def test_ten_runs_are_pinned() -> None:
    assert sum(map(len, PINNED.values())) == 10
