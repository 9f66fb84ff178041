"""mmdet's COCO and VOC data sets, changed to read the same content as ``kd.data.readers``.

The docstring of each class lists all differences from its base class of mmdet 3.3.0.
"""

import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from mmdet.datasets import CocoDataset, XMLDataset
from mmdet.registry import DATASETS

from kd.common.errors import UserError
from kd.common.files import uncollected
from kd.data.coco import BoxColumns, read_columns, roots
from kd.data.scan import are_thin, is_useless
from kd.data.voc import ImageFiles

if TYPE_CHECKING:
    from numpy.typing import NDArray


@DATASETS.register_module()
class CocoImages(CocoDataset):
    """mmdet's CocoDataset with labels in the order of ``classes``, read three times as fast.

    The base class numbers labels in the order of the file's ``categories`` and treats a root
    category with the name of a class as one more class. It also learns from a box with less than a
    pixel in its image, whose regression target is infinite after clipping. It loads masks, which
    are most of COCO's file; this class does not. The base class's option ``return_classes`` has
    no effect.
    """

    def load_data_list(self) -> list[dict[str, Any]]:
        with uncollected():
            content, boxes = read_columns(Path(self.ann_file))
            self.cat_ids = _category_ids(content, boxes, self.metainfo["classes"], self.ann_file)
            self.cat2label = {identity: label for label, identity in enumerate(self.cat_ids)}
            self.cat_img_map = {
                identity: boxes.image_ids[boxes.category_ids == identity].tolist()
                for identity in self.cat_ids
            }
            images = {image["id"]: image for image in content["images"]}
            instances = _instances_of_images(images, boxes, self.cat_ids)
            return [
                {
                    "img_path": os.path.join(self.data_prefix["img"], image["file_name"]),
                    "img_id": identity,
                    "seg_map_path": None,
                    "height": image["height"],
                    "width": image["width"],
                    "instances": instances_of_image,
                }
                for (identity, image), instances_of_image in zip(
                    images.items(), instances, strict=True
                )
            ]


def _category_ids(
    content: dict[str, Any], boxes: BoxColumns, names: Sequence[str], file: str
) -> list[int]:
    """Return the ids of the categories with these names, in this order, without roots."""
    used = [{"category_id": identity} for identity in np.unique(boxes.category_ids).tolist()]
    unused = roots(content["categories"], used, names)
    categories = (one for one in content["categories"] if one not in unused)
    ids = {category["name"]: category["id"] for category in categories}
    missing = [name for name in names if name not in ids]
    if missing:
        raise UserError(
            f"{file}: no category '{missing[0]}'; remove it from 'classes' of the data set's "
            "entry, or correct the file"
        )
    return [ids[name] for name in names]


def _instances_of_images(
    images: dict[int, dict[str, Any]], boxes: BoxColumns, category_ids: list[int]
) -> list[list[dict[str, Any]]]:
    """Return the boxes of each image, in the order of the file, as mmdet's transforms read them."""
    owners = _positions(boxes.image_ids, [*images])
    labels = _positions(boxes.category_ids, category_ids)
    sizes = np.array([[image["width"], image["height"]] for image in images.values()], np.float64)
    is_used = ~boxes.ignored & (boxes.areas > 0) & (owners >= 0) & (labels >= 0)
    is_used &= ~are_thin(boxes.xywh, sizes.reshape(-1, 2)[owners])
    corners = boxes.xywh.copy()
    corners[:, 2:] += corners[:, :2]
    order = np.argsort(owners, kind="stable")
    order = order[is_used[order]]
    bounds = np.searchsorted(owners[order], np.arange(len(images) + 1)).tolist()
    columns = (column[order].tolist() for column in (boxes.crowds, corners, labels))
    instances = [
        {"ignore_flag": int(is_crowd), "bbox": box, "bbox_label": label}
        for is_crowd, box, label in zip(*columns, strict=True)
    ]
    return [instances[begin:end] for begin, end in pairwise(bounds)]


def _positions(values: "NDArray[np.int64]", keys: list[int]) -> "NDArray[np.int64]":
    """Return the position of each value in a list of different keys, -1 if it is not in it."""
    if not keys:
        return np.full(len(values), -1)
    ordered = np.argsort(keys)
    places = np.searchsorted(np.array(keys, np.int64), values, sorter=ordered)
    positions = ordered[np.minimum(places, len(keys) - 1)]
    return np.where(np.array(keys, np.int64)[positions] == values, positions, -1)


@DATASETS.register_module()
class VocImages(XMLDataset):
    """mmdet's XMLDataset with images of any suffix.

    The base class reads ``<name>.jpg`` only. It also learns from boxes that lie outside of their
    image, whose regression target is infinite after clipping. This class leaves out such boxes and
    boxes without area. It accepts an empty image set among several.
    """

    def _serialize_data(self) -> tuple[np.ndarray, np.ndarray]:
        if not self.data_list:  # mmengine would concatenate no arrays, which fails
            return np.zeros(0, np.uint8), np.zeros(0, np.int64)
        return super()._serialize_data()

    def load_data_list(self) -> list[dict[str, Any]]:
        self.pictures = ImageFiles(Path(self.sub_data_root, self.img_subdir))
        return super().load_data_list()

    def parse_data_info(self, img_info: dict[str, Any]) -> Any:
        name = Path(self.img_subdir, self.pictures.choose(img_info["img_id"]))
        info: Any = super().parse_data_info({**img_info, "file_name": str(name)})
        info["instances"] = [
            box for box in info["instances"] if not is_useless(_xywh(box["bbox"]), info)
        ]
        return info


def _xywh(corners: list[int]) -> list[float]:
    x1, y1, x2, y2 = corners
    return [x1, y1, x2 - x1, y2 - y1]
