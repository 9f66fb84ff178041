"""Page of published detectors."""

from docs.build.zoo.page import PAGE, page
from kd.config.library import Library
from tests.support.paths import CONFIGS

TEXT = page(Library(CONFIGS))


def test_the_page_is_current() -> None:
    assert (CONFIGS.parent / PAGE).read_text() == TEXT, "run `python -m docs.build.zoo.page`"


def test_teachers_are_listed_with_the_detector_that_serves_them() -> None:
    lines = [line for line in TEXT.splitlines() if "| `coco2017` |" in line]
    (served,) = (line for line in lines if "| `retinanet-r101` |" in line and "`2x-lr0.01`" in line)
    assert served.endswith("| `zoo` | `retinanet_r101_fpn_2x_coco`, AP 38.9 |")
    (near,) = (line for line in lines if "| `gfl-r101` |" in line)
    assert near.endswith("|  | gfl_r101_fpn_ms-2x_coco has images of 480 to 800 pixels |")
