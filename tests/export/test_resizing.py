"""Images are resized as in the run's test pipeline, without OpenCV."""

import mmcv
import numpy as np
import pytest

from kd.common.errors import UserError
from kd.export.resizing import ResizeRule, resize_rule
from kd.inference.detect_onnx import resize

FIT = {"type": "FitInto", "width": 133, "height": 80}


@pytest.mark.parametrize("sides", [(50, 70), (300, 200), (160, 266), (1, 3), (80, 133)])
@pytest.mark.parametrize("keeps", [True, False])
def test_images_are_those_of_mmcv(sides, keeps):
    image = np.random.default_rng(0).integers(0, 256, (*sides, 3), dtype=np.uint8)
    rule = ResizeRule(133, 80, keep_ratio=keeps).settings
    scaled = mmcv.imrescale if keeps else mmcv.imresize
    expected = scaled(image, (133, 80))
    resized = resize(image, rule)
    assert resized.shape == expected.shape
    differences = np.abs(resized - expected.astype(float))
    assert differences.max() <= 1
    assert (differences > 0).mean() < 0.08  # 0.12 if products were not rounded as OpenCV does


def test_the_rule_of_a_pipeline():
    load, pack = {"type": "LoadImageFromFile"}, {"type": "PackDetInputs"}
    assert resize_rule([load, FIT, pack]) == ResizeRule(133, 80, True)
    pad = {**FIT, "type": "PadInto", "value": 114}
    assert resize_rule([load, FIT, pad, pack]) == ResizeRule(133, 80, True, 114)
    exact = {"type": "Resize", "scale": [64, 48], "keep_ratio": False}
    assert resize_rule([load, exact, pack]) == ResizeRule(64, 48, False)


def test_an_unknown_transform_is_refused():
    with pytest.raises(UserError, match="RandomFlip"):
        resize_rule([FIT, {"type": "RandomFlip"}])
