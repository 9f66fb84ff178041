"""Installed as ``mmcv/_ext.py``, so that mmdet is imported like with a compiled mmcv.

Python prefers the compiled module of the same name, where a compiled mmcv replaces mmcv-lite.
"""

import sys

from kd.models.mmcv_ops import extension

sys.modules[__name__] = extension()
