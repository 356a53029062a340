"""Tracks of a user's video are measured by a table of boxes."""

import csv
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from whatwhere.datasets import FrameRecipe, load_clips, open_fitted
from whatwhere.examples import sqair
from whatwhere.examples.common.program import UsageError
from whatwhere.examples.common.recorded import RecordedConfig
from whatwhere.examples.common.video_models import DataConfig
from whatwhere.examples.parts import sqair_measuring
from whatwhere.examples.parts.sqair_config import SQAIRConfig
from whatwhere.examples.parts.sqair_evaluation import components_for
from whatwhere.examples.parts.sqair_measuring import found_components, known_tracks, part_of, report_of
from whatwhere.inference.evaluation import ConnectedComponents, Encounters, Tracks

TABLE = """frame,id,x,y,w,h
0,red,2,4,6,8
0,blue,-6,4,8,8
1,red,4,4,6,8
3,blue,-5,0,10,10
3,red,8,4,6,8
"""


@pytest.fixture
def video(tmp_path: Path) -> Path:
    np.savez(tmp_path / "film.npz", video=np.zeros((4, 20, 30), np.uint8))
    (tmp_path / "boxes.csv").write_text(TABLE)
    return tmp_path / "film.npz"


def test_what_is_known_of_frames_of_another_size(video: Path):
    """What is out of sight by more than 70 % does not count, the rest ends at the border."""
    frames = open_fitted(video, FrameRecipe(resize=(10, 60)))
    known = known_tracks(RecordedConfig(), None, video, frames)
    assert known is not None
    boxes, present, identities = (field[0] for field in known)
    assert present.sum(-1).tolist() == [1, 1, 0, 2]
    assert boxes[0, 0].tolist() == [4, 2, 12, 4]
    blue, red = identities[3].tolist()
    assert boxes[3].tolist() == [[0, 0, 10, 5], [16, 2, 12, 4]]
    assert identities[0, 0] == identities[1, 0] == red != blue


def test_without_a_table_nothing_is_known(video: Path, tmp_path: Path):
    (tmp_path / "boxes.csv").rename(tmp_path / "table.csv")
    frames = open_fitted(video, FrameRecipe())
    assert known_tracks(RecordedConfig(), None, video, frames) is None
    assert known_tracks(RecordedConfig(), tmp_path / "table.csv", video, frames) is not None


def test_the_report_of_two_videos_by_hand(video: Path):
    known = known_tracks(RecordedConfig(), None, video, open_fitted(video, FrameRecipe()))
    assert known is not None
    boxes, present, identities = (field.clone() for field in known)
    identities[0, 1] = 7  # red is another in the second frame, and itself again in the last
    present[0, 3, 0] = False  # and blue is missed there
    found, last = Tracks(boxes, present, identities), part_of(known, 3, 4)
    report = report_of([found, last], [known, last], 0.5)
    assert report.frames == 5
    assert report.counting.accuracy == 4 / 5
    assert report.tracking.switches == 2
    assert report.tracking.mota == 1 - (2 + 1) / 6
    assert report.tracking.idf1 == 2 * 4 / (6 + 5)


