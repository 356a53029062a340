"""Baseline reports against scenes whose numbers are known."""

import pytest
import torch

from whatwhere.inference.evaluation import ConnectedComponents, Videos, chosen_components, evaluate_components


def videos(brightness: float = 0.9, dirt: float = 0.3) -> Videos:
    """Two videos of three frames: one object that moves, of 4 x 4 pixels, over dirt of 3 x 3 pixels."""
    video, boxes = torch.zeros(2, 3, 1, 20, 30), torch.zeros(2, 3, 1, 4)
    for t in range(3):
        video[:, t, :, 12:15, 22:25] = dirt
        video[:, t, :, 4 + t : 8 + t, 5:9] = brightness
        boxes[:, t, 0] = torch.tensor([5.0, 4 + t, 4, 4])
    return Videos(video, counts=torch.ones(2, 3), boxes=boxes)


def test_what_is_found_is_measured_as_a_model_is():
    report = evaluate_components(ConnectedComponents(0.5), [videos(), videos()])
    assert report.counting.accuracy == 1
    assert (report.tracking.mota, report.tracking.idf1) == (1, 1)
    dirty = evaluate_components(ConnectedComponents(0.2), [videos()])
    assert dirty.counting.confusion == [[0, 0, 0], [0, 0, 6], [0, 0, 0]]
    assert dirty.tracking.mota == 0  # as many false boxes as true ones
    assert dirty.tracking.false_positives == 6
    assert dirty.visible_counting is None


def test_the_threshold_of_a_match_counts():
    wide = videos()
    boxes = wide.boxes.clone()
    boxes[..., 2:] += 4  # 16 pixels of 64
    for least, mota in ((0.2, 1.0), (0.3, -1.0)):
        report = evaluate_components(ConnectedComponents(0.5), [wide._replace(boxes=boxes)], least)
        assert report.tracking.mota == mota
        assert report.numbers()["iou_threshold"] == least


def test_the_threshold_is_the_best_of_training_videos():
    chosen = chosen_components([videos(0.45, 0.3)])
    assert 0.3 <= chosen.threshold < 0.45 or chosen.least_area == 16
    faint = chosen_components([videos(0.12, 0.0)._replace(boxes=None)])
    assert faint.threshold < 0.12


def test_without_labels_there_is_nothing_to_choose_by():
    with pytest.raises(ValueError, match="neither boxes nor counts"):
        chosen_components([Videos(torch.zeros(1, 2, 1, 8, 8))])
    with pytest.raises(ValueError, match="no videos"):
        evaluate_components(ConnectedComponents(), [])
