"""Proposed study: detector, teacher, student, image size, anchors, methods and seeds."""

from dataclasses import dataclass

from kd.common.errors import UserError, suggest
from kd.config.library import Library
from kd.config.terms import method_of, refusals, resolve
from kd.start.machine import Machine
from kd.start.measures import Measures
from kd.start.networks import WITH_LEVELS, changes_of, levels, smallest_anchor
from kd.start.recipes import Setting, Situation, recipe

WHERE = "kd start"
SIDES = {"cpu": (256, 320, 384, 448, 512, 640), "gpu": (512, 640, 800, 1024, 1333)}
"""Longer sides of training images that are proposed, in pixels."""
SMALL_GPU_GB, SMALL_GPU_SIDE = 10.0, 800
LEAST_SIDE = {"cpu": 12, "gpu": 16}
"""Side in pixels that nine of ten objects have after resizing, if the images allow it."""
GRID = 32
USUAL_PAIRS = {"cpu": ("mbv2", "mbv2-w0.5"), "gpu": ("r50", "r18")}
LARGE_PAIR, LARGE_GPU_GB, MANY_IMAGES = ("r101", "r18"), 15.0, 5000
PAIRS: dict[str, dict[str, tuple[str, str]]] = {
    "rtmdet": {"cpu": ("cspnext-s", "cspnext-tiny"), "gpu": ("cspnext-m", "cspnext-tiny")},
    "yolox": {
        "cpu": ("csp-darknet-s", "csp-darknet-tiny"),
        "gpu": ("csp-darknet-m", "csp-darknet-s"),
    },
    "yolov3": {
        "cpu": ("darknet53-w0.5", "darknet53-w0.25"),
        "gpu": ("darknet53", "darknet53-w0.5"),
    },
    "ssd300": {"cpu": ("r50", "r18"), "gpu": ("r50", "r18")},
    "ssd512": {"cpu": ("r50", "r18"), "gpu": ("r50", "r18")},
}
"""Teacher and student of detectors that do not use the usual ones."""
METHODS = ("defeat", "fkd", "gid", "mimic", "pkd", "cwd")
"""Methods in order of preference; the first two that apply are proposed."""
SEEDS = {"cpu": 1, "gpu": 3}


@dataclass(frozen=True)
class Proposal:
    """Values of the three files, each with its reason."""

    detector: Setting
    teacher: Setting
    student: Setting
    image_size: Setting
    changes: Setting | None
    """Changes of the detector's model."""
    input_size: Setting | None
    methods: Setting
    seeds: Setting
    group_by_aspect: Setting | None
    schedule: dict[str, Setting]


def propose(
    measures: Measures, machine: Machine, library: Library, detector: str | None = None
) -> Proposal:
    """Return a study for the images of a folder and a machine; UserError for a wrong detector."""
    device = machine.device
    name = detector or "retinanet"
    valid = library.names("detectors")
    if name not in valid:
        raise UserError(f"--detector: no detector '{name}'; {suggest(name, valid)}")
    part = library.detector(name, WHERE)
    long, short = _image_size(measures, machine)
    anchor = smallest_anchor(measures.small * long)
    count = levels(anchor, measures.large * long)
    changes, side = changes_of(name, anchor, count, device == "cpu", library)
    pair, pair_reason = _pair(name, measures, machine)
    scratch = library.backbone(pair[1], WHERE)[0].imagenet is None
    situation = Situation(measures.train_images, machine, name, part.augmentation, scratch)
    return Proposal(
        detector=(name, _detector_reason(detector)),
        teacher=(pair[0], pair_reason),
        student=(pair[1], ""),
        image_size=([long, short], _size_reason(measures, machine, long)),
        changes=(changes, _changes_reason(name, anchor, count, long, measures, device))
        if changes
        else None,
        input_size=_input_size(name, part.input_size, side, long),
        methods=_methods(name, library),
        seeds=_seeds(device),
        group_by_aspect=(
            True,
            "The images are wide and tall; a batch of both is padded to squares.",
        )
        if measures.mixes_aspects
        else None,
        schedule=recipe(situation),
    )


