import json
import multiprocessing
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from whatwhere import __version__
from whatwhere.datasets import (
    VideoBatch,
    VideoData,
    VideoStore,
    check,
    in_parts,
    load_video,
    save_video,
    save_video_parts,
)
from whatwhere.datasets.storage import store


@pytest.fixture
def path(tmp_path: Path, videos: VideoData) -> Path:
    save_video(tmp_path / "data.h5", videos, generator="test", parameters={"a": [1, 2]}, seed=2**64 - 1)
    return tmp_path / "data.h5"


def assert_same_batch(a: VideoBatch, b: VideoBatch) -> None:
    for x, y in zip(a, b, strict=True):
        assert (x is None) == (y is None)
        assert x is None or y is None or (torch.equal(x, y) and x.dtype == y.dtype)


def test_round_trip(path: Path, videos: VideoData) -> None:
    loaded = load_video(path)
    np.testing.assert_array_equal(loaded.video, videos.video)
    assert loaded.labels().keys() == videos.labels().keys()
    for name, value in videos.labels().items():
        np.testing.assert_array_equal(loaded.labels()[name], value)


def test_round_trip_without_labels(tmp_path: Path, videos: VideoData) -> None:
    save_video(tmp_path / "x.h5", VideoData(videos.video))
    assert not load_video(tmp_path / "x.h5").labels()
    assert_same_batch(VideoStore(tmp_path / "x.h5").batch([1]), VideoData(videos.video).batch([1]))


def test_file_is_as_documented(path: Path, videos: VideoData) -> None:
    with h5py.File(path) as file:
        assert file["video"].dtype == np.uint8
        assert file["video"].compression == "gzip"
        assert {name: file[name].dtype for name in videos.labels()} == {
            "count": np.int64,
            "classes": np.int64,
            "boxes": np.float32,
            "visible": np.float32,
            "groups": np.int64,
            "names": np.dtype(object),
            "segments": np.uint8,
        }
        assert h5py.check_string_dtype(file["names"].dtype) == ("utf-8", None)
        assert file["names"][1] == "zoë_walk".encode()
        attributes = dict(file.attrs)
    assert json.loads(attributes.pop("parameters")) == {"a": [1, 2]}
    assert attributes == {
        "schema": "whatwhere/video",
        "schema_version": 1,
        "package_version": __version__,
        "generator": "test",
        "seed": 2**64 - 1,
    }


def test_parts_make_the_same_data_set(path: Path, videos: VideoData, tmp_path: Path) -> None:
    parts = (videos.subset(rows) for rows in ([0, 1], [2], [3, 4]))
    save_video_parts(tmp_path / "parts.h5", parts, generator="test", parameters={"a": [1, 2]}, seed=2**64 - 1)
    whole, joined = (VideoStore(p).subset(range(5)) for p in (path, tmp_path / "parts.h5"))
    np.testing.assert_array_equal(joined.video, whole.video)
    assert joined.labels().keys() == whole.labels().keys()
    for name, value in whole.labels().items():
        np.testing.assert_array_equal(joined.labels()[name], value)
    assert check(tmp_path / "parts.h5").attributes == check(path).attributes


def test_names_of_later_parts_may_be_longer(tmp_path: Path, videos: VideoData) -> None:
    names = np.array(["a", "a" * 300])
    parts = (VideoData(videos.video[:1], names=names[row : row + 1]) for row in range(2))
    save_video_parts(tmp_path / "parts.h5", parts)
    assert load_video(tmp_path / "parts.h5").labels()["names"].tolist() == names.tolist()


def test_in_parts_gives_all_videos_in_order(
    path: Path, videos: VideoData, monkeypatch: pytest.MonkeyPatch
) -> None:
    for videos_in_part, lengths in ((0.5, [1, 1, 1, 1, 1]), (2, [2, 2, 1]), (5, [5]), (9.9, [5])):
        monkeypatch.setattr(store, "PART_BYTES", int(videos_in_part * 2 * 6 * 7))
        for source in (videos, VideoStore(path)):
            parts = list(in_parts(source))
            assert [len(part) for part in parts] == lengths
            np.testing.assert_array_equal(np.concatenate([part.video for part in parts]), videos.video)
            np.testing.assert_array_equal(np.concatenate([part.names for part in parts]), videos.names)


def test_padding_costs_no_disk(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (2, 10, 1, 60, 80), np.uint8)
    padded = np.concatenate([noise, np.zeros((2, 150, 1, 60, 80), np.uint8)], axis=1)
    for name, video in (("short", noise), ("padded", padded)):
        save_video(tmp_path / name, VideoData(video))
    extra = (tmp_path / "padded").stat().st_size - (tmp_path / "short").stat().st_size
    assert extra < padded.nbytes / 100


def test_parts_that_do_not_fit_together_are_refused(tmp_path: Path, videos: VideoData) -> None:
    taller = np.zeros((1, 2, 1, 9, 7), np.uint8)
    for other in (VideoData(videos.video), VideoData(taller, videos.count[:1])):  # type: ignore[index]
        with pytest.raises(ValueError, match="`parts` must be alike"):
            save_video_parts(tmp_path / "x.h5", [VideoData(videos.video, videos.count), other])
    with pytest.raises(ValueError, match="`parts` must be at least one"):
        save_video_parts(tmp_path / "x.h5", [])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 1, 1), (70, 1, 1, 20, 20), (2, 40, 3, 100, 100), (1, 2, 3, 700, 700)]
)
def test_chunks_hold_whole_small_videos_or_whole_frames(shape: tuple[int, ...]) -> None:
    chunks = store._chunks(shape)
    assert all(1 <= chunk <= size for chunk, size in zip(chunks, shape, strict=True))
    assert chunks[2:] == shape[2:]
    assert chunks[0] == 1 or (chunks[1] == shape[1] and np.prod(chunks) <= 16 * 1024)
    assert chunks[1] == 1 or np.prod(chunks) <= 2**20


