"""The IRNN against a loop over units, and what its first weights promise."""

import pytest
import torch

from whatwhere.models.components.recurrent import IRNN


def test_irnn_equals_a_loop_over_units():
    cell = IRNN(3, 4).double()
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.normal_()
    inputs, hidden = torch.randn(2, 5, 3).double(), torch.randn(2, 5, 4).double().relu()
    state = cell(inputs, hidden)
    w, u = cell.from_input.weight, cell.from_hidden.weight
    for i in range(2):
        for b in range(5):
            for d in range(4):
                total = sum(w[d, f] * inputs[i, b, f] for f in range(3))
                total += sum(u[d, e] * hidden[i, b, e] for e in range(4))
                torch.testing.assert_close(state[i, b, d], total.clamp(min=0))
    assert (state == 0).any()
    assert (state > 0).any()


def test_irnn_starts_as_an_identity_without_biases():
    cell = IRNN(300, 100)
    assert torch.equal(cell.from_hidden.weight, torch.eye(100))
    assert cell.from_input.weight.std().item() == pytest.approx(1e-3, rel=0.03)
    assert cell.from_input.weight.mean().abs() < 3e-5
    assert IRNN(300, 100, input_std=0.2).from_input.weight.std().item() == pytest.approx(0.2, rel=0.03)
    assert sum(p.numel() for p in cell.parameters()) == 300 * 100 + 100 * 100


def test_irnn_adds_up_its_positive_inputs_and_keeps_the_gradient():
    """While no unit is cut off, the state is the sum of all `W x_t`, and `d h_T / d h_0` is the identity."""
    cell = IRNN(3, 4).double()
    with torch.no_grad():
        cell.from_input.weight.abs_()
    first = torch.rand(2, 4).double().requires_grad_()
    inputs = torch.rand(200, 2, 3).double()
    hidden = first
    for x in inputs:
        hidden = cell(x, hidden)
    torch.testing.assert_close(hidden, first + inputs.sum(0) @ cell.from_input.weight.T)
    weight = torch.randn(2, 4).double()
    (gradient,) = torch.autograd.grad((hidden * weight).sum(), first)
    torch.testing.assert_close(gradient.norm(), weight.norm())
    torch.testing.assert_close(gradient, weight)


def test_irnn_cuts_off_what_is_negative():
    cell = IRNN(1, 2)
    hidden = torch.tensor([[0.5, -0.5]], requires_grad=True)
    state = cell(torch.zeros(1, 1), hidden)
    assert state.tolist() == [[0.5, 0.0]]
    (gradient,) = torch.autograd.grad(state.sum(), hidden)
    assert gradient.tolist() == [[1.0, 0.0]]


def test_irnn_begins_with_zeros_and_broadcasts():
    cell = IRNN(3, 4)
    inputs = torch.randn(2, 5, 3, dtype=torch.float64)
    state = cell.initial_state(inputs)
    assert state.shape == (2, 5, 4)
    assert state.dtype == torch.float64
    assert not state.any()
    inputs = inputs.float()
    torch.testing.assert_close(cell(inputs, torch.zeros(4)), cell(inputs, cell.initial_state(inputs)))
