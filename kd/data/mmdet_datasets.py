"""mmdet's COCO and VOC data sets, changed to read the same content as ``kd.data.readers``.

The docstring of each class lists all differences from its base class of mmdet 3.3.0.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.datasets import CocoDataset, XMLDataset
from mmdet.datasets.api_wrappers import COCO
from mmdet.registry import DATASETS

from kd.common.errors import UserError
from kd.data.coco import roots
from kd.data.scan import is_thin, is_useless
from kd.data.voc import ImageFiles


class _Annotations(COCO):
    """pycocotools' index of an annotation file, with categories in the order of given names."""

    def __init__(self, annotation_file: str) -> None:
        super().__init__()
        self.file = annotation_file
        # pycocotools opens the file in the encoding of the locale; JSON is UTF-8.
        self.dataset = json.loads(Path(annotation_file).read_text(encoding="utf-8"))
        self.createIndex()
        self.img_ann_map, self.cat_img_map = self.imgToAnns, self.catToImgs

    def get_cat_ids(self, cat_names: Any = (), sup_names: Any = (), cat_ids: Any = ()) -> list[int]:
        """Return the ids of the categories with these names, in this order, without roots."""
        unused = roots(self.dataset["categories"], self.dataset["annotations"], cat_names)
        categories = (one for one in self.dataset["categories"] if one not in unused)
        ids = {category["name"]: category["id"] for category in categories}
        missing = [name for name in cat_names if name not in ids]
        if missing:
            raise UserError(
                f"{self.file}: no category '{missing[0]}'; remove it from 'classes' of the data "
                "set's entry, or correct the file"
            )
        return [ids[name] for name in cat_names]


@DATASETS.register_module()
class CocoImages(CocoDataset):
    """mmdet's CocoDataset with labels in the order of ``classes``.

    The base class numbers labels in the order of the file's ``categories`` and treats a root
    category with the name of a class as one more class. It also learns from a box with less than a
    pixel in its image, whose regression target is infinite after clipping.
    """

    COCOAPI = _Annotations

    def parse_data_info(self, raw_data_info: dict[str, Any]) -> Any:
        image = raw_data_info["raw_img_info"]
        boxes = [box for box in raw_data_info["raw_ann_info"] if not is_thin(box["bbox"], image)]
        return super().parse_data_info({"raw_img_info": image, "raw_ann_info": boxes})


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
