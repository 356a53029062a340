"""COCO files against the format's description, and read by `pycocotools` where it is installed."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from whatwhere.inference.evaluation import COCOImage, coco_writer

BOXES = torch.tensor([[[1.5, 2, 10, 20], [0.5, 3, 4, 5]], [[9.0, 9, 9, 9]] * 2, [[1.0, 2, 3, 4]] * 2])
PRESENT = torch.tensor([[1, 1], [0, 0], [1, 0]])
IDENTITIES = torch.tensor([[7, 3], [0, 0], [3, 0]])
SCORES = torch.tensor([[0.25, 0.5], [9, 9], [0.75, 9]])
TYPES = {
    "images": {"id": int, "file_name": str, "height": int, "width": int, "video_id": int, "frame_id": int},
    "annotations": {
        **{"id": int, "image_id": int, "category_id": int, "iscrowd": int, "track_id": int},
        **{"area": float, "bbox": list, "segmentation": list, "score": float},
    },
    "categories": {"id": int, "name": str, "supercategory": str},
    "videos": {"id": int, "name": str},
}


def image(video: int, frame: int) -> COCOImage:
    return COCOImage(f"{video}/{frame}.png", 30, 40)


def written(path: Path, videos: tuple[str, ...] = ("a",), scores: torch.Tensor | None = SCORES) -> Any:
    with coco_writer(path, image, videos=videos) as writer:
        for start, stop in ((0, 1), (1, 3)):
            part = slice(start, stop)
            some = None if scores is None else scores[part]
            writer.write(BOXES[part], PRESENT[part], IDENTITIES[part], some, frame=start)
    return json.loads(path.read_text())


def test_every_frame_is_an_image_and_every_object_an_annotation(tmp_path: Path):
    data = written(tmp_path / "new" / "tracks.json")
    for name, types in TYPES.items():
        for number, entry in enumerate(data[name], 1):
            assert {key: type(value) for key, value in entry.items()} == types
            assert entry["id"] == number
    assert [each["file_name"] for each in data["images"]] == ["0/0.png", "0/1.png", "0/2.png"]
    assert [each["frame_id"] for each in data["images"]] == [0, 1, 2]
    found = [(each["image_id"], each["track_id"], each["bbox"]) for each in data["annotations"]]
    assert found == [(1, 3, [0.5, 3, 4, 5]), (1, 7, [1.5, 2, 10, 20]), (3, 3, [1, 2, 3, 4])]
    assert [each["score"] for each in data["annotations"]] == [0.5, 0.25, 0.75]
    assert [each["area"] for each in data["annotations"]] == [20, 200, 12]
    assert data["annotations"][2]["segmentation"] == [[1, 2, 4, 2, 4, 6, 1, 6]]


def test_still_images_are_of_no_video_and_need_no_scores(tmp_path: Path):
    data = written(tmp_path / "found.json", videos=(), scores=None)
    assert "videos" not in data
    assert set(data["images"][0]) == {"id", "file_name", "height", "width"}
    assert "score" not in data["annotations"][0]


def test_videos_follow_each_other(tmp_path: Path):
    with coco_writer(tmp_path / "tracks.json", image, videos=("a", "b", "c")) as writer:
        writer.write(BOXES, PRESENT, IDENTITIES)
        both = torch.stack([BOXES, BOXES])
        writer.write(both, PRESENT.expand(2, 3, 2), IDENTITIES.expand(2, 3, 2), video=1)
    data = json.loads((tmp_path / "tracks.json").read_text())
    assert [each["name"] for each in data["videos"]] == ["a", "b", "c"]
    places = [(each["video_id"], each["frame_id"]) for each in data["images"]]
    assert places == [(video, frame) for video in (1, 2, 3) for frame in range(3)]
    assert [each["image_id"] for each in data["annotations"]] == [1, 1, 3, 4, 4, 6, 7, 7, 9]


def test_what_fails_leaves_no_file(tmp_path: Path):
    with pytest.raises(ValueError, match="finite"), coco_writer(tmp_path / "a.json", image) as writer:
        writer.write(BOXES * torch.inf, PRESENT, IDENTITIES)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # in pycocotools
def test_pycocotools_reads_and_evaluates_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    coco = pytest.importorskip("pycocotools.coco")
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    data = written(tmp_path / "tracks.json")
    truth = coco.COCO(str(tmp_path / "tracks.json"))
    assert truth.getImgIds() == [1, 2, 3]
    assert truth.annToMask(truth.loadAnns([2])[0]).sum() == pytest.approx(200, abs=25)
    found = truth.loadRes(data["annotations"])
    judged = evaluation.COCOeval(truth, found, "bbox")
    judged.evaluate()
    judged.accumulate()
    judged.summarize()
    assert judged.stats[0] == 1
    capsys.readouterr()
