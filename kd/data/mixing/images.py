"""Data set that mixes several images as a function of (seed, epoch, sample)."""

from typing import Any

import numpy as np
from mmdet.datasets.transforms import MixUp, Mosaic
from mmdet.registry import DATASETS, TRANSFORMS

from kd.common.errors import UserError
from kd.data.mixing.transforms import MixUpOfMosaics
from kd.data.sampling import SeededDataset

MOST_DRAWS = 1000
"""Samples that are drawn in place of one whose boxes all lie outside its crop."""

Results = dict[str, Any]


@DATASETS.register_module()
class MixedImages(SeededDataset):
    """Data set whose images go through ``pipeline``, which may mix them with others.

    It replaces mmdet's ``MultiImageMixDataset`` and its hooks that switch pipelines. From epoch
    ``last_from`` on (counted from 0) images go through ``last_pipeline``. The index of a sample
    contains its epoch, so running loading processes switch, too.

    ``dataset``: reader of images and boxes. Other images are drawn from it with the random state of
    the sample; no image is held from sample to sample. A sample that loses all of its boxes in a
    crop is replaced by one that is drawn, as in mmdet. UserError after ``MOST_DRAWS`` draws.
    """

    def __init__(
        self,
        dataset: dict[str, Any],
        seed: int,
        pipeline: list[dict[str, Any]],
        last_pipeline: list[dict[str, Any]] | None = None,
        last_from: int | None = None,
    ) -> None:
        super().__init__(dataset, seed)
        self.last_from = last_from
        self.steps = [_built(step) for step in pipeline]
        self.last_steps = [_built(step) for step in last_pipeline or []]

    def _load(self, epoch: int, sample: int) -> Any:
        is_last = self.last_from is not None and epoch >= self.last_from
        steps = self.last_steps if is_last else self.steps
        for _ in range(MOST_DRAWS):
            results = self._augmented(sample, steps)
            if results is not None:
                return results
            sample = self._draw()
        raise UserError(
            f"no box of {MOST_DRAWS} training images lies in a random crop of its image; check the "
            "boxes with `kd check`"
        )

    def _draw(self) -> int:
        return int(np.random.randint(len(self.dataset)))

    def _augmented(self, sample: int, steps: list[Any]) -> Results | None:
        """Return a sample after ``steps``; None if no box is left in a crop."""
        results: Results | None = self.dataset[sample]
        for position, step in enumerate(steps):
            if results is None:
                return None
            if not isinstance(step, Mosaic | MixUp):
                results = step(results)
                continue
            others = self._others(step, steps[:position])
            if others:
                results = step({**results, "mix_results": others})
                results.pop("mix_results")
        return results

    def _others(self, step: Any, before: list[Any]) -> list[Results]:
        """Return the images that a step mixes with a sample; none if it mixes no images."""
        if isinstance(step, Mosaic):
            return [self.dataset[index] for index in step.get_indexes(self.dataset)]
        if isinstance(step, MixUpOfMosaics):
            if np.random.uniform() >= step.prob:
                return []
        else:
            before = []
        for _ in range(step.max_iters):
            other = self._augmented(self._draw(), before)
            if other is not None and len(other["gt_bboxes"]):
                return [other]
        return []


def _built(step: dict[str, Any]) -> Any:
    """Build a transform; mmdet refuses lists in place of tuples."""
    values = {key: tuple(old) if isinstance(old, list) else old for key, old in step.items()}
    return TRANSFORMS.build(values)
