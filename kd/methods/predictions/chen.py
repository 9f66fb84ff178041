"""Chen: hint, class-weighted soft labels and a bounded regression (Chen et al., NeurIPS 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat

from kd.common.modules import LazyModule
from kd.methods.base import Focus, Losses, Method, Needs
from kd.methods.ops.reduction import shared_count

if TYPE_CHECKING:
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn

    from kd.observers import Batch, Candidates, Channels
else:
    torch = LazyModule("torch")
    nn = LazyModule("torch.nn")
    F = LazyModule("torch.nn.functional")


class Chen(Method):
    """A backbone map, weighted class distributions, and boxes up to the teacher's error.

    Loss: gamma times the mean squared difference of one map (the hint); (1 - mu) times the
    cross-entropy of the student's classes with the teacher's, where the background has its own
    weight; and lambda nu times the student's squared box error, counted only where it is larger
    than the teacher's less a margin. The head of each stage has the last two terms.

    Code: none. The paper was not available either. Equations and values come from reading notes
    that agree with each other. They state lambda = 1, gamma = 0.5, a background weight of 1.5 and T
    = 1.

    Here: the paper mixes mu L_hard + (1 - mu) L_soft. Here the detection loss keeps its weight of
    1, and (1 - mu) weighs the soft part. The smooth L1 loss of boxes also keeps its weight. Each
    head compares the boxes that it is trained on, and their number divides its terms: the RoIs and
    anchors sampled by the second stage and the RPN, or the positive priors of a one-stage detector
    and its hardest negatives, as SSD mines them. On sigmoid heads each class is a decision between
    the class and its background, whose weight is ``background_weight``. The decisions are summed,
    so that a logit's gradient is that of the softmax form.

    Unknown: ``nu`` is from memory. ``mu`` and ``margin`` are not in the paper; their values are
    those of a re-implementation on SSD. The layer of the hint (``hint``, ``level``) and its
    reduction are not stated; here it is the last stage, and the mean over elements. The paper has
    no sigmoid heads.
    """

    title = "Chen 2017"
    cite = "chen2017learning"
    weights: ClassVar = {
        "loss_chen_hint": "gamma",
        "loss_chen_cls": "mu",
        "loss_chen_reg": "lambda_",
        "loss_chen_rpn_cls": "mu",
        "loss_chen_rpn_reg": "lambda_",
    }

    gamma: NonNegativeFloat = 0.5
    """Weight of the hint; published."""
    mu: float = Field(default=0.8, ge=0, le=1)
    """Share of the hard labels; the soft labels have the weight 1 - mu. Not published."""
    lambda_: NonNegativeFloat = 1.0
    """Weight of the regression; published. ``nu`` is the share of the teacher's bound in it."""
    nu: NonNegativeFloat = 0.5
    """Weight of the teacher's bound within the regression; from memory."""
    margin: NonNegativeFloat = 0.0
    """m, the margin by which the student's squared error must be below the teacher's; not
    published."""
    background_weight: NonNegativeFloat = 1.5
    """w_0, the weight of the background among classes of weight 1; published."""
    temperature: PositiveFloat = 1.0
    """T, which divides the logits; published. No factor T^2 multiplies the loss."""
    negatives: NonNegativeFloat = 3.0
    """Number of hardest negatives per positive prior of a one-stage detector, by default SSD's
    ratio. 0 compares positive priors alone."""
    hint: Literal["stages", "neck"] = "stages"
    """Maps of the hint: the backbone's stages, as in the paper, whose detectors have no pyramid, or
    the neck's levels."""
    level: int = -1
    """Index of the hint's map, in the detector's order: -1 is the last stage."""
    distance: Literal["l2", "l1"] = "l2"
    """Distance of the hint. The notes name L1 as a variant."""

    @property
    def needs(self) -> Needs:
        hint = {str(self.hint)} if self.gamma else set()
        heads = {"candidates", "priors"} if self._soft or self._bound else set()
        return Needs(both=frozenset(hint | heads))

    @property
    def _soft(self) -> float:
        """Weight of the soft labels."""
        return 1 - self.mu

    @property
    def _bound(self) -> float:
        """Weight of the bounded regression."""
        return self.lambda_ * self.nu

    def adapters(self, student: Channels, teacher: Channels) -> dict[str, nn.Module]:
        """Return ``hint``: r of the paper, a 1x1 convolution, also between equal widths."""
        if not self.gamma:
            return {}
        student_channels, teacher_channels = (
            getattr(model, self.hint)[self.level] for model in (student, teacher)
        )
        return {"hint": nn.Conv2d(student_channels, teacher_channels, 1)}

    def losses(self, student: Any, teacher: Any, batch: Batch, adapters: nn.ModuleDict) -> Losses:
        """Return ``loss_chen_hint``, ``_cls`` and ``_reg``, and ``_rpn_cls`` and ``_rpn_reg``."""
        losses: Losses = {}
        if self.gamma:
            student_map, teacher_map = (
                getattr(model, self.hint)[self.level] for model in (student, teacher)
            )
            adapted_map = adapters["hint"](student_map.float())
            losses["hint"] = self.gamma * hint_distance(adapted_map, teacher_map, self.distance)
        if self._soft or self._bound:
            for prefix, boxes in self._boxes_by_head(student).items():
                losses |= self._head_losses(prefix, boxes, student, teacher)
        return {f"loss_chen_{name}": value for name, value in losses.items()}

    def _boxes_by_head(self, student: Any) -> dict[str, Candidates]:
        """Return the compared boxes of each head, by the prefix of the head's terms."""
        if student.candidates.rois is not None:
            return {"": student.candidates, "rpn_": student.every_prior[student.sampled.flatten()]}
        positive = student.assignment >= 0
        hardest = hard_negatives(
            background_cost(student.logits, student.softmax),
            positive,
            student.sampled & ~positive,
            self.negatives,
        )
        return {"": student.every_prior[(positive | hardest).flatten()]}

    def _head_losses(self, prefix: str, boxes: Candidates, student: Any, teacher: Any) -> Losses:
        losses: Losses = {}
        count = shared_count(len(boxes))
        if self._soft:
            softmax = student.softmax if boxes.rois is None else student.candidate_softmax
            entropy = weighted_softmax_entropy if softmax else weighted_sigmoid_entropy
            teacher_logits, student_logits = (
                model.candidate_logits(boxes) for model in (teacher, student)
            )
            entropies = entropy(
                teacher_logits, student_logits, self.background_weight, self.temperature
            )
            losses[f"{prefix}cls"] = self._soft * entropies.sum() / count
        if self._bound:
            errors = self._errors(boxes.positive, student, teacher)
            losses[f"{prefix}reg"] = self._bound * errors.sum() / count
        return losses

    def _errors(self, boxes: Candidates, student: Any, teacher: Any) -> Tensor:
        """Return the bounded errors (P,) of positive boxes."""
        teacher_codes, student_codes = (
            model.candidate_codes(boxes) for model in (teacher, student)
        )
        targets = student.candidate_targets(boxes)
        return bounded_error(teacher_codes, student_codes, targets, self.margin)

    def focus(self, student: Any, teacher: Any, batch: Batch) -> Focus:
        """Return the student's boxes whose error exceeds the teacher's bound."""
        if not self._bound:
            return Focus()
        boxes = self._boxes_by_head(student)[""].positive
        boxes = boxes[boxes.image == 0]
        active = self._errors(boxes, student, teacher) > 0
        return Focus(boxes={"boxes beyond the bound": student.candidate_boxes(boxes[active])})