def _image_size(measures: Measures, machine: Machine) -> tuple[int, int]:
    """Return the longer and the shorter side of training images."""
    stored, other = measures.image_size
    sides = [side for side in SIDES[machine.device] if side <= stored]
    if machine.device == "gpu" and machine.memory_gb < SMALL_GPU_GB:
        sides = [side for side in sides if side <= SMALL_GPU_SIDE]
    least = LEAST_SIDE[machine.device]
    fitting = (side for side in sides if measures.tenth * side >= least)
    whole = _on_grid(stored)
    long = next(fitting, sides[-1] if sides else whole)
    return long, min(_on_grid(long * other / stored), long)


def _on_grid(side: float) -> int:
    return max(round(side / GRID) * GRID, 2 * GRID)


def _size_reason(measures: Measures, machine: Machine, long: int) -> str:
    stored, other = measures.image_size
    return (
        f"Width and height, in pixels, that images are resized into. The images have {stored} x "
        f"{other} (median of the longer and the shorter side); at {long}, nine of ten objects have "
        f"a side of {measures.tenth * long:.0f} pixels or more. Larger images find smaller objects "
        f"and take longer on {machine.name}."
    )


def _detector_reason(option: str | None) -> str:
    if option:
        return "As chosen with --detector."
    return (
        "RetinaNet: most methods apply to it, and this project has most measurements of it. "
        "`kd start --detector rtmdet` or yolox proposes a detector without anchors; `kd methods "
        "--grid` prints all."
    )


def _pair(name: str, measures: Measures, machine: Machine) -> tuple[tuple[str, str], str]:
    """Return the backbones of teacher and student, and the reason."""
    if name in PAIRS:
        pair, why = PAIRS[name][machine.device], f"Two sizes of the backbones of {name}"
    elif machine.device == "cpu":
        pair, why = USUAL_PAIRS["cpu"], "MobileNetV2, and half its width: small enough for a CPU"
    elif measures.train_images >= MANY_IMAGES and machine.memory_gb >= LARGE_GPU_GB:
        pair, why = LARGE_PAIR, f"{measures.train_images} images are enough for a large teacher"
    else:
        pair, why = USUAL_PAIRS["gpu"], f"{measures.train_images} images suffice for ResNet-50"
    return pair, f"{why}. A teacher helps only if it is clearly better than the student alone."


def _changes_reason(
    name: str, anchor: int, count: int, long: int, measures: Measures, device: str
) -> str:
    parts = []
    if name in WITH_LEVELS:
        parts.append(
            f"At {long} pixels, one object in 20 has a side below {measures.small * long:.0f}, "
            f"and one in 100 above {measures.large * long:.0f}: smallest anchor or point range "
            f"{anchor} pixels, {count} levels. A level without objects learns nothing."
        )
    if device == "cpu":
        parts.append("Neck and heads have half their width, as at scale laptop, for a CPU.")
    return " ".join(parts)


def _input_size(name: str, published: int | None, fixed: int | None, long: int) -> Setting | None:
    """Return the side of the square input of detectors that have one."""
    if published is None:
        return None
    if fixed:
        return {name: fixed}, "The size that the anchors of scale laptop fit."
    if name.startswith(("ssd", "yolov3")):
        return None
    side = min(_on_grid(long), published)
    return {name: side}, f"Images are padded to a square; published: {published}."


def _methods(name: str, library: Library) -> Setting:
    """Return the first two methods that apply to a detector."""
    applying = []
    for method in METHODS:
        (settings,) = resolve(method, {}, name, library, WHERE).values()
        if not any(refusals(method_of(settings), name, name, library, WHERE)):
            applying.append(method)
    first_two = applying[:2]
    reason = "The first methods to try, without a classifier as teacher. "
    if name == "retinanet":
        reason += (
            "DeFeat raised RetinaNet by 4.1 AP and FKD by 1.4 on generated images over five seeds; "
            "all gains on blood cells were undetermined (docs/explanation/evidence.md). "
        )
    reason += "`kd methods --grid` prints all."
    return first_two, reason


def _seeds(device: str) -> Setting:
    if device == "cpu":
        reason = (
            "One seed shows that everything works, and no more: gains vary between seeds. `kd plan "
            "NAME --scale own --seeds 6` prints the smallest gain that six seeds detect, once two "
            "seeds have run."
        )
    else:
        reason = (
            "The fewest seeds that give an interval over seeds. `kd plan NAME --scale own --next` "
            "prints which rows need more."
        )
    return SEEDS[device], reason
