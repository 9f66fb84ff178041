"""Every method on every detector that it applies to, and a refusal with a reason on the others."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kd.common.errors import UserError
from kd.config.applicability import bibtex, matrix
from kd.config.compose import WEIGHTS
from kd.config.library import Library
from kd.config.terms import check_readable, resolve
from tests.support.paths import CONFIGS
from tests.support.tiny_detectors import CLASSES, save_random_weights

LIBRARY = Library(CONFIGS)
MATRIX = matrix(LIBRARY)
CELLS = [(method, detector) for method, row in MATRIX.items() for detector in row]
PREFERRED = ("retinanet", "faster_rcnn")


def on_one(method: str) -> tuple[str, str]:
    """Return a detector that a method applies to."""
    row = MATRIX[method]
    return method, next(name for name in (*PREFERRED, *row) if not row.get(name, "absent"))


ON_ONE = [on_one(method) for method in MATRIX]
PRESETS = [*LIBRARY.presets]
DECLARED = [cell for cell in CELLS if not MATRIX[cell[0]][cell[1]] and cell[0] not in PRESETS]
DECLARED += [on_one(preset) for preset in PRESETS]
"""Methods on every detector, and their presets on one."""
REFUSED = [cell for cell in CELLS if MATRIX[cell[0]][cell[1]]]
STEPS = 20
"""Most steps after which a term must be below its first value."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("teachers")


@pytest.fixture
def cell(
    quiet_mmdet: None, folder: Path, model_config: Callable[..., Any], images: Callable[..., Any]
) -> Callable[[str, str], SimpleNamespace]:
    """Return a function that builds a distiller of tiny detectors past its warm-ups."""
    import torch

    from kd.models.build import build_model
    from kd.observers import Progress

    def build_cell(
        method: str, detector: str, classes: int = CLASSES, boxes: tuple[int, int] = (3, 2)
    ) -> SimpleNamespace:
        terms = resolve(method, {}, detector, LIBRARY, "matrix")
        student = of_classes(model_config(detector), classes)
        teacher = of_classes(model_config(detector, backbone="r18-w0.25"), classes)
        teacher_folder = folder / f"{detector}-{classes}"
        if not (teacher_folder / WEIGHTS).exists():
            save_random_weights(teacher, teacher_folder)
        config = {
            "type": "Distiller",
            "student": student,
            "seed": 0,
            "teacher": teacher,
            "checkpoint": str(teacher_folder / WEIGHTS),
            "methods": terms,
            **classifier(terms, folder, classes),
        }
        torch.manual_seed(0)
        model = build_model(config)
        model.init_weights()
        model.progress = Progress(step=10_000, epoch=0, epochs=12)
        return SimpleNamespace(model=model.train(), student=student, data=images(boxes))

    return build_cell


def of_classes(config: dict[str, Any], classes: int) -> dict[str, Any]:
    """Return a detector's model dict with another number of classes."""
    heads = config.get("roi_head", config)["bbox_head"]
    for head in heads if isinstance(heads, list) else [heads]:
        head["num_classes"] = classes
    return config


def classifier(terms: dict[str, Any], folder: Path, classes: int = CLASSES) -> dict[str, Any]:
    """Return a classifier teacher of random weights; empty if no term learns from one."""
    import torch
    from mmdet.registry import MODELS

    from kd.config.classifiers import compose_classifier
    from kd.config.terms import teachers
    from kd.models import weights

    if "classifier" not in teachers(terms):
        return {}
    config = compose_classifier("smoke", "shapes-smoke", 0, LIBRARY, "matrix")["model"]
    config["classes"] = classes
    path = folder / f"classifier-{classes}.pth"
    if not path.exists():
        torch.manual_seed(7)
        weights.save(path, {"state_dict": MODELS.build(config).state_dict()})
    return {"classifier": config, "classifier_checkpoint": str(path)}


def losses_of(cell: SimpleNamespace) -> tuple[Any, Any]:
    """Return the total loss and its distillation terms."""
    from kd.data.sampling import seed_everything

    seed_everything(0)
    losses = cell.model(**cell.data, mode="loss")
    total, logged = cell.model.parse_losses(losses)
    distilled = sum(logged[name] for name in cell.model.distilled)
    assert total.isfinite()
    return total, distilled


@pytest.mark.parametrize(("method", "detector"), DECLARED)
def test_trains_lowers_its_term_and_is_saved_without_teacher(cell, method, detector, tmp_path):
    import torch

    trainee = cell(method, detector)
    optimizer = torch.optim.AdamW(trainee.model.parameters(), lr=1e-3)
    for _ in range(2):
        step(optimizer, losses_of(trainee)[0])
    trained = [name for name, p in trainee.model.named_parameters() if p.requires_grad]
    untouched = [name for name in trained if trainee.model.get_parameter(name).grad is None]
    assert not untouched

    assert is_lowered(trainee, torch.optim.Adam(trainee.model.parameters(), lr=3e-4))
    assert_saved_and_predicts(trainee, tmp_path / "weights.pth")


