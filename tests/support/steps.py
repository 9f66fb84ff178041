"""Gradients of single training steps, with batches computed at once or in parts."""

from types import SimpleNamespace
from typing import Any

import torch
from mmdet.structures import DetDataSample
from mmengine.logging import MMLogger
from mmengine.model import MMDistributedDataParallel
from mmengine.structures import InstanceData
from torch import Tensor, distributed

from kd.data.sampling import mix, seed_everything
from kd.models.build import build_model
from kd.models.optimizers import PreciseOptimWrapper, Precision
from kd.observers import Progress
from kd.training.parts.accumulation import Accumulation
from tests.support.tiny_detectors import CLASSES

SIZE = (64, 96)
SEED, STEP = 3, 7


class GradientRecorder(PreciseOptimWrapper):
    """Optimizer wrapper that records gradients in place of updates."""

    def __init__(self, model: torch.nn.Module, precision: Precision = "float32") -> None:
        super().__init__(precision, optimizer=torch.optim.SGD(model.parameters(), lr=1.0))
        self.model, self.updates = model, 0
        self.gradients: dict[str, Tensor] = {}

    def step(self, **options: Any) -> None:
        self.updates += 1
        self.gradients = {
            name: value.grad.clone()
            for name, value in self.model.named_parameters()
            if value.grad is not None
        }


def raw_batch(boxes: tuple[int, ...], size: tuple[int, int] = SIZE) -> dict[str, Any]:
    """Return images of one size, not yet preprocessed, with the given numbers of boxes."""
    torch.manual_seed(0)
    height, width = size
    samples = []
    for number, count in enumerate(boxes):
        corner = torch.rand(count, 2) * torch.tensor([width, height]) * 0.5
        far = corner + 8 + torch.rand(count, 2) * torch.tensor([width, height]) * 0.3
        sample = DetDataSample(metainfo={"img_shape": size, "ori_shape": size, "img_id": number})
        sample.set_metainfo({"scale_factor": (1.0, 1.0)})
        sample.gt_instances = InstanceData(
            bboxes=torch.cat([corner, far], 1), labels=torch.randint(0, CLASSES, (count,))
        )
        samples.append(sample)
    images = [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for _ in boxes]
    return {"inputs": images, "data_samples": samples}


def build(config: dict[str, Any]) -> Any:
    """Build a model in training, with constant statistics of batch normalization."""
    MMLogger.get_instance("steps", log_level="ERROR")
    torch.manual_seed(0)
    model = build_model(config)
    model.init_weights()
    model.progress = Progress(step=10_000, epoch=0, epochs=12)
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()
    return model


def step_of(
    model: Any, batch: dict[str, Any], parts: int = 1, precision: Precision = "float32"
) -> tuple[GradientRecorder, Any]:
    """Make a step without an update; return its gradients and its losses.

    In a group of processes DistributedDataParallel averages the gradients.
    """
    optimizer = GradientRecorder(model, precision)
    model.zero_grad()
    trained = model
    if distributed.is_initialized():
        trained = MMDistributedDataParallel(model, gradient_as_bucket_view=True)
    loader = SimpleNamespace(batch_size=len(batch["inputs"]))
    runner: Any = SimpleNamespace(
        model=trained, optim_wrapper=optimizer, seed=SEED, iter=STEP, train_dataloader=loader
    )
    seed_everything(mix(SEED, 1 + STEP))
    if parts == 1:
        return optimizer, trained.train_step(batch, optim_wrapper=optimizer)
    hook = Accumulation(parts)
    hook.before_train(runner)
    losses = trained.train_step(batch, optim_wrapper=optimizer)
    hook.after_train(runner)
    return optimizer, losses


def largest_difference(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    """Return the largest difference of gradients, over the norm of all gradients."""
    assert ours.keys() == theirs.keys()
    norm = torch.stack([value.norm() for value in theirs.values()]).norm()
    return max(float((ours[name] - theirs[name]).norm() / norm) for name in theirs)
