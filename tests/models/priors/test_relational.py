"""The prior that relates objects, against the one that does not, and from frame to frame."""

import torch

from whatwhere.models.components.messages import PAST, Messages
from whatwhere.models.components.slots import TrackedSlots
from whatwhere.models.priors import Propagation, RecurrentPropagationPrior, RelationalPropagationPrior

WHAT, HIDDEN, COUNT = 3, 6, 3


def fields(predicted: Propagation) -> list[torch.Tensor]:
    assert predicted.what is not None
    return [predicted.logits, *predicted.where, *predicted.what, predicted.memory]


def prior(start: bool = False) -> RelationalPropagationPrior:
    torch.manual_seed(1)
    made = RelationalPropagationPrior(WHAT, HIDDEN, 2.0, Messages(WHAT, 4, 5)).double()
    if not start:
        for parameter in made.parameters():
            parameter.data += 0.4 * torch.randn_like(parameter)
    return made


def slots(memory: torch.Tensor, present: list[float] | None = None) -> TrackedSlots:
    torch.manual_seed(2)
    here = torch.tensor(present or [1.0] * COUNT).double().expand(4, COUNT)
    where, what = torch.randn(4, COUNT, 4).double(), torch.randn(4, COUNT, WHAT).double()
    return TrackedSlots(here, where, what, memory.expand(4, COUNT, -1), torch.zeros(4, COUNT).long())


def test_it_says_that_it_relates_slots():
    assert not prior().per_object


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
    *said, memory = fields(found)
    torch.testing.assert_close([*said, memory[..., :HIDDEN]], fields(expected))


def test_it_follows_a_permutation_and_does_not_see_what_is_absent():
    made = prior()
    memory = torch.randn(4, COUNT, HIDDEN + PAST).double()
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


def test_it_remembers_where_objects_were():
    made = prior()
    seen: list[torch.Tensor] = []
    made.messages.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[1]))
    first = slots(made.initial_memory)
    then = made(first)
    made(first._replace(z_where=first.z_where + 1, memory=then.memory))
    assert not seen[0].any()
    torch.testing.assert_close(seen[1][..., :4], first.z_where)
    assert (seen[1][..., 4] == 1).all()
