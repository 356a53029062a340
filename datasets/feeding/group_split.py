"""Splits that leave a group of videos out: a person, a drive."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]


class GroupSplit(NamedTuple):
    """Which videos are for training, validation and testing; ascending indices, int64.

    No group is in two of them.
    """

    train: Rows
    """All videos of the other groups."""
    validation: Rows
    """All videos of one group."""
    test: Rows
    """All videos of another group."""


def leave_group_out(groups: Rows, group: int) -> tuple[Rows, Rows]:
    """The videos of all other groups, for training, and those of one, for testing; ascending indices, int64.

    Args:
        groups: the group of each video `(M,)`, see `VideoData.groups`.
        group: the one to leave out.

    Raises:
        ValueError: if no video is of `group`, or all are.
    """
    chosen = np.asarray(groups) == group
    if not chosen.any() or chosen.all():
        raise ValueError(
            f"`group` must be one of several, got {group}; there are {np.unique(groups).tolist()}."
        )
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def split_by_group(groups: Rows, test: int, rng: np.random.Generator) -> GroupSplit:
    """Leaves one group out for testing, and one of the others, drawn uniformly, for validation.

    Args:
        groups: the group of each video `(M,)`, see `VideoData.groups`.
        test: the group to test on.
        rng: draws the group to validate on.

    Raises:
        ValueError: if no video is of the group `test`, or there are fewer than three groups.
    """
    groups = np.asarray(groups)
    others = np.setdiff1d(groups, [test])
    if len(others) < 2:
        raise ValueError(f"`groups` must be at least three, got {np.unique(groups).tolist()}.")
    _, tested = leave_group_out(groups, test)
    validation = int(rng.choice(others))
    train = np.flatnonzero((groups != test) & (groups != validation))
    return GroupSplit(train, np.flatnonzero(groups == validation), tested)
