"""Names of objects that met, in scenes that are written down, where it is known who is who."""

import numpy as np
import numpy.typing as npt
import pytest
import torch

from whatwhere.inference.evaluation import Encounters, Tracks
from whatwhere.inference.evaluation.encounters import _exchanged, _look

SIZE = 8
Object = tuple[int, int, int]
"""The tracker's identity, the left border of a box of 8 x 8 pixels, and how bright it is."""


def scene(*frames: list[Object]) -> tuple[Tracks, npt.NDArray[np.uint8]]:
    """Boxes `(T, 4, 4)` and frames `(T, 1, 8, 100)`; the first ones are in front."""
    boxes, present = torch.zeros(len(frames), 4, 4), torch.zeros(len(frames), 4, dtype=torch.bool)
    identities = torch.full((len(frames), 4), -1)
    video = np.zeros((len(frames), 1, SIZE, 100), np.uint8)
    for t, objects in enumerate(frames):
        for slot, (identity, left, light) in reversed(list(enumerate(objects))):
            boxes[t, slot] = torch.tensor([left, 0.0, SIZE, SIZE])
            present[t, slot], identities[t, slot] = True, identity
            video[t, 0, :, left : left + SIZE] = light
    return Tracks(boxes, present, identities), video


def names(encounters: Encounters, *frames: list[Object]) -> list[list[int]]:
    tracks, video = scene(*frames)
    named = encounters(tracks, video)
    assert torch.equal(named.boxes, tracks.boxes)
    return [of[here].tolist() for of, here in zip(named.identities, named.present, strict=True)]


def crossing(
    light: int, other: int, before: int = 6, after: int = 6, swap: bool = True
) -> list[list[Object]]:
    """Two that walk through each other, whose identities a tracker exchanges."""
    apart = [[(1, 2 * t, light), (2, 40 - 2 * t, other)] for t in range(before)]
    together = [[(1, 20, light), (2, 22, other)]] * 3
    first, second = (2, 1) if swap else (1, 2)
    return [
        *apart,
        *together,
        *([(first, 30 + 2 * t, light), (second, 12 - 2 * t, other)] for t in range(after)),
    ]


def test_who_walked_through_each_other_have_their_own_names_again_after_some_frames():
    found = names(Encounters(steady=3), *crossing(80, 220))
    # The tracker's names, until each has been seen alone for three frames.
    assert found == [[0, 1]] * 9 + [[1, 0]] * 2 + [[0, 1]] * 4


def test_one_frame_may_be_enough():
    assert names(Encounters(steady=1), *crossing(80, 220)) == [[0, 1]] * 15


def test_who_kept_their_names_keep_them():
    assert names(Encounters(), *crossing(80, 220, swap=False)) == [[0, 1]] * 15


def test_who_look_alike_stay_as_the_tracker_says():
    assert names(Encounters(), *crossing(80, 81)) == [[0, 1]] * 9 + [[1, 0]] * 6


def test_a_gain_must_be_worth_a_margin_for_each_of_two():
    """Looks without a step in common are at a distance of 1, so that an exchange gains 2."""
    assert names(Encounters(margin=0.99), *crossing(80, 220))[-1] == [0, 1]
    assert names(Encounters(margin=1.01), *crossing(80, 220))[-1] == [1, 0]


def test_who_have_not_met_are_not_compared():
    """Their looks change places, where a tracker would be right."""
    frames = [[(1, 0, 80 if t < 6 else 220), (2, 40, 220 if t < 6 else 80)] for t in range(15)]
    assert names(Encounters(), *frames) == [[0, 1]] * 15


@pytest.mark.parametrize(("left", "is_encounter"), [(25, True), (27, False)])
def test_they_meet_where_enough_of_the_smaller_is_covered(left: int, is_encounter: bool):
    """Of 8 columns 3 or 1 are; a quarter is enough."""
    close: list[list[Object]] = [[(1, 20, 80), (2, left, 220)]]
    apart: list[list[Object]] = [[(1, 10, 80), (2, 40, 220)]] * 6
    swapped: list[list[Object]] = [[(2, 10, 80), (1, 40, 220)]] * 6
    expected = [0, 1] if is_encounter else [1, 0]
    assert names(Encounters(overlap=0.25), *apart, *close, *swapped)[-1] == expected


def test_who_meet_again_before_they_were_seen_alone_are_compared_after_that():
    apart: list[list[Object]] = [[(1, 10, 80), (2, 40, 220)]] * 6
    close: list[list[Object]] = [[(1, 20, 80), (2, 22, 220)]]
    swapped: list[list[Object]] = [[(2, 10, 80), (1, 40, 220)]]
    found = names(Encounters(steady=3), *apart, *close, *swapped * 2, *close, *swapped * 3)
    assert found[:-1] == [[0, 1]] * 7 + [[1, 0]] * 2 + [[0, 1]] + [[1, 0]] * 2
    assert found[-1] == [0, 1]


