"""NTU RGB+D in its layout, with files that the test writes."""

from pathlib import Path

import numpy as np
import pytest

from whatwhere.datasets import CROSS_SUBJECT, ActionClips, DataError, NTUActions, read_ntu_skeleton

av = pytest.importorskip("av")

HEIGHT, WIDTH = 1080, 1920


def write_film(path: Path, frames: int, size: tuple[int, int] = (54, 96)) -> None:
    """Frame t is grey 40 t."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        stream.bit_rate = 4_000_000
        for number in range(frames):
            picture = np.full((*size, 3), 40 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def joint_places(frame: int, body: int) -> np.ndarray:
    """`(25, 2)`, x and y in pixels of the film."""
    numbers = np.arange(25)
    return np.stack([100.5 + 10 * numbers + frame, 50.25 + 200 * body + 3 * numbers], axis=-1)


def write_skeleton(path: Path, bodies: list[int], joints: int = 25, nan: bool = False) -> None:
    """So many bodies in each frame."""
    lines = [str(len(bodies))]
    for frame, count in enumerate(bodies):
        lines.append(str(count))
        for body in range(count):
            lines += ["72057594037931101 0 1 1 1 1 0 0.02 -0.03 2", str(joints)]
            for x, y in joint_places(frame, body)[:joints]:
                shown = "NaN NaN" if nan else f"{x} {y}"
                lines.append(f"0.1 0.2 3.5 250.1 180.2 {shown} 0.1 0.2 0.3 0.4 2")
    path.write_text("\r\n".join(lines) + "\r\n", encoding="ascii")


def write_clip(folder: Path, name: str, bodies: list[int]) -> None:
    for part in ("nturgb+d_rgb", "nturgb+d_skeletons"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    write_film(folder / "nturgb+d_rgb" / f"{name}_rgb.avi", len(bodies))
    write_skeleton(folder / "nturgb+d_skeletons" / f"{name}.skeleton", bodies)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_clip(tmp_path, "S001C001P001R001A001", [1, 1, 2, 0, 1])
    write_clip(tmp_path, "S001C002P003R002A060", [2, 2, 2])
    write_clip(tmp_path, "S002C003P040R001A013", [1, 1])
    write_film(tmp_path / "nturgb+d_rgb" / "S001C002P004R001A002_rgb.avi", 2)  # without a skeleton
    return tmp_path


def test_what_names_tell(folder: Path):
    source = NTUActions(folder, (27, 48))
    assert source.labels.tolist() == [0, 59, 12]
    assert source.lengths.tolist() == [5, 3, 2]
    assert [(clip.camera, clip.person) for clip in source.clips] == [(1, 1), (2, 3), (3, 40)]
    assert source.shape == (3, 27, 48)


def test_published_splits(folder: Path):
    source = NTUActions(folder)
    train, test = source.split("cross-subject")
    # The released program forgets the fortieth person.
    assert (train.tolist(), test.tolist()) == ([0], [1, 2])
    train, test = source.split("cross-view")
    assert (train.tolist(), test.tolist()) == ([1, 2], [0])
    assert len(CROSS_SUBJECT) == 20
    with pytest.raises(ValueError, match="protocol"):
        source.split("cross-setup")  # type: ignore[arg-type]


def test_frames_and_joints_of_the_same_times(folder: Path):
    source = NTUActions(folder, (27, 48))
    found = source.frames(0, np.array([0, 2, 4]))
    assert found.video.shape == (3, 3, 27, 48)
    np.testing.assert_allclose(found.video.mean((1, 2, 3)), [0, 80, 160], atol=4)
    assert found.joints is not None
    assert found.joints.shape == (3, 2, 25, 2)
    scale = np.array([48 / WIDTH, 27 / HEIGHT])
    for row, frame in enumerate((0, 2, 4)):
        expected = (joint_places(frame, 0) + 0.5) * scale - 0.5
        np.testing.assert_allclose(found.joints[row, 0], expected, atol=1e-3)
    assert np.isnan(found.joints[[0, 2], 1]).all()
    np.testing.assert_allclose(found.joints[1, 1], (joint_places(2, 1) + 0.5) * scale - 0.5, atol=1e-3)


KINECT_2 = (
    "base of the spine, middle of the spine, neck, head, left shoulder, left elbow, left wrist, left hand, "
    "right shoulder, right elbow, right wrist, right hand, left hip, left knee, left ankle, left foot, "
    "right hip, right knee, right ankle, right foot, spine, tip of the left hand, left thumb, "
    "tip of the right hand, right thumb"
)


def test_sides_of_mirrored_joints_are_exchanged(folder: Path):
    order = NTUActions(folder, (27, 48)).frames(0, np.array([0])).mirrored
    assert order is not None
    names = KINECT_2.split(", ")
    exchanged = KINECT_2.replace("left", "?").replace("right", "left").replace("?", "right").split(", ")
    assert [names[number] for number in order] == exchanged


def test_clips_of_it(folder: Path):
    batch = ActionClips(NTUActions(folder, (27, 48)), 4, size=(20, 20), drop=2).batch(
        [0, 1], [np.random.default_rng(i) for i in range(2)]
    )
    assert batch.video.shape == (2, 4, 3, 20, 20)
    assert batch.seen is not None
    assert batch.seen[1].all()


def test_a_skeleton_as_published(tmp_path: Path):
    path = tmp_path / "one.skeleton"
    write_skeleton(path, [1, 3])
    joints = read_ntu_skeleton(path)
    assert joints.shape == (2, 2, 25, 2)  # the third is left out
    np.testing.assert_allclose(joints[1, 1], joint_places(1, 1))
    write_skeleton(path, [1], nan=True)
    assert not read_ntu_skeleton(path)[0, 0].any()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "ends before"),
        ("two\n", "line 1"),
        ("nan\n", "number of frames from 0 to 1, got nan"),
        ("inf\n", "number of frames from 0 to 1, got inf"),
        ("-1\n", "number of frames from 0 to 1, got -1"),
        ("1e12\n1\n", r"number of frames from 0 to 2, got 1e\+12"),
        ("1.5\n1\n", r"number of frames from 0 to 2, got 1\.5"),
        ("1\n-1\n", "number of bodies from 0 to 2, got -1"),
        ("1\nnan\n", "number of bodies from 0 to 2, got nan"),
        ("1\n1\n0\nnan\n", "25 joints, got nan"),
        ("1\n1\n0\n24\n", "25 joints, got 24"),
        ("2\n0\n", "ends before"),
        ("1\n1\n0\n25\n1 2 3\n", "line 5"),
    ],
)
def test_damaged_skeletons_are_told_by_line(tmp_path: Path, text: str, told: str):
    path = tmp_path / "bad.skeleton"
    path.write_text(text)
    with pytest.raises(DataError, match=rf"bad\.skeleton.*{told}"):
        read_ntu_skeleton(path)


def test_folders_without_it_are_refused(tmp_path: Path):
    with pytest.raises(DataError, match="no such folder"):
        NTUActions(tmp_path / "none")
    with pytest.raises(DataError, match="found none"):
        NTUActions(tmp_path)
    (tmp_path / "S001C001P001R001A001_rgb.avi").write_bytes(b"")
    (tmp_path / "S001C001P001R001A002.skeleton").write_text("1\n0\n")
    with pytest.raises(DataError, match="no skeleton belongs"):
        NTUActions(tmp_path)
    (tmp_path / "S001C001P001R001A001.skeleton").write_text("nothing\n")
    with pytest.raises(DataError, match="number of frames in line 1"):
        NTUActions(tmp_path)


def test_films_that_are_too_short_are_told(folder: Path):
    write_film(folder / "nturgb+d_rgb" / "S002C003P040R001A013_rgb.avi", 1)
    with pytest.raises(DataError, match="fewer frames than the 2"):
        NTUActions(folder).frames(2, np.array([1]))


def test_videos_alone_have_no_joints(tmp_path: Path):
    write_film(tmp_path / "S001C002P004R001A002_rgb.avi", 3)
    source = NTUActions(tmp_path, (27, 48))
    assert source.lengths.tolist() == [3]
    assert source.frames(0, np.array([1])).joints is None
