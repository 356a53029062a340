"""MOTChallenge files, read back by the challenge's own conventions and by `motmetrics`."""

from pathlib import Path

import numpy as np
import pytest
import torch

from whatwhere.inference.evaluation import mot_writer

BOXES = torch.tensor([[[0.0, 0, 10, 20], [3.5, -1, 4, 5]], [[9.0, 9, 9, 9]] * 2, [[1.0, 2, 3, 4]] * 2])
PRESENT = torch.tensor([[1, 1], [0, 0], [1, 0]])
IDENTITIES = torch.tensor([[7, 0], [0, 0], [0, 0]])
TEXT = "1,1,4.5,0,4,5,1,-1,-1,-1\n1,8,1,1,10,20,1,-1,-1,-1\n3,1,2,3,3,4,1,-1,-1,-1\n"


def test_frames_identities_and_pixels_count_from_one(tmp_path: Path):
    with mot_writer(tmp_path / "new" / "tracks.txt") as writer:
        writer.write(BOXES[:2], PRESENT[:2], IDENTITIES[:2])
        writer.write(BOXES[2:], PRESENT[2:], IDENTITIES[2:], frame=2)
    assert (tmp_path / "new" / "tracks.txt").read_text() == TEXT


@pytest.mark.filterwarnings("ignore:Operation with tuple is deprecated")  # in motmetrics
def test_motmetrics_reads_the_boxes_that_were_written(tmp_path: Path):
    io = pytest.importorskip("motmetrics").io
    scores = torch.tensor([[0.25, 0.5], [0, 0], [0.75, 0]])
    with mot_writer(tmp_path / "tracks.txt") as writer:
        writer.write(BOXES, PRESENT, IDENTITIES, scores)
    read = io.loadtxt(str(tmp_path / "tracks.txt"), fmt="mot15-2D")
    assert read.index.tolist() == [(1, 1), (1, 8), (3, 1)]
    assert read[["X", "Y", "Width", "Height"]].to_numpy().tolist() == [
        [3.5, -1, 4, 5],
        [0, 0, 10, 20],
        [1, 2, 3, 4],
    ]
    assert read["Confidence"].tolist() == [0.5, 0.25, 0.75]


def test_every_video_has_a_file_also_without_objects(tmp_path: Path):
    with mot_writer(tmp_path / "tracks.txt", videos=4) as writer:
        writer.write(BOXES, PRESENT, IDENTITIES, video=1)
        writer.write(torch.stack([BOXES]), PRESENT[None], IDENTITIES[None], video=2)
    files = {path.name: path.read_text() for path in (tmp_path / "tracks").iterdir()}
    assert files == {"0001.txt": "", "0002.txt": TEXT, "0003.txt": TEXT, "0004.txt": ""}


def test_videos_that_are_too_many_or_come_too_late_are_refused(tmp_path: Path):
    several = BOXES.expand(2, -1, -1, -1), PRESENT.expand(2, -1, -1), IDENTITIES.expand(2, -1, -1)
    with mot_writer(tmp_path / "tracks.txt", videos=3) as writer:
        writer.write(*several, video=0)
        for number in (0, 3, -1):
            with pytest.raises(ValueError, match=f"must come in their order.*video 1 .*got video {number}"):
                writer.write(BOXES, PRESENT, IDENTITIES, video=number)
        with pytest.raises(ValueError, match="got video 3"):
            writer.write(*several, video=2)
        # Nothing of video 2 was found, and it is complete.
        writer.write(BOXES, torch.zeros_like(PRESENT), IDENTITIES, video=2)
        with pytest.raises(ValueError, match="got video 1"):
            writer.write(BOXES, PRESENT, IDENTITIES, video=1, frame=3)
    files = {path.name: path.read_text() for path in (tmp_path / "tracks").iterdir()}
    assert files == {"0001.txt": TEXT, "0002.txt": TEXT, "0003.txt": ""}
    with pytest.raises(ValueError, match="got video 1"), mot_writer(tmp_path / "one.txt") as writer:
        writer.write(*several)
    with pytest.raises(ValueError, match="`videos` must be at least 1"), mot_writer(tmp_path / "a", videos=0):
        pass


def test_what_fails_leaves_no_file(tmp_path: Path):
    boxes = torch.cat([BOXES, BOXES * torch.tensor([1.0, 1, -1, 1])])
    there, names = PRESENT.repeat(2, 1), IDENTITIES.repeat(2, 1)
    with pytest.raises(ValueError, match="negative"), mot_writer(tmp_path / "tracks.txt") as writer:
        writer.write(boxes, there, names)
    assert list(tmp_path.iterdir()) == []


def test_numbers_keep_their_digits(tmp_path: Path):
    boxes = torch.from_numpy(np.random.default_rng(0).uniform(-100, 100, (50, 3, 4)).astype(np.float32)).abs()
    there, names = torch.ones(50, 3), torch.arange(3).expand(50, 3)
    with mot_writer(tmp_path / "tracks.txt") as writer:
        writer.write(boxes, there, names)
    read = np.loadtxt(tmp_path / "tracks.txt", delimiter=",", dtype=np.float32)
    assert (read[:, 4:6] == boxes.reshape(-1, 4).numpy()[:, 2:]).all()
    np.testing.assert_allclose(read[:, 2:4] - 1, boxes.reshape(-1, 4).numpy()[:, :2], atol=1e-5)
