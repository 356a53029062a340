import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, precision_recall_curve
from torch import Tensor

from whatwhere.inference.evaluation.metrics import (
    Detections,
    TrueBoxes,
    average_precision,
    count_report,
    match_boxes,
)

Box = tuple[float, float, float, float]
NOWHERE = (1000.0, 1000.0, 5.0, 5.0)


def detections(*images: list[tuple[Box, float]]) -> Detections:
    """Pack lists of (box, score); absent slots hold tempting rubbish, which must be ignored."""
    slots = max(map(len, images))
    boxes = torch.zeros(len(images), slots, 4)
    boxes[..., 2:] = 10
    scores = torch.full((len(images), slots), math.nan)
    for m, image in enumerate(images):
        for n, (box, score) in enumerate(image):
            boxes[m, n], scores[m, n] = torch.tensor(box), score
    return Detections(boxes, ~scores.isnan(), scores)


def true_boxes(*images: list[Box]) -> TrueBoxes:
    slots = max(map(len, images))
    boxes = torch.zeros(len(images), slots, 4)
    boxes[..., 2:] = 10
    present = torch.zeros(len(images), slots)
    for m, image in enumerate(images):
        for n, box in enumerate(image):
            boxes[m, n], present[m, n] = torch.tensor(box), 1
    return TrueBoxes(boxes, present)


def hits_and_misses(flags: list[int], scores: list[float], extra: int = 0) -> tuple[Detections, TrueBoxes]:
    """One image for each detection: right (1) or false (0); and `extra` images whose object is missed."""
    found, true = [], []
    for flag, score in zip(flags, scores, strict=True):
        found.append([((20.0, 20.0, 5.0, 5.0) if flag else NOWHERE, score)])
        true.append([(20.0, 20.0, 5.0, 5.0)] if flag else [])
    for _ in range(extra):
        found.append([])
        true.append([(20.0, 20.0, 5.0, 5.0)])
    return detections(*found), true_boxes(*true)


def test_count_report_by_hand():
    predicted = torch.tensor([[0, 1, 2], [2, 2, 1]])
    true = torch.tensor([[0, 1, 1], [2, 3, 2]])
    report = count_report(predicted, true, max_count=3)
    assert report.accuracy == 3 / 6
    assert report.confusion == [[1, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 1, 0]]


@pytest.mark.parametrize(("predicted", "true"), [(5, 1), (1, 5)])
def test_the_confusion_matrix_covers_counts_beyond_the_slots(predicted: int, true: int):
    report = count_report(torch.tensor([predicted]), torch.tensor([true]), max_count=3)
    assert [len(row) for row in report.confusion] == [6] * 6
    assert report.confusion[true][predicted] == 1
    assert sum(map(sum, report.confusion)) == 1


def test_counts_may_be_sums_of_floating_point_presence():
    presence = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    assert count_report(presence.sum(-1), torch.tensor([2, 1]), 3).confusion[2][2] == 1


@pytest.mark.parametrize(
    ("predicted", "true", "message"),
    [
        (torch.tensor([1, 2]), torch.tensor([[1], [2]]), "equal shape"),
        (torch.tensor([]), torch.tensor([]), "at least one"),
        (torch.tensor([0.5]), torch.tensor([1]), "`predicted` must hold integers"),
        (torch.tensor([1]), torch.tensor([-1]), "`true` must hold integers"),
        (torch.tensor([math.nan]), torch.tensor([1]), "`predicted` must hold integers"),
        (torch.tensor([1]), torch.tensor([1j]), "`true` must hold integers .* but are torch.complex64"),
    ],
)
def test_bad_counts_are_refused(predicted: Tensor, true: Tensor, message: str):
    with pytest.raises(ValueError, match=message):
        count_report(predicted, true, 3)


def test_the_surest_detection_takes_the_box_and_the_second_is_false():
    box = (10.0, 10.0, 10.0, 10.0)
    shifted = (10.0, 11.0, 10.0, 10.0)  # overlap 90 / 110
    matches = match_boxes(detections([(box, 0.1), (shifted, 0.9)]), true_boxes([box]))
    assert matches.partner.tolist() == [[-1, 0]]
    assert matches.overlap.tolist() == [[0, pytest.approx(9 / 11)]]


