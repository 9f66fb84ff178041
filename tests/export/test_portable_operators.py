"""Deformable convolutions of mmcv as ONNX's operator, for any size of the input."""

import mmcv.ops
import numpy as np
import onnxruntime
import pytest
import torch

from kd.export.operators import OPSET, portable_operators

LAYERS = {
    "v1": lambda: mmcv.ops.DeformConv2dPack(8, 6, 3, padding=1, groups=2, deform_groups=2),
    "v2": lambda: mmcv.ops.ModulatedDeformConv2dPack(8, 6, 3, stride=2, padding=2, dilation=2),
}


@pytest.mark.parametrize("version", LAYERS)
def test_a_layer_computes_the_same_in_onnx(version, tmp_path):
    layer = LAYERS[version]().eval()
    torch.nn.init.normal_(layer.conv_offset.weight, std=0.3)
    path = tmp_path / "layer.onnx"
    with portable_operators(), torch.no_grad():
        torch.onnx.export(
            layer,
            (torch.zeros(1, 8, 12, 10),),
            str(path),
            input_names=["input"],
            dynamic_axes={"input": {0: "batch", 2: "height", 3: "width"}},
            opset_version=OPSET,
            dynamo=False,
        )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert "DeformConv" in path.read_bytes().decode(errors="ignore")
    for size in ((2, 8, 12, 10), (1, 8, 7, 9), (1, 8, 3, 3)):
        images = torch.randn(size)
        (output,) = session.run(None, {"input": images.numpy()})
        with torch.no_grad():
            np.testing.assert_allclose(output, layer(images).numpy(), atol=1e-5)
