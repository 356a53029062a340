"""Constants are made once, and are usable wherever they are asked for later."""

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from whatwhere.models.components.constants import constant


def test_it_is_made_once_for_a_type():
    like = torch.rand(3)
    found = constant((1.5, -2.0), like)
    torch.testing.assert_close(found, torch.tensor([1.5, -2.0]))
    assert constant((1.5, -2.0), torch.rand(7)) is found
    assert constant((1.5, -2.0), nn.Parameter(like)) is found
    assert constant((1.5, -2.0), like.double()).dtype == torch.float64
    assert constant((1.5, -2.0), like.to("meta")).is_meta
    assert constant((1.5, 2.0), like) is not found


def test_made_in_inference_mode_it_takes_part_in_gradients():
    with torch.inference_mode():
        constant((0.25, 8.0), torch.rand(2))
    x = torch.ones(2, requires_grad=True)
    (x * constant((0.25, 8.0), x)).sum().backward()
    torch.testing.assert_close(x.grad, torch.tensor([0.25, 8.0]))


def test_what_is_made_while_a_program_is_traced_is_not_kept():
    with FakeTensorMode():
        assert type(constant((0.125, 3.0), torch.rand(2))) is not torch.Tensor
    assert type(constant((0.125, 3.0), torch.rand(2))) is torch.Tensor
