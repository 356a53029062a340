import itertools
import math
import sys
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from whatwhere.checks import MissingPackageError
from whatwhere.inference.evaluation import Tracks
from whatwhere.inference.evaluation.tracking_metrics import (
    Discoveries,
    TrackingCounts,
    TrackingReport,
    discoveries,
    tracking_counts,
    tracks_by_slot,
)

Objects = dict[int, float]
"""The objects of a frame: the left side of a box of 10 x 10 pixels, by identity."""


def tracks(*videos: list[Objects]) -> Tracks:
    """Pack objects into slots; absent slots hold tempting rubbish, which must be ignored."""
    frames = max(map(len, videos))
    slots = max(1, *(len(objects) for video in videos for objects in video), 1)
    boxes = torch.full((len(videos), frames, slots, 4), 10.0)
    boxes[..., :2] = 0
    present = torch.zeros(len(videos), frames, slots)
    identities = torch.zeros(len(videos), frames, slots, dtype=torch.int64)
    for b, video in enumerate(videos):
        for t, objects in enumerate(video):
            for n, (identity, left) in enumerate(objects.items()):
                boxes[b, t, n, 0], present[b, t, n], identities[b, t, n] = left, 1, identity
    return Tracks(boxes, present, identities)


def counts(found: list[Objects], true: list[Objects], threshold: float = 0.5) -> TrackingCounts:
    return tracking_counts(tracks(found), tracks(true), threshold)


def overlap(shift: float) -> float:
    """Intersection over union of two boxes of side 10 that are so far apart."""
    return (10 - shift) / (10 + shift)


def test_a_perfect_tracker():
    video = [{1: 0.0, 2: 50.0}, {1: 2.0, 2: 48.0}, {2: 46.0}]
    names = {1: 7, 2: -3}
    found = [{names[i]: left for i, left in reversed(frame.items())} for frame in video]
    report = counts(found, video).report()
    assert report == TrackingReport(
        mota=1.0,
        motp=1.0,
        idf1=1.0,
        idp=1.0,
        idr=1.0,
        misses=0,
        false_positives=0,
        switches=0,
        fragmentations=0,
        discovered_per_object=1.0,
        mostly_detected=1.0,
        mostly_tracked=1.0,
    )


def test_misses_false_positives_and_overlap_by_hand():
    true = [{1: 0.0, 2: 50.0}, {1: 0.0, 2: 50.0}, {1: 0.0}]
    found = [{5: 1.0}, {5: 2.0, 6: 90.0}, {5: 80.0}]
    result = counts(found, true)
    # frame 1: 2 is missed; frame 2: 2 is missed, 6 is false; frame 3: 1 is missed, 5 is false
    assert asdict(result) == {
        "objects": 5,
        "predictions": 4,
        "matches": 2,
        "overlap": pytest.approx(overlap(1) + overlap(2)),
        "switches": 0,
        "fragmentations": 0,
        "identity_matches": 2,
        "true_tracks": 2,
        "predicted_tracks": 2,
        "mostly_detected": 0,
        "mostly_tracked": 0,
    }
    report = result.report()
    assert (report.misses, report.false_positives) == (3, 2)
    assert report.mota == pytest.approx(1 - 5 / 5)
    assert report.motp == pytest.approx((overlap(1) + overlap(2)) / 2)
    assert (report.idp, report.idr, report.idf1) == pytest.approx((2 / 4, 2 / 5, 4 / 9))


def test_a_match_is_kept_even_where_another_fits_better():
    true = [{1: 0.0}, {1: 0.0}]
    found = [{5: 0.0}, {5: 3.0, 6: 0.0}]
    result = counts(found, true)
    assert result.switches == 0
    assert result.overlap == pytest.approx(1 + overlap(3))


def test_a_match_is_given_up_where_it_overlaps_too_little():
    # a shift of 10/3 gives an overlap of one half
    for shift, switches in ((3.3, 0), (3.4, 1)):
        assert counts([{5: 0.0}, {5: shift, 6: 0.0}], [{1: 0.0}, {1: 0.0}]).switches == switches
    assert counts([{5: 0.0}, {5: 3.4, 6: 0.0}], [{1: 0.0}, {1: 0.0}], 0.3).switches == 0


