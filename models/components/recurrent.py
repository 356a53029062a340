"""Recurrent cells."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ... import checks
from .initialisers import glorot_vector
from .networks import initialise

_CANDIDATE_GATE, _FORGET_GATE = 1, 2
"""Places among the gates of `ZoneoutLSTM`."""


class LSTMState(NamedTuple):
    """State of an LSTM."""

    hidden: Tensor
    """Output, `(..., D)`."""
    cell: Tensor
    """Memory, `(..., D)`."""


class SplitInputLSTM(nn.Module):
    """An LSTM cell whose input has a part that is the same at every step.

    `LSTM([context, x_i], state)` with the weights of `context` and `x_i` kept apart, so that the
    product with the context, here an image of thousands of pixels, is taken once instead of once
    a step and particle. The mathematics is that of `torch.nn.LSTMCell` on the concatenation.

    Args:
        context_size: features of the constant part.
        input_size: features of the part that changes.
        hidden_size: D.
    """

    def __init__(self, context_size: int, input_size: int, hidden_size: int) -> None:
        super().__init__()
        checks.at_least(1, context_size=context_size, input_size=input_size, hidden_size=hidden_size)
        self.hidden_size = hidden_size
        self.from_context = nn.Linear(context_size, 4 * hidden_size)
        self.from_input = nn.Linear(input_size + hidden_size, 4 * hidden_size, bias=False)
        bound = hidden_size**-0.5
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def initial_state(self, like: Tensor) -> LSTMState:
        """A state of zeros with the leading axes of `like` `(..., F)`."""
        zeros = like.new_zeros(*like.shape[:-1], self.hidden_size)
        return LSTMState(zeros, zeros)

    def forward(self, context_gates: Tensor, inputs: Tensor, state: LSTMState) -> LSTMState:
        """One step.

        Args:
            context_gates: `from_context(context)`, `(..., 4 D)`; broadcasts.
            inputs: `(..., F)`.
            state: of the step before; may lack leading axes that the inputs have.
        """
        hidden = state.hidden.expand(*inputs.shape[:-1], self.hidden_size)
        gates = context_gates + self.from_input(torch.cat([inputs, hidden], dim=-1))
        in_gate, forget_gate, candidate, out_gate = gates.chunk(4, dim=-1)
        cell = forget_gate.sigmoid() * state.cell + in_gate.sigmoid() * candidate.tanh()
        return LSTMState(out_gate.sigmoid() * cell.tanh(), cell)


class VanillaRNN(nn.Module):
    """A tanh recurrent cell whose input and recurrent maps each have a bias, with a learned first state.

    The input may come in parts: parts that are known early, or are the same for many steps, are
    projected once with `project` and added to what `forward` computes from the rest.

    Args:
        early_size: features of the part given to `project`.
        late_size: features of the part given to `forward`.
        hidden_size: D.
    """

    def __init__(self, early_size: int, late_size: int, hidden_size: int) -> None:
        super().__init__()
        checks.at_least(1, early_size=early_size, late_size=late_size, hidden_size=hidden_size)
        self.from_early = nn.Linear(early_size, hidden_size)
        self.from_late = nn.Linear(late_size, hidden_size, bias=False)
        self.from_hidden = nn.Linear(hidden_size, hidden_size)
        self.initial = nn.Parameter(torch.zeros(hidden_size))
        # The parts are one matrix, so their scale is that of all the inputs.
        std = (early_size + late_size) ** -0.5
        initialise(self)
        for part in (self.from_early, self.from_late):
            nn.init.trunc_normal_(part.weight, std=std, a=-2 * std, b=2 * std)

    def project(self, early: Tensor) -> Tensor:
        """The contribution of the early part `(..., E)` to the pre-activation, `(..., D)`."""
        return self.from_early(early)

    def forward(self, projected: Tensor, late: Tensor, hidden: Tensor) -> Tensor:
        """The next state `(..., D)`; leading axes broadcast."""
        return (projected + self.from_late(late) + self.from_hidden(hidden)).tanh()


class GRU(nn.Module):
    """A gated recurrent unit that resets *before* the recurrent product, with a learned first state.

    `h' = (1 - z) h + z tanh(W x + U (r h) + b)`, Cho et al., *Learning Phrase Representations using RNN
    Encoder-Decoder*, 2014. `torch.nn.GRUCell` resets after the product, has two biases a gate, and
    swaps the roles of `z` and `1 - z`.

    Args:
        input_size: features of the input.
        hidden_size: D.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        checks.at_least(1, input_size=input_size, hidden_size=hidden_size)
        self.hidden_size = hidden_size
        self.from_input = nn.Linear(input_size, 3 * hidden_size)
        self.gates_from_hidden = nn.Linear(hidden_size, 2 * hidden_size, bias=False)
        self.candidate_from_hidden = nn.Linear(hidden_size, hidden_size, bias=False)
        self.initial = nn.Parameter(torch.zeros(hidden_size))
        input_bound = (6 / (input_size + hidden_size)) ** 0.5  # Glorot's, gate by gate
        hidden_bound = (3 / hidden_size) ** 0.5
        nn.init.uniform_(self.from_input.weight, -input_bound, input_bound)
        nn.init.uniform_(self.from_input.bias, -hidden_bound, hidden_bound)
        for layer in (self.gates_from_hidden, self.candidate_from_hidden):
            nn.init.uniform_(layer.weight, -hidden_bound, hidden_bound)

    def initial_state(self, like: Tensor) -> Tensor:
        """The learned state `(..., D)` with the leading axes of `like` `(..., F)`."""
        return self.initial.expand(*like.shape[:-1], self.hidden_size)

    def forward(self, inputs: Tensor, hidden: Tensor) -> Tensor:
        """The next state `(..., D)` from inputs `(..., F)` and the state before."""
        gates, candidate = self.from_input(inputs).split([2 * self.hidden_size, self.hidden_size], dim=-1)
        update, reset = (gates + self.gates_from_hidden(hidden)).sigmoid().chunk(2, dim=-1)
        candidate = (candidate + self.candidate_from_hidden(reset * hidden)).tanh()
        return hidden + update * (candidate - hidden)