def test_all_who_met_through_others_are_compared():
    """A meets B, and B then C, before anybody was alone; three names go round."""
    start: list[list[Object]] = [[(1, 0, 30), (2, 30, 120), (3, 60, 220)]] * 6
    close: list[list[Object]] = [
        [(1, 0, 30), (2, 2, 120), (3, 60, 220)],
        [(1, 0, 30), (2, 58, 120), (3, 60, 220)],
    ]
    end: list[list[Object]] = [[(2, 0, 30), (3, 30, 120), (1, 60, 220)]] * 4
    assert names(Encounters(steady=4), *start, *close, *end)[-1] == [0, 1, 2]


@pytest.mark.parametrize(("light", "is_same"), [(220, True), (150, False)])
def test_what_appears_where_one_was_lost_in_an_encounter_is_that_one_if_it_looks_so(
    light: int, is_same: bool
):
    apart: list[list[Object]] = [[(1, 10, 80), (2, 40, 220)]] * 6
    close: list[list[Object]] = [[(1, 20, 80), (2, 22, 220)]]
    alone: list[list[Object]] = [[(1, 20, 80)]] * 5
    again: list[list[Object]] = [[(1, 20, 80), (7, 30, light)]] * 4
    found = names(Encounters(steady=4), *apart, *close, *alone, *again)
    assert found[-2] == [0, 2]
    assert found[-1] == [0, 1 if is_same else 2]


def test_who_was_left_alone_may_be_the_one_who_was_lost():
    """One is in front, and the tracker goes on with the name of the other."""
    apart: list[list[Object]] = [[(1, 10, 80), (2, 40, 220)]] * 6
    close: list[list[Object]] = [[(1, 20, 80), (2, 22, 220)]]
    alone: list[list[Object]] = [[(2, 20, 80)]] * 4
    found = names(Encounters(steady=4), *apart, *close, *alone)
    assert found[-2:] == [[1], [0]]
    # And what then comes from behind is a stranger until it is known.
    again: list[list[Object]] = [[(2, 20, 80), (1, 31, 220)]] * 4
    assert names(Encounters(steady=4), *apart, *close, *alone, *again)[-1] == [0, 1]


def test_who_vanishes_behind_another_has_met_it():
    """Their boxes did not overlap, and then there was one."""
    apart: list[list[Object]] = [[(1, 10, 80), (2, 19, 220)]] * 6
    merged: list[list[Object]] = [[(1, 15, 220)]]
    swapped: list[list[Object]] = [[(1, 19, 220), (7, 10, 80)]] * 4
    assert names(Encounters(), *apart, *merged, *swapped)[-1] == [1, 0]


def test_who_walks_off_while_others_still_hide_each_other_waits_for_them():
    apart: list[list[Object]] = [[(1, 10, 80), (2, 40, 220), (3, 70, 140)]] * 6
    close: list[list[Object]] = [[(1, 20, 80), (2, 22, 220), (3, 24, 140)]]
    one_off: list[list[Object]] = [[(2, 5, 80), (1, 40, 220), (3, 44, 140)]] * 6
    all_off: list[list[Object]] = [[(2, 5, 80), (1, 40, 220), (3, 70, 140)]] * 4
    found = names(Encounters(), *apart, *close, *one_off, *all_off)
    assert found[-2] == [1, 0, 2]
    assert found[-1] == [0, 1, 2]


def test_looks_before_an_absence_are_not_compared_after_it():
    apart: list[list[Object]] = [[(1, 10, 80), (2, 40, 220)]] * 6
    close: list[list[Object]] = [[(1, 20, 80), (2, 22, 220)]]
    swapped: list[list[Object]] = [[(2, 10, 80), (1, 40, 220)]] * 3
    right: list[list[Object]] = [[(2, 10, 220), (1, 40, 80)]] * 4
    assert (
        names(Encounters(), *apart, *close, *swapped, *[[]] * 10, *right)[9:]
        == [[1, 0]] + [[]] * 10 + [[1, 0]] * 4
    )


def test_a_name_that_nobody_has_any_more_meets_nobody():
    apart: list[list[Object]] = [[(1, 10, 80), (2, 40, 220)]] * 6
    close: list[list[Object]] = [[(1, 20, 80), (2, 22, 220)]]
    encounters = Encounters(steady=4)
    assert names(encounters, *apart, *close, *[[(2, 20, 80)]] * 6)[-1] == [0]
    assert 0 not in encounters._met


def test_each_frame_has_tracks():
    tracks, video = scene([(1, 0, 80)], [(1, 0, 80)])
    with pytest.raises(ValueError, match="expected 2 frames, as many as of tracks, got 1"):
        Encounters()(tracks, video[:1])


def test_far_from_where_one_was_lost_it_is_another():
    apart: list[list[Object]] = [[(1, 10, 80), (2, 40, 220)]] * 6
    close: list[list[Object]] = [[(1, 20, 80), (2, 22, 220)]]
    far: list[list[Object]] = [[(1, 20, 80), (7, 90, 220)]] * 6
    assert names(Encounters(), *apart, *close, *far)[-1] == [0, 2]