def test_part_of_a_video_is_tracked_and_measured_in_the_users_pixels(tmp_path: Path):
    data = load_clips(sqair.EXAMPLE)
    np.savez(tmp_path / "wide.npz", video=data.video[0, :, 0].repeat(2, -2).repeat(3, -1))
    rows = [["frame", "id", "x", "y", "w", "h"]]
    for t, slot in zip(*np.nonzero(data.boxes[0, ..., 2]), strict=True):
        rows.append([t, slot, *(data.boxes[0, t, slot] * (3, 2, 3, 2))])
    with (tmp_path / "boxes.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    options = ["--particles=2", "--films=1", "--resize", "--range", "2", "6", "--iou=0.4"]
    paths = ["--video", tmp_path / "wide.npz", "--output", tmp_path / "out"]
    assert sqair.main(["track", *options, *map(str, paths)]) == 0
    table = list(csv.DictReader((tmp_path / "out" / "tracks.csv").read_text().splitlines()))
    assert {int(row["frame"]) for row in table} == {2, 3, 4, 5}
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["frames"] == 4
    measured = summary["measured"]["model"]
    assert measured["frames"] == 4
    assert measured["counting"]["accuracy"] == 1
    assert measured["tracking"]["mota"] == measured["tracking"]["idf1"] == 1


@pytest.mark.parametrize("patience", [15, 0])
def test_who_met_is_told_apart_in_the_users_own_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patience: int
):
    data = load_clips(sqair.EXAMPLE)
    wide = data.video[0, :, 0].repeat(2, -2).repeat(3, -1)
    np.savez(tmp_path / "wide.npz", video=wide)
    seen: list[tuple[Tracks, npt.NDArray[np.uint8]]] = []

    class Renamed(Encounters):
        def __call__(self, tracks: Tracks, frames: npt.NDArray[np.uint8]) -> Tracks:
            assert self.patience == 30
            seen.append((tracks, frames))
            return tracks._replace(identities=tracks.identities + 100)

    monkeypatch.setattr(sqair_measuring, "Encounters", Renamed)
    options = ["--particles=2", "--films=0", "--resize", f"--patience={patience}", "--range", "2", "6"]
    paths = ["--video", tmp_path / "wide.npz", "--output", tmp_path / "out"]
    assert sqair.main(["track", *options, *map(str, paths)]) == 0
    table = list(csv.DictReader((tmp_path / "out" / "tracks.csv").read_text().splitlines()))
    if not patience:
        assert not seen
        assert all(int(row["identity"]) < 100 for row in table)
        return
    assert all(int(row["identity"]) >= 100 for row in table)
    ((tracks, frames),) = seen
    np.testing.assert_array_equal(frames, np.repeat(wide[2:6, None], 3, axis=1))
    lefts = tracks.boxes[tracks.present][:, 0]
    np.testing.assert_allclose(sorted(lefts), sorted(float(row["left"]) for row in table), atol=1)


def test_components_that_met_are_told_apart_with_patience(tmp_path: Path):
    """A dark square and a bright one walk through each other; while they touch they are one region."""
    pytest.importorskip("scipy", reason="needs SciPy: pip install 'whatwhere[metrics]'")
    video = np.zeros((26, 12, 70), np.uint8)
    for t, frame in enumerate(video):
        frame[2:10, 2 + 2 * t : 10 + 2 * t], frame[2:10, 52 - 2 * t : 60 - 2 * t] = 90, 250
    np.savez(tmp_path / "film.npz", video=video)
    frames = open_fitted(tmp_path / "film.npz", FrameRecipe())

    def from_left(patience: int, t: int) -> list[int]:
        boxes, _, identities = found_components(ConnectedComponents(), frames, patience)
        return identities[0, t, boxes[0, t, :2, 0].argsort()].tolist()

    assert from_left(0, 25) != from_left(0, 0)[::-1]
    assert from_left(15, 25) == from_left(15, 0)[::-1]


def test_bad_ranges_and_missing_boxes_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    def refused(*options: str) -> str:
        assert sqair.main(["track", "--films=0", f"--output={tmp_path / 'out'}", *options]) == 2
        return capsys.readouterr().err

    assert "has 10 frames, no part 8 to 11" in refused("--range", "8", "11")
    assert "a first frame and a later one, got (5, 5)" in refused("--range", "5", "5")
    np.savez(tmp_path / "film.npz", video=np.zeros((2, 50, 50), np.uint8))
    assert "has no boxes to measure by" in refused("--baselines=components", str(tmp_path / "film.npz"))


def test_baselines_of_a_run_without_labels_are_refused(tmp_path: Path):
    np.savez(tmp_path / "bare.npz", video=np.zeros((20, 24, 24), np.uint8))
    config = SQAIRConfig(first_frames=2, frames=2, data=DataConfig(source=str(tmp_path / "bare.npz")))
    with pytest.raises(UsageError, match=r"neither boxes nor counts are known: train with `--data\.boxes`"):
        components_for(config, 0.5)
