"""Preparation of a process for mmdet: import this module before mmdet and before kd.data.sampling.

It installs the operators that mmcv-lite lacks, makes deformable convolutions accept any batch,
keeps seaborn from being imported and hides warnings of mmdet and its dependencies about outdated
calls. It also makes glibc keep freed memory.
"""

import sys
import warnings

from kd.models import allocator, deform_ops, mmcv_ops

allocator.keep_freed_memory()
mmcv_ops.install()
if "seaborn" not in sys.modules:  # mmdet works without; it imports pandas and scipy, two seconds
    sys.modules["seaborn"] = None  # type: ignore[assignment]
    import mmdet.utils
    import mmdet.visualization  # noqa: F401

    del sys.modules["seaborn"]
deform_ops.accept_any_batch()
OUTDATED = (
    "pkg_resources is deprecated",
    "`num_anchors` is deprecated",
    "DeprecationWarning: pos_bboxes is deprecated",
    "`torch.cuda.amp.autocast",
    "torch.meshgrid: in an upcoming release",
)
"""Warnings of mmdet and its dependencies about outdated calls."""
for text in OUTDATED:
    warnings.filterwarnings("ignore", message=f".*{text}.*")