def hint_distance(student_map: Tensor, teacher_map: Tensor, distance: str) -> Tensor:
    """Return the mean of (r(V) - Z)^2, or of |r(V) - Z|, of maps (B, C, H, W).

    If sizes differ, the smaller map is padded with zeros below and on the right.
    """
    size = [max(sides) for sides in zip(student_map.shape[2:], teacher_map.shape[2:], strict=True)]
    difference = padded(student_map, *size) - padded(teacher_map.detach().float(), *size)
    return difference.square().mean() if distance == "l2" else difference.abs().mean()


def padded(maps: Tensor, height: int, width: int) -> Tensor:
    """Return maps (B, C, H, W), padded with zeros to a height and a width."""
    return F.pad(maps, (0, width - maps.shape[3], 0, height - maps.shape[2]))


def weighted_softmax_entropy(
    teacher_logits: Tensor, student_logits: Tensor, background: float, temperature: float
) -> Tensor:
    """Return (P,) -sum_c w_c P^T_c log P^S_c from logits (P, C + 1), background last.

    ``background``: w_c of the background; that of every other class is 1.
    """
    teacher = (teacher_logits.detach() / temperature).softmax(1)
    log_student = (student_logits / temperature).log_softmax(1)
    weights = log_student.new_ones(log_student.shape[1])
    weights[-1] = background
    return -(weights * teacher * log_student).sum(1)


def weighted_sigmoid_entropy(
    teacher_logits: Tensor, student_logits: Tensor, background: float, temperature: float
) -> Tensor:
    """Return (P,) -sum_c [P^T_c log P^S_c + w_0 (1 - P^T_c) log(1 - P^S_c)] from logits (P, C)."""
    teacher, student = teacher_logits.detach() / temperature, student_logits / temperature
    objects = teacher.sigmoid() * F.logsigmoid(student)
    return -(objects + background * (-teacher).sigmoid() * F.logsigmoid(-student)).sum(1)


def bounded_error(teacher: Tensor, student: Tensor, target: Tensor, margin: float) -> Tensor:
    """Return L_b (P,) of encoded boxes (P, 4): ||R^S - y||^2 unless it beats the teacher's by m."""
    error = (student - target.detach()).square().sum(1)
    bound = (teacher - target).detach().square().sum(1)
    return torch.where(error + margin > bound, error, torch.zeros_like(error))


def background_cost(logits: Tensor, softmax: bool) -> Tensor:
    """Return the classification loss (B, N) of every prior as background, from logits (B, N, K)."""
    logits = logits.detach()
    return -logits.log_softmax(-1)[..., -1] if softmax else F.softplus(logits).sum(-1)


def hard_negatives(cost: Tensor, positive: Tensor, negative: Tensor, ratio: float) -> Tensor:
    """Return a mask (B, N): per image, the negatives of highest cost, ``ratio`` for each positive.

    Of equal costs, the first prior is chosen. ``positive``, ``negative``: masks (B, N). mmdet mines
    SSD's negatives in the same way.
    """
    counts = (ratio * positive.sum(1, keepdim=True)).long()
    order = cost.masked_fill(~negative, -torch.inf).argsort(dim=1, descending=True, stable=True)
    first = torch.arange(cost.shape[1], device=cost.device) < counts
    # If there are fewer negatives than ``counts``, the order continues with other priors.
    return torch.zeros_like(negative).scatter(1, order, first) & negative
