import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from whatwhere.datasets import load_video
from whatwhere.examples.data import main

Captured = pytest.CaptureFixture[str]
Error = Callable[..., str]


def kth_folder(folder: Path) -> Path:
    """KTH's layout: a video whose frame k has grey value 50 k, with clips of 2 and of 3 frames."""
    av = pytest.importorskip("av", reason="needs PyAV: pip install 'whatwhere[video]'")
    folder.mkdir()
    with av.open(str(folder / "person03_running_d2_uncomp.avi"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "gray"
        for frame in range(5):
            pixels = np.full((120, 160), 50 * frame, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="gray")))
        container.mux(stream.encode())
    box = " 10 20 90 45"
    lines = ["3 2 5 1 1 2" + 2 * box, "3 2 5 2 3 5" + 3 * box, "4 2 6 1 1 1" + box, "4 2 1 1 1 9" + 9 * box]
    (folder / "boxes.txt").write_text("\n".join(lines))
    return folder


def test_kth_file_holds_the_clips(tmp_path: Path, capsys: Captured, data_error: Error) -> None:
    folder, path = kth_folder(tmp_path / "videos"), tmp_path / "kth.h5"
    command = ["kth", str(folder), "--annotation", str(folder / "boxes.txt"), "--output", str(path)]
    error = data_error(*command)
    assert "boxes.txt, line 3: " in error
    assert "person04_walking_d2_uncomp.avi: no such file" in error
    assert not path.exists()
    assert main([*command, "--skip-bad"]) == 0
    output = capsys.readouterr().out.splitlines()
    assert len(output) == 2
    assert output[0].startswith("skipped: ")
    assert output[1] == f"{path}: 2 clips of up to 3 frames, 1 clips skipped"
    data = load_video(path)
    assert data.video[:, :, 0, 7, 9].tolist() == [[0, 50, 0], [100, 150, 200]]
    assert data.names is not None
    assert data.names.tolist() == ["person03_running_d2_1", "person03_running_d2_2"]
    assert main(["check", str(path)]) == 0
    output = capsys.readouterr().out
    assert f"{path}: valid" in output
    assert "groups: (2,)" in output
    assert "names: (2,)" in output
    with h5py.File(path) as file:
        assert file.attrs["generator"] == "kth"
        parameters = json.loads(file.attrs["parameters"])
    assert parameters == {"annotation": "boxes.txt", "actions": ["jogging", "running", "walking"]}
    assert main([*command, "--actions", "running"]) == 0
    assert load_video(path).shape[:2] == (2, 3)
    capsys.readouterr()
    assert "invalid choice: 'crawling'" in data_error(*command, "--actions", "crawling")


def test_weizmann_file_holds_the_silhouettes(tmp_path: Path, capsys: Captured, data_error: Error) -> None:
    folder, path = tmp_path / "weizmann", tmp_path / "silhouettes.h5"
    folder.mkdir()
    masks = np.zeros((2, 144, 180), bool)
    masks[:, 30:50, 100:104] = True
    np.savez(folder / "silhouettes_packed.npz", ida_run=np.packbits(masks, axis=-1))
    command = ["weizmann", str(folder), "--output", str(path)]
    assert "boxes_from_masks.csv: no such file" in data_error(*command)
    rows = ["sequence,frame,x,y,w,h", "ida_run,0,100,30,4,20", "ida_run,1,100,30,4,20"]
    (folder / "boxes_from_masks.csv").write_text("\n".join(rows))
    assert main(command) == 0
    assert capsys.readouterr().out == f"{path}: 1 clips of up to 2 frames\n"
    data = load_video(path)
    np.testing.assert_array_equal(data.video[0, :, 0], 255 * masks.astype(int))
    assert data.boxes is not None
    assert data.boxes[0, :, 0].tolist() == [[100, 30, 4, 20]] * 2
    with h5py.File(path) as file:
        assert file.attrs["generator"] == "weizmann"


def test_import_collects_a_folder(tmp_path: Path, capsys: Captured, data_error: Error) -> None:
    folder, path = tmp_path / "pictures", tmp_path / "mine.h5"
    folder.mkdir()
    Image.fromarray(np.full((6, 8, 3), 9, np.uint8)).save(folder / "a.png")
    (folder / "b.png").write_bytes(b"text")
    message = data_error("import", folder, "--output", path)
    assert "b.png: cannot be read as an image" in message
    assert "`--skip-unreadable` leaves out what cannot be read" in message
    assert not path.exists()
    arguments = [
        "import",
        str(folder),
        "--output",
        str(path),
        "--skip-unreadable",
        "--resize",
        "3",
        "4",
        "--grey",
    ]
    assert main(arguments) == 0
    assert "skipped: " in capsys.readouterr().out
    video = load_video(path).video
    assert video.shape == (1, 1, 1, 3, 4)
    assert (video == 9).all()