def test_a_detection_whose_best_box_is_taken_may_take_another():
    truth = true_boxes([(0.0, 0.0, 10.0, 10.0), (0.0, 2.0, 10.0, 10.0)])
    found = detections([((0.0, 0.0, 10.0, 10.0), 0.9), ((0.0, 0.5, 10.0, 10.0), 0.8)])
    assert match_boxes(found, truth).partner.tolist() == [[0, 1]]


def test_a_detection_takes_the_box_it_overlaps_most():
    truth = true_boxes([(0.0, 2.0, 10.0, 10.0), (0.0, 0.0, 10.0, 10.0)])
    assert match_boxes(detections([((0.0, 0.5, 10.0, 10.0), 1.0)]), truth).partner.tolist() == [[1]]


@pytest.mark.parametrize(("threshold", "partner"), [(0.5, 0), (0.50001, -1)])
def test_the_threshold_is_inclusive(threshold: float, partner: int):
    found, truth = detections([((0.0, 0.0, 4.0, 4.0), 1.0)]), true_boxes([(0.0, 0.0, 4.0, 2.0)])
    assert match_boxes(found, truth, threshold).partner.tolist() == [[partner]]


def test_equal_scores_choose_in_the_order_of_slots():
    box = (0.0, 0.0, 10.0, 10.0)
    matches = match_boxes(detections([(box, 0.5)] * 20), true_boxes([box]))
    assert matches.partner.tolist() == [[0] + [-1] * 19]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("component", range(4))
def test_a_box_that_is_not_finite_is_false(value: float, component: int):
    box = [0.0, 0.0, 10.0, 10.0]
    box[component] = value
    found = detections([(tuple(box), 0.9), ((0.0, 0.0, 10.0, 10.0), 0.1)])
    truth = true_boxes([(0.0, 0.0, 10.0, 10.0)])
    assert match_boxes(found, truth).partner.tolist() == [[-1, 0]]
    assert average_precision(found, truth) == 0.5


def test_a_box_of_negative_size_is_false():
    for box in ((10.0, 10.0, -10.0, -10.0), (10.0, 0.0, -10.0, 10.0)):
        found = detections([(box, 1.0)])
        assert average_precision(found, true_boxes([(0.0, 0.0, 10.0, 10.0)]), 0.01) == 0


@pytest.mark.parametrize(
    ("flags", "extra", "expected"),
    [
        ([1, 1, 1], 0, 1.0),
        ([1, 1, 1], 3, 0.5),  # precision 1 up to a recall of one half
        ([0, 0], 2, 0.0),
        ([0, 1], 0, 1 / 2),
        ([1, 0, 1], 0, (1 + 2 / 3) / 2),
        ([0, 1, 1], 0, 2 / 3),  # precisions 0, 1/2, 2/3, made monotone: 2/3 everywhere
        ([1, 0, 0, 1, 1, 0], 1, (1 + 3 / 5 + 3 / 5) / 4),
    ],
)
def test_average_precision_by_hand(flags: list[int], extra: int, expected: float):
    found, truth = hits_and_misses(flags, [0.9 - 0.1 * i for i in range(len(flags))], extra)
    assert average_precision(found, truth) == pytest.approx(expected, abs=1e-12)


def test_equal_scores_give_precision_times_recall_in_any_order():
    for flags in ([1, 0, 0, 1, 0], [0, 0, 0, 1, 1], [1, 1, 0, 0, 0]):
        found, truth = hits_and_misses(flags, [0.7] * 5, extra=1)
        assert average_precision(found, truth) == pytest.approx(2 / 5 * 2 / 3)


def test_only_the_order_of_scores_matters():
    flags, scores = [1, 0, 1, 1, 0], torch.tensor([3.0, 1.0, -2.0, 0.5, 7.0])
    values = [
        average_precision(*hits_and_misses(flags, s.tolist(), 2))
        for s in (scores, scores.sigmoid(), scores.exp())
    ]
    assert values[0] == values[1] == values[2]


