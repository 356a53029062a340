import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from whatwhere.datasets import (
    KTH_ACTIONS,
    LOCOMOTION,
    DataError,
    KTHClip,
    check,
    kth_parts,
    load_kth,
    load_video,
    read_kth_annotation,
    save_video_parts,
)
from whatwhere.datasets.storage import store
from whatwhere.models.components.boxes import iou

Write = Callable[..., Path]

FIRST = "1 1 1 1 1 2 17 54 111 92 18 55 111 92"
HEAD = "Bounding boxes of the KTH actions\nperson scenario action sequence start end boxes\n\n\n"
# Two clips of one video, of which the second begins after a gap, one of a second, and an action in one place.
LINES = [
    "2 3 6 2 7 9 10 20 90 45 10 22 90 47 11 24 91 49",
    FIRST,
    "2 3 6 1 2 5 1 1 120 160 10 20 90 45 10 21 90 46 0 0 1 1",
    "1 4 4 1 1 6 10 20 90 45 10 22 90 47 11 24 91 49 10 20 90 45 10 22 90 47 11 24 91 49",
]


def write_annotation(path: Path, lines: list[str], head: str = "") -> Path:
    text = head + "\n".join(lines) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def film_of(seed: int, frames: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (frames, 120, 160), np.uint8)


FILMS = {"person02_walking_d3_uncomp.avi": film_of(0, 11), "person01_jogging_d4_uncomp.avi": film_of(1, 6)}


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, write_film: Write) -> Path:
    """Videos of two people and the annotation; nobody changes them."""
    root = tmp_path_factory.mktemp("kth")
    for name, frames in FILMS.items():
        write_film(root / name, frames)
    write_annotation(root / "boxes.txt", LINES, HEAD)
    return root


@pytest.mark.parametrize("name", ["boxes.txt", "boxes.txt.gz"])
@pytest.mark.parametrize("head", ["", HEAD])
def test_annotation_is_read_with_or_without_head_and_compression(
    tmp_path: Path, name: str, head: str
) -> None:
    clips = read_kth_annotation(write_annotation(tmp_path / name, LINES, head))
    assert [clip.name for clip in clips] == [
        "person02_walking_d3_2",
        "person01_boxing_d1_1",
        "person02_walking_d3_1",
        "person01_jogging_d4_1",
    ]
    first = clips[1]
    assert first.line == 2 + head.count("\n")
    assert (first.person, first.scenario, first.action, first.sequence) == (1, 1, "boxing", 1)
    assert (first.start, first.stop) == (0, 2)
    assert first.video == "person01_boxing_d1_uncomp.avi"
    assert (clips[0].start, clips[0].stop) == (6, 9)