@pytest.mark.parametrize("brightest", [511, 8191])
def test_import_says_once_that_grey_levels_are_lost(tmp_path: Path, brightest: int) -> None:
    """512 and 8192 grey values of 16 bits, the first of them few enough that each picture would say so."""
    folder, bits = tmp_path / "pictures", brightest.bit_length()
    folder.mkdir()
    pages = [Image.fromarray(np.array([[0, value]], np.uint16)) for value in (brightest // 4, brightest)]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    for number, page in enumerate(pages):
        page.save(folder / f"{number}.png")
    for source in (folder, tmp_path / "stack.tif"):
        command = ["import", str(source), "--output", str(tmp_path / "mine.h5")]
        with pytest.warns(UserWarning, match="grey values") as said:
            assert main(command) == 0
        levels = 2 ** (bits - 8)
        assert [str(warning.message) for warning in said] == [
            f"grey values have at most {bits} of 16 bits, so {levels} of 256 levels are left: "
            f"`--bits {bits}` keeps all"
        ]
        assert load_video(tmp_path / "mine.h5").video.max() == levels - 1
        assert main([*command, "--bits", str(bits)]) == 0  # without a word: a warning is an error
        assert load_video(tmp_path / "mine.h5").video.max() == 255


def test_import_says_nothing_where_all_bits_are_used_or_none_can_be_told(tmp_path: Path) -> None:
    folder, output = tmp_path / "pictures", str(tmp_path / "mine.h5")
    folder.mkdir()
    Image.fromarray(np.array([[0, 40000]], np.uint16)).save(folder / "a.png")
    assert main(["import", str(folder), "--output", output]) == 0
    assert load_video(output).video.max() == 40000 // 256
    (folder / "b.png").write_bytes(b"text")
    assert main(["import", str(folder), "--output", output, "--skip-unreadable"]) == 0


def test_otb_tld_and_kitti_become_files_of_the_schema(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], data_error: Error
) -> None:
    """One small sequence each, in the layouts of the originals."""
    rng = np.random.default_rng(0)
    for name, places in (("otb/Walk/img", 4), ("tld/walk/img", 5), ("kitti/training/image_02/0000", 6)):
        (tmp_path / name).mkdir(parents=True)
        for t in range(6):
            number = t + (name.startswith("otb") or name.startswith("tld"))
            picture = Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8))
            picture.save(tmp_path / name / f"{number:0{places}}.png")
    rects = [f"{3 + t},{4 + t},8,9" for t in range(6)]
    (tmp_path / "otb/Walk/groundtruth_rect.txt").write_text("\n".join(rects) + "\n")
    corners = [f"{2 + t},{3 + t},{10 + t},{12 + t}" for t in range(6)]
    corners[3] = "NaN,NaN,NaN,NaN"
    (tmp_path / "tld/walk/gt.txt").write_text("\n".join(corners) + "\n")
    (tmp_path / "kitti/training/label_02").mkdir()
    row = "{t} 1 Car 0 0 0.1 {l} 4 {r} 14 1 1 1 1 1 1 0.1"
    lines = [row.format(t=t, l=2 + t, r=14 + t) for t in range(6)]
    (tmp_path / "kitti/training/label_02/0000.txt").write_text("\n".join(lines) + "\n")
    size = ["--resize", "12", "16", "--grey"]
    for name, options in (
        ("otb", []),
        ("tld", []),
        ("kitti", ["--frames", "6", "--resized-frames"]),
    ):
        out = tmp_path / f"{name}.h5"
        assert main([name, str(tmp_path / name), *size, *options, "--output", str(out)]) == 0, (
            capsys.readouterr()
        )
        data = load_video(out)
        assert data.shape == (1, 6, 1, 12, 16)
        assert data.boxes is not None
        present = data.boxes[0, :, 0, 2] > 0
        assert present.tolist() == [True, True, True, name != "tld", True, True]
        assert main(["check", str(out)]) == 0
    otb = load_video(tmp_path / "otb.h5")
    np.testing.assert_allclose(otb.boxes[0, 0, 0], [1, 1.5, 4, 4.5])  # from 1, and half as large
    (tmp_path / "otb/Walk/groundtruth_rect.txt").write_text("1,2,3\n")
    capsys.readouterr()
    assert "groundtruth_rect.txt, line 1" in data_error("otb", tmp_path / "otb", "--output", tmp_path / "x")


