import math

import pytest
import torch
from torch import Tensor, nn

from whatwhere import checks
from whatwhere.inference.training.divergence import nonfinite_cause


class Network(nn.Module):
    """A body whose output can overflow, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(2, 3), nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.bernoulli(torch.sigmoid(self.head(self.body(x))))


def error_of(call) -> BaseException:
    with pytest.raises((ValueError, RuntimeError)) as caught:
        call()
    return caught.value


def test_a_parameter_that_is_not_finite_is_named():
    network = Network()
    with torch.no_grad():
        network.head.bias.fill_(torch.nan)
    error = error_of(lambda: network(torch.zeros(1, 2)))
    assert nonfinite_cause(network, error) == "not finite: `head.bias`"


def test_the_first_module_whose_output_is_not_finite_is_named_and_left_as_it_was():
    network = Network()
    with torch.no_grad():
        network.body.weight.fill_(3e38)
        network.head.weight.copy_(torch.tensor([[1.0, -1.0, 1.0]]))  # infinity less infinity

    def call() -> Tensor:
        return network(torch.full((1, 2), 10.0))

    error = error_of(call)
    assert nonfinite_cause(network, error, call) == "the output of `body` is not finite"
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize(
    "call",
    [
        lambda: torch.distributions.Normal(torch.tensor(torch.nan), torch.tensor(1.0)),
        lambda: torch.bernoulli(torch.tensor(torch.nan)),
        lambda: torch.multinomial(torch.tensor([torch.nan, 1.0]), 1),
        lambda: torch.distributions.Normal(0.0, 1.0).log_prob(torch.tensor(torch.nan)),
    ],
)
def test_what_distributions_say_of_such_values(call):
    assert nonfinite_cause(nn.Linear(1, 1), error_of(call)) is not None


@pytest.mark.parametrize(
    "call",
    [
        lambda: torch.ones(2, 3) @ torch.ones(2, 3),
        lambda: torch.distributions.Normal(torch.tensor(0.0), torch.tensor(-1.0)),
        lambda: int("inf"),
        lambda: checks.positive(nesting=math.inf),
    ],
)
def test_other_errors_have_other_causes(call):
    assert nonfinite_cause(nn.Linear(1, 1), error_of(call)) is None
