"""Messages between objects, written out object by object in NumPy."""

from typing import Any

import numpy as np
import pytest
import torch

from whatwhere.models.components.messages import PAST, Messages, next_past, velocity
from whatwhere.models.components.slots import TrackedSlots

WHAT, COUNT = 3, 4


def messages() -> Messages:
    torch.manual_seed(4)
    made = Messages(WHAT, size=5, hidden=7).double()
    for parameter in made.parameters():
        parameter.data += 0.5 * torch.randn_like(parameter)
    return made


def scene(present: list[float] | None = None) -> tuple[TrackedSlots, torch.Tensor]:
    """Two scenes of four slots, and what is remembered of them; by default one slot of each is absent."""
    torch.manual_seed(5)
    here = torch.tensor(present or [1.0, 1.0, 0.0, 1.0]).double().expand(2, COUNT)
    where, what = torch.randn(2, COUNT, 4).double(), torch.randn(2, COUNT, WHAT).double()
    known = torch.tensor([1.0, 0.0, 1.0, 1.0]).double()[:, None].expand(2, COUNT, 1)
    past = torch.cat([torch.randn(2, COUNT, 4).double(), known], dim=-1)
    return TrackedSlots(here, where, what, past, torch.arange(COUNT).expand(2, COUNT)), past


def layers(weights: dict[str, np.ndarray], name: str, x: np.ndarray) -> np.ndarray:
    """Linear layers, with an ELU after each but the last."""
    indices = [i for i in range(0, 10, 2) if f"{name}.{i}.weight" in weights]
    for i in indices:
        x = weights[f"{name}.{i}.weight"] @ x + weights[f"{name}.{i}.bias"]
        if i != indices[-1]:
            x = np.where(x > 0, x, np.expm1(np.minimum(x, 0)))
    return x


def by_hand(made: Any, what: np.ndarray, where: np.ndarray, past: np.ndarray) -> list[np.ndarray]:
    """The messages to some objects, all of which are there."""
    weights = {name: value.numpy() for name, value in made.state_dict().items()}
    encoded = []
    for i in range(len(what)):
        change = where[i] - past[i, :4] if past[i, 4] else np.zeros(4)
        x = np.concatenate([what[i], where[i], change])
        encoded.append(weights["encoder.weight"] @ x + weights["encoder.bias"])
    told = []
    for i in range(len(what)):
        message = layers(weights, "own", encoded[i])
        for j in range(len(what)):
            if i != j:
                away = where[j, 2:] - where[i, 2:]
                pair = np.concatenate([encoded[i], encoded[j], away, [away @ away]])
                *relation, logit = layers(weights, "relation", pair)
                message = message + np.array(relation) / (1 + np.exp(-logit))
        told.append(message)
    return told


def test_they_are_those_of_a_loop_over_the_objects_that_are_there():
    made = messages()
    slots, past = scene()
    with torch.no_grad():
        found = made(slots, past)
    there = [0, 1, 3]
    for b in range(2):
        arrays = (x[b, there].numpy() for x in (slots.z_what, slots.z_where, past))
        for i, expected in zip(there, by_hand(made, *arrays), strict=True):
            np.testing.assert_allclose(found[b, i].numpy(), expected, rtol=1e-9)
        assert not found[b, 2].any()


def test_they_follow_a_permutation_of_the_objects():
    made = messages()
    slots, past = scene([1.0, 1.0, 1.0, 1.0])
    order = torch.tensor([2, 0, 3, 1])
    turned = TrackedSlots(*(field[:, order] for field in slots))
    torch.testing.assert_close(made(turned, past[:, order]), made(slots, past)[:, order])


def test_an_absent_slot_is_one_that_is_removed():
    made = messages()
    slots, past = scene()
    there = torch.tensor([0, 1, 3])
    fewer = TrackedSlots(*(field[:, there] for field in slots))
    torch.testing.assert_close(made(fewer, past[:, there]), made(slots, past)[:, there])


def test_at_first_nothing_is_said():
    slots, past = scene()
    made = Messages(WHAT, 5, 7).double()
    assert not made(slots, past).any()
    made(slots, past).sum().backward()
    for network in (made.own, made.relation):
        assert network[-1].weight.grad.abs().sum() > 0  # but it is learned what to say


def test_a_velocity_is_known_from_the_second_frame_on():
    before, now = torch.randn(2, 4), torch.randn(2, 4)
    assert not velocity(before, torch.zeros(2, PAST)).any()
    torch.testing.assert_close(velocity(now, next_past(before)), now - before)


@pytest.mark.parametrize("name", ["what_size", "size", "hidden"])
def test_sizes_are_positive(name: str):
    with pytest.raises(ValueError, match=name):
        Messages(**{"what_size": 3, name: 0})