@pytest.mark.parametrize(("threshold", "matches"), [(overlap(5), 1), (overlap(5) + 1e-9, 0)])
def test_the_threshold_is_inclusive(threshold: float, matches: int):
    assert counts([{5: 5.0}], [{1: 0.0}], threshold).matches == matches


def test_objects_that_exchange_their_identities_switch_both():
    true = [{1: 0.0, 2: 50.0}] * 4
    found = [{5: 0.0, 6: 50.0}] * 2 + [{6: 0.0, 5: 50.0}] * 2
    result = counts(found, true)
    assert (result.matches, result.switches, result.fragmentations) == (8, 2, 0)
    assert result.identity_matches == 4
    assert result.report().mota == pytest.approx(1 - 2 / 8)


def test_most_of_a_track_is_four_fifths_and_a_switch_is_detected_but_not_tracked():
    true = [{1: 0.0}] * 10
    for missed, switches, detected, tracked in ((2, 0, 1, 1), (3, 0, 0, 0), (1, 1, 1, 1), (2, 1, 1, 0)):
        names = [5 if t < 5 or not switches else 6 for t in range(10)]
        found = [{names[t]: 0.0} if t >= missed else {} for t in range(10)]
        # The first match is none of an identity before, which py-motmetrics calls no switch either.
        result = counts(found, true)
        assert (result.matches, result.switches) == (10 - missed, switches)
        assert (result.mostly_detected, result.mostly_tracked) == (detected, tracked)


def test_identities_are_remembered_through_gaps():
    true = [{1: 0.0}] * 4
    assert counts([{5: 0.0}, {}, {}, {5: 0.0}], true).switches == 0
    result = counts([{5: 0.0}, {}, {}, {6: 0.0}], true)
    assert (result.switches, result.fragmentations) == (1, 1)
    # nor does it matter that the object itself was away, but then nothing was missed
    result = counts([{5: 0.0}, {}, {6: 0.0}], [{1: 0.0}, {}, {1: 0.0}])
    assert (result.switches, result.fragmentations) == (1, 0)


def test_a_remembered_identity_is_preferred_to_a_better_one_after_a_gap():
    found = [{5: 0.0}, {}, {5: 3.0, 6: 0.0}]
    result = counts(found, [{1: 0.0}] * 3)
    assert (result.matches, result.switches) == (2, 0)
    assert result.overlap == pytest.approx(1 + overlap(3))


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_of_two_objects_that_remember_an_identity_the_last_to_have_it_keeps_it(order: tuple[int, int]):
    away = {1: 80.0, 2: 0.0}
    both = {1: 1.0, 2: 0.0}
    true = [{1: 0.0, 2: 80.0}, away, both]
    found = [{5: 0.0}, {5: 0.0}, {5: 1.0}]  # fits 1 better, which had it first
    result = counts(found, [{i: frame[i] for i in order} for frame in true])
    assert result.switches == 0
    assert result.overlap == pytest.approx(2 + overlap(1))


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_an_object_that_has_an_identity_back_keeps_it(order: tuple[int, int]):
    true = [{1: 0.0, 2: 80.0}, {1: 80.0, 2: 0.0}, {1: 0.0, 2: 80.0}, {1: 0.0, 2: 1.0}]
    found = [{5: 0.0}, {5: 0.0}, {5: 0.0}, {5: 1.0}]  # fits 2 better, but 1 had it last
    result = counts(found, [{i: frame[i] for i in order} for frame in true])
    assert result.overlap == pytest.approx(3 + overlap(1))


def test_fragmentations_are_gaps_that_end():
    true = [{1: 0.0}] * 9
    here, gone = {5: 0.0}, dict[int, float]()
    result = counts([gone, here, gone, gone, here, gone, here, here, gone], true)
    assert (result.matches, result.fragmentations) == (4, 2)