@pytest.mark.parametrize("indices", [[0], [4, 0, 4, 2], [], [3, 2, 1]])
def test_store_gives_the_batches_of_the_data_in_memory(
    path: Path, videos: VideoData, indices: list[int]
) -> None:
    lazy = VideoStore(path)
    assert len(lazy) == len(videos)
    assert lazy.shape == videos.video.shape
    assert_same_batch(lazy.batch(torch.tensor(indices, dtype=torch.long)), videos.batch(indices))
    if indices:
        assert_same_batch(lazy.subset(indices).batch(range(len(indices))), videos.batch(indices))


def test_store_gives_the_first_frames_of_a_video(path: Path, videos: VideoData, tmp_path: Path) -> None:
    lazy = VideoStore(path)
    for index in (0, 4):
        np.testing.assert_array_equal(lazy.frames(index), videos.video[index])
        for stop in (1, 2):
            np.testing.assert_array_equal(lazy.frames(index, stop), videos.video[index, :stop])
    with pytest.raises(IndexError, match=r"\[0, 5\), got 5 to 5"):
        lazy.frames(5)
    with h5py.File(tmp_path / "still.h5", "w") as file:  # whose second axis is that of channels
        file["images"] = np.arange(36, dtype=np.uint8).reshape(2, 3, 2, 3)
    expected = np.arange(18, 36).reshape(1, 3, 2, 3)
    np.testing.assert_array_equal(VideoStore(tmp_path / "still.h5").frames(1, 1), expected)


def test_store_has_the_labels_in_memory(path: Path, videos: VideoData) -> None:
    labels = VideoStore(path).labels()
    assert labels.keys() == videos.labels().keys() >= {"groups", "names"}
    for name, value in videos.labels().items():
        np.testing.assert_array_equal(labels[name], value)


def test_store_refuses_indices_out_of_range(path: Path) -> None:
    with pytest.raises(IndexError, match=r"\[0, 5\), got 5 to 5"):
        VideoStore(path).batch([5])


def test_store_opens_again_after_close_and_pickling(path: Path, videos: VideoData) -> None:
    lazy = VideoStore(path)
    expected = videos.batch([1, 3])
    assert_same_batch(lazy.batch([1, 3]), expected)
    assert_same_batch(pickle.loads(pickle.dumps(lazy)).batch([1, 3]), expected)
    lazy.close()
    lazy.close()
    assert_same_batch(lazy.batch([1, 3]), expected)


def _send_frames(lazy: VideoStore, indices: list[int], connection: Any) -> None:
    connection.send((lazy.batch(indices).video.numpy(), lazy._process))


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_store_works_in_forked_processes(path: Path, videos: VideoData) -> None:
    lazy = VideoStore(path)
    lazy.batch([0])  # the children inherit an open handle
    context = multiprocessing.get_context("fork")
    workers = []
    for indices in ([0, 4], [2, 1]):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_send_frames, args=(lazy, indices, sender))
        process.start()
        workers.append((indices, receiver, process))
    for indices, receiver, process in workers:
        frames, opened_by = receiver.recv()
        np.testing.assert_array_equal(frames, videos.batch(indices).video.numpy())
        process.join()
        assert opened_by == process.pid
        assert process.exitcode == 0
    assert_same_batch(lazy.batch([3]), videos.batch([3]))


def test_interrupted_save_leaves_the_old_file(
    path: Path, videos: VideoData, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = path.read_bytes()
    create: Callable[..., Any] = h5py.File.create_dataset

    def fails_at_labels(self: h5py.File, name: str, **arguments: Any) -> Any:
        if name == "boxes":
            raise OSError("no space left on device")
        return create(self, name, **arguments)

    monkeypatch.setattr(h5py.File, "create_dataset", fails_at_labels)
    with pytest.raises(OSError, match="no space left"):
        save_video(path, videos)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_bad_parameters_are_refused_before_anything_is_written(tmp_path: Path, videos: VideoData) -> None:
    with pytest.raises(TypeError, match="JSON"):
        save_video(tmp_path / "x.h5", videos, parameters={"a": object()})
    with pytest.raises(ValueError, match="`parameters` take"):
        save_video(tmp_path / "x.h5", videos, parameters={"a": "a" * 70_000})
    assert not list(tmp_path.iterdir())


def test_report_of_a_valid_file(path: Path) -> None:
    report = check(path)
    assert report.problems == []
    assert report.shapes["video"] == (5, 2, 1, 6, 7)
    assert report.shapes["boxes"] == (5, 2, 3, 4)
    text = str(report)
    assert f"{path}: valid" in text
    assert "generator = test" in text


def test_report_of_a_bad_file(tmp_path: Path) -> None:
    assert str(check(tmp_path / "none.h5")) == f"{tmp_path}/none.h5: not valid\n  problem: no such file."
