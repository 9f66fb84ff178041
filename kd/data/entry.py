"""Data set entries: ``configs/datasets/*.yaml``."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, NonNegativeInt, PositiveInt, Tag, model_validator

from kd.common.schema import Part

SplitName = Literal["train", "test", "val"]


class CocoSplit(Part):
    """A split in COCO format: an annotation file and an image folder, relative to the root."""

    annotations: str
    """Annotation file in COCO's JSON format, relative to ``root``."""
    images: str
    """Folder of the images, relative to ``root``."""


def _form(split: Any) -> str:
    return "(coco)" if isinstance(split, dict | CocoSplit) else "(voc)"


def _is_absent(value: Any) -> bool:
    """Return True for a key that is not set, which is left out of the entry's plain data.

    Digests of entries without the key are then those of versions that did not know it.
    """
    return value is None


Split = Annotated[
    Annotated[CocoSplit, Tag("(coco)")] | Annotated[list[str], Tag("(voc)")], Discriminator(_form)
]
"""Union that pydantic resolves by the value's form, so that a mistake is described in that form."""


class Shapes(Part):
    """Settings of the built-in generated data set (kd/data/builtin/shapes.py)."""

    train: PositiveInt
    """Number of training images."""
    test: PositiveInt
    """Number of test images."""
    size: int = Field(ge=32, le=1024)
    """Side of the square images, in pixels."""
    seed: NonNegativeInt = 0
    """Seed of the images."""
    val: Annotated[PositiveInt | None, Field(exclude_if=_is_absent)] = None
    """Number of validation images, drawn apart from the others; needs the split ``val``."""
    test_seed: Annotated[NonNegativeInt | None, Field(exclude_if=_is_absent)] = None
    """Seed of the test images, if not ``seed``. Another seed draws a fresh test split, on which
    trained runs are measured again."""


class Dataset(Part):
    """A detection data set.

    A VOC split is a list of image-set names (``trainval``), each optionally after the folder
    that has it (``VOC2007/trainval``): the file is ``<root>/<folder>/ImageSets/Main/<set>.txt``.
    """

    format: Literal["coco", "voc"]
    """Format of the annotations."""
    root: str
    """Folder of the data set."""
    train: Split
    """Training split: a block in COCO format, or a list of image sets in VOC format."""
    test: Split
    """Test split, on which results are measured."""
    val: Annotated[Split | None, Field(exclude_if=_is_absent)] = None
    """Validation split, on which AP during training and the rows of sweeps are measured. Without
    it, they are measured on the test split. ``kd split`` makes one."""
    classes: list[str] | None = None
    """Names in label order, which may differ from the order of a COCO file's ``categories``."""
    image_size: tuple[PositiveInt, PositiveInt]
    """Width and height, in pixels, that images are resized into (aspect ratio kept)."""
    group_by_aspect: Annotated[Literal[True] | None, Field(exclude_if=_is_absent)] = None
    """If true, the images of a training batch are all wide or all tall, as with mmdet's sampler. A
    batch of both is padded to a square. SSD, RTMDet and YOLOX ignore the key: their images are
    squares."""
    metric: Literal["coco", "voc"] = "coco"
    """Headline metric: AP over IoU 0.5 to 0.95, or VOC mAP at IoU 0.5."""
    generate: Shapes | None = None
    """Settings of built-in images, which are drawn into ``root`` instead of downloaded."""
    fetch: str | None = None
    """Text for users without the data: the download, its size, and the command for it."""
    license: Annotated[str | None, Field(exclude=True)] = None
    """License of images and annotations, which model cards state."""

    @property
    def splits(self) -> tuple[SplitName, ...]:
        """The names of the splits that the data set has."""
        return ("train", "test") if self.val is None else ("train", "test", "val")

    @property
    def early_split(self) -> SplitName:
        """The split for AP during training and for sweeps: ``val``, or ``test`` without one."""
        return "test" if self.val is None else "val"

    def listings(self, split: SplitName) -> list[Path]:
        """Return the annotation file (COCO) or the image-set lists (VOC) of a split."""
        source: CocoSplit | list[str] = getattr(self, split)
        if isinstance(source, CocoSplit):
            return [Path(self.root, source.annotations)]
        names = (image_set.rpartition("/") for image_set in source)
        return [Path(self.root, at, "ImageSets", "Main", f"{name}.txt") for at, _, name in names]

    def is_present(self) -> bool:
        """Return True if the lists of all splits exist, or if the data set is generated."""
        paths = [path for split in self.splits for path in self.listings(split)]
        return self.generate is not None or all(path.exists() for path in paths)

    @model_validator(mode="after")
    def _splits_match_format(self) -> "Dataset":
        for name in self.splits:
            split = getattr(self, name)
            if isinstance(split, CocoSplit) != (self.format == "coco"):
                expected, other = (
                    ("{annotations: ..., images: ...}", "'format: voc' for lists of image sets")
                    if self.format == "coco"
                    else ("a list of image sets", "'format: coco' for annotation files")
                )
                raise ValueError(
                    f"split '{name}' of a {self.format} data set must be {expected}; or set {other}"
                )
            if isinstance(split, list) and not split:
                raise ValueError(f"split '{name}' lists no image set; list at least one")
        return self

    @model_validator(mode="after")
    def _class_names_differ(self) -> "Dataset":
        names = self.classes or []
        if self.classes == [] or "" in names or len(set(names)) < len(names):
            raise ValueError("'classes' must list at least one name, none empty, none twice")
        return self

    @model_validator(mode="after")
    def _generated_where_it_is_read(self) -> "Dataset":
        if self.generate and (self.generate.val is None) != (self.val is None):
            missing = "key 'val'" if self.val is None else "key 'val' in its 'generate'"
            raise ValueError(
                f"a generated data set with a validation split has 'val' in 'generate' (the number "
                f"of images) and 'val' beside 'test'; add {missing}"
            )
        for name in self.splits:
            split = CocoSplit(annotations=f"annotations/{name}.json", images=name)
            if self.generate and getattr(self, name) != split:
                expected = f"{{annotations: {split.annotations}, images: {split.images}}}"
                raise ValueError(f"split '{name}' of a generated data set must be {expected}")
        return self
