"""Hint, class-weighted soft labels and a bounded regression (Chen et al., NeurIPS 2017)."""

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
    """L = L_RPN + L_RCN + gamma L_hint; each head's soft labels and bounded regression.

    There is no official code and the paper itself was not available: equations and values come
    from reading notes that agree with each other. Known from them: lambda 1, gamma 0.5, background
    weight 1.5, T = 1. ``nu`` is from memory. ``mu`` and ``margin`` are not in the paper; both are
    those of a re-implementation on SSD. How the hint is averaged is not known either: here it is
    the mean over elements.

    The paper mixes mu L_hard + (1 - mu) L_soft. Here the detector's own loss stays as it is, with
    weight 1, and (1 - mu) weighs the soft part; the same holds of its smooth L1.

    Boxes are those of each head's own training, and their number divides its terms: the RoIs and
    anchors that the second stage and the RPN sampled, or the positive priors of a one-stage
    detector with its hardest negatives, as SSD mines them. Each class of a sigmoid head is a
    decision between the class and its background, which is what the weight is on; the decisions
    add up, so that a logit's gradient is that of the softmax form.
    """

    title = "Chen 2017"
    weights: ClassVar = {
        "loss_chen_hint": "gamma",
        "loss_chen_cls": "mu",
        "loss_chen_reg": "lambda_",
        "loss_chen_rpn_cls": "mu",
        "loss_chen_rpn_reg": "lambda_",
    }

    gamma: NonNegativeFloat = 0.5
    """Of the hint; published."""
    mu: float = Field(default=0.8, ge=0, le=1)
    """Share of the hard labels, 1 - mu that of the soft ones; not published."""
    lambda_: NonNegativeFloat = 1.0
    """Of the regression, published: nu of it is the teacher's bound."""
    nu: NonNegativeFloat = 0.5
    """Of the bound within the regression; from memory."""
    margin: NonNegativeFloat = 0.0
    """m: by how much the student's squared error must beat the teacher's; not published."""
    background_weight: NonNegativeFloat = 1.5
    """w_0, of the background among classes of weight 1; published."""
    temperature: PositiveFloat = 1.0
    """Published. No square of it multiplies the loss."""
    negatives: NonNegativeFloat = 3.0
    """Hardest negatives per positive of a one-stage detector, SSD's ratio; 0: positives alone."""
    hint: Literal["stages", "neck"] = "stages"
    """The backbone, which the paper's detectors, without a pyramid, imitate; or the neck."""
    level: int = -1
    """Which of these maps, in the detector's own order: -1 is the last stage."""
    distance: Literal["l2", "l1"] = "l2"
    """Of the hint; the notes name L1 as a variant."""

    @property
    def needs(self) -> Needs:
        hint = {str(self.hint)} if self.gamma else set()
        heads = {"candidates", "priors"} if self._soft or self._bound else set()
        return Needs(both=frozenset(hint | heads))

    @property
    def _soft(self) -> float:
        return 1 - self.mu

    @property
    def _bound(self) -> float:
        return self.lambda_ * self.nu

    def adapters(self, student: Channels, teacher: Channels) -> dict[str, nn.Module]:
        """Return r, a 1x1 convolution, also between equal widths."""
        if not self.gamma:
            return {}
        narrow, wide = (getattr(model, self.hint)[self.level] for model in (student, teacher))
        return {"hint": nn.Conv2d(narrow, wide, 1)}

    def losses(self, student: Any, teacher: Any, batch: Batch, adapters: nn.ModuleDict) -> Losses:
        """Return ``loss_chen_hint``, ``_cls`` and ``_reg``, and ``_rpn_cls`` and ``_rpn_reg``."""
        losses: Losses = {}
        if self.gamma:
            own, wanted = (getattr(model, self.hint)[self.level] for model in (student, teacher))
            distance = hint_distance(adapters["hint"](own.float()), wanted, self.distance)
            losses["hint"] = self.gamma * distance
        if self._soft or self._bound:
            for head, boxes in self._heads(student).items():
                losses |= self._head(head, boxes, student, teacher)
        return {f"loss_chen_{name}": value for name, value in losses.items()}

    def _heads(self, student: Any) -> dict[str, Candidates]:
        """Return the boxes of each head that are compared, by a prefix of its terms."""
        if student.candidates.rois is not None:
            return {"": student.candidates, "rpn_": student.every_prior[student.sampled.flatten()]}
        positive = student.assignment >= 0
        mined = hard_negatives(
            background_cost(student.logits, student.softmax),
            positive,
            student.sampled & ~positive,
            self.negatives,
        )
        return {"": student.every_prior[(positive | mined).flatten()]}

    def _head(self, head: str, boxes: Candidates, student: Any, teacher: Any) -> Losses:
        losses: Losses = {}
        count = shared_count(len(boxes))
        if self._soft:
            softmax = student.softmax if boxes.rois is None else student.candidate_softmax
            entropy = weighted_softmax_entropy if softmax else weighted_sigmoid_entropy
            wanted, found = (model.candidate_logits(boxes) for model in (teacher, student))
            each = entropy(wanted, found, self.background_weight, self.temperature)
            losses[f"{head}cls"] = self._soft * each.sum() / count
        if self._bound:
            each = self._errors(boxes.positive, student, teacher)
            losses[f"{head}reg"] = self._bound * each.sum() / count
        return losses

    def _errors(self, boxes: Candidates, student: Any, teacher: Any) -> Tensor:
        wanted, found = (model.candidate_codes(boxes) for model in (teacher, student))
        return bounded_error(wanted, found, student.candidate_targets(boxes), self.margin)

    def focus(self, student: Any, teacher: Any, batch: Batch) -> Focus:
        """Return the student's boxes that the teacher's bound pulls at."""
        if not self._bound:
            return Focus()
        boxes = self._heads(student)[""].positive
        boxes = boxes[boxes.image == 0]
        active = self._errors(boxes, student, teacher) > 0
        return Focus(boxes={"bounded": student.candidate_boxes(boxes[active])})


