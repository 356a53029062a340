import math

import pytest
import torch
from torch import Tensor

from whatwhere.inference.evaluation.labels import (
    LARGEST_COUNT,
    check_filled,
    check_shape,
    checked_boxes,
    checked_counts,
    checked_identities,
    checked_mask,
    settled,
)
from whatwhere.inference.training import NonFiniteError

LARGEST = 2**64 - 1


@pytest.mark.parametrize(
    "dtype", [torch.bool, torch.uint8, torch.int64, torch.uint64, torch.float16, torch.float64]
)
def test_masks_of_any_type_are_booleans(dtype: torch.dtype):
    mask = checked_mask("present", torch.tensor([0, 1]).to(dtype))
    assert mask.dtype == torch.bool
    assert mask.tolist() == [False, True]


@pytest.mark.parametrize("value", [0.5, 2, -1, math.nan, math.inf])
def test_other_masks_are_refused(value: float):
    with pytest.raises(ValueError, match="`present` must be boolean or of 0 and 1"):
        checked_mask("present", torch.tensor([0, 1, value]))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("component", range(4))
def test_boxes_of_objects_are_finite(value: float, component: int):
    boxes = torch.ones(2, 3, 4)
    boxes[1, 2, component] = value
    present = torch.ones(2, 3, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"`boxes` must be finite .* but number 1, 2 is \[.*(nan|inf)"):
        checked_boxes("boxes", boxes, present)
    present[1, 2] = False
    expected = torch.ones(2, 3, 4, dtype=torch.float64)
    expected[1, 2] = 0
    assert torch.equal(checked_boxes("boxes", boxes, present), expected)


def test_sizes_of_boxes_may_be_zero_but_not_negative():
    present = torch.ones(2, dtype=torch.bool)
    assert checked_boxes("boxes", torch.tensor([[-5.0, -5, 0, 2], [1, 1, 2, 0]]), present).shape == (2, 4)
    for box in ([1.0, 1, -2, 2], [1.0, 1, 2, -2]):
        with pytest.raises(ValueError, match=r"no negative width or height .* number 1 is"):
            checked_boxes("boxes", torch.tensor([[1.0, 1, 2, 2], box]), present)


@pytest.mark.parametrize(
    "counts",
    [
        torch.tensor([0, LARGEST_COUNT]),
        torch.tensor([0.0, 1000.0]),
        torch.tensor([0, 1000], dtype=torch.uint64),
        torch.zeros(0),
    ],
)
def test_counts_are_integers_of_any_type(counts: Tensor):
    found = checked_counts("counts", counts)
    assert found.dtype == torch.int64
    assert found.tolist() == [0, 1000][: len(counts)]


@pytest.mark.parametrize(
    "counts",
    [
        torch.tensor([-1]),
        torch.tensor([LARGEST_COUNT + 1]),
        torch.tensor([10**18]),
        torch.tensor([LARGEST], dtype=torch.uint64),
        torch.tensor([1e30]),
        torch.tensor([0.5]),
        torch.tensor([math.nan]),
        torch.tensor([math.inf]),
    ],
)
def test_other_counts_are_refused(counts: Tensor):
    with pytest.raises(ValueError, match="`counts` must hold integers from 0 to 1000, but got"):
        checked_counts("counts", counts)


def test_identities_are_integers_that_stay_what_they_are():
    for values in ([-3, 2**63 - 1], [0, 7]):
        assert checked_identities("names", torch.tensor(values)).tolist() == values
    assert checked_identities("names", torch.tensor([7], dtype=torch.uint64)).tolist() == [7]
    with pytest.raises(ValueError, match=r"`names` must be less than 2\*\*63"):
        checked_identities("names", torch.tensor([LARGEST], dtype=torch.uint64))
    for dtype in (torch.float32, torch.bool, torch.complex64):
        with pytest.raises(ValueError, match=f"`names` must be integers, but are {dtype}"):
            checked_identities("names", torch.ones(2, dtype=dtype))


def test_nothing_and_other_shapes_are_refused():
    check_shape("boxes", None, 2, 3)
    check_shape("boxes", torch.zeros(2, 3), 2, 3)
    with pytest.raises(ValueError, match=r"`boxes` must have shape \(2, 3\), but got \(3, 2\)"):
        check_shape("boxes", torch.zeros(3, 2), 2, 3)
    check_filled("video", torch.zeros(1, 1), "(B, T)")
    for shape in ((0, 1), (1, 0), (3,), ()):
        with pytest.raises(ValueError, match=r"`video` must have shape \(B, T\), at least 1 each, but got"):
            check_filled("video", torch.zeros(shape), "(B, T)")


def test_log_weights_may_be_of_probability_zero_and_nothing_worse():
    values = torch.tensor([-math.inf, 0.0, -1e30])
    assert settled("log_weight", values) is values
    for wrong in (math.nan, math.inf):
        with pytest.raises(NonFiniteError, match="2 of 3 values of `log_weight` are NaN or infinite"):
            settled("log_weight", torch.tensor([wrong, 0.0, wrong]))