def test_nothing_to_find_is_undefined_and_finding_nothing_is_zero():
    box = (0.0, 0.0, 5.0, 5.0)
    assert math.isnan(average_precision(detections([(box, 1.0)]), true_boxes([])))
    assert math.isnan(average_precision(detections([]), true_boxes([])))
    assert average_precision(detections([]), true_boxes([box])) == 0
    padded = Detections(torch.zeros(2, 3, 4), torch.zeros(2, 3), torch.zeros(2, 3))
    assert average_precision(padded, true_boxes([box], [])) == 0
    no_images = Detections(torch.zeros(0, 3, 4), torch.zeros(0, 3), torch.zeros(0, 3))
    assert math.isnan(average_precision(no_images, TrueBoxes(torch.zeros(0, 2, 4), torch.zeros(0, 2))))


def test_overlaps_are_of_matches_only():
    truth = true_boxes([(0.0, 0.0, 10.0, 10.0), (50.0, 50.0, 10.0, 10.0)], [(0.0, 0.0, 4.0, 4.0)])
    found = detections(
        [((0.0, 0.0, 10.0, 8.0), 0.9), (NOWHERE, 0.8), ((50.0, 50.0, 10.0, 2.0), 0.7)],
        [((0.0, 0.0, 4.0, 3.0), 0.3)],
    )
    for threshold, second in ((0.5, 0.0), (0.2, 0.2)):
        overlap = match_boxes(found, truth, threshold).overlap.flatten().tolist()
        assert overlap == pytest.approx([0.8, 0, second, 0.75, 0, 0])


def slow_overlap(a: list[float], b: list[float]) -> float:
    width = max(0.0, min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1]))
    return width * height / (a[2] * a[3] + b[2] * b[3] - width * height)


def slow_matches(
    found: Detections, truth: TrueBoxes, threshold: float
) -> tuple[list[tuple[float, float]], int]:
    """(score, overlap or 0) of each detection, and the number of true boxes, by plain loops."""
    outcomes = []
    for m in range(len(found.boxes)):
        free = [truth.boxes[m, g].tolist() for g in range(truth.present.shape[1]) if truth.present[m, g]]
        mine = [
            (found.scores[m, n].item(), found.boxes[m, n].tolist())
            for n in range(found.present.shape[1])
            if found.present[m, n]
        ]
        for score, box in sorted(mine, key=lambda item: -item[0]):
            best = max(free, key=lambda other: slow_overlap(box, other), default=None)
            overlap = 0.0 if best is None else slow_overlap(box, best)
            if best is not None and overlap >= threshold:
                free.remove(best)
            outcomes.append((score, overlap if overlap >= threshold else 0.0))
    return outcomes, int(truth.present.sum())


def slow_average_precision(outcomes: list[tuple[float, float]], total: int) -> float:
    """Mean over the true boxes of the best precision with which that many of them are found."""
    points = []
    for threshold in {score for score, _ in outcomes}:
        kept = [overlap > 0 for score, overlap in outcomes if score >= threshold]
        points.append((sum(kept), sum(kept) / len(kept)))
    area = 0.0
    for rank in range(1, total + 1):
        area += max((precision for found, precision in points if found >= rank), default=0.0) / total
    return area


def random_scene(seed: int, images: int, slots: int, objects: int) -> tuple[Detections, TrueBoxes]:
    """Crowded images of true boxes and jittered ones; scores tie between images."""
    generator = torch.Generator().manual_seed(seed)
    true = torch.rand(images, objects, 4, generator=generator) * 20
    true[..., 2:] = true[..., 2:] / 2 + 5
    pick = torch.randint(objects, (images, slots), generator=generator)
    boxes = true.gather(1, pick.unsqueeze(-1).expand(-1, -1, 4))
    boxes = boxes + torch.randn(images, slots, 4, generator=generator) * 1.5
    boxes[..., 2:] = boxes[..., 2:].clamp(min=1)
    present, true_present = (torch.rand(images, n, generator=generator) < 0.6 for n in (slots, objects))
    # distinct within an image, as the slow reference need not know how slots break ties
    scores = torch.rand(images, slots, generator=generator).argsort(-1) / 10
    return Detections(boxes, present, scores), TrueBoxes(true, true_present)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    slots=st.integers(1, 6),
    objects=st.integers(1, 5),
    threshold=st.sampled_from([0.1, 0.3, 0.5, 0.75]),
)
def test_against_plain_loops(seed: int, slots: int, objects: int, threshold: float):
    found, truth = random_scene(seed, 12, slots, objects)
    found = found._replace(boxes=found.boxes.double())
    truth = truth._replace(boxes=truth.boxes.double())
    outcomes, total = slow_matches(found, truth, threshold)
    if not total:
        return
    expected = slow_average_precision(outcomes, total)
    assert average_precision(found, truth, threshold) == pytest.approx(expected, abs=1e-12)
    overlap = match_boxes(found, truth, threshold).overlap
    assert float(overlap.sum()) == pytest.approx(sum(overlap for _, overlap in outcomes), abs=1e-12)


