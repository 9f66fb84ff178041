"""Comparison of composed configurations with mmdet's own."""

import kd.models.mmdet_setup  # noqa: F401, the modules of this folder import mmdet