class IRNN(nn.Module):
    """A recurrent cell of rectified linear units whose recurrent matrix starts as the identity.

    `h' = relu(W x + U h)` with `U = I` at first: without input the state does not change, nor the gradient of
    units that are active (Le, Jaitly & Hinton, *A Simple Way to Initialize Recurrent Networks of Rectified
    Linear Units*, 2015). No biases, and a first state of zeros, as in RATM (Kahou et al., 2017).

    Args:
        input_size: features of the input.
        hidden_size: D.
        input_std: standard deviation of the normal distribution that W is drawn from.
    """

    def __init__(self, input_size: int, hidden_size: int, input_std: float = 1e-3) -> None:
        super().__init__()
        checks.at_least(1, input_size=input_size, hidden_size=hidden_size)
        checks.not_negative(input_std=input_std)
        self.hidden_size = hidden_size
        self.from_input = nn.Linear(input_size, hidden_size, bias=False)
        self.from_hidden = nn.Linear(hidden_size, hidden_size, bias=False)
        nn.init.normal_(self.from_input.weight, std=input_std)
        nn.init.eye_(self.from_hidden.weight)

    def initial_state(self, like: Tensor) -> Tensor:
        """A state of zeros `(..., D)` with the leading axes of `like` `(..., F)`."""
        return like.new_zeros(*like.shape[:-1], self.hidden_size)

    def forward(self, inputs: Tensor, hidden: Tensor) -> Tensor:
        """The next state `(..., D)` from inputs `(..., F)` and the state before; leading axes broadcast."""
        return (self.from_input(inputs) + self.from_hidden(hidden)).relu()


class ZoneoutLSTM(nn.Module):
    """An LSTM cell some of whose units keep their old value in training.

        [i j f o] = W x + U m + b
        c' = sigmoid(f) c + sigmoid(i) tanh(j),   m' = sigmoid(o) tanh(c')

    Each component of the state (c, m) is replaced by that of (c', m') with probability `1 - zoneout`; in
    evaluation mode the state is the expectation `zoneout * old + (1 - zoneout) * new` (Krueger et al.,
    *Zoneout: Regularizing RNNs by Randomly Preserving Hidden Activations*, 2017). The output is m', without
    zoneout.

    First values as in HART's program: W and the blocks of U orthogonal, but that of j, which is 0.95 times
    the identity; the bias uniform, with nothing added for the forget gate.

    Args:
        input_size: features of the input.
        hidden_size: D.
        zoneout: probability with which a component keeps its value, of c and of m.

    Raises:
        ValueError: if `zoneout` is no probability.
    """

    def __init__(self, input_size: int, hidden_size: int, zoneout: float = 0.05) -> None:
        super().__init__()
        checks.at_least(1, input_size=input_size, hidden_size=hidden_size)
        if not 0 <= zoneout <= 1:
            raise ValueError(f"`zoneout` must be in [0, 1], got {zoneout}")
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.zoneout = zoneout
        self.from_input = nn.Linear(input_size, 4 * hidden_size)
        self.from_hidden = nn.Linear(hidden_size, 4 * hidden_size, bias=False)
        nn.init.orthogonal_(self.from_input.weight)
        glorot_vector(self.from_input.bias)
        for gate, block in enumerate(self.from_hidden.weight.detach().chunk(4)):
            if gate == _CANDIDATE_GATE:
                nn.init.eye_(block).mul_(0.95)
            else:
                nn.init.orthogonal_(block)

    def fill_forget_bias(self, value: float) -> None:
        """Set the bias of the forget gate: with a positive one, the cell begins by remembering."""
        nn.init.constant_(self.from_input.bias.detach().chunk(4)[_FORGET_GATE], value)

    def initial_state(self, like: Tensor) -> LSTMState:
        """A state of zeros with the leading axes of `like` `(..., F)`."""
        zeros = like.new_zeros(*like.shape[:-1], self.hidden_size)
        return LSTMState(zeros, zeros)

    def forward(self, inputs: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        """One step.

        Args:
            inputs: `(..., F)`.
            state: of the step before.

        Returns:
            The output m' `(..., D)`, and the next state.
        """
        gates = self.from_input(inputs) + self.from_hidden(state.hidden)
        in_gate, candidate, forget_gate, out_gate = gates.chunk(4, dim=-1)
        cell = forget_gate.sigmoid() * state.cell + in_gate.sigmoid() * candidate.tanh()
        output = out_gate.sigmoid() * cell.tanh()
        return output, LSTMState(self._zone_out(state.hidden, output), self._zone_out(state.cell, cell))

    def _zone_out(self, old: Tensor, new: Tensor) -> Tensor:
        if not self.zoneout:
            return new
        if self.training:
            return torch.where(torch.rand_like(new) < self.zoneout, old, new)
        return torch.lerp(new, old.to(new.dtype), self.zoneout)
