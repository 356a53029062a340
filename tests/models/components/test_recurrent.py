"""Recurrent cells against loops over units, and what their first weights promise."""

import math

import pytest
import torch

from whatwhere.models.components.recurrent import GRU, IRNN, LSTMState, VanillaRNN, ZoneoutLSTM


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


def lstm_and_input(zoneout: float) -> tuple[ZoneoutLSTM, torch.Tensor, LSTMState]:
    cell = ZoneoutLSTM(3, 4, zoneout).double()
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.normal_()
    return cell, torch.randn(2, 3).double(), LSTMState(*torch.randn(2, 2, 4).double())


def scalar_lstm(
    cell: ZoneoutLSTM, inputs: torch.Tensor, state: LSTMState
) -> tuple[torch.Tensor, torch.Tensor]:
    """m' and c', unit by unit; the gates are i, j, f and o."""
    w, u, bias = (p.tolist() for p in (cell.from_input.weight, cell.from_hidden.weight, cell.from_input.bias))
    hidden, memory = torch.zeros(2, 4).double(), torch.zeros(2, 4).double()

    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    for b in range(2):
        for d in range(4):
            i, j, f, o = (
                sum(w[row][k] * inputs[b, k].item() for k in range(3))
                + sum(u[row][k] * state.hidden[b, k].item() for k in range(4))
                + bias[row]
                for row in (d, 4 + d, 8 + d, 12 + d)
            )
            c = state.cell[b, d].item() * sigmoid(f) + sigmoid(i) * math.tanh(j)
            memory[b, d] = c
            hidden[b, d] = math.tanh(c) * sigmoid(o)
    return hidden, memory


@pytest.mark.parametrize("mode", [True, False])
def test_lstm_equals_a_loop_over_units(mode: bool):
    cell, inputs, state = lstm_and_input(0.0)
    output, new = cell.train(mode)(inputs, state)
    hidden, memory = scalar_lstm(cell, inputs, state)
    torch.testing.assert_close(output, hidden)
    torch.testing.assert_close(new.hidden, hidden)
    torch.testing.assert_close(new.cell, memory)


def test_zoneout_of_one_keeps_the_state_but_not_the_output():
    cell, inputs, state = lstm_and_input(1.0)
    for mode in (True, False):
        output, new = cell.train(mode)(inputs, state)
        torch.testing.assert_close(new, state)
        torch.testing.assert_close(output, scalar_lstm(cell, inputs, state)[0])


def test_zoneout_mixes_in_evaluation_and_chooses_in_training():
    cell, inputs, state = lstm_and_input(0.3)
    output, mixed = cell.eval()(inputs, state)
    hidden, memory = scalar_lstm(cell, inputs, state)
    torch.testing.assert_close(output, hidden)
    torch.testing.assert_close(mixed.hidden, 0.3 * state.hidden + 0.7 * hidden)
    torch.testing.assert_close(mixed.cell, 0.3 * state.cell + 0.7 * memory)
    many = LSTMState(*(field.expand(20_000, 2, 4) for field in state))
    output, drawn = cell.train()(inputs.expand(20_000, 2, 3), many)
    torch.testing.assert_close(output[0], hidden)
    kept = []
    for old, new, values in zip(state, (hidden, memory), drawn, strict=True):
        is_old = (values - old).abs() < 1e-12
        assert (is_old | ((values - new).abs() < 1e-12)).all()
        # Standard error of a share of 0.3 in 20,000 draws: 0.0032.
        torch.testing.assert_close(
            is_old.double().mean(0), torch.full((2, 4), 0.3).double(), atol=0.016, rtol=0
        )
        kept.append(is_old.double().flatten(1))
    # Hidden and cell are drawn apart: a correlation of n samples has the standard error 1 / sqrt(n).
    correlation = torch.corrcoef(torch.stack([kept[0].flatten(), kept[1].flatten()]))[0, 1]
    assert correlation.abs() < 5 / 160_000**0.5


