"""Parameters are statements once a run."""

import torch
from pyro import poutine
from torch import Tensor, nn

from whatwhere.models.components.stated_once import StatedOnce


class Chain(StatedOnce):
    def __init__(self) -> None:
        super().__init__()
        self.link = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        self.state_parameters()
        for _ in range(5):
            x = self.link(x)
        return x


class Count(poutine.trace_messenger.TraceMessenger):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def _pyro_post_param(self, msg: dict) -> None:
        self.names.append(msg["name"])
        super()._pyro_post_param(msg)


def test_a_part_that_is_used_in_every_step_is_stated_once():
    chain, count = Chain(), Count()
    with count:
        chain(torch.ones(2))
    assert sorted(count.names) == ["link$$$bias", "link$$$weight"]
