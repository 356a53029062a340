"""Priors that relate objects, against those that do not, and from frame to frame."""

import pytest
import torch

from whatwhere.models.components.messages import PAST, Messages
from whatwhere.models.components.slots import TrackedSlots
from whatwhere.models.priors import (
    MotionPrior,
    Propagation,
    RecurrentPropagationPrior,
    RelationalPropagationPrior,
)

WHAT, HIDDEN, COUNT = 3, 6, 3


def fields(predicted: Propagation) -> list[torch.Tensor]:
    """What is said of each slot; the components of a mixture are none."""
    said = [predicted.logits, *predicted.where[:2], *(predicted.what or ()), predicted.memory]
    return [x.flatten(2) for x in said if x.dim() > 2] + [predicted.logits]


def prior(start: bool = False, kind: type = RelationalPropagationPrior) -> RelationalPropagationPrior:
    torch.manual_seed(1)
    messages = Messages(WHAT, 4, 5)
    if kind is MotionPrior:
        made = MotionPrior(HIDDEN, 2.0, messages=messages).double()
    else:
        made = RelationalPropagationPrior(WHAT, HIDDEN, 2.0, messages).double()
    if not start:
        for parameter in made.parameters():
            parameter.data += 0.4 * torch.randn_like(parameter)
    return made


def slots(memory: torch.Tensor, present: list[float] | None = None) -> TrackedSlots:
    torch.manual_seed(2)
    here = torch.tensor(present or [1.0] * COUNT).double().expand(4, COUNT)
    where, what = torch.randn(4, COUNT, 4).double(), torch.randn(4, COUNT, WHAT).double()
    return TrackedSlots(here, where, what, memory.expand(4, COUNT, -1), torch.zeros(4, COUNT).long())


KINDS = pytest.mark.parametrize("kind", [RelationalPropagationPrior, MotionPrior])


@KINDS
def test_it_says_that_it_relates_slots(kind):
    assert not prior(kind=kind).per_object
    assert MotionPrior(HIDDEN).per_object


def test_without_messages_it_is_the_recurrent_prior():
    """As it starts, and as it is for one object of whose own motion nothing is said."""
    relational = prior(start=True)
    plain = RecurrentPropagationPrior(WHAT, HIDDEN, 2.0).double()
    own = relational.state_dict()
    own["rnn.from_input.weight"] = own["rnn.from_input.weight"][:, : WHAT + 4]
    plain.load_state_dict({name: own[name] for name in plain.state_dict()})
    hidden = torch.randn(4, COUNT, HIDDEN).double()
    past = torch.randn(4, COUNT, PAST).double()
    expected = plain(slots(hidden))
    found = relational(slots(torch.cat([hidden, past], dim=-1)))
    *said, memory, logits = fields(found)
    torch.testing.assert_close([*said, memory[..., :HIDDEN], logits], fields(expected))


def test_without_messages_motion_is_that_of_objects_alone():
    relational, plain = prior(start=True, kind=MotionPrior), MotionPrior(HIDDEN, 2.0).double()
    own = relational.state_dict()
    own["rnn.from_input.weight"] = own["rnn.from_input.weight"][:, :14]
    own["head.0.weight"] = own["head.0.weight"][:, : HIDDEN + 14]
    plain.load_state_dict({name: own[name] for name in plain.state_dict()})
    some = slots(torch.randn(4, COUNT, len(plain.initial_memory)).double())
    torch.testing.assert_close(fields(relational(some)), fields(plain(some)))


def test_places_are_told_or_do_not_matter():
    with pytest.raises(ValueError, match="`anywhere` keeps places"):
        MotionPrior(HIDDEN, anywhere=True, messages=Messages(WHAT))


@KINDS
def test_it_follows_a_permutation_and_does_not_see_what_is_absent(kind):
    made = prior(kind=kind)
    memory = torch.randn(4, COUNT, len(made.initial_memory)).double()
    whole = made(slots(memory))
    order = torch.tensor([2, 0, 1])
    turned = made(TrackedSlots(*(field[:, order] for field in slots(memory))))
    for one, other in zip(fields(turned), fields(whole), strict=True):
        torch.testing.assert_close(one, other[:, order])
    there = torch.tensor([0, 2])
    some = slots(memory, [1.0, 0.0, 1.0])
    fewer = made(TrackedSlots(*(field[:, there] for field in some)))
    for one, other in zip(fields(fewer), fields(made(some)), strict=True):
        torch.testing.assert_close(one, other[:, there])
    assert not torch.isclose(made(some).where.loc[:, there], whole.where.loc[:, there]).all()


@KINDS
def test_it_remembers_where_objects_were(kind):
    made = prior(kind=kind)
    seen: list[torch.Tensor] = []
    made.messages.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[1]))
    first = slots(made.initial_memory)
    then = made(first)
    made(first._replace(z_where=first.z_where + 1, memory=then.memory))
    assert not seen[0].any()
    torch.testing.assert_close(seen[1][..., :4], first.z_where)
    assert (seen[1][..., 4] == 1).all()
