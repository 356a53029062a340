"""Draws whose use is decided later, against the formula and as Pyro's tools meet them."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from whatwhere.models.components.provisional import Decision, Provisional


def program(size: int = 6) -> None:
    used = Decision("use")
    with pyro.plate("data", size, dim=-1), poutine.mask(mask=torch.arange(size) > 0):
        draw = pyro.sample("draw", Provisional(dist.Normal(0.3, 2.0).expand([3]).to_event(1), used))
        used.settle(pyro.sample("use", dist.Bernoulli(logits=draw.sum(-1))) > 0)


def test_the_log_probability_counts_where_the_draw_is_used():
    trace = poutine.trace(program).get_trace(200)
    trace.compute_log_prob()
    draw, use = (trace.nodes[name]["value"] for name in ("draw", "use"))
    assert 0 < use.mean() < 1
    expected = dist.Normal(0.3, 2.0).log_prob(draw).sum(-1) * use * (torch.arange(200) > 0)
    torch.testing.assert_close(trace.nodes["draw"]["log_prob"], expected)


def test_conditioned_and_replayed_values_decide():
    values = {"draw": torch.ones(6, 3), "use": torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0, 0.0])}
    trace = poutine.trace(poutine.condition(program, data=values)).get_trace()
    again = poutine.trace(poutine.replay(program, trace=poutine.trace(program).get_trace())).get_trace()
    for each in (trace, again):
        each.compute_log_prob()
        counted = each.nodes["draw"]["log_prob"] != 0
        assert torch.equal(counted, (each.nodes["use"]["value"] > 0) & (torch.arange(6) > 0))


def test_parts_for_the_score_function_and_the_support_are_those_of_the_base():
    base, used = dist.Normal(torch.zeros(2), 1.0), Decision("use")
    fn = Provisional(base, used).expand((3, 2))
    assert fn.has_rsample
    assert fn.batch_shape == (3, 2)
    assert fn.support is base.support
    used.settle(torch.tensor([True, False]))
    parts = fn.score_parts(torch.ones(3, 2))
    expected = base.log_prob(torch.ones(3, 2)) * torch.tensor([1.0, 0.0])
    torch.testing.assert_close(parts.log_prob, expected)
    torch.testing.assert_close(parts.entropy_term, expected)
    assert parts.score_function == 0
    torch.testing.assert_close(fn.mean, torch.zeros(3, 2))


def test_a_log_probability_before_the_decision_is_refused():
    fn = Provisional(dist.Normal(0.0, 1.0), Decision("discovery/z_pres/0/1"))
    with pytest.raises(RuntimeError, match="`discovery/z_pres/0/1` decides on was asked for before it did"):
        fn.log_prob(torch.zeros(()))
