import numpy as np
import pytest
import torch

from whatwhere.inference.evaluation import segment_tracking_counts, tracking_counts
from whatwhere.inference.evaluation.tracking_metrics import TrackingCounts, Tracks

SIDE = 16


def painted(*frames: dict[int, tuple[int, int, int, int]]) -> torch.Tensor:
    """A video `(1, T, H, W)` of rectangles `(left, top, width, height)`, later ones over earlier ones."""
    video = torch.full((1, len(frames), SIDE, SIDE), -1)
    for t, objects in enumerate(frames):
        for name, (left, top, width, height) in objects.items():
            video[0, t, top : top + height, left : left + width] = name
    return video


def slow_events(found: np.ndarray, true: np.ndarray, threshold: float):
    """The events of one video as py-motmetrics sees them, of masks that are compared pixel by pixel."""
    motmetrics = pytest.importorskip("motmetrics")
    events = motmetrics.MOTAccumulator(auto_id=True)
    for mine, theirs in zip(found, true, strict=True):
        names = [n for n in sorted(set(mine.ravel()) - {-1}) if (mine == n).sum() > 5]
        true_names = [n for n in sorted(set(theirs.ravel()) - {-1}) if (theirs == n).sum() > 5]
        background = theirs == -1

        def overlap(a: np.ndarray, b: np.ndarray) -> float:
            return (a & b).sum() / (a | b).sum()

        names = [n for n in names if overlap(mine == n, background) <= 0.2]
        true_names.sort(key=lambda name: -events.last_match.get(name, -1))
        distance = np.array([[1 - overlap(theirs == i, mine == j) for j in names] for i in true_names])
        distance = distance.reshape(len(true_names), len(names))
        events.update(true_names, names, np.where(distance <= 1 - threshold, distance, np.nan))
    return events


def random_segments(seed: int, objects: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rectangles that move, come and go, and what a bad tracker makes of them, also of the background."""
    rng = np.random.default_rng(seed)
    corner, size = rng.integers(0, 10, (objects, 2)), rng.integers(2, 8, (objects, 2))
    names = np.arange(objects)
    true, found = [], []
    for _ in range(12):
        corner = np.clip(corner + rng.integers(-1, 2, corner.shape), 0, 12)
        if rng.random() < 0.3:
            names = rng.permutation(names)
        here, said = rng.random((2, objects)) < 0.8
        true.append({i: (*corner[i], *size[i]) for i in range(objects) if here[i]})
        moved = corner + rng.integers(-1, 2, corner.shape).clip(0)
        frame = {5 + int(names[i]): (*moved[i], *size[i]) for i in range(objects) if said[i]}
        whole = {3: (0, 0, SIDE, 11)} if rng.random() < 0.3 else {}
        found.append(whole | frame)
    return painted(*found), painted(*true)


@pytest.mark.filterwarnings("ignore:.*:FutureWarning", "ignore:.*:DeprecationWarning")
@pytest.mark.parametrize("seed", range(6))
def test_against_motmetrics(seed: int):
    motmetrics = pytest.importorskip("motmetrics")
    found, true = (
        torch.cat(x) for x in zip(*(random_segments(10 * seed + i, 4) for i in (0, 1)), strict=True)
    )
    result = segment_tracking_counts(found, true)
    events = [slow_events(found[i].numpy(), true[i].numpy(), 0.5) for i in (0, 1)]
    names = ["num_misses", "num_false_positives", "num_switches", "num_objects", "motp", "mostly_tracked"]
    summary = motmetrics.metrics.create().compute_many(events, metrics=names, generate_overall=True)
    expected = summary.loc["OVERALL"].to_dict()
    report = result.report()
    assert result.switches > 0
    assert (report.misses, report.false_positives, report.switches, result.objects) == (
        expected["num_misses"],
        expected["num_false_positives"],
        expected["num_switches"],
        expected["num_objects"],
    )
    assert report.motp == pytest.approx(1 - expected["motp"])
    assert result.mostly_detected == expected["mostly_tracked"]


def test_a_clip_with_a_switch_by_hand():
    """Match, switch and miss make up all true objects; who switches is detected, but not tracked."""
    box, other = (1, 1, 4, 4), (9, 9, 4, 4)
    true = painted(*[{0: box, 1: other}] * 5)
    found = painted(*[{7: box, 8: other}] * 2, *[{7: box, 9: other}] * 2, {7: box})
    result = segment_tracking_counts(found, true)
    report = result.report()
    assert (result.objects, result.matches, result.switches, report.misses) == (10, 9, 1, 1)
    assert result.matches - result.switches + result.switches + report.misses == result.objects
    assert report.mota == pytest.approx(0.8)
    assert report.motp == 1
    assert (report.mostly_detected, report.mostly_tracked) == (1.0, 0.5)


def test_whole_rectangles_are_as_boxes_are():
    """Where nothing is hidden, masks of boxes have the overlap of boxes."""
    true = painted({0: (1, 1, 6, 6), 1: (9, 9, 5, 5)}, {0: (2, 1, 6, 6), 1: (9, 8, 5, 5)})
    found = painted({0: (2, 2, 6, 6), 1: (9, 9, 5, 5)}, {0: (2, 1, 6, 6)})

    def boxes(*frames: list[list[float]]) -> Tracks:
        values = torch.tensor(frames)[None]
        return Tracks(values, values[..., 2] > 0, torch.arange(2).expand(1, len(frames), 2))

    none = [0.0, 0.0, 0.0, 0.0]
    expected = tracking_counts(
        boxes([[2.0, 2, 6, 6], [9.0, 9, 5, 5]], [[2.0, 1, 6, 6], none]),
        boxes([[1.0, 1, 6, 6], [9.0, 9, 5, 5]], [[2.0, 1, 6, 6], [9.0, 8, 5, 5]]),
    )
    result = segment_tracking_counts(found, true)
    assert result.overlap == pytest.approx(expected.overlap)
    assert result.matches == expected.matches == 3


def test_few_pixels_and_background_are_left_out():
    empty = painted({}, {})
    assert segment_tracking_counts(painted({3: (0, 0, 5, 1)}, {}), empty) == TrackingCounts()
    assert segment_tracking_counts(painted({3: (0, 0, 6, 1)}, {}), empty).predictions == 1
    # A fifth of 256 pixels are 51.2.
    assert segment_tracking_counts(painted({3: (0, 0, 17, 3)}, {}), empty).predictions == 1
    assert segment_tracking_counts(painted({3: (0, 0, 13, 4)}, {}), empty).predictions == 0
    assert segment_tracking_counts(empty, painted({3: (0, 0, 5, 1)}, {0: (0, 0, 3, 2)})).objects == 1


@pytest.mark.parametrize(
    ("found", "true", "threshold", "message"),
    [
        (torch.zeros(1, 2, 3), torch.zeros(1, 2, 3), 0.5, "must both have shape"),
        (torch.zeros(1, 2, 3, 4).long(), torch.zeros(1, 2, 3, 5).long(), 0.5, "must both have shape"),
        (torch.rand(1, 2, 3, 4), torch.zeros(1, 2, 3, 4).long(), 0.5, "must be integers"),
        (torch.zeros(1, 0, 3, 4).long(), torch.zeros(1, 0, 3, 4).long(), 0.5, "at least 1 each"),
        (torch.zeros(1, 2, 3, 4).long(), torch.zeros(1, 2, 3, 4).long(), 0.0, "iou_threshold"),
    ],
)
def test_what_cannot_be_compared_is_refused(found, true, threshold: float, message: str):
    with pytest.raises(ValueError, match=message):
        segment_tracking_counts(found, true, threshold)