def test_as_many_as_possible_are_matched_before_overlap_counts():
    # 5 fits 1 perfectly and 2 just so, 6 fits only 1.
    true, found = [{1: 0.0, 2: 3.0}], [{5: 0.0, 6: -3.0}]
    result = counts(found, true)
    assert result.matches == 2
    assert result.overlap == pytest.approx(2 * overlap(3))


def test_greatest_overlap_of_all_assignments():
    true, found = [{1: 0.0, 2: 2.0}], [{5: 1.0, 6: 3.0}]  # crosswise: overlaps of 3 and 1 instead of 1 and 1
    assert counts(found, true).overlap == pytest.approx(2 * overlap(1))


def test_identities_are_assigned_to_gain_most_in_total():
    # 5 follows 1 for 3 frames, then 2 for 2; 6 follows 1 for 2 frames, and is away before.
    true = [{1: 0.0, 2: 50.0}] * 5
    found = [{5: 0.0}] * 3 + [{5: 50.0, 6: 0.0}] * 2
    result = counts(found, true)
    assert result.identity_matches == 4  # 5 with 2, 6 with 1, rather than 5 with 1 only
    report = result.report()
    assert (report.idp, report.idr, report.idf1) == pytest.approx((4 / 7, 4 / 10, 8 / 17))


def test_videos_are_apart_and_counts_add_up():
    first = ([{5: 0.0}, {5: 0.0}], [{1: 0.0}, {1: 0.0}])
    second = ([{6: 1.0}, {}], [{1: 0.0}, {1: 0.0}])
    both = tracking_counts(tracks(first[0], second[0]), tracks(first[1], second[1]))
    assert both.switches == 0, "an object of another video is another object"
    assert (both.true_tracks, both.predicted_tracks) == (2, 2)
    total = sum((counts(*video) for video in (first, second)), start=TrackingCounts())
    assert total == both
    assert total.report().mota == pytest.approx(3 / 4)
    with pytest.raises(TypeError):
        total + 1  # type: ignore[operator]


def test_empty_denominators_are_nan():
    nothing = counts([{}], [{}])
    assert nothing == TrackingCounts()
    assert all(
        math.isnan(x)
        for x in (nothing.report().mota, nothing.report().motp, nothing.report().idf1, nothing.report().idr)
    )
    false = counts([{5: 0.0}], [{}]).report()
    assert (false.false_positives, false.idp, false.idf1) == (1, 0, 0)
    assert math.isnan(false.mota)
    assert math.isnan(false.discovered_per_object)
    missed = counts([{}], [{1: 0.0}]).report()
    assert (missed.mota, missed.idr, missed.discovered_per_object) == (0, 0, 0)
    assert math.isnan(missed.motp)
    none = Tracks(torch.zeros(0, 3, 2, 4), torch.zeros(0, 3, 2), torch.zeros(0, 3, 2, dtype=torch.int64))
    assert tracking_counts(none, none) == TrackingCounts()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("component", range(4))
def test_a_box_that_is_not_finite_is_false(value: float, component: int):
    found = tracks([{5: 0.0, 6: 50.0}])
    found.boxes[0, 0, 0, component] = value
    result = tracking_counts(found, tracks([{1: 0.0, 2: 50.0}]))
    assert (result.matches, result.predictions, result.overlap) == (1, 2, 1.0)


def test_more_errors_than_objects_make_the_accuracy_negative():
    assert counts([{5: 50.0, 6: 70.0}], [{1: 0.0}]).report().mota == pytest.approx(-2)


def test_tracks_by_slot():
    boxes, present = torch.rand(2, 3, 4, 4), torch.ones(2, 3, 4)
    identities = tracks_by_slot(boxes, present).identities
    assert identities.shape == (2, 3, 4)
    assert (identities == torch.tensor([0, 1, 2, 3])).all()
    result = tracking_counts(tracks_by_slot(boxes, present), tracks_by_slot(boxes, present), 1.0)
    assert result.report().idf1 == 1


