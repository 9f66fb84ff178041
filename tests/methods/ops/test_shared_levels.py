"""Levels of equal stride of two pyramids."""

import pytest

from kd.methods.ops.levels import shared_levels

RETINANET = [8, 16, 32, 64, 128]
FASTER_RCNN = [4, 8, 16, 32, 64]


def test_equal_pyramids_share_every_level():
    assert shared_levels(RETINANET, RETINANET) == [(level, level) for level in range(5)]


def test_a_pyramid_that_begins_finer_is_shifted():
    assert shared_levels(RETINANET, FASTER_RCNN) == [(0, 1), (1, 2), (2, 3), (3, 4)]


def test_levels_are_ordered_by_stride_in_a_pyramid_that_lists_the_coarsest_first():
    assert shared_levels([32, 16, 8], RETINANET) == [(2, 0), (1, 1), (0, 2)]


@pytest.mark.parametrize(("student", "teacher"), [([8], [4]), ([], [8])])
def test_pyramids_without_a_common_stride_share_no_level(student, teacher):
    assert shared_levels(student, teacher) == []


def test_a_repeated_stride_counts_once():
    assert shared_levels([8, 16, 16], [16, 16]) == [(1, 0)]
