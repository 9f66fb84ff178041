"""Published statistics of COCO 2017 and Pascal VOC, which stand-in data repeats.

Numbers of boxes per class are in hundreds. The distributions of the number of boxes per image and
of their areas are log-normal, with the quantiles of the data sets.
"""

from dataclasses import dataclass

COCO_CLASSES: dict[str, tuple[int, int]] = {
    "person": (1, 2625), "bicycle": (2, 71), "car": (3, 439), "motorcycle": (4, 87),
    "airplane": (5, 51), "bus": (6, 61), "train": (7, 46), "truck": (8, 100), "boat": (9, 108),
    "traffic light": (10, 129), "fire hydrant": (11, 19), "stop sign": (13, 20),
    "parking meter": (14, 13), "bench": (15, 98), "bird": (16, 108), "cat": (17, 48),
    "dog": (18, 55), "horse": (19, 66), "sheep": (20, 95), "cow": (21, 81), "elephant": (22, 55),
    "bear": (23, 13), "zebra": (24, 53), "giraffe": (25, 51), "backpack": (27, 87),
    "umbrella": (28, 114), "handbag": (31, 124), "tie": (32, 65), "suitcase": (33, 62),
    "frisbee": (34, 27), "skis": (35, 66), "snowboard": (36, 27), "sports ball": (37, 63),
    "kite": (38, 91), "baseball bat": (39, 33), "baseball glove": (40, 37), "skateboard": (41, 55),
    "surfboard": (42, 61), "tennis racket": (43, 48), "bottle": (44, 243), "wine glass": (46, 79),
    "cup": (47, 207), "fork": (48, 55), "knife": (49, 78), "spoon": (50, 62), "bowl": (51, 144),
    "banana": (52, 95), "apple": (53, 59), "sandwich": (54, 44), "orange": (55, 64),
    "broccoli": (56, 73), "carrot": (57, 79), "hot dog": (58, 29), "pizza": (59, 58),
    "donut": (60, 72), "cake": (61, 64), "chair": (62, 385), "couch": (63, 58),
    "potted plant": (64, 87), "bed": (65, 42), "dining table": (67, 157), "toilet": (70, 42),
    "tv": (72, 58), "laptop": (73, 50), "mouse": (74, 23), "remote": (75, 57),
    "keyboard": (76, 29), "cell phone": (77, 64), "microwave": (78, 17), "oven": (79, 33),
    "toaster": (80, 2), "sink": (81, 56), "refrigerator": (82, 26), "book": (84, 247),
    "clock": (85, 63), "vase": (86, 66), "scissors": (87, 15), "teddy bear": (88, 48),
    "hair drier": (89, 2), "toothbrush": (90, 20),
}  # fmt: skip
"""Category id of COCO and hundreds of boxes in its training split, by class name."""

VOC_CLASSES: dict[str, int] = {
    "aeroplane": 13, "bicycle": 12, "bird": 18, "boat": 14, "bottle": 21, "bus": 9, "car": 40,
    "cat": 16, "chair": 43, "cow": 11, "diningtable": 11, "dog": 21, "horse": 12,
    "motorbike": 11, "person": 156, "pottedplant": 17, "sheep": 13, "sofa": 12, "train": 10,
    "tvmonitor": 12,
}  # fmt: skip
"""Hundreds of boxes in VOC's 2007 and 2012 trainval, by class name."""

LENGTHS = {
    "annotations/instances_train2017.json": 118_287,
    "annotations/instances_val2017.json": 5_000,
    "VOC2007/trainval": 5_011,
    "VOC2007/test": 4_952,
    "VOC2012/trainval": 11_540,
}
"""Number of images of published annotation files (COCO) and image sets (VOC)."""
OTHER_LENGTH = 300
"""Number of images of all other annotation files and image sets."""


@dataclass(frozen=True)
class Statistics:
    """Distributions from which images and boxes of a format are drawn."""

    sides: tuple[tuple[int, int], ...]
    """Width and height in pixels of the distinct photographs, repeated in turn."""
    boxes: tuple[float, float, int]
    """Mean and deviation of the logarithm of the number of boxes per image, and the most boxes."""
    areas: tuple[float, float]
    """Mean and deviation of the logarithm of an object's area in square pixels."""
    empty: float = 0.0
    """Share of the images without boxes."""
    crowds: float = 0.0
    """Share of the boxes with ``iscrowd: 1``."""
    difficult: float = 0.0
    """Share of the boxes marked difficult."""


COCO = Statistics(
    sides=((640, 480), (640, 427), (480, 640), (640, 480), (640, 480), (427, 640), (640, 480)),
    boxes=(1.62, 0.95, 93),
    areas=(7.45, 2.4),  # 41 % below 32 x 32 pixels, 24 % above 96 x 96
    empty=1_021 / 118_287,
    crowds=0.012,
)
VOC = Statistics(
    sides=((500, 375), (500, 375), (375, 500), (500, 333)),
    boxes=(0.87, 0.78, 42),
    areas=(9.7, 1.5),
    difficult=0.15,
)
