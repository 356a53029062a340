"""Names of objects that are lost and found again, in scenes that are written down."""

import math

import pytest
import torch

from whatwhere.inference.evaluation import TrackLinker, Tracks

Object = tuple[int, float, float]
"""Identity, and the middle of a box of 8 x 2 pixels, whose side is 4."""


def scene(*frames: list[Object]) -> Tracks:
    """Objects of each frame, in the slots in which they are written; `(T, 3)`."""
    boxes, present = torch.zeros(len(frames), 3, 4), torch.zeros(len(frames), 3, dtype=torch.bool)
    identities = torch.full((len(frames), 3), -1)
    for t, objects in enumerate(frames):
        for slot, (identity, x, y) in enumerate(objects):
            boxes[t, slot] = torch.tensor([x - 4, y - 1, 8.0, 2.0])
            present[t, slot], identities[t, slot] = True, identity
    return Tracks(boxes, present, identities)


def names(linker: TrackLinker, *frames: list[Object]) -> list[list[int]]:
    linked = linker(scene(*frames))
    assert torch.equal(linked.boxes, scene(*frames).boxes)
    return [of[here].tolist() for of, here in zip(linked.identities, linked.present, strict=True)]


def test_who_is_not_lost_keeps_its_name_in_the_order_of_appearance():
    frames = [[(7, 0, 0)], [(3, 40, 0), (7, 1, 0)], [(7, 2, 0), (3, 40, 0)]]
    assert names(TrackLinker(), *frames) == [[0], [1, 0], [0, 1]]


@pytest.mark.parametrize(("distance", "is_same"), [(0.0, True), (3.9, True), (4.1, False)])
def test_what_is_found_near_is_the_same(distance: float, is_same: bool):
    """The side of a square as large as the box is 4."""
    angle = 0.7
    found = (9, 10 + distance * math.cos(angle), 20 + distance * math.sin(angle))
    assert names(TrackLinker(), [(1, 10, 20)], [], [found]) == [[0], [], [0 if is_same else 1]]


@pytest.mark.parametrize(("gap", "is_same"), [(1, True), (5, True), (6, False)])
def test_patience_counts_frames_since_it_was_seen(gap: int, is_same: bool):
    frames: list[list[Object]] = [[(1, 0, 0)], *([] for _ in range(gap - 1)), [(2, 0, 0)]]
    assert names(TrackLinker(patience=5), *frames)[-1] == [0 if is_same else 1]


def test_without_patience_nothing_is_taken_up():
    assert names(TrackLinker(patience=0), [(1, 0, 0)], [(2, 0, 0)]) == [[0], [1]]


def test_what_moved_is_expected_where_it_would_be():
    """The velocity after n steps of 10 pixels is 10 (1 - 0.8^n), which is gone on with for 3 frames."""
    steps = 20
    moving: list[list[Object]] = [[(1, 10.0 * t, 0)] for t in range(steps + 1)]
    velocity = 10 * (1 - 0.8**steps)
    for x, is_same in ((10 * steps + 3 * velocity + 3.9, True), (10 * steps + 3 * velocity - 4.1, False)):
        found = names(TrackLinker(), *moving, [], [], [(2, x, 0)])[-1]
        assert found == [0 if is_same else 1]


def test_a_gap_in_between_does_not_speed_it_up():
    """It is seen in every other frame, two steps of 5 pixels further."""
    frames: list[list[Object]] = []
    for t in range(40):
        frames += [[(1, 10.0 * t, 0)], []]
    velocity = 5 * (1 - 0.8**39)
    assert names(TrackLinker(), *frames, [(2, 390 + 2 * velocity, 0)])[-1] == [0]
    last = 390 + 2 * velocity + 4.1
    assert names(TrackLinker(), *frames, [(2, last, 0)])[-1] == [1]


def test_nearest_pairs_come_first_and_names_are_given_once():
    frames: list[list[Object]] = [[(1, 0, 0), (2, 3, 0)], [], [(5, 1, 0), (6, 2.5, 0), (7, 3.5, 1)]]
    assert names(TrackLinker(), *frames)[-1] == [0, 1, 2]


def test_a_name_that_is_in_the_frame_is_not_given_again():
    assert names(TrackLinker(), [(1, 0, 0)], [(2, 1, 0), (1, 0, 0)]) == [[0], [1, 0]]


def test_an_identity_that_comes_back_when_its_name_is_gone_is_another_object():
    frames: list[list[Object]] = [[(1, 0, 0)], [(2, 0, 0)], [(2, 0, 0), (1, 1, 0)]]
    assert names(TrackLinker(), *frames) == [[0], [0], [0, 1]]


def test_an_identity_that_comes_back_later_than_patience_has_its_name():
    frames: list[list[Object]] = [[(1, 0, 0)], [], [], [(1, 90, 0)]]
    assert names(TrackLinker(patience=1), *frames)[-1] == [0]


def test_parts_are_named_as_the_whole():
    generator = torch.Generator().manual_seed(0)
    frames: list[list[Object]] = []
    for t in range(60):
        seen = (torch.rand(3, generator=generator) < 0.7).tolist()
        frames.append([(10 * i + t // 4, 20.0 * i + t, 5.0 * i) for i in range(3) if seen[i]])
    whole, linker = names(TrackLinker(patience=4), *frames), TrackLinker(patience=4)
    parts = [name for start in range(0, 60, 7) for name in names(linker, *frames[start : start + 7])]
    assert parts == whole
    assert all(len(set(of)) == len(of) for of in whole)


def test_impossible_numbers_are_refused():
    with pytest.raises(ValueError, match="patience"):
        TrackLinker(patience=-1)
    with pytest.raises(ValueError, match="rate"):
        TrackLinker(rate=1.5)
