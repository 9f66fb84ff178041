"""Student, frozen teachers and methods as one mmengine model."""

from collections.abc import Iterator
from typing import Any, cast

import torch
from mmdet.registry import MODELS
from mmengine.model import BaseModel
from torch import Tensor, nn

import kd.models.mmdet_setup  # noqa: F401
from kd.classifiers.teacher import ClassifierTeacher
from kd.config.terms import method_of
from kd.data.sampling import mix
from kd.methods.base import DETECTION_TERM, Losses, Method
from kd.models.build import build_model
from kd.models.inherit import inherit
from kd.models.weights import load_frozen
from kd.observers import Batch, Channels, Observation, Progress, channels_of, observe
from kd.observers.declared import check_declared
from kd.training.image_groups import grouped_losses
from kd.training.teacher_images import conversion


@MODELS.register_module()
class Distiller(BaseModel):
    """Student that is trained with its detection losses and the losses of each method.

    A teacher is not a submodule: it stays in eval mode, and out of the checkpoint, the optimizer
    and DistributedDataParallel. Its forward runs without gradients, not in inference mode: autograd
    refuses to save inference tensors when a loss multiplies them with the student's.

    ``methods``: ``{term: {"method": name, settings...}}``. ``seed``: the seed of the run, which
    initializes the adapters. ``teacher`` and ``checkpoint``: a detector and its weights.
    ``classifier`` and ``classifier_checkpoint``: a classifier and its weights.
    """

    def __init__(
        self,
        student: dict[str, Any],
        methods: dict[str, dict[str, Any]],
        seed: int,
        teacher: dict[str, Any] | None = None,
        checkpoint: str = "",
        classifier: dict[str, Any] | None = None,
        classifier_checkpoint: str = "",
    ) -> None:
        detector = build_model(student)
        self._is_bgr = not student["data_preprocessor"]["bgr_to_rgb"]
        super().__init__(data_preprocessor=detector.data_preprocessor)
        self.student = detector
        # The student starts from the same weights as without a teacher.
        with torch.random.fork_rng():
            self._teachers: dict[str, Any] = {}
            if teacher:
                self._teachers["detector"] = load_frozen(teacher, checkpoint)
                self._teacher_images = conversion(student, teacher)
            for network in (detector, *self._teachers.values()):
                if network.declared:
                    check_declared(network)
            if classifier:
                self._teachers["classifier"] = ClassifierTeacher(classifier, classifier_checkpoint)
            self.terms = {name: method_of(settings) for name, settings in methods.items()}
            torch.manual_seed(mix(seed, 0))  # SeedEachStep uses the numbers from 1
            self.adapters = self._adapters()
        self.teacher_cache: Any = None
        """Cache of the teacher's outputs: kd.training.teacher_cache.TeacherCache."""
        self.inherited = ""
        """Line on the tensors that the student inherited; empty if it inherits none."""
        self.progress = Progress()
        self.distilled: tuple[str, ...] = ()
        """Names of the distillation losses of the last step."""
        self.probing = False
        """If true, the next step measures the gradient of each term."""
        self.probed: dict[str, list[float]] | None = None
        """Result of ``gradient_norms`` of the last step that measured."""

    @property
    def teacher(self) -> nn.Module:
        """The teacher detector; KeyError if only a classifier teaches."""
        return self._teachers["detector"]

    def init_weights(self) -> None:
        """Initialize the student; teachers and adapters are initialized already.

        A resumed run replaces these weights by those of its checkpoint.
        """
        self.student.init_weights()
        if any(term.start == "inherit" for term in self.terms.values()):
            self.inherited = inherit(self.student, self.teacher)

    def forward(
        self, inputs: Tensor, data_samples: list[Any] | None = None, mode: str = "tensor"
    ) -> Any:
        """Return losses by name in mode ``loss``; in other modes the student's result.

        ``inputs``: (B, 3, H, W), normalized.
        """
        if mode != "loss":
            return self.student(inputs, data_samples, mode)
        assert data_samples is not None
        preprocessor = self.data_preprocessor
        mean, std = preprocessor.mean.flatten(), preprocessor.std.flatten()
        batch = Batch(inputs, data_samples, self.progress, mean, std, self._is_bgr)
        teachers = self.observe_teachers(batch)
        student = observe(self.student, batch, frozen=False)
        losses = student.losses()
        distilled = self.distillation(student, teachers, batch)
        self.distilled = tuple(distilled)
        if self.probing:
            self.probed = gradient_norms({DETECTION_TERM: _sum(losses), **distilled}, student.neck)
        return {**losses, **distilled}

    def observe_teachers(self, batch: Batch) -> dict[str | None, Any]:
        """Return the observation or the classifier that methods read, by kind of teacher."""
        observed: dict[str | None, Any] = {None: None}
        for kind, teacher in self._teachers.items():
            observed[kind] = self._observed(teacher, batch) if kind == "detector" else teacher
        return observed

    def _observed(self, teacher: nn.Module, batch: Batch) -> Any:
        batch = self._teacher_images(batch)
        if self.teacher_cache is not None:
            return self.teacher_cache.observe(teacher, batch)
        observation = observe(teacher, batch, frozen=True)
        properties = (
            term.reads(batch.progress)
            for term in self.terms.values()
            if term.needs.teacher == "detector" and term.is_active(batch.progress)
        )
        observation.read_ahead(frozenset().union(*properties))
        return observation

    def distillation(
        self, student: Observation, teachers: dict[str | None, Any], batch: Batch
    ) -> Losses:
        """Return the weighted terms of all methods, computed in float32.

        A method outside of its epochs has terms of 0, and its teacher does not run.
        """
        losses: Losses = {}
        with torch.autocast(batch.inputs.device.type, enabled=False):
            for name, term in self.terms.items():
                adapters = cast(nn.ModuleDict, self.adapters[name])
                if not term.is_active(batch.progress):
                    losses |= zero_losses(term, adapters, batch)
                    continue
                teacher = teachers[term.needs.teacher]
                losses |= grouped_losses(term, student, teacher, batch, adapters)
        return losses

    def inactive_adapters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of the adapters whose term is outside of its epochs."""
        for name, term in self.terms.items():
            if not term.is_active(self.progress):
                yield from cast(nn.ModuleDict, self.adapters[name]).parameters()

    def always_active(self) -> None:
        """Compute every term in every epoch, for figures and for the time of a step."""
        every = {"from_epoch": None, "until_epoch": None}
        self.terms = {name: term.model_copy(update=every) for name, term in self.terms.items()}

    def _adapters(self) -> nn.ModuleDict:
        teacher = self._teachers.get("detector")
        if teacher is None:
            return nn.ModuleDict({name: nn.ModuleDict() for name in self.terms})
        widths: list[Channels] = [channels_of(model) for model in (self.student, teacher)]
        return nn.ModuleDict(
            {name: nn.ModuleDict(term.adapters(*widths)) for name, term in self.terms.items()}
        )

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """Move the teachers along with the module."""
        for teacher in self._teachers.values():
            teacher._apply(fn, recurse)
        return super()._apply(fn, recurse)


def zero_losses(term: Method, adapters: nn.ModuleDict, batch: Batch) -> Losses:
    """Return the terms of a method outside of its epochs: 0, with a gradient of 0 at the adapters.

    DistributedDataParallel waits for a gradient of every parameter.
    """
    zero = batch.inputs.new_zeros((), dtype=torch.float32)
    entries = [parameter.flatten()[0] for parameter in adapters.parameters()]
    touched = zero + 0 * torch.stack(entries).sum() if entries else zero
    losses: Losses = dict.fromkeys(term.term_names, zero)
    losses[term.term_names[0]] = touched
    return losses


def _sum(losses: Losses) -> Tensor:
    """Return the sum of a detector's losses, without the other values that it reports."""
    terms = [value for name, value in losses.items() if "loss" in name]
    by_level = [term if isinstance(term, list) else [term] for term in terms]
    return torch.stack([loss.sum() for levels in by_level for loss in levels]).sum()


def gradient_norms(losses: Losses, neck: list[Tensor]) -> dict[str, list[float]]:
    """Return the L2 norm of each term's gradient at each neck level; 0 without a gradient."""
    norms = {}
    for name, value in losses.items():
        total = torch.stack(list(value)).sum() if isinstance(value, list) else value
        if not total.requires_grad:  # the term of a method outside of its epochs
            norms[name] = [0.0] * len(neck)
            continue
        # The graph is retained for the other terms and for the backward pass of the step.
        gradients = torch.autograd.grad(total, neck, retain_graph=True, allow_unused=True)
        norms[name] = [0.0 if g is None else float(g.norm()) for g in gradients]
    return norms
