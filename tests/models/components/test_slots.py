"""Slots with any latent variables: what is done to one is done to all of them."""

from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from whatwhere.models.components.active_set import Rows
from whatwhere.models.components.slots import (
    ABSENT,
    Slots,
    TrackedSlots,
    compact,
    empty_slots,
    latents,
    slots_of,
    slots_present,
    stack_slots,
    tracked,
)

SIZES = {"z_where": 4, "z_what": 3, "z_depth": 1, "z_dyn": 2}


def deep(z_pres: Tensor, start: float = 0.0) -> Any:
    """Tracked slots with four latent variables, every number of which says which slot it is of."""
    number = start + torch.arange(z_pres.shape[-1]).expand(z_pres.shape).float()
    values = {name: number.unsqueeze(-1).expand(*number.shape, size) for name, size in SIZES.items()}
    return tracked(slots_of(z_pres, **values), number.unsqueeze(-1).expand(*number.shape, 5), number.long())


def test_the_usual_variables_have_the_usual_types():
    one = torch.ones(2, 3)
    usual = slots_of(one, z_where=one[..., None], z_what=one[..., None])
    assert type(usual) is Slots
    assert type(tracked(usual, one[..., None], one.long())) is TrackedSlots
    assert type(latents(tracked(usual, one[..., None], one.long()))) is Slots


def test_further_variables_are_fields():
    slots = deep(torch.ones(2, 3))
    assert slots._fields == ("z_pres", *SIZES, "memory", "identity")
    drawn = latents(slots)
    assert drawn._fields == ("z_pres", *SIZES)
    assert drawn.features().shape == (2, 3, 8)  # appearance, place and presence, as always
    assert type(deep(torch.ones(1, 1))) is type(slots)  # one type, wherever it is made


def test_all_variables_move_together():
    merged: Any = compact(deep(torch.tensor([[0.0, 1.0]])), deep(torch.tensor([[1.0, 0.0]]), start=2.0))
    assert merged.z_pres.tolist() == [[1.0, 1.0]]
    assert merged.identity.tolist() == [[1, 2]]
    for name, size in SIZES.items():
        assert torch.equal(getattr(merged, name), torch.tensor([[[1.0] * size, [2.0] * size]])), name
    assert torch.equal(merged.memory[0, :, 0], torch.tensor([1.0, 2.0]))


def test_slots_with_other_variables_are_not_mixed():
    plain = tracked(
        Slots(torch.ones(1, 1), torch.ones(1, 1, 4), torch.ones(1, 1, 3)), *deep(torch.ones(1, 1))[-2:]
    )
    with pytest.raises(
        ValueError, match="propagated slots have z_pres, z_where, z_what, memory, identity, disc"
    ):
        compact(plain, deep(torch.ones(1, 1)))


def test_what_is_absent_is_zero_in_every_variable():
    values = {name: torch.randn(5, size) for name, size in SIZES.items()}
    here = torch.tensor([1.0, 0.0, 1.0, 0.0, 1.0])
    slot: Any = slots_present(slots_of(here, **values))
    for name in SIZES:
        assert torch.equal(getattr(slot, name), values[name] * here[:, None]), name
    stacked: Any = stack_slots([slot, slot])
    assert stacked.z_pres.shape == (5, 2)
    assert torch.equal(stacked.z_dyn[:, 1], slot.z_dyn)


def test_presence_that_lacks_an_axis_gets_it():
    slot = slots_present(Slots(torch.ones(5), torch.randn(4, 5, 4), torch.randn(4, 5, 3)))
    assert slot.z_pres.shape == (4, 5)


def test_rows_are_taken_and_put_back_in_every_variable():
    slots = deep(torch.tensor([[0.0, 1.0], [1.0, 1.0]]), start=1.0)
    rows = Rows(slots.z_pres)
    taken = type(slots)(*(rows.take(field, field.dim() - 2) for field in slots))
    put = rows.put(taken)
    assert type(put) is type(slots)
    for name in SIZES:
        expected = getattr(slots, name) * slots.z_pres[..., None]
        assert torch.equal(getattr(put, name), expected), name


class Depth(NamedTuple):
    z_depth: Tensor


class Said(NamedTuple):
    logits: Tensor
    further: Any


@pytest.mark.parametrize("further", [(), Depth(torch.ones(1, 2))])
def test_rows_put_what_a_prior_says_of_further_variables(further: Any):
    put = Rows(torch.tensor([0.0, 1.0])).put(Said(torch.ones(1), further)).further
    assert type(put) is type(further)
    if further:
        assert put.z_depth.tolist() == [[0.0, 0.0], [1.0, 1.0]]


def test_before_the_first_frame_there_is_nothing():
    empty: Any = empty_slots(3, SIZES, torch.ones(5), 2)
    assert type(empty) is type(deep(torch.ones(1, 1)))
    assert (empty.identity == ABSENT).all()
    for name, size in SIZES.items():
        assert getattr(empty, name).shape == (2, 3, size)
        assert not getattr(empty, name).any()
    assert empty.memory.shape == (2, 3, 5)


@pytest.mark.parametrize(
    "present", [[[0, 1], [1, 0], [1, 1]], [[1, 1], [1, 1], [1, 1]], [[0], [1], [1]], [[1], [1], [1]]]
)
def test_rows_are_of_what_is_present(present: list[list[int]]) -> None:
    """Also where everything is, or where all rows are of one image: then nothing needs to be copied."""
    here = torch.tensor(present)
    values, images = torch.rand(*here.shape, 2), torch.rand(here.shape[1], 1, 2, 2)
    rows = Rows(here)
    where = [(i, b) for i in range(len(here)) for b in range(here.shape[1]) if here[i, b]]
    torch.testing.assert_close(rows.take(values), torch.stack([values[i, b] for i, b in where]))
    torch.testing.assert_close(rows.take_images(images), torch.stack([images[b] for _, b in where]))
    put = rows.put(rows.take(values))
    torch.testing.assert_close(put, values * here.unsqueeze(-1))
