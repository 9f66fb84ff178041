"""Modules whose classes a composed configuration names; its ``custom_imports`` imports this one."""

import kd.models.mmdet_setup  # noqa: I001, the modules below import mmdet
import kd.classifiers.dataset
import kd.classifiers.model
import kd.data.loader
import kd.data.mixing.images
import kd.data.mixing.transforms
import kd.data.mmdet_datasets
import kd.data.sampling
import kd.models.backbones
import kd.models.detectors
import kd.models.patched_heads
import kd.models.imagenet
import kd.models.optimizers
import kd.training.averaging
import kd.training.distiller
import kd.training.loop
import kd.training.stages  # noqa: F401