def test_scenes_become_clips_of_one_object_each(tmp_path: Path, capsys: Captured, data_error: Error) -> None:
    """Images numbered from 1, of a scene with a large object that is in 12 frames and a small one in 5."""
    rng = np.random.default_rng(0)
    folder, path = tmp_path / "streets", tmp_path / "scenes.h5"
    for scene in "ab":
        (folder / scene / "img").mkdir(parents=True)
        for number in range(1, 13):
            picture = Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8))
            picture.save(folder / scene / "img" / f"{number}.png")
        rows = [f"{t},1,{t},4,8,10" for t in range(12)] + [f"{t},2,20,{t},4,3" for t in range(5)]
        (folder / scene / "boxes.csv").write_text("\n".join(["frame,id,x,y,w,h", *rows]))
    command = ["scenes", str(folder), "--resize", "12", "16", "--output", str(path)]
    assert "line 2: frame 0 must be image number 0" in data_error(*command)
    command += ["--first-number", "1"]
    assert main(command) == 0
    assert capsys.readouterr().out == f"{path}: 4 clips of up to 12 frames, 0 skipped\n"
    data = load_video(path)
    assert data.names.tolist() == ["a/1@0-12", "a/2@0-5", "b/1@0-12", "b/2@0-5"]  # type: ignore[union-attr]
    assert data.groups.tolist() == [0, 0, 1, 1]  # type: ignore[union-attr]
    np.testing.assert_array_equal(data.boxes[1, :5, 0], [[10, t / 2, 2, 1.5] for t in range(5)])  # type: ignore[index]
    windows = ["--frames", "5", "--min-frames", "2", "--min-side", "4", "--grey", "--sequences", "b"]
    assert main([*command, *windows]) == 0
    data = load_video(path)
    assert data.shape == (3, 5, 1, 12, 16)
    assert data.names.tolist() == ["b/1@0-5", "b/1@5-10", "b/1@10-12"]  # type: ignore[union-attr]
    with h5py.File(path) as file:
        assert file.attrs["generator"] == "scenes"
        parameters = json.loads(file.attrs["parameters"])
    assert parameters == {
        "folder": "streets",
        "size": [12, 16],
        "grey": True,
        "frames": 5,
        "min_frames": 2,
        "min_side": 4,
        "first_number": 1,
        "sequences": ["b"],
    }
    capsys.readouterr()
    assert main([*command, "--min-frames", "6"]) == 0
    assert capsys.readouterr().out.endswith("2 with fewer than 6 frames left out (`--min-frames`)\n")
    (folder / "a" / "boxes.csv").write_text("frame\n")
    assert "a/boxes.csv, line 1: expected the columns" in data_error(*command)
    capsys.readouterr()
    assert main([*command, "--skip-bad"]) == 0
    assert capsys.readouterr().out.endswith("2 clips of up to 12 frames, 1 skipped\n")


@pytest.mark.parametrize(
    ("command", "table", "boxes"),
    [("otb", "groundtruth_rect.txt", "2,3,4,5"), ("tld", "gt.txt", "1,2,5,7")],
)
def test_sequences_can_be_chosen(
    tmp_path: Path, data_error: Error, command: str, table: str, boxes: str
) -> None:
    folder, path = tmp_path / "in", tmp_path / "out.h5"
    for level, name in enumerate(("Car", "Dog", "Walk")):
        (folder / name / "img").mkdir(parents=True)
        Image.fromarray(np.full((24, 32), 50 * level, np.uint8)).save(folder / name / "img" / "0001.png")
        (folder / name / table).write_text(boxes)
    arguments = [command, str(folder), "--output", str(path), "--sequences"]
    assert main([*arguments, "Walk", "Car"]) == 0
    data = load_video(path)
    assert data.names.tolist() == ["Car", "Walk"]  # type: ignore[union-attr]
    assert data.groups.tolist() == [0, 1]  # type: ignore[union-attr]
    assert data.video[:, 0, 0, 0, 0].tolist() == [0, 100]
    assert "expected a sequence 'Cat', there are Car, Dog, Walk." in data_error(*arguments, "Dog", "Cat")
