"""The README of an export: how each form is used."""

from collections.abc import Mapping, Sequence

from kd.export.forms import Form
from kd.export.mmdet_form import CONFIG, WEIGHTS
from kd.export.onnx_form import SCRIPT
from kd.export.standalone import OPERATORS
from kd.export.torchscript_form import TORCHSCRIPT_FILE
from kd.inference.onnx_detector import ONNX_FILE

_USE = {
    "mmdet": f"""## mmdet

`{CONFIG}` and `{WEIGHTS}` need mmdet 3.3. With mmcv-lite in place of a compiled mmcv, the
third line replaces the operators that it lacks; with a compiled mmcv the line does nothing.

```python
import sys
sys.path.insert(0, ".")  # this folder
import {OPERATORS}
from mmdet.apis import inference_detector, init_detector

detector = init_detector("{CONFIG}", "{WEIGHTS}", device="cpu")
print(inference_detector(detector, "image.jpg").pred_instances)
```
""",
    "onnx": f"""## ONNX

`{ONNX_FILE}` contains normalization, padding and post-processing. The script needs numpy,
Pillow and onnxruntime (1.25 or newer if the detector has deformable convolutions):

```
python {SCRIPT} {ONNX_FILE} image.jpg --draw .
```
""",
    "torchscript": f"""## TorchScript

`{TORCHSCRIPT_FILE}` needs torch and torchvision. Its input and outputs are those of the ONNX form.

```python
import torch, torchvision
boxes, scores, labels = torch.jit.load("{TORCHSCRIPT_FILE}")(images)
```
""",
}


def readme(classes: Sequence[str], forms: Sequence[Form], facts: Mapping[str, str]) -> str:
    """Return the text for the written forms."""
    rows = "".join(f"| {key} | {value} |\n" for key, value in facts.items() if key != "classes")
    return (
        f"# Detector of {len(classes)} classes\n\n"
        f"Label 0 is {classes[0]}. All classes: {', '.join(classes)}.\n\n"
        + "\n".join(_USE[form] for form in forms)
        + f"\n## Facts\n\n| | |\n|---|---|\n{rows}"
    )
