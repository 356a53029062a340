import numpy as np
import pytest

from whatwhere.datasets import leave_group_out, split_by_group

GROUPS = np.array([3, 1, 3, 7, 1, 1, 9])


def test_one_group_is_left_out() -> None:
    train, test = leave_group_out(GROUPS, 3)
    assert train.tolist() == [1, 3, 4, 5, 6]
    assert test.tolist() == [0, 2]


def test_no_group_is_in_two_parts_and_every_video_in_one() -> None:
    for seed in range(20):
        parts = split_by_group(GROUPS, 1, np.random.default_rng(seed))
        assert parts.test.tolist() == [1, 4, 5]
        groups = [set(GROUPS[part].tolist()) for part in parts]
        assert len(groups[1]) == 1
        assert len(set.union(*groups)) == sum(len(group) for group in groups) == 4
        assert sorted(np.concatenate(parts).tolist()) == list(range(7))


def test_validation_is_on_a_uniform_choice_of_the_other_groups() -> None:
    """Groups, not videos, are drawn: those with more videos are not more likely."""
    rng = np.random.default_rng(0)
    counts = dict.fromkeys((1, 7, 9), 0)
    for _ in range(3000):
        counts[int(GROUPS[split_by_group(GROUPS, 3, rng).validation[0]])] += 1
    assert all(abs(count - 1000) < 4 * np.sqrt(3000 * 2 / 9) for count in counts.values())


def test_equal_generators_give_equal_splits() -> None:
    first, second = (split_by_group(GROUPS, 9, np.random.default_rng(5)) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def test_impossible_splits_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`group` must be one of several, got 2; there are \[1, 3, 7, 9\]"):
        leave_group_out(GROUPS, 2)
    with pytest.raises(ValueError, match="`group` must be one of several"):
        leave_group_out(np.array([4, 4]), 4)
    with pytest.raises(ValueError, match="`group` must be one of several, got 2"):
        split_by_group(GROUPS, 2, np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"`groups` must be at least three, got \[1, 3\]"):
        split_by_group(np.array([1, 3, 3]), 1, np.random.default_rng(0))
