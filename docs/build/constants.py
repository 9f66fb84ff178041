"""Page of constants, ``docs/reference/constants.md``: ``python -m docs.build.constants``."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from docs.build.markdown import grid
from kd.classifiers.cutting import LEAST_MARGIN
from kd.common.files import write_text
from kd.config import compose
from kd.config.library import Library
from kd.config.parts import Scale, Schedule
from kd.config.terms import method_of, settings_of
from kd.data.check import MEDIUM, SMALL
from kd.data.entry import Dataset
from kd.methods import get
from kd.methods.features.defeat import BACKBONE_STRIDE
from kd.methods.ops.pyramid import Pyramid

PAGE = Path("docs/reference/constants.md")
WHERE = "constants"
IMAGES = {"coco2017": 117_266, "voc0712": 16_551, "bccd": 292}
"""Training images with an object, of the data sets that are not built-in."""
INTRODUCTION = """# Constants in pixels and steps

This page lists every constant whose unit is pixels, cells or training steps, with its value at each
scale. Scales `smoke` and `mini` have the built-in images, `laptop` has BCCD, and `paper` has COCO
and Pascal VOC. Scale `own` applies the same rule to the sizes of your data. `python -m
docs.build.constants` writes the page from the composed configurations, and a test compares them.

## Rule

A constant that was published for images of 800 px is scaled to the shorter side of the images, in
whole octaves, because the levels of a pyramid are octaves (`kd/methods/ops/pyramid.py`). Images of
800 px (COCO) and of 600 px (VOC) have the published values, because both were published with them.
At 256 x 192 px a constant is a quarter of the published value, at 128 px an eighth. A preset that
is named after published code keeps the published value. `tests/methods/ops/test_pyramid.py` checks
that each level has objects, with the exceptions below.

MGD and FGD sum over the cells of whole maps, so their terms grow with the area of the images. Their
setting `cell_factor` is `published` by default, which keeps the published weights at every size;
`scaled` multiplies these sums by 4 for each octave below 800 px."""
EXCEPTIONS = """## Levels without objects

- VOC at scale `paper`, pyramids of five levels: the coarsest level begins at 896 px, and images
  have at most 1000 x 600 px. The published code has the same constant for VOC.
- GID at scale `paper`, strides 8 to 128: the coarsest level pools regions of at least 1792 px. This
  is FPN's rule, which the author's code has.
- RoIAlign of the second stage has a separate rule, `finest_scale`, which belongs to the detector.
  At the small scales its coarsest level gets only proposals that are larger than any object. One
  octave lower it would pool 7 x 7 samples from less than 4 cells."""


class Place(NamedTuple):
    """Column of the page: a scale with one of its data sets."""

    title: str
    scale: str
    dataset: str


PLACES = (
    Place("smoke", "smoke", "coco2017"),
    Place("mini", "mini", "coco2017"),
    Place("laptop", "laptop", "bccd"),
    Place("paper, COCO", "paper", "coco2017"),
    Place("paper, VOC", "paper", "voc0712"),
)


class Setup(NamedTuple):
    """Model and pyramid of a detector at a place."""

    model: dict[str, Any]
    pyramid: Pyramid

    @property
    def head(self) -> dict[str, Any]:
        """Return the head that predicts at every prior."""
        head: dict[str, Any] = self.model.get("rpn_head") or self.model["bbox_head"]
        return head


def main() -> None:
    """Write the page."""
    write_text(PAGE, page(Library()))


def page(library: Library) -> str:
    """Return the page: the rule, constants by detector, by method and by schedule, exceptions."""
    parts = [INTRODUCTION, EXCEPTIONS, "## By detector"]
    for detector in library.names("detectors"):
        setups = [setup(detector, place, library) for place in PLACES]
        title = library.detector(detector, WHERE).title
        parts += [f"### {title}", grid(["", *_titles()], _detector_rows(setups))]
    parts += ["## By method", grid(["setting", *_titles()], _method_rows(library))]
    parts += ["## By schedule", grid(["", *_titles()], _schedule_rows(library))]
    parts += ["## The same at every scale", grid(["constant", "value", "reason"], _fixed_rows())]
    return "\n\n".join(parts) + "\n"


def setup(detector: str, place: Place, library: Library) -> Setup:
    """Return a detector's model and pyramid at a place."""
    scale = library.scale(place.scale, WHERE)
    dataset = _dataset(place, library)
    model = compose.detector_model(detector, "r18", 8, "scratch", scale, library, WHERE)
    size = compose._input_size(detector, library.detector(detector, WHERE), dataset, scale)
    pyramid = Pyramid.of(model, size)
    assert pyramid is not None
    return Setup(model, pyramid)