def test_what_was_lost_for_longer_than_patience_is_forgotten():
    apart: list[list[Object]] = [[(1, 10, 80), (2, 40, 220)]] * 6
    close: list[list[Object]] = [[(1, 20, 80), (2, 22, 220)]]
    again: list[list[Object]] = [[(1, 20, 80), (7, 30, 220)]] * 4
    for gap, last in ((6, 1), (7, 2)):  # and four frames until looks are compared
        alone: list[list[Object]] = [[(1, 20, 80)]] * gap
        assert names(Encounters(patience=10), *apart, *close, *alone, *again)[-1] == [0, last]
    # Whom the tracker itself knows again has the same name, whenever.
    assert names(Encounters(patience=2), [(1, 0, 80)], [], [], [], [(1, 0, 80)])[-1] == [0]


def test_parts_of_a_video_are_as_the_whole():
    rng = np.random.default_rng(0)
    frames: list[list[Object]] = []
    for t in range(120):
        order = rng.permutation(4) if t % 9 == 0 else np.arange(4)
        lefts = [int(40 + 30 * np.sin(t / 9 + k)) for k in range(4)]
        frames.append(
            [(int(order[k]) + 4 * (t // 30), lefts[k], 40 + 50 * k) for k in range(4) if (t // 7 + k) % 5]
        )
    whole, encounters = names(Encounters(), *frames), Encounters()
    parts = [name for start in range(0, 120, 7) for name in names(encounters, *frames[start : start + 7])]
    assert parts == whole
    assert all(len(set(here)) == len(here) for here in whole)
    assert len(encounters._known) <= 4 + 4 * 2  # those of one stretch, and who were lost in the last


def test_of_many_short_tracks_no_more_is_kept_than_of_a_few():
    frames: list[list[Object]] = [[(t // 3, 10, 80), (1000 + t // 4, 12, 200)] for t in range(600)]
    encounters = Encounters()
    names(encounters, *frames)
    assert len(encounters._known) < 25
    assert len(encounters._met) < 25


def test_a_look_is_the_square_root_of_a_histogram_of_the_middle_of_each_third():
    frame = np.random.default_rng(1).integers(0, 256, (3, 30, 40)).astype(np.uint8)
    left, top, width, height = box = np.array([5.0, 3.0, 16.0, 24.0])
    expected = np.zeros((3, 3, 12))
    for row in range(48):
        for column in range(16):
            across = (column + 0.5) / 16
            y, x = int(top + height * (row + 0.5) / 48), int(left + width * across)
            for channel in range(3):
                light = int(frame[channel, y, x])
                expected[row // 16, channel, int(light * 12 / 256)] += np.exp(-2 * (2 * across - 1) ** 2)
    look = _look(frame, box)
    np.testing.assert_allclose(look, np.sqrt(expected / expected.sum()).ravel())
    assert look @ look == pytest.approx(1)


def test_a_box_may_reach_beyond_the_frame():
    frame = np.full((1, 10, 10), 255, np.uint8)
    look = _look(frame, np.array([-5.0, 6.0, 30.0, 20.0]))
    assert look @ look == pytest.approx(1)
    assert np.count_nonzero(look) == 3


def test_no_other_exchange_is_a_gain():
    rng = np.random.default_rng(2)
    for _ in range(50):
        rows, extra, margin = int(rng.integers(1, 5)), int(rng.integers(0, 3)), 0.05
        distances = rng.random((rows, rows + extra))
        at = _exchanged(distances, margin)
        assert len(set(at)) == rows
        cost = distances[range(rows), at].sum()
        for row in range(rows):
            for column in set(range(rows + extra)) - set(at):
                other = [*at[:row], column, *at[row + 1 :]]
                assert distances[range(rows), other].sum() + margin >= cost
            for partner in range(row):
                other = list(at)
                other[row], other[partner] = at[partner], at[row]
                assert distances[range(rows), other].sum() + 2 * margin >= cost


def test_exchanges_end_where_all_of_them_are_alike():
    """All sums are equal but for rounding, and nothing has to be gained."""
    rng = np.random.default_rng(3)
    for _ in range(60):
        distances = rng.random((4, 1)) + rng.random(4)
        assert sorted(_exchanged(distances, 0.0)) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steady": 0}, "`steady` must be positive, got 0"),
        ({"steady": 2.5}, "`steady` must be a whole number, got 2.5"),
        ({"overlap": 1.5}, r"`overlap` must be in \[0, 1\], got 1.5"),
        ({"patience": 0}, "`patience` must be positive, got 0"),
        ({"margin": -0.1}, "`margin` must not be negative, got -0.1"),
    ],
)
def test_bad_options_are_named(options: dict[str, float], message: str):
    with pytest.raises(ValueError, match=message):
        Encounters(**options)  # type: ignore[arg-type]