def hint_distance(student: Tensor, teacher: Tensor, distance: str) -> Tensor:
    """Return the mean of (r(V) - Z)^2, or of |r(V) - Z|, of maps (B, C, H, W).

    Where sizes differ the smaller map is padded with zeros below and on the right.
    """
    size = [max(sides) for sides in zip(student.shape[2:], teacher.shape[2:], strict=True)]
    gap = padded(student, *size) - padded(teacher.detach().float(), *size)
    return gap.square().mean() if distance == "l2" else gap.abs().mean()


def padded(maps: Tensor, height: int, width: int) -> Tensor:
    """Return maps (B, C, H, W) with zeros added up to a height and a width."""
    return F.pad(maps, (0, width - maps.shape[3], 0, height - maps.shape[2]))


def weighted_softmax_entropy(
    teacher: Tensor, student: Tensor, background: float, temperature: float
) -> Tensor:
    """Return (P,) -sum_c w_c P^T_c log P^S_c from logits (P, C + 1), background last.

    ``background``: its w_c, 1 of every other class.
    """
    wanted = (teacher.detach() / temperature).softmax(1)
    found = (student / temperature).log_softmax(1)
    weights = found.new_ones(found.shape[1])
    weights[-1] = background
    return -(weights * wanted * found).sum(1)


def weighted_sigmoid_entropy(
    teacher: Tensor, student: Tensor, background: float, temperature: float
) -> Tensor:
    """Return (P,) -sum_c [P^T_c log P^S_c + w_0 (1 - P^T_c) log(1 - P^S_c)] from logits (P, C)."""
    wanted, found = teacher.detach() / temperature, student / temperature
    objects = wanted.sigmoid() * F.logsigmoid(found)
    return -(objects + background * (-wanted).sigmoid() * F.logsigmoid(-found)).sum(1)


def bounded_error(teacher: Tensor, student: Tensor, target: Tensor, margin: float) -> Tensor:
    """Return L_b (P,) of encoded boxes (P, 4): ||R^S - y||^2 unless it beats the teacher's by m."""
    own = (student - target.detach()).square().sum(1)
    bound = (teacher - target).detach().square().sum(1)
    return torch.where(own + margin > bound, own, torch.zeros_like(own))


def background_cost(logits: Tensor, softmax: bool) -> Tensor:
    """Return (B, N), the hard loss of calling every prior background, from logits (B, N, K)."""
    logits = logits.detach()
    return -logits.log_softmax(-1)[..., -1] if softmax else F.softplus(logits).sum(-1)


def hard_negatives(cost: Tensor, positive: Tensor, negative: Tensor, ratio: float) -> Tensor:
    """Return (B, N): the negatives of highest cost, ``ratio`` for each positive of their image.

    ``positive``, ``negative``: (B, N), which priors are. mmdet mines SSD's negatives alike.
    """
    counts = (ratio * positive.sum(1, keepdim=True)).long()
    order = cost.masked_fill(~negative, -torch.inf).argsort(1, descending=True)
    first = torch.arange(cost.shape[1], device=cost.device) < counts
    return torch.zeros_like(negative).scatter(1, order, first) & negative