def test_against_scikit_learn_where_no_box_is_missed():
    generator = np.random.default_rng(0)
    flags = (generator.random(200) < 0.6).astype(int)
    scores = generator.integers(0, 40, 200) / 40
    found, truth = hits_and_misses(flags.tolist(), scores.tolist())
    precision, recall, _ = precision_recall_curve(flags, scores)  # from the lowest threshold up
    expected = (-np.diff(recall) * np.maximum.accumulate(precision)[:-1]).sum()
    assert average_precision(found, truth) == pytest.approx(expected, abs=1e-12)
    assert expected > average_precision_score(flags, scores)  # which does not make precision monotone


def test_equals_scikit_learn_where_precision_falls_monotonically():
    flags, scores = [1, 1, 1, 0, 0, 1, 0, 0, 0, 0], [0.9, 0.8, 0.7, 0.6, 0.5, 0.5, 0.4, 0.3, 0.2, 0.1]
    expected = average_precision_score(flags, scores)
    assert average_precision(*hits_and_misses(flags, scores)) == pytest.approx(expected, abs=1e-12)


def test_the_order_of_images_does_not_matter():
    found, truth = random_scene(3, 300, 4, 3)
    order = torch.randperm(300)
    shuffled = average_precision(
        Detections(*(x[order] for x in found)), TrueBoxes(*(x[order] for x in truth))
    )
    assert shuffled == average_precision(found, truth)


def good() -> tuple[Detections, TrueBoxes]:
    return random_scene(0, 2, 3, 4)


def test_bad_arguments_are_refused():
    found, truth = good()
    for threshold in (0.0, 1.5, math.nan):
        with pytest.raises(ValueError, match="`iou_threshold` must be in"):
            match_boxes(found, truth, threshold)
    with pytest.raises(ValueError, match=r"`predicted` must hold boxes .* \(2, 2\)"):
        match_boxes(found._replace(scores=found.scores[:, :2]), truth)
    with pytest.raises(ValueError, match="`truth` must hold boxes"):
        match_boxes(found, truth._replace(boxes=truth.boxes[..., :3]))
    with pytest.raises(ValueError, match="same images, but are of 2 and 1"):
        match_boxes(found, TrueBoxes(truth.boxes[:1], truth.present[:1]))
    with pytest.raises(ValueError, match=r"`predicted\.present` must be boolean"):
        match_boxes(found._replace(present=torch.full((2, 3), 0.5)), truth)
    with pytest.raises(ValueError, match=r"`truth\.present` must be boolean"):
        average_precision(found, truth._replace(present=torch.full((2, 4), math.nan)))
    for box in ([0.0, 0, math.nan, 1], [math.inf, 0, 1, 1], [0, 0, -1, 1]):
        truth_with = TrueBoxes(truth.boxes.clone(), torch.ones(2, 4))
        truth_with.boxes[1, 3] = torch.tensor(box)
        with pytest.raises(ValueError, match=r"`truth\.boxes` must be finite .* number 1, 3 is"):
            match_boxes(found, truth_with)
        present = torch.ones(2, 4)
        present[1, 3] = 0
        match_boxes(found, truth_with._replace(present=present))
    with pytest.raises(ValueError, match="some are NaN"):
        match_boxes(found._replace(scores=found.scores * math.nan, present=torch.ones(2, 3)), truth)
