"""Everything a composed configuration refers to, registered: import this before building one."""

import sys
import warnings

from kd.models import mmcv_ops
from kd.training import allocator

allocator.keep_freed_memory()
mmcv_ops.install()
if "seaborn" not in sys.modules:  # mmdet does without; it brings pandas and scipy, two seconds
    sys.modules["seaborn"] = None  # type: ignore[assignment]
    import mmdet.utils
    import mmdet.visualization  # noqa: F401

    del sys.modules["seaborn"]
for text in ("pkg_resources is deprecated", "`num_anchors` is deprecated"):
    warnings.filterwarnings("ignore", message=f".*{text}.*")


import kd.classifiers.dataset  # noqa: E402
import kd.classifiers.model  # noqa: E402
import kd.data.loader  # noqa: E402
import kd.data.mmdet_datasets  # noqa: E402
import kd.data.sampling  # noqa: E402
import kd.models.backbones  # noqa: E402
import kd.models.heads  # noqa: E402
import kd.models.imagenet  # noqa: E402
import kd.models.optimizers  # noqa: E402
import kd.training.distiller  # noqa: E402
import kd.training.loop  # noqa: E402, F401
