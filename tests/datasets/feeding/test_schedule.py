import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from whatwhere.datasets import BatchSchedule, schedule_for
from whatwhere.datasets.feeding.schedule import _order

sizes = st.integers(1, 40)


def passes(schedule: BatchSchedule, epochs: int) -> list[list[int]]:
    """The items of the first epochs, in order, one list per epoch."""
    steps = -(-epochs * schedule.size // schedule.batch_size)
    items = torch.cat([schedule.indices(step) for step in range(steps)]).tolist()
    return [items[i * schedule.size : (i + 1) * schedule.size] for i in range(epochs)]


@given(sizes, sizes, st.integers(0, 2**64 - 1))
def test_every_epoch_is_a_permutation(size: int, batch_size: int, seed: int) -> None:
    for items in passes(BatchSchedule(size, batch_size, seed), 3):
        assert sorted(items) == list(range(size))


def test_epochs_and_seeds_have_different_orders() -> None:
    first, second = passes(BatchSchedule(50, 7, 0), 2)
    (other,) = passes(BatchSchedule(50, 7, 1), 1)
    assert first != list(range(50))
    assert first != second
    assert first != other


@given(sizes, sizes, st.lists(st.integers(0, 200), min_size=1, max_size=5))
def test_indices_are_a_pure_function_of_the_step(size: int, batch_size: int, steps: list[int]) -> None:
    schedule = BatchSchedule(size, batch_size, 5)
    sequence = [schedule.indices(step) for step in range(max(steps) + 1)]
    for step in steps:
        _order.cache_clear()
        resumed = BatchSchedule(size, batch_size, 5).indices(step)
        assert resumed.shape == (batch_size,)
        assert resumed.dtype == torch.int64
        assert torch.equal(resumed, sequence[step])


@given(sizes, st.integers(1, 6), st.integers(1, 4), st.integers(0, 60))
def test_shards_are_contiguous_slices_of_the_batch(size: int, share: int, world: int, step: int) -> None:
    schedule = BatchSchedule(size, share * world, 2)
    shards = [schedule.shard(rank, world).indices(step) for rank in range(world)]
    assert all(shard.shape == (share,) for shard in shards)
    assert torch.equal(torch.cat(shards), schedule.indices(step))


def test_writing_into_a_batch_does_not_change_the_schedule() -> None:
    schedule = BatchSchedule(10, 10, 0)
    expected = schedule.indices(0).clone()
    schedule.indices(0).zero_()
    assert torch.equal(schedule.indices(0), expected)


def test_epoch_counts_items() -> None:
    schedule = BatchSchedule(10, 4, 0)
    assert [schedule.epoch(step) for step in range(6)] == [0, 0, 0, 1, 1, 2]
    assert schedule.shard(1, 2).epoch(3) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 1, 0), "`size` and `batch_size` must be at least 1"),
        ((1, 0, 0), "`size` and `batch_size` must be at least 1"),
        ((1, 1, -1), "`seed` must be in"),
        ((1, 1, 2**64), "`seed` must be in"),
        ((4, 4, 0, 2, 2), r"`rank` must be in \[0, 2\), got 2"),
        ((4, 5, 0, 0, 2), "multiple of the 2 processes"),
    ],
)
def test_bad_arguments_are_refused(arguments: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BatchSchedule(*arguments)


def test_negative_step_is_refused() -> None:
    with pytest.raises(ValueError, match="`step` must not be negative"):
        BatchSchedule(4, 2, 0).indices(-1)


def test_pieces_are_read_once_in_an_epoch_and_few_at_a_time() -> None:
    lengths = tuple(np.random.default_rng(0).integers(5, 30, 40).tolist())
    piece = np.repeat(np.arange(40), lengths)
    schedule = BatchSchedule(len(piece), 10, seed=3, pieces=lengths, mixed=6)
    epoch = np.concatenate([schedule.indices(step).numpy() for step in range(len(piece) // 10)])
    assert len(set(epoch.tolist())) == len(epoch)
    # A cache of `mixed` + 2 pieces, the least recently used one leaving first, reads a piece again only where
    # the circle closes.
    cache: list[int] = []
    reads = 0
    for item in epoch.tolist():
        if piece[item] in cache:
            cache.remove(piece[item])
        else:
            reads += 1
        cache = [*cache[-7:], piece[item]]
    assert reads <= 40 + 8
    # Every batch is of several pieces, from the first one on.
    assert min(len(set(piece[epoch[start : start + 10]])) for start in range(0, len(epoch) - 9, 10)) >= 2


def test_few_pieces_do_not_matter() -> None:
    plain, pieces = BatchSchedule(20, 4, seed=1), BatchSchedule(20, 4, seed=1, pieces=(10, 10))
    assert all(torch.equal(plain.indices(step), pieces.indices(step)) for step in range(7))


def test_pieces_must_be_all_items() -> None:
    with pytest.raises(ValueError, match="`pieces` must have 20 items together, got 19"):
        BatchSchedule(20, 4, seed=1, pieces=(10, 9))


def test_a_source_says_how_it_is_best_read() -> None:
    class Source(list[int]):
        pieces, mixed = (6, 6), 1

    assert schedule_for(Source(range(12)), 4, 5) == BatchSchedule(12, 4, 5, pieces=(6, 6), mixed=1)
    assert schedule_for(range(12), 4, 5) == BatchSchedule(12, 4, 5)