def is_lowered(trainee: SimpleNamespace, optimizer: Any) -> bool:
    """Return whether steps on the distillation terms alone lower their sum.

    One step may raise it, because other RoIs become positive.
    """
    distilled = losses_of(trainee)[1]
    first = distilled.item()
    for _ in range(STEPS):
        step(optimizer, distilled / first)
        distilled = losses_of(trainee)[1]
        if distilled.item() < first:
            return True
    return False


def step(optimizer: Any, loss: Any) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def assert_saved_and_predicts(trainee: SimpleNamespace, path: Path) -> None:
    import torch

    from kd.models import weights

    state = weights.detector_state(trainee.model)
    assert not any(key.startswith(("adapters", "teacher", "_teachers")) for key in state)
    weights.save(path, {"state_dict": state})
    alone = weights.load_frozen(trainee.student, path)
    with torch.no_grad():
        trained_predictions = trainee.model.student.eval()(**trainee.data, mode="predict")
        loaded_predictions = alone(**trainee.data, mode="predict")
    for loaded, trained in zip(loaded_predictions, trained_predictions, strict=True):
        assert torch.equal(loaded.pred_instances.bboxes, trained.pred_instances.bboxes)
        assert torch.equal(loaded.pred_instances.scores, trained.pred_instances.scores)


def shrink(trainee: SimpleNamespace) -> None:
    """Make every object smaller than a cell of the finest map."""
    for sample in trainee.data["data_samples"]:
        boxes = sample.gt_instances.bboxes
        boxes[:, 2:] = boxes[:, :2] + 1.5


def rename(trainee: SimpleNamespace) -> None:
    """Give every object class 0."""
    for sample in trainee.data["data_samples"]:
        sample.gt_instances.labels.zero_()


def assign_all(trainee: SimpleNamespace) -> None:
    """Assign every prior and every RoI to an object, whatever their IoU."""
    student = trainee.model.student
    for head in (getattr(student, name, None) for name in ("bbox_head", "rpn_head", "roi_head")):
        assigner = getattr(head, "assigner", None) or getattr(head, "bbox_assigner", None)
        if hasattr(assigner, "pos_iou_thr"):
            assigner.pos_iou_thr = assigner.neg_iou_thr = 0


EDGES: dict[str, tuple[dict[str, Any], Callable[[SimpleNamespace], None] | None]] = {
    "no object": ({"boxes": (0, 0)}, None),
    "an image without": ({"boxes": (0, 2)}, None),
    "one object": ({"boxes": (1, 0)}, None),
    "objects smaller than a cell": ({}, shrink),
    "one class": ({"classes": 1}, rename),
    "no background": ({}, assign_all),
}
ON_EDGE = [pair for pair in DECLARED if pair[0] not in PRESETS and pair[1] in PREFERRED]
ON_EDGE += [pair for pair in ON_ONE if pair[0] not in PRESETS and pair[1] not in PREFERRED]
"""Methods on the preferred detectors, and on another one if they apply to none of these."""
EDGE_CELLS = [(*pair, edge) for pair in ON_EDGE for edge in EDGES]
for pair in (("dicod", "retinanet"), ("ld", "gfl")):
    # DICOD would classify a crop of every anchor, and ATSS has no threshold that assigns all.
    EDGE_CELLS.remove((*pair, "no background"))


@pytest.mark.parametrize(("method", "detector", "edge"), EDGE_CELLS)
def test_the_rare_cases_are_finite_and_reach_every_adapter(cell, method, detector, edge):
    settings, change = EDGES[edge]
    trainee = cell(method, detector, **settings)
    if change:
        change(trainee)
    losses_of(trainee)[0].backward()
    gradients = {name: p.grad for name, p in trainee.model.named_parameters()}
    assert all(grad is None or grad.isfinite().all() for grad in gradients.values())
    assert all(gradients[name] is not None for name in gradients if name.startswith("adapters"))


@pytest.mark.parametrize(("method", "detector"), REFUSED)
def test_a_method_is_refused_with_the_reason(method, detector):
    terms = resolve(method, {}, detector, LIBRARY, "matrix")
    with pytest.raises(UserError, match=rf"method '{method}' reads [\w ]+, which detector"):
        check_readable(terms, detector, detector, LIBRARY, "matrix")


def test_every_method_applies_somewhere_and_every_detector_is_taught():
    assert all(any(not reason for reason in row.values()) for row in MATRIX.values())
    detectors = next(iter(MATRIX.values()))
    assert all(any(not row[detector] for row in MATRIX.values()) for detector in detectors)


def test_a_composition_cites_the_paper_of_each_method_once() -> None:
    assert bibtex("rm+pfi", LIBRARY) == LIBRARY.references["li2022knowledge"]
    two = bibtex("rm_class+cwd", LIBRARY).split("\n\n")
    assert [entry.partition("{")[0] for entry in two] == ["@inproceedings"] * 2
    assert LIBRARY.references["li2022knowledge"] == two[0]
    everything = bibtex("", LIBRARY)
    assert all(entry in everything for entry in two)
    with pytest.raises(UserError, match="no method 'rmm'; did you mean 'rm'"):
        bibtex("rmm", LIBRARY)
