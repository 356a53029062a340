"""The nearest neighbour on the Weizmann actions: what a model of them has to be better than."""

from __future__ import annotations

import torch

from whatwhere.datasets import VideoData, load_weizmann
from whatwhere.examples.parts.action_data import ActionDataConfig
from whatwhere.inference.evaluation import nearest_neighbours, silhouette_features


def neighbours_right(config: ActionDataConfig) -> torch.Tensor | None:
    """Whether the nearest video of another person shows the same action, `(M,)`; None of other data."""
    name, _, folder = config.source.partition(":")
    if name != "weizmann":
        return None
    data = load_weizmann(folder)
    assert data.classes is not None
    assert data.groups is not None
    labels, groups = torch.from_numpy(data.classes[:, 0]), torch.from_numpy(data.groups)
    features = torch.stack([_features(data, row) for row in range(len(data))])
    return nearest_neighbours(features, labels, groups) == labels


def held_out_floor(config: ActionDataConfig) -> float | None:
    """Share of the held-out person's videos of which it is right; None of other data."""
    right = neighbours_right(config)
    if right is None:
        return None
    groups = load_weizmann(config.source.partition(":")[2]).groups
    assert groups is not None
    return float(right[torch.from_numpy(groups) == config.fold].double().mean())


def _features(data: VideoData, row: int) -> torch.Tensor:
    assert data.boxes is not None
    boxes = data.boxes[row, :, 0]
    here = boxes[:, 2] > 0
    video = torch.from_numpy(data.video[row, here, 0]).float() / 255
    return silhouette_features(video, torch.from_numpy(boxes[here]))
