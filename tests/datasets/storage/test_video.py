from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from whatwhere.datasets import DataError, VideoBatch, VideoData
from whatwhere.datasets.storage import as_indices


def fields(data: VideoData, **changes: Any) -> dict[str, Any]:
    return {"video": data.video, **data.labels(), **changes}


def test_batch_is_the_gathered_videos_divided_by_255(videos: VideoData) -> None:
    batch = videos.batch(torch.tensor([4, 0, 4]))
    for row, index in enumerate((4, 0, 4)):
        expected = torch.tensor([int(x) / 255 for x in videos.video[index].ravel()])
        assert torch.equal(batch.video[row].ravel(), expected)
        for name, value in videos.labels().items():
            if name != "names":
                assert getattr(batch, name)[row].tolist() == value[index].tolist(), name


def test_batch_has_the_documented_types(videos: VideoData) -> None:
    batch = videos.batch([1])
    assert [x.dtype for x in batch if x is not None] == [
        torch.float32,
        torch.int64,
        torch.int64,
        torch.float32,
        torch.float32,
        torch.int64,
        torch.uint8,
    ]


def test_grey_values_span_zero_to_one_exactly() -> None:
    data = VideoData(np.array([0, 255], dtype=np.uint8).reshape(1, 1, 1, 1, 2))
    assert data.batch([0]).video.ravel().tolist() == [0.0, 1.0]


def test_batch_is_a_copy(videos: VideoData) -> None:
    batch = videos.batch([0])
    assert batch.boxes is not None
    before = videos.boxes.copy() if videos.boxes is not None else None
    batch.boxes.fill_(-1)
    np.testing.assert_array_equal(videos.boxes, before)


def test_absent_labels_stay_absent(videos: VideoData) -> None:
    data = VideoData(videos.video, classes=videos.classes)
    batch = data.batch([0, 1])
    assert batch.count is None
    assert batch.boxes is None
    assert batch.visible is None
    assert batch.classes is not None
    assert set(data.subset([1]).labels()) == {"classes"}
    assert batch.to("cpu").count is None
    assert batch.groups is None


def test_subset_then_batch_is_batch_of_the_chosen(videos: VideoData) -> None:
    a, b = videos.subset([3, 1]).batch([1]), videos.batch([1])
    assert len(videos.subset([3, 1])) == 2
    for x, y in zip(a, b, strict=True):
        assert x is not None
        assert y is not None
        assert torch.equal(x, y)


def test_subset_keeps_groups_and_names_with_their_videos(videos: VideoData) -> None:
    assert videos.groups is not None
    chosen = videos.subset([3, 1])
    assert chosen.names is not None
    assert chosen.names.tolist() == ["person01_walking_d1_2", "zoë_walk"]
    assert chosen.groups is not None
    assert chosen.groups.tolist() == [videos.groups[3], videos.groups[1]]
    assert chosen.shape == (2, 2, 1, 6, 7)


def test_to_moves_every_field(videos: VideoData) -> None:
    moved = videos.batch([0, 1]).to("meta")
    assert isinstance(moved, VideoBatch)
    assert all(x is not None and x.device.type == "meta" for x in moved)


