import functools
import sys

import pytest
import torch

from whatwhere.benchmarks.footprint import count_operations, peak_memory, saved_bytes

MEGABYTE = 1 << 20


def test_kernels_and_reads_are_counted_and_views_are_not():
    x = torch.rand(4, 4)

    def step():
        y = x.t().reshape(2, 8).unsqueeze(0)  # `reshape` of a transpose copies: `clone`
        return (y + 1).sum().item()  # `add`, `sum`, and the read

    kernels, reads = count_operations(step)
    assert (kernels, reads) == (4, 1)


def test_operators_of_the_backward_pass_are_counted():
    x = torch.rand(5, requires_grad=True)
    forward = count_operations(lambda: (x * x).sum())
    both = count_operations(lambda: (x * x).sum().backward())
    assert forward.kernels == 2
    assert both.kernels > forward.kernels


def test_saved_tensors_are_counted_once_and_without_parameters():
    weight = torch.rand(10, 20, requires_grad=True)
    x = torch.rand(30, 10)

    def step():
        y = x @ weight  # keeps `x`, for the gradient of `weight`, which needs no gradient of `x`
        (y.exp() * y).sum().backward()  # `exp` keeps its result, `*` keeps it again, and `y`

    expected = 4 * (30 * 10 + 2 * 30 * 20)
    assert saved_bytes(step, [weight]) == expected
    assert saved_bytes(lambda: (weight * weight).sum().backward(), [weight]) == 0


def test_peak_memory_is_that_of_a_step_in_a_process_of_its_own():
    ballast = torch.ones(100 * MEGABYTE)  # a fresh process must not inherit the peak of this one
    del ballast
    step = functools.partial(torch.ones, 64 * MEGABYTE // 4)  # 64 MiB, given back at once
    peak = peak_memory(functools.partial(functools.partial, step))
    assert 60 * MEGABYTE < peak < 90 * MEGABYTE


def test_a_process_that_fails_is_an_error():
    with pytest.raises(RuntimeError, match="measures memory failed"):
        peak_memory(functools.partial(sys.exit, 3))
