"""Parameters that Pyro's `SVI` would leave as they are."""

import copy
import warnings

import pyro
import pytest
import torch
from pyro.infer import SVI

from whatwhere.inference.objectives import VIMCO, Reinforce


def step(pair) -> list[bool]:
    """One step of `SVI` of all parameters; whether any of the model changes."""
    before = copy.deepcopy(pair.model.state_dict())
    SVI(pair.model, pair.guide, pyro.optim.Adam({"lr": 1e-2}), Reinforce()).step(pair.data)
    return [not torch.equal(value, before[name]) for name, value in pair.model.state_dict().items()]


@pytest.mark.parametrize("name", ["AIR", "SQAIR", "SequenceAIR", "VRNN"])
def test_a_second_training_in_one_process_is_warned_of(name, make_generative):
    first, second = make_generative(name), make_generative(name)
    assert any(step(first))
    assert any(step(first))  # the same parameters go on
    with pytest.warns(UserWarning, match="parameter store has other values for") as warned:
        assert not any(step(second))
    said = {str(each.message).split("`")[1] for each in warned}
    assert said == {type(second.model).__name__, type(second.guide).__name__}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(second)  # once is enough
        pyro.clear_param_store()
        assert any(step(make_generative(name)))


def test_nothing_is_said_where_the_store_is_not_used(make_generative):
    first, second = make_generative("AIR"), make_generative("AIR")
    step(first)
    second.model(second.data)
    second.guide(second.data)
    VIMCO(2)(second.model, second.guide)(second.data)[0].backward()