def _dataset(place: Place, library: Library) -> Dataset:
    scale = library.scale(place.scale, WHERE)
    return library.dataset(scale.datasets.get(place.dataset, place.dataset), WHERE)


def _titles() -> list[str]:
    return [place.title for place in PLACES]


# --- Detectors ----------------------------------------------------------------------------------


def _detector_rows(setups: list[Setup]) -> Iterator[list[str]]:
    rows: dict[str, Callable[[Setup], str]] = {
        "images, px": lambda setup: "{} x {}".format(*setup.pyramid.image_size),
        "strides": lambda setup: _numbers(setup.pyramid.strides),
        "sides of priors by level, px": _prior_sides,
        "ranges of regression, px": _regression_ranges,
        "`level_sides` of masks, px": lambda setup: _numbers(setup.pyramid.sides("scaled")),
        "`level_sides` of pooled regions (GID), px": _pooled_sides,
        "`finest_scale` of RoIAlign, px": _finest_scale,
        "least side of a predicted box, px": lambda setup: _test_setting(setup, "min_bbox_size"),
        "candidates before suppression": lambda setup: _test_setting(setup, "nms_pre"),
        "score threshold": lambda setup: _test_setting(setup, "score_thr"),
        "RoIs sampled for training": _sampled_rois,
    }
    for title, cell in rows.items():
        cells = [cell(setup) for setup in setups]
        if any(cells):
            yield [title, *cells]


def _prior_sides(setup: Setup) -> str:
    """Return the sides of square priors: each level's smallest, or all of YOLO's as w x h."""
    priors = setup.head.get("anchor_generator", {})
    if "octave_base_scale" in priors:
        return _numbers(priors["octave_base_scale"] * s for s in setup.pyramid.strides)
    if "scales" in priors:
        return _numbers(scale * s for s in setup.pyramid.strides for scale in priors["scales"])
    if "min_sizes" in priors:
        return _numbers(priors["min_sizes"])
    levels = reversed(priors.get("base_sizes", ()))
    return "; ".join(", ".join(f"{w}x{h}" for w, h in level) for level in levels)


def _regression_ranges(setup: Setup) -> str:
    ranges = setup.head.get("regress_ranges", ())
    return _numbers(high for _, high in ranges[:-1])


def _pooled_sides(setup: Setup) -> str:
    widths = setup.head["in_channels"]
    one_width = isinstance(widths, int) or len(set(widths)) == 1
    return _numbers(setup.pyramid.sides("scaled", per_stride=True)) if one_width else ""


def _finest_scale(setup: Setup) -> str:
    extractor = setup.model.get("roi_head", {}).get("bbox_roi_extractor", {})
    return _numbers([extractor["finest_scale"]]) if extractor else ""


def _test_setting(setup: Setup, key: str) -> str:
    settings = setup.model["test_cfg"]
    stages = (
        [settings.get("rpn", {}), settings.get("rcnn", {})] if "rpn" in settings else [settings]
    )
    return _numbers(stage[key] for stage in stages if key in stage)


def _sampled_rois(setup: Setup) -> str:
    stages = setup.model.get("train_cfg", {}).get("rcnn", [])
    stages = stages if isinstance(stages, list) else [stages]
    return _numbers(stage["sampler"]["num"] for stage in stages[:1])


# --- Methods and schedules ----------------------------------------------------------------------


