"""Divisor of DICOD's class term."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from kd.methods.predictions.dicod import Dicod
from kd.observers import Candidates
from tests.methods.predictions.dicod.dicod_scene import ONE_BOX, STUDENT, ConstantClassifier
from tests.methods.scenes import batch_of


def class_term(positives: tuple[int, int], **settings: bool) -> float:
    """Return the term of two images of one object each, with ``positives`` boxes in each."""
    image = torch.arange(2).repeat_interleave(torch.tensor(positives))
    candidates = Candidates(image, torch.arange(len(image)), image)
    student = SimpleNamespace(
        candidates=candidates,
        candidate_softmax=True,
        candidate_logits=lambda candidates: STUDENT.repeat(len(candidates), 1),
    )
    batch = batch_of([[10.0, 10, 40, 40]], [[20.0, 10, 50, 50]])
    method = Dicod(lambda_kc=1, lambda_kl=0, lambda_l=0, **settings)
    return method.losses(student, ConstantClassifier(), batch, nn.ModuleDict())[
        "loss_dicod_cls"
    ].item()


@pytest.mark.parametrize("positives", [(3, 3), (6, 0), (0, 1)])
def test_the_paper_divides_by_the_positive_boxes(positives):
    assert class_term(positives) == pytest.approx(ONE_BOX, rel=1e-5)


@pytest.mark.parametrize(("positives", "divisor"), [((3, 3), 6), ((6, 0), 7), ((0, 1), 2)])
def test_an_image_without_positive_boxes_counts_as_one_on_request(positives, divisor):
    share = sum(positives) / divisor
    term = class_term(positives, count_empty_images=True)
    assert term == pytest.approx(share * ONE_BOX, rel=1e-5)


def test_without_any_positive_box_the_term_is_zero():
    assert class_term((0, 0)) == class_term((0, 0), count_empty_images=True) == 0