def test_discoveries_by_hand():
    video = [{3: 0.0}, {3: 0.0, 9: 0.0}, {}, {9: 0.0, 4: 0.0, 3: 0.0}, {4: 0.0}]
    new = [{3: 0.0}, {}, {}, {}, {4: 0.0}]  # the identities of another video are other objects
    found = discoveries(tracks(video, new))
    assert isinstance(found, Discoveries)
    assert found.discovered.tolist() == [[1, 1, 0, 1, 0], [1, 0, 0, 0, 1]]
    assert found.propagated.tolist() == [[0, 1, 0, 2, 1], [0, 0, 0, 0, 0]]


def test_identities_found_again_raise_the_discoveries_per_object():
    true = [{1: 0.0}] * 4
    assert counts([{5: 0.0}, {6: 0.0}, {7: 0.0}, {7: 0.0}], true).report().discovered_per_object == 3


def random_tracks(seed: int, videos: int, frames: int, objects: int, switch: float) -> tuple[Tracks, Tracks]:
    """Crowded random walks, and what a bad tracker makes of them: jitter, misses, clutter, new names.

    Identities are spread at random over slots that change from frame to frame.
    """
    rng = np.random.default_rng(seed)
    start = rng.uniform(0, 25, (videos, 1, objects, 2))
    corner = start + rng.normal(0, 2, (videos, frames, objects, 2)).cumsum(1)
    size = rng.uniform(8, 14, (videos, 1, objects, 2)).repeat(frames, 1)
    true = np.concatenate([corner, size], -1)
    found = true + rng.normal(0, 1.2, true.shape)
    names = np.tile(np.arange(objects), (videos, frames, 1))
    for video, frame in itertools.product(range(videos), range(1, frames)):
        names[video, frame] = names[video, frame - 1]
        if rng.random() < switch:
            i, j = rng.integers(objects, size=2)
            names[video, frame, [i, j]] = names[video, frame, [j, i]]
        if rng.random() < switch:
            names[video, frame, rng.integers(objects)] = 100 + frame
    order = rng.permuted(np.broadcast_to(np.arange(objects), names.shape), axis=-1)
    found, names = np.take_along_axis(found, order[..., None], 2), np.take_along_axis(names, order, 2)
    here, true_here = (rng.random(names.shape) < p for p in (0.7, 0.8))
    tensors = [torch.from_numpy(x) for x in (found, here, names * 3 - 7)]
    return Tracks(*tensors), tracks_by_slot(torch.from_numpy(true), torch.from_numpy(true_here))


def slow_overlaps(true: np.ndarray, found: np.ndarray) -> np.ndarray:
    result = np.zeros((len(true), len(found)))
    for (i, a), (j, b) in itertools.product(enumerate(true), enumerate(found)):
        width = max(0.0, min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0]))
        height = max(0.0, min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1]))
        result[i, j] = width * height / (a[2] * a[3] + b[2] * b[3] - width * height)
    return result


def accumulated(found: Tracks, truth: Tracks, video: int, threshold: float) -> Any:
    """The events of one video as py-motmetrics sees them."""
    motmetrics = pytest.importorskip("motmetrics")
    events = motmetrics.MOTAccumulator(auto_id=True)
    for frame in range(found.present.shape[1]):
        here, true_here = (x.present[video, frame].bool().numpy() for x in (found, truth))
        names, true_names = (x.identities[video, frame].numpy() for x in (found, truth))
        # It lets objects choose in the order given; ours is that of their latest match.
        slots = sorted(
            np.flatnonzero(true_here), key=lambda slot: -events.last_match.get(true_names[slot], -1)
        )
        overlaps = slow_overlaps(
            truth.boxes[video, frame].numpy()[slots], found.boxes[video, frame].numpy()[here]
        )
        distance = np.where(overlaps >= threshold, 1 - overlaps, np.nan)
        events.update(true_names[slots], names[here], distance)
    return events