def _method_rows(library: Library) -> Iterator[list[str]]:
    for name, detector, key in (
        ("defeat", "retinanet", "level_sides"),
        ("tadf", "faster_rcnn", "level_sides"),
        ("gid", "retinanet", "level_sides"),
        ("gid", "retinanet", "least_side"),
        ("gid_rewrite", "retinanet", "level_sides"),
        ("gid_rewrite", "retinanet", "least_side"),
        ("defeat_voc", "faster_rcnn", "level_sides"),
    ):
        cells = [_resolved(name, detector, key, place, library) for place in PLACES]
        yield [f"`{name}` on {library.detector(detector, WHERE).title}: `{key}`, px", *cells]
    for name, key, unit in (("r50", "size", "px"), ("r50", "min_side", "px")):
        cells = [_classifier(name, key, place, library) for place in PLACES]
        yield [f"DICOD's classifier `{name}`: `{key}`, {unit}", *cells]


def _resolved(name: str, detector: str, key: str, place: Place, library: Library) -> str:
    """Return the value of a method's setting in a composed configuration."""
    method = method_of(settings_of(name, {}, "rcnn" in detector, library, WHERE))
    value = getattr(method.fitted(setup(detector, place, library).pyramid), key)
    return _numbers(value if isinstance(value, tuple) else [value])


def _classifier(name: str, key: str, place: Place, library: Library) -> str:
    scale: Scale = library.scale(place.scale, WHERE)
    part = library.classifier(scale.classifiers.get(name, name), WHERE)
    return str(getattr(part, key))


def _schedule_rows(library: Library) -> Iterator[list[str]]:
    names = [_schedule(place, library) for place in PLACES]
    steps = [_steps(name, place, library) for name, place in zip(names, PLACES, strict=True)]
    yield ["schedule", *(f"`{name}`" for name in names)]
    yield ["steps", *(f"{count:,}" for count in steps)]
    parts = [library.schedule(name, WHERE) for name in names]
    yield [
        "warm-up of the learning rate, steps",
        *(str(schedule.warmup_iters) for schedule in parts),
    ]
    fgfi: Any = get("fgfi").model_validate({})
    fgfi_steps = [min(fgfi.warmup_steps, round(fgfi.warmup_share * count)) for count in steps]
    yield ["warm-up of FGFI, steps", *map(str, fgfi_steps)]


def _schedule(place: Place, library: Library) -> str:
    name = {"bccd": "bccd", "voc0712": "voc18"}.get(place.dataset, "1x")
    scale: Scale = library.scale(place.scale, WHERE)
    return scale.schedules.get(name, name)


def _steps(name: str, place: Place, library: Library) -> int:
    schedule: Schedule = library.schedule(name, WHERE)
    dataset = _dataset(place, library)
    images = dataset.generate.train if dataset.generate else IMAGES[place.dataset]
    return schedule.epochs * -(-images // schedule.batch_size)


def _fixed_rows() -> Iterator[list[str]]:
    dicod: Any = get("dicod").model_validate({})
    areas = f"{SMALL**0.5:.0f}², {MEDIUM**0.5:.0f}²"
    yield ["areas of small, medium and large objects, px", areas, "COCO's definition, in pixels of "
           "the image file; the built-in images have no large object"]  # fmt: skip
    yield ["stride of DeFeat's backbone mask, px", str(BACKBONE_STRIDE), "resized to each stage"]
    yield ["`pixel_pool` and `stage_pools` of DICOD, cells",
           f"{dicod.pixel_pool}, {_numbers(dicod.stage_pools)}", "relative to a box"]  # fmt: skip
    yield ["least margin of an object's crop, px", str(LEAST_MARGIN), "room for shifts when a "
           "classifier is trained; above a tenth of the object only below 40 px"]  # fmt: skip
    yield ["least side of a training box, px", "1", "the value of mmdet"]
    yield ["samples along a side of a pooled region of GID, cells", "10", "relative to a region"]
    yield ["output of RoIAlign, cells", "7", "relative to a region"]
    yield ["largest stride of an FPN in bfloat16 on CPUs, px", "128", "a limit of the library"]


def _numbers(values: Iterable[Any]) -> str:
    return ", ".join(f"{value:g}" for value in values)


if __name__ == "__main__":
    main()