def test_corners_y1_x1_y2_x2_become_left_top_width_height(tmp_path: Path) -> None:
    (clip,) = read_kth_annotation(write_annotation(tmp_path / "boxes.txt", [FIRST]))
    assert clip.boxes.dtype == np.float32
    assert clip.boxes.tolist() == [[54, 17, 92 - 54, 111 - 17], [55, 18, 92 - 55, 111 - 18]]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "1 1 1 1 1 2 17 54 111 92",
            "expected 2 boxes of 4 numbers for frames 1 to 2, 8 numbers, got 4, 1 boxes",
        ),
        ("1 1 1 1 1 1 17 54 111", "expected 1 boxes.*got 3, 0.75 boxes"),
        ("1 1 1 1 1 1 17 54 111 92 17 54 111 92", "expected 1 boxes.*got 8, 2 boxes"),
        ("1 1 1 1 1", "expected `person scenario action sequence start end` and boxes, got 5 numbers"),
        ("1 1 1 1 1 1 17 54 x 92", "expected a whole number, got 'x'"),
        ("1 1 1 1 1 1 17 54 1.5 92", "expected a whole number, got '1.5'"),
        ("1 1 1 1 1 1 17 54 +-1 92", "expected a whole number, got '\\+-1'"),
        (f"1 1 1 1 1 1 17 54 {'9' * 5000} 92", "expected a whole number, got '9999"),
        ("26 1 1 1 1 1 17 54 111 92", "`person` must be 1 to 25, got 26"),
        ("0 1 1 1 1 1 17 54 111 92", "`person` must be 1 to 25, got 0"),
        ("1 5 1 1 1 1 17 54 111 92", "`scenario` must be 1 to 4, got 5"),
        ("1 1 7 1 1 1 17 54 111 92", "`action` must be 1 to 6, got 7"),
        ("1 1 0 1 1 1 17 54 111 92", "`action` must be 1 to 6, got 0"),
        ("1 1 1 0 1 1 17 54 111 92", "`sequence` and `start` must be at least 1, got 0 and 1"),
        ("1 1 1 1 0 0 17 54 111 92", "`sequence` and `start` must be at least 1, got 1 and 0"),
        ("1 1 1 1 3 2", "`end` must not be before `start`, 3, got 2"),
        ("1 1 1 1 1 1 17 54 121 92", "box `17 54 121 92` of frame 1 is not inside 160 x 120 pixels"),
        ("1 1 1 1 1 1 17 54 111 161", "is not inside"),
        ("1 1 1 1 1 1 -1 54 111 92", "is not inside"),
        ("1 1 1 1 1 1 17 -1 111 92", "is not inside"),
        ("1 1 1 1 4 5 17 54 111 92 17 54 17 92", "box `17 54 17 92` of frame 5 has no area"),
        ("1 1 1 1 1 1 17 92 111 54", "box `17 92 111 54` of frame 1 has no area"),
        (FIRST.replace("1 1 1 1", "2 3 6 2", 1), "person02_walking_d3_2 is on line 1 already"),
    ],
)
def test_bad_lines_are_refused_with_their_number(tmp_path: Path, line: str, message: str) -> None:
    path = write_annotation(tmp_path / "boxes.txt", [LINES[0], line, FIRST])
    with pytest.raises(DataError, match=rf"boxes\.txt, line 2: .*{message}"):
        read_kth_annotation(path)


