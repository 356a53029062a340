"""What is new in a frame: further latent variables, and the names that checkpoints have."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pyro import poutine
from torch import Tensor

from whatwhere.examples.sqair import NetworkConfig, PriorConfig, SQAIRConfig, build, programs_of
from whatwhere.models import ChainDiscovery
from whatwhere.models.components.slots import Slots, slots_of
from whatwhere.models.priors import (
    CategoricalCount,
    DiscoveryCountPrior,
    DiscoveryWherePrior,
    FixedCountPrior,
    FixedWherePrior,
    NormalPrior,
    RecurrentPropagationPrior,
    StaticLooksPrior,
    StickyLooksPrior,
    WithFurther,
)

SMALL = NetworkConfig("mlp", (1, 12, 12), 2, 3, 5, 8, 6, 6)


def test_further_variables_are_drawn_with_place_and_looks():
    """log p of everything that is drawn, by hand."""
    counts = [0.2, 0.5, 0.3]
    chain = ChainDiscovery(
        FixedCountPrior(CategoricalCount(counts)),
        FixedWherePrior(-1.0, 0.5, 0.7),
        3,
        z_depth=NormalPrior([1.0], [2.0]),
    ).double()
    assert chain.sizes == {"z_where": 4, "z_what": 3, "z_depth": 1}
    size = 40
    free = torch.full((size,), 2.0).double()
    empty = torch.zeros(size, 1).double()
    trace = poutine.trace(chain).get_trace(3, empty, empty, free, False)
    trace.compute_log_prob()
    slots: Any = trace.nodes["_RETURN"]["value"]
    assert slots._fields == ("z_pres", "z_where", "z_what", "z_depth")
    assert not slots.z_depth[slots.z_pres == 0].any()
    found = slots.z_pres.sum(-1).long()
    assert len(found.unique()) == 3

    def normal(value: Tensor, loc: Any, scale: Any) -> Tensor:
        loc, scale = (torch.as_tensor(x).double() for x in (loc, scale))
        return (-0.5 * ((value - loc) / scale) ** 2 - scale.log() - 0.5 * math.log(2 * math.pi)).sum(-1)

    terms = (
        normal(slots.z_where, [-1.0, -1.0, 0.0, 0.0], [0.5, 0.5, 0.7, 0.7])
        + normal(slots.z_what, 0.0, 1.0)
        + normal(slots.z_depth, 1.0, 2.0)
    )
    expected = torch.tensor(counts).double().log()[found] + (terms * slots.z_pres).sum(-1)
    total = sum(site["log_prob"] for site in trace.nodes.values() if "log_prob" in site)
    torch.testing.assert_close(total, expected)


@pytest.mark.parametrize("kind", ["sqair", "air"])
def test_checkpoints_have_the_names_that_the_parts_had_in_the_model(kind: Any):
    model, _ = programs_of(SQAIRConfig(model=kind, network=SMALL))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    parts = {name.partition(".")[0] for name in state}
    assert {"discovery_count_prior", "discovery_where_prior", "what_prior"} <= parts
    assert "discovery" not in parts
    other, _ = programs_of(SQAIRConfig(model=kind, network=SMALL))
    other.load_state_dict(state)
    for name, parameter in model.named_parameters():
        assert torch.equal(dict(other.named_parameters())[name], parameter), name


def test_alone_the_parts_have_their_own_names():
    chain = ChainDiscovery(DiscoveryCountPrior(2), DiscoveryWherePrior(9), 3)
    parts = {name.partition(".")[0] for name in chain.state_dict()}
    assert parts == {"count_prior", "where_prior", "what_prior"}
    chain.load_state_dict(chain.state_dict())


class Nothing(torch.nn.Module):
    """Never finds anything."""

    max_count = 2
    sizes = {"z_where": 4, "z_what": 3}  # noqa: RUF012

    def forward(self, t: int, summary: Tensor, expectation: Tensor, free: Tensor, first: bool) -> Slots:
        shape = (*free.shape, 2)
        return slots_of(
            free.new_zeros(shape), **{k: free.new_zeros(*shape, n) for k, n in self.sizes.items()}
        )


def test_a_model_takes_another_discovery():
    """One that never finds anything: the canvas stays black."""
    model = build(SMALL, PriorConfig()).model
    model.discovery = Nothing()
    frames = model.generate(3, 2)
    assert not any(frame.canvas.any() for frame in frames)


def test_further_variables_of_both_go_on():
    plain = RecurrentPropagationPrior(3, 8)
    laws = {name: StickyLooksPrior(1) for name in ("z_depth", "z_age")}
    nested = WithFurther(WithFurther(plain, z_depth=laws["z_depth"]), z_age=laws["z_age"])
    fields = {"z_what": torch.randn(5, 2, 3), "z_depth": torch.randn(5, 2, 1), "z_age": torch.randn(5, 2, 1)}
    slots: Any = SimpleNamespace(z_where=torch.randn(5, 2, 4), memory=torch.randn(5, 2, 8), **fields)
    predicted, whole = nested(slots), WithFurther(plain, **laws)(slots)
    assert predicted.further._fields == whole.further._fields == ("z_depth", "z_age")
    for name in predicted.further._fields:
        assert torch.equal(getattr(predicted.further, name).loc, fields[name])


def test_a_further_variable_that_stays_as_it_is_is_refused():
    with pytest.raises(ValueError, match="`z_depth` must be a variable that changes"):
        WithFurther(RecurrentPropagationPrior(3, 8), z_depth=StaticLooksPrior())
