import numpy as np
import pytest
from scipy import stats

from whatwhere.datasets.streams import stream


def test_streams_are_reproducible_and_differ_in_every_argument() -> None:
    draws = {
        arguments: tuple(stream(*arguments).random(4))
        for arguments in [("a", 0, 0), ("a", 0, 1), ("a", 1, 0), ("b", 0, 0), ("a", 2**64 - 1, 2**64 - 1)]
    }
    assert len(set(draws.values())) == len(draws)
    assert all(tuple(stream(*arguments).random(4)) == draw for arguments, draw in draws.items())


def test_first_numbers_of_neighbouring_streams_are_independent_and_uniform() -> None:
    first = np.array([stream("x", seed, index).random() for seed in range(40) for index in range(50)])
    assert stats.kstest(first, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 4 / np.sqrt(len(first))


def test_use_of_a_stream_does_not_change_another() -> None:
    expected = stream("x", 0, 1).random()
    stream("x", 0, 0).random(10_000)
    assert stream("x", 0, 1).random() == expected


@pytest.mark.parametrize(("seed", "index", "name"), [(-1, 0, "seed"), (2**64, 0, "seed"), (0, -1, "index")])
def test_out_of_range_is_refused(seed: int, index: int, name: str) -> None:
    with pytest.raises(ValueError, match=f"`{name}` must be in"):
        stream("x", seed, index)