def test_files_that_are_no_annotation_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.txt: no such file"):
        read_kth_annotation(tmp_path / "none.txt")
    for text in ("", HEAD):
        (tmp_path / "a.txt").write_text(text)
        with pytest.raises(DataError, match=r"a\.txt: expected lines `person scenario"):
            read_kth_annotation(tmp_path / "a.txt")
    whole = write_annotation(tmp_path / "a.gz", LINES * 1).read_bytes()
    for content in (whole[: len(whole) // 2], b"1 2 3", whole[:10] + b"\xff" * 20 + whole[30:]):
        (tmp_path / "a.gz").write_bytes(content)
        with pytest.raises(DataError, match=r"a\.gz: cannot be read"):
            read_kth_annotation(tmp_path / "a.gz")


def test_clips_are_cut_out_of_their_videos(folder: Path) -> None:
    data, skipped = load_kth(folder, folder / "boxes.txt")
    assert skipped == []
    assert data.names is not None
    assert data.names.tolist() == [
        "person01_jogging_d4_1",
        "person02_walking_d3_1",
        "person02_walking_d3_2",
    ]
    assert data.shape == (3, 6, 1, 120, 160)
    walking = FILMS["person02_walking_d3_uncomp.avi"]
    cuts = [FILMS["person01_jogging_d4_uncomp.avi"], walking[1:5], walking[6:9]]
    boxes = [
        [[20, 10, 25, 80], [22, 10, 25, 80], [24, 11, 25, 80]] * 2,
        [[1, 1, 159, 119], [20, 10, 25, 80], [21, 10, 25, 80], [0, 0, 1, 1]],
        [[20, 10, 25, 80], [22, 10, 25, 80], [24, 11, 25, 80]],
    ]
    for name, value in data.labels().items():
        assert value is not None, name
    assert data.count is not None
    assert data.boxes is not None
    assert data.visible is not None
    for row, cut in enumerate(cuts):
        np.testing.assert_array_equal(data.video[row, : len(cut), 0], cut)
        assert not data.video[row, len(cut) :].any()
        assert data.boxes[row, : len(cut), 0].tolist() == boxes[row]
        assert not data.boxes[row, len(cut) :].any()
        assert (
            data.count[row].tolist()
            == data.visible[row, :, 0].tolist()
            == [1] * len(cut) + [0] * (6 - len(cut))
        )
    assert data.groups is not None
    assert data.groups.tolist() == [1, 2, 2]
    assert data.classes is not None
    assert [KTH_ACTIONS[number] for (number,) in data.classes.tolist()] == ["jogging", "walking", "walking"]


def test_only_the_chosen_actions_are_read(folder: Path) -> None:
    data, _ = load_kth(folder, folder / "boxes.txt", actions=["walking"])
    assert data.shape == (2, 4, 1, 120, 160)  # T is that of the chosen
    with pytest.raises(DataError, match=r"line 6: .*person01_boxing_d1_uncomp\.avi: no such file"):
        load_kth(folder, folder / "boxes.txt", actions=["boxing"])
    with pytest.raises(DataError, match=r"boxes\.txt: expected clips of running, there is none"):
        load_kth(folder, folder / "boxes.txt", actions=["running"])
    with pytest.raises(ValueError, match=r"`actions` must be some of boxing, .*got 'crawling'"):
        load_kth(folder, folder / "boxes.txt", actions=["crawling"])
    with pytest.raises(ValueError, match=r"`actions` must be some of .*got none"):
        load_kth(folder, folder / "boxes.txt", actions=[])
    with pytest.raises(DataError, match="nowhere: no such folder"):
        load_kth(folder / "nowhere", folder / "boxes.txt")


def test_parts_are_the_whole_and_make_a_valid_file(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = load_kth(folder, folder / "boxes.txt")
    for clips_in_part, lengths in ((1, [1, 1, 1]), (2, [2, 1]), (3, [3])):
        monkeypatch.setattr(store, "PART_BYTES", clips_in_part * 6 * 120 * 160)
        assert [len(part) for part in kth_parts(folder, folder / "boxes.txt")] == lengths
        save_video_parts(tmp_path / "kth.h5", kth_parts(folder, folder / "boxes.txt"))
        assert check(tmp_path / "kth.h5").problems == []
        loaded = load_video(tmp_path / "kth.h5")
        np.testing.assert_array_equal(loaded.video, whole.video)
        assert loaded.labels().keys() == whole.labels().keys()
        for name, value in whole.labels().items():
            np.testing.assert_array_equal(loaded.labels()[name], value)


def test_a_video_is_decoded_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    monkeypatch.setattr(
        "whatwhere.datasets.recorded.kth.read_video",
        lambda path, **options: read.append(path.name) or FILMS[path.name][:, None],  # type: ignore[func-returns-value]
    )
    assert len(load_kth(folder, folder / "boxes.txt").data) == 3
    assert read == ["person01_jogging_d4_uncomp.avi", "person02_walking_d3_uncomp.avi"]


def spoil(name: str, root: Path, write_film: Write) -> str:
    """Damages the walking video and says what is then wrong with it; `{}` is the frames of the clip."""
    path = root / "person02_walking_d3_uncomp.avi"
    if name == "missing":
        path.unlink()
        return "no such file"
    if name == "text":
        path.write_text("text")
        return "cannot be read as a video"
    if name == "truncated":
        path.write_bytes(path.read_bytes()[:-100_000])
        return "cannot be read, the file is truncated"
    if name == "size":
        write_film(path, film_of(0, 11)[:, :, :150])
        return "expected 160 x 120 pixels, got 150 x 120"
    write_film(path, film_of(0, 8))
    return "has 8 frames, but frames 7 to 9 are asked for"


@pytest.mark.parametrize("fault", ["missing", "text", "truncated", "size", "short"])
def test_bad_videos_are_refused_or_left_out(tmp_path: Path, write_film: Write, fault: str) -> None:
    for name, frames in FILMS.items():
        write_film(tmp_path / name, frames)
    annotation = write_annotation(tmp_path / "boxes.txt", LINES)
    problem = spoil(fault, tmp_path, write_film)
    line = 1 if fault == "short" else 3
    with pytest.raises(DataError, match=rf"boxes\.txt, line {line}: .*person02_walking_d3.*{problem}"):
        load_kth(tmp_path, annotation)
    with pytest.raises(DataError, match=rf"boxes\.txt, line {line}: "):
        list(kth_parts(tmp_path, annotation))
    data, skipped = load_kth(tmp_path, annotation, skip_bad=True)
    assert data.names is not None
    left = ["person01_jogging_d4_1"] + ["person02_walking_d3_1"] * (fault == "short")
    assert data.names.tolist() == left
    assert len(skipped) == 3 - len(left)
    assert all(problem in each and "boxes.txt, line " in each for each in skipped)
    np.testing.assert_array_equal(data.video[0, :, 0], FILMS["person01_jogging_d4_uncomp.avi"])
    reported: list[str] = []
    (part,) = kth_parts(tmp_path, annotation, on_bad=reported.append)
    assert reported == skipped
    np.testing.assert_array_equal(part.video, data.video)


def test_a_folder_without_any_video_is_an_error(tmp_path: Path) -> None:
    annotation = write_annotation(tmp_path / "boxes.txt", LINES)
    with pytest.raises(DataError, match="none of the 3 clips could be read"):
        load_kth(tmp_path, annotation, skip_bad=True)
    with pytest.raises(DataError, match="none of the 3 clips could be read"):
        list(kth_parts(tmp_path, annotation, on_bad=lambda problem: None))


# The real annotation


@pytest.fixture(scope="session")
def real_annotation(real_data: Callable[[str], Path]) -> Path:
    return real_data("kth") / "KTHBoundingBoxInfo.txt.gz"


@pytest.fixture(scope="session")
def real_clips(real_annotation: Path) -> list[KTHClip]:
    return read_kth_annotation(real_annotation)


def test_real_annotation_is_complete(real_clips: list[KTHClip]) -> None:
    assert len(real_clips) == 2391
    locomotion = [clip for clip in real_clips if clip.action in LOCOMOTION]
    lengths = [len(clip.boxes) for clip in locomotion]
    assert len(lengths) == 1200
    assert sum(lengths) == 55_512
    assert (min(lengths), np.median(lengths), max(lengths)) == (12, 40, 168)
    assert sum(length < 30 for length in lengths) == 356
    people = [clip.person for clip in locomotion]
    assert all(people.count(person) == 48 for person in range(1, 26))
    sizes = np.concatenate([clip.boxes[:, 2:] for clip in locomotion])
    assert sizes.min(0).tolist() == [12, 38]
    assert sizes.max(0).tolist() == [52, 118]


def test_real_boxes_give_the_known_baselines(real_clips: list[KTHClip]) -> None:
    """Mean over clips of the mean over frames; the oracle has no box before the first frame."""
    boxes = [torch.from_numpy(clip.boxes) for clip in real_clips if clip.action in LOCOMOTION]
    static = np.mean([iou(box[:1], box).mean() for box in boxes])
    begun = np.mean([iou(box[:1], box[:30]).mean() for box in boxes])
    previous = np.mean([iou(box[:-1], box[1:]).mean() for box in boxes])
    assert static == pytest.approx(0.148, abs=0.002)
    assert begun == pytest.approx(0.226, abs=0.002)
    assert previous == pytest.approx(0.758, abs=0.002)


def test_real_lines_join_with_videos(
    tmp_path: Path, real_annotation: Path, real_clips: list[KTHClip], write_film: Write
) -> None:
    """The clips of one real video, whose frames are made up: frame k has grey value k modulo 251."""
    name = "person07_running_d2_uncomp.avi"
    clips = [clip for clip in real_clips if clip.video == name]
    last = max(clip.stop for clip in clips)
    frames = np.broadcast_to((np.arange(last) % 251)[:, None, None], (last, 120, 160)).astype(np.uint8)
    write_film(tmp_path / name, frames)
    data, skipped = load_kth(tmp_path, real_annotation, skip_bad=True)
    assert len(data) == len(clips) == 4
    assert len(skipped) == 1196
    assert data.shape[1] == 168
    for row, clip in enumerate(sorted(clips, key=lambda clip: clip.sequence)):
        grey = data.video[row, : len(clip.boxes), 0, 60, 80]
        assert grey.tolist() == [k % 251 for k in range(clip.start, clip.stop)]
        assert data.boxes is not None
        np.testing.assert_array_equal(data.boxes[row, : len(clip.boxes), 0], clip.boxes)
    assert data.groups is not None
    assert data.groups.tolist() == [7] * 4