@pytest.mark.filterwarnings("ignore:.*:FutureWarning", "ignore:.*:DeprecationWarning")
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("threshold", [0.3, 0.5])
def test_against_motmetrics(seed: int, threshold: float):
    motmetrics = pytest.importorskip("motmetrics")
    found, truth = random_tracks(seed, videos=3, frames=25, objects=1 + seed % 6, switch=0.3)
    result = tracking_counts(found, truth, threshold)
    events = [accumulated(found, truth, video, threshold) for video in range(3)]
    names = [
        *("mota", "motp", "idf1", "idp", "idr", "num_misses", "num_false_positives", "num_switches"),
        *("num_fragmentations", "num_detections", "num_objects", "num_predictions", "idtp"),
        *("num_unique_objects", "mostly_tracked"),
    ]
    summary = motmetrics.metrics.create().compute_many(events, metrics=names, generate_overall=True)
    expected = summary.loc["OVERALL"].to_dict()
    report = result.report()
    assert result.switches > 0 or seed % 6 == 0
    assert report.mota == pytest.approx(expected["mota"])
    assert report.motp == pytest.approx(1 - expected["motp"])
    assert (report.idf1, report.idp, report.idr) == pytest.approx(
        (expected["idf1"], expected["idp"], expected["idr"])
    )
    assert report.misses == expected["num_misses"]
    assert report.false_positives == expected["num_false_positives"]
    assert report.switches == expected["num_switches"]
    assert report.fragmentations == expected["num_fragmentations"]
    assert result.matches == expected["num_detections"]
    assert result.objects == expected["num_objects"]
    assert result.predictions == expected["num_predictions"]
    assert result.identity_matches == expected["idtp"]
    assert result.true_tracks == expected["num_unique_objects"]
    # What is called mostly tracked there takes a switch for a match.
    assert result.mostly_detected == expected["mostly_tracked"]
    assert result.mostly_tracked == sum(mostly_matched(each) for each in events)


def mostly_matched(events: Any) -> int:
    """Objects that are matched, without a switch, in at least 80 % of their frames."""
    rows = events.mot_events
    rows = rows[rows.Type.isin(["MATCH", "SWITCH", "MISS"])]
    return sum(10 * (own.Type == "MATCH").sum() >= 8 * len(own) for _, own in rows.groupby("OId"))


def best_matching(gain: np.ndarray) -> float:
    """The greatest total over all ways to pair rows with columns, by trying them all."""
    if gain.shape[0] > gain.shape[1]:
        gain = gain.T
    columns = itertools.permutations(range(gain.shape[1]), gain.shape[0])
    return max(sum(gain[i, j] for i, j in enumerate(choice)) for choice in columns)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), objects=st.integers(1, 4), threshold=st.sampled_from([0.2, 0.5]))
def test_assignments_are_the_best_of_all(seed: int, objects: int, threshold: float):
    found, truth = random_tracks(seed, videos=1, frames=1, objects=objects, switch=0.0)
    here, true_here = found.present[0, 0], truth.present[0, 0]
    if not here.any() or not true_here.any():
        return
    overlaps = slow_overlaps(truth.boxes[0, 0][true_here].numpy(), found.boxes[0, 0][here].numpy())
    allowed = overlaps >= threshold
    result = tracking_counts(found, truth, threshold)
    most = best_matching(allowed.astype(float))
    assert result.matches == result.identity_matches == most
    assert result.overlap == pytest.approx(
        best_matching(np.where(allowed, overlaps, -10.0)) + 10 * (min(allowed.shape) - most)
    )


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_slots_and_names_do_not_matter(seed: int):
    found, truth = random_tracks(seed, videos=2, frames=12, objects=4, switch=0.4)
    rng = np.random.default_rng(seed)
    expected = tracking_counts(found, truth, 0.3)
    shuffled = []
    for known in (found, truth):
        order = torch.from_numpy(rng.permuted(np.broadcast_to(np.arange(4), (2, 12, 4)), axis=-1))
        boxes, present, identities = (
            x.gather(2, order.unsqueeze(-1).expand_as(x) if x.ndim == 4 else order) for x in known
        )
        shuffled.append(Tracks(boxes, present.float(), -identities))
    result = tracking_counts(*shuffled, 0.3)
    assert result.overlap == pytest.approx(expected.overlap)
    assert replace(result, overlap=0.0) == replace(expected, overlap=0.0)


