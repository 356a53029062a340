"""N-UCLA Multiview Action 3D in its layouts, with files that the test writes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from whatwhere.datasets import DataError, NUCLAActions, read_nucla_skeleton


def write_frames(folder: Path, numbers: list[int], skeletons: bool = True) -> None:
    """Frame n is grey 10 n; joint j is 0.1 j to the right and n centimetres up, 2 m away."""
    folder.mkdir(parents=True)
    for number in numbers:
        stem = folder / f"frame_{number}_tc_{1000 + number}"
        Image.new("RGB", (640, 480), (10 * number,) * 3).save(f"{stem}_rgb.jpg")
        Image.new("L", (640, 480)).save(f"{stem}_depth.png")
        lines = [f"1,{number}"] + [f"{0.1 * j},{0.01 * number},2.0,1" for j in range(20)]
        if skeletons:
            Path(f"{stem}_skeletons.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_frames(tmp_path / "view_1" / "a01_s01_e00", [2, 10, 1])
    write_frames(tmp_path / "view_2" / "a12_s03_e01", [1, 2])
    write_frames(tmp_path / "view_3" / "a08_s02_e00", [1])
    write_frames(tmp_path / "view_3" / "a07_s02_e00", [1])  # there is no such action
    return tmp_path


def test_what_names_tell(folder: Path):
    source = NUCLAActions(folder, (48, 64))
    assert source.labels.tolist() == [0, 9, 6]
    assert source.lengths.tolist() == [3, 2, 1]
    assert [(clip.view, clip.person) for clip in source.clips] == [(1, 1), (2, 3), (3, 2)]
    train, test = source.split(3)
    assert (train.tolist(), test.tolist()) == ([0, 1], [2])
    with pytest.raises(ValueError, match="got 4"):
        source.split(4)


def test_frames_are_in_the_order_of_their_numbers_and_joints_are_projected(folder: Path):
    found = NUCLAActions(folder, (48, 64)).frames(0, np.array([0, 2]))
    assert found.video.shape == (2, 3, 48, 64)
    np.testing.assert_allclose(found.video.mean((1, 2, 3)), [10, 100], atol=2)
    assert found.joints is not None
    assert found.joints.shape == (2, 1, 20, 2)
    for row, number in enumerate((1, 10)):
        across = 320 + 571.26 * 0.1 * np.arange(20) / 2
        down = 240 - 571.26 * 0.01 * number / 2
        np.testing.assert_allclose(found.joints[row, 0, :, 0], (across + 0.5) / 10 - 0.5, atol=1e-3)
        np.testing.assert_allclose(found.joints[row, 0, :, 1], (down + 0.5) / 10 - 0.5, atol=1e-3)


KINECT_1 = (
    "hip centre, spine, shoulder centre, head, left shoulder, left elbow, left wrist, left hand, "
    "right shoulder, right elbow, right wrist, right hand, left hip, left knee, left ankle, left foot, "
    "right hip, right knee, right ankle, right foot"
)


def test_sides_of_mirrored_joints_are_exchanged(folder: Path):
    order = NUCLAActions(folder, (48, 64)).frames(0, np.array([0])).mirrored
    assert order is not None
    names = KINECT_1.split(", ")
    exchanged = KINECT_1.replace("left", "?").replace("right", "left").replace("?", "right").split(", ")
    assert [names[number] for number in order] == exchanged


def test_frames_without_a_skeleton(tmp_path: Path):
    write_frames(tmp_path / "view_1" / "a01_s01_e00", [1], skeletons=False)
    joints = NUCLAActions(tmp_path).frames(0, np.array([0])).joints
    assert joints is not None
    assert np.isnan(joints).all()
    (tmp_path / "empty.txt").write_text("0,1\n")
    assert np.isnan(read_nucla_skeleton(tmp_path / "empty.txt")).all()
    (tmp_path / "behind.txt").write_text("1,1\n" + "0,0,-1,1\n" * 20)
    assert np.isnan(read_nucla_skeleton(tmp_path / "behind.txt")).all()


def test_damaged_skeletons_are_told(tmp_path: Path):
    path = tmp_path / "bad.txt"
    path.write_text("1,1\n" + "0,0,1,1\n" * 19)
    with pytest.raises(DataError, match=r"bad\.txt.*20 joints, got 19"):
        read_nucla_skeleton(path)
    path.write_text("1,1\n" + "0,x,1,1\n" * 20)
    with pytest.raises(DataError, match=r"bad\.txt.*expected x, y and z"):
        read_nucla_skeleton(path)


def test_the_layout_of_videos(tmp_path: Path):
    av = pytest.importorskip("av")
    (tmp_path / "a02").mkdir()
    with av.open(str(tmp_path / "a02" / "v03_s01_e04.avi"), "w") as container:
        stream = container.add_stream("mpeg4", rate=12)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for number in range(4):
            picture = np.full((48, 64, 3), 50 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    source = NUCLAActions(tmp_path, (24, 32))
    assert (source.labels.tolist(), source.lengths.tolist(), source.clips[0].view) == ([1], [4], 3)
    found = source.frames(0, np.array([1, 3]))
    np.testing.assert_allclose(found.video.mean((1, 2, 3)), [50, 150], atol=4)
    assert found.joints is None


def test_folders_without_it_are_refused(tmp_path: Path):
    with pytest.raises(DataError, match="no such folder"):
        NUCLAActions(tmp_path / "none")
    with pytest.raises(DataError, match="found none"):
        NUCLAActions(tmp_path)