def test_images_are_the_only_frame(videos: VideoData) -> None:
    still = VideoData(videos.video[:, :1])
    batch = still.batch([2])
    assert batch.images.shape == (1, 1, 6, 7)
    assert torch.equal(batch.images[0], batch.video[0, 0])
    with pytest.raises(ValueError, match="T = 2"):
        _ = videos.batch([0]).images


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"video": np.zeros((5, 2, 1, 6, 7))}, "`video` must be a numpy array of uint8, got float64"),
        ({"video": torch.zeros(5, 2, 1, 6, 7)}, "`video` must be a numpy array of uint8, got Tensor"),
        ({"video": np.zeros((5, 2, 6, 7), np.uint8)}, r"5 dimensions .* got shape \(5, 2, 6, 7\)"),
        ({"video": np.zeros((0, 2, 1, 6, 7), np.uint8)}, "`video` is empty"),
        ({"video": np.zeros((5, 0, 1, 6, 7), np.uint8)}, "`video` is empty"),
        ({"video": np.zeros((5, 2, 6, 7, 1), np.uint8)}, "1 to 4 channels, got 6"),
        ({"count": np.zeros((5, 2), np.int32)}, "`count` must be a numpy array of int64, got int32"),
        ({"count": np.zeros((5, 3), np.int64)}, r"`count` must have shape \(5, 2\).*got \(5, 3\)"),
        ({"count": np.full((5, 2), -1)}, "`count` must not be negative"),
        ({"count": np.full((5, 2), 4)}, "`count` has 4 objects in a frame, the other labels only 3"),
        ({"classes": np.zeros((4, 3), np.int64)}, r"`classes` must have shape \(5, 3\)"),
        ({"classes": np.full((5, 3), -2)}, "`classes` must be at least -1"),
        ({"boxes": np.zeros((5, 2, 3, 5), np.float32)}, r"`boxes` must have shape \(5, 2, 3, 4\)"),
        ({"boxes": np.zeros((5, 2, 2, 4), np.float32)}, r"`boxes` must have shape \(5, 2, 3, 4\)"),
        ({"boxes": np.full((5, 2, 3, 4), np.nan, np.float32)}, "`boxes` must be finite"),
        ({"boxes": np.full((5, 2, 3, 4), -1, np.float32)}, "`boxes` must have widths and heights"),
        ({"visible": np.zeros((5, 2, 1), np.float32)}, r"`visible` must have shape \(5, 2, 3\)"),
        ({"visible": np.full((5, 2, 3), 1.01, np.float32)}, r"`visible` must be in \[0, 1\]"),
        ({"visible": np.full((5, 2, 3), -0.1, np.float32)}, r"`visible` must be in \[0, 1\]"),
        ({"visible": [[0.0]]}, "`visible` must be a numpy array of float32, got list"),
        ({"segments": np.zeros((5, 2, 7, 6), np.uint8)}, r"`segments` must have shape \(5, 2, 6, 7\)"),
        ({"segments": np.zeros((5, 2, 6, 7), np.int64)}, "`segments` must be a numpy array of uint8"),
        (
            {"segments": np.full((5, 2, 6, 7), 4, np.uint8)},
            "`segments` has 4 objects, the other labels only 3",
        ),
        ({"groups": np.zeros((5, 1), np.int64)}, r"`groups` must have shape \(5,\)"),
        ({"groups": np.zeros(5, np.int16)}, "`groups` must be a numpy array of int64, got int16"),
        ({"groups": np.full(5, -1)}, "`groups` must not be negative, got -1"),
        ({"names": np.array(["a"] * 4)}, r"`names` must have shape \(5,\).*got \(4,\)"),
        ({"names": np.zeros(5, np.int64)}, "`names` must be a numpy array of str, got int64"),
        ({"names": np.array(["a"] * 5, object)}, "`names` must be a numpy array of str, got object"),
    ],
)
def test_bad_fields_are_refused(videos: VideoData, change: dict[str, Any], message: str) -> None:
    VideoData(**fields(videos))
    with pytest.raises(DataError, match=message):
        VideoData(**fields(videos, **change))


@pytest.mark.parametrize(
    ("indices", "message"),
    [([5], "5 to 5"), ([-1], "-1 to -1"), ([[0]], r"shape \(1, 1\)"), ([0.5], "float64"), ([True], "bool")],
)
def test_bad_indices_are_refused(videos: VideoData, indices: Any, message: str) -> None:
    with pytest.raises(IndexError, match=message):
        videos.batch(indices)


@given(st.lists(st.integers(-3, 12), max_size=6))
def test_as_indices_accepts_exactly_the_range(values: list[int]) -> None:
    if all(0 <= value < 10 for value in values):
        assert as_indices(values, 10).tolist() == values
        assert as_indices(torch.tensor(values, dtype=torch.long), 10).tolist() == values
    else:
        with pytest.raises(IndexError):
            as_indices(values, 10)