def test_lstm_begins_orthogonal():
    cell = ZoneoutLSTM(100, 100)
    w, u = cell.from_input.weight, cell.from_hidden.weight
    torch.testing.assert_close(w.T @ w, torch.eye(100), atol=1e-5, rtol=0)
    for gate, block in enumerate(u.chunk(4)):
        if gate == 1:
            assert torch.equal(block, 0.95 * torch.eye(100))
        else:
            torch.testing.assert_close(block @ block.T, torch.eye(100), atol=1e-5, rtol=0)
            assert not torch.allclose(block, torch.eye(100), atol=0.1)
    bias = cell.from_input.bias
    assert 0.97 < bias.abs().max() / (3 / 400) ** 0.5 <= 1
    assert sum(p.numel() for p in cell.parameters()) == 80_400


def test_the_forget_gate_can_begin_open():
    cell = ZoneoutLSTM(3, 4)
    before = cell.from_input.bias.detach().clone()
    cell.fill_forget_bias(1.0)
    expected = before.clone()
    expected[8:12] = 1.0
    assert torch.equal(cell.from_input.bias, expected)
    with pytest.raises(ValueError, match="`zoneout` must be in"):
        ZoneoutLSTM(3, 4, 1.5)


def gru_of_a_unit(cell: GRU, x: list[float], hidden: list[float], d: int) -> float:
    """One unit of Cho et al.'s GRU, from the weights: update gate first, then reset gate, then candidate."""
    size = cell.hidden_size
    w, b = cell.from_input.weight.tolist(), cell.from_input.bias.tolist()
    u, v = cell.gates_from_hidden.weight.tolist(), cell.candidate_from_hidden.weight.tolist()

    def gate(unit: int) -> float:
        total = b[unit] + sum(p * q for p, q in zip(w[unit], x, strict=True))
        total += sum(p * q for p, q in zip(u[unit], hidden, strict=True))
        return 1 / (1 + math.exp(-total))

    update, resets = gate(d), [gate(size + e) for e in range(size)]
    candidate = b[2 * size + d] + sum(p * q for p, q in zip(w[2 * size + d], x, strict=True))
    candidate += sum(p * r * h for p, r, h in zip(v[d], resets, hidden, strict=True))
    return (1 - update) * hidden[d] + update * math.tanh(candidate)


def test_gru_equals_a_loop_over_units():
    cell = GRU(3, 4).double()
    inputs, hidden = torch.randn(5, 3).double(), torch.randn(5, 4).double()
    state = cell(inputs, hidden)
    for row in range(5):
        expected = [gru_of_a_unit(cell, inputs[row].tolist(), hidden[row].tolist(), d) for d in range(4)]
        torch.testing.assert_close(state[row], torch.tensor(expected).double())


def test_gru_starts_from_a_learned_state_of_zeros_and_glorots_weights():
    cell = GRU(200, 100)
    assert torch.equal(cell.initial_state(torch.zeros(3, 200)), torch.zeros(3, 100))
    assert cell.initial.requires_grad
    assert cell.from_input.weight.abs().max().item() == pytest.approx((6 / 300) ** 0.5, rel=1e-3)
    for weight in (cell.gates_from_hidden.weight, cell.candidate_from_hidden.weight, cell.from_input.bias):
        assert weight.abs().max().item() == pytest.approx((3 / 100) ** 0.5, rel=0.02)


def test_vanilla_rnn_is_one_affine_map_of_all_its_inputs_and_one_of_its_state():
    cell = VanillaRNN(3, 2, 4).double()
    for bias in (cell.from_early.bias, cell.from_hidden.bias):
        torch.nn.init.normal_(bias)
    early, late, hidden = (torch.randn(5, size).double() for size in (3, 2, 4))
    state = cell(cell.project(early), late, hidden)
    for row in range(5):
        for d in range(4):
            total = cell.from_early.bias[d] + cell.from_hidden.bias[d]
            total = total + sum(cell.from_early.weight[d, f] * early[row, f] for f in range(3))
            total = total + sum(cell.from_late.weight[d, f] * late[row, f] for f in range(2))
            total = total + sum(cell.from_hidden.weight[d, e] * hidden[row, e] for e in range(4))
            torch.testing.assert_close(state[row, d], total.tanh())
    wide = VanillaRNN(300, 100, 50)
    for part in (wide.from_early, wide.from_late):
        assert part.weight.abs().max().item() == pytest.approx(2 / 20, rel=1e-2)