def good() -> tuple[Tracks, Tracks]:
    return random_tracks(0, 2, 3, 4, 0.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"boxes": torch.zeros(2, 3, 4, 3)}, "`predicted` must hold boxes"),
        ({"identities": torch.zeros(2, 3, 5, dtype=torch.int64)}, r"`predicted` must hold .*\(2, 3, 5\)"),
        ({"present": torch.full((2, 3, 4), 0.5)}, r"`predicted\.present` must be boolean or of 0 and 1"),
        ({"present": torch.full((2, 3, 4), math.nan)}, r"`predicted\.present` must be boolean"),
        (
            {"identities": torch.rand(2, 3, 4)},
            r"`predicted\.identities` must be integers, but are torch.float",
        ),
        (
            {"identities": torch.full((2, 3, 4), 6), "present": torch.ones(2, 3, 4)},
            r"`predicted\.identities` must differ within a frame, but 6 is twice in frame 0 of video 0",
        ),
    ],
)
def test_bad_tracks_are_refused(change: dict[str, Tensor], message: str):
    found, truth = good()
    with pytest.raises(ValueError, match=message):
        tracking_counts(found._replace(**change), truth)
    with pytest.raises(ValueError, match=message.replace("predicted", "tracks")):
        discoveries(found._replace(**change))


@pytest.mark.parametrize("box", [[math.nan, 0, 1, 1], [0.0, 0, math.inf, 1], [0.0, 0, 1, -1]])
def test_true_boxes_that_cannot_be_are_refused(box: list[float]):
    found, truth = good()
    boxes, present = truth.boxes.clone(), torch.zeros_like(truth.present)
    boxes[1, 2, 0] = torch.tensor(box)
    tracking_counts(found, truth._replace(boxes=boxes, present=present))
    present[1, 2, 0] = 1
    with pytest.raises(ValueError, match=r"`truth\.boxes` must be finite .* number 1, 2, 0 is"):
        tracking_counts(found, truth._replace(boxes=boxes, present=present))
    # A prediction may be wrong in any way.
    assert tracking_counts(found._replace(boxes=found.boxes * math.nan), truth).matches == 0


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"objects": -1}, "`objects` must not be negative, got -1"),
        ({"overlap": math.nan}, "`overlap` must not be negative and finite, got nan"),
        ({"matches": 4}, "`matches` must be at most `predictions` = 3, got 4"),
        ({"objects": 1}, "`matches` must be at most `objects` = 1, got 2"),
        ({"switches": 3}, "`switches` must be at most `matches` = 2, got 3"),
        ({"identity_matches": 4}, "`identity_matches` must be at most `predictions` = 3, got 4"),
        (
            {"identity_matches": 6, "predictions": 9},
            "`identity_matches` must be at most `objects` = 5, got 6",
        ),
        ({"true_tracks": 6}, "`true_tracks` must be at most `objects` = 5, got 6"),
        ({"predicted_tracks": 4}, "`predicted_tracks` must be at most `predictions` = 3, got 4"),
    ],
)
def test_counts_that_cannot_be_are_refused(change: dict[str, Any], problem: str):
    whole = {
        "objects": 5,
        "predictions": 3,
        "matches": 2,
        "overlap": 1.5,
        "switches": 1,
        "identity_matches": 2,
    }
    TrackingCounts(**whole)
    with pytest.raises(ValueError, match=problem):
        TrackingCounts(**{**whole, **change})


def test_bad_arguments_are_refused(monkeypatch: pytest.MonkeyPatch):
    found, truth = good()
    for threshold in (0.0, 1.5, math.nan):
        with pytest.raises(ValueError, match="`iou_threshold` must be in"):
            tracking_counts(found, truth, threshold)
    with pytest.raises(ValueError, match=r"same videos and frames .* \(2, 3\) and \(2, 2\)"):
        tracking_counts(found, Tracks(*(x[:, :2] for x in truth)))
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(MissingPackageError, match=r"whatwhere\[metrics\]"):
        tracking_counts(found, truth)
