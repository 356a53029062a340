import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from whatwhere.inference.evaluation import tracks_writer, write_tracks
from whatwhere.inference.evaluation.tracking_metrics import tracking_counts
from whatwhere.inference.evaluation.tracks_file import TracksFileError, read_tracks

HEADER = "frame,identity,left,top,width,height\n"


class Clip:
    """Three frames of two slots: 7 and 3, nothing, and 3 in the slot that 7 had."""

    boxes = torch.tensor(
        [[[1.5, 2, 10, 20], [0.1, -3, 4, 5]], [[9.0, 9, 9, 9]] * 2, [[1e-3, 0, 1e6, 0], [9.0, 9, 9, 9]]]
    )
    present = torch.tensor([[1, 1], [0, 0], [1, 0]])
    identities = torch.tensor([[7, 3], [7, 7], [3, 3]])
    text = "0,3,0.1,-3,4,5\n0,7,1.5,2,10,20\n2,3,0.001,0,1000000,0\n"


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_every_object_is_a_line_in_the_order_of_frames_and_identities(tmp_path: Path):
    path = tmp_path / "new" / "tracks.csv"
    write_tracks(path, Clip.boxes, Clip.present, Clip.identities)
    assert path.read_bytes().decode() == HEADER + Clip.text
    assert os.listdir(path.parent) == ["tracks.csv"]


def test_masks_may_be_of_any_type_and_parameters_need_no_detaching(tmp_path: Path):
    for present in (Clip.present.bool(), Clip.present.double()):
        boxes = Clip.boxes.double().requires_grad_()
        write_tracks(tmp_path / "tracks.csv", boxes, present, Clip.identities.int())
        assert (tmp_path / "tracks.csv").read_text() == HEADER + Clip.text


def test_several_videos_and_scores_have_columns_of_their_own(tmp_path: Path):
    boxes = torch.tensor([1.0, 2, 3, 4]).expand(2, 2, 2, 4)
    present = torch.tensor([[[0, 1], [1, 1]], [[1, 0], [0, 0]]])
    identities = torch.tensor([[[0, 5], [5, 2]], [[5, 0], [0, 0]]])
    scores = torch.tensor([[[9, 0.25], [0.5, 0.75]], [[-1, 9], [9, 9]]])
    write_tracks(tmp_path / "tracks.csv", boxes, present, identities, scores)
    assert (tmp_path / "tracks.csv").read_text() == (
        "video,frame,identity,left,top,width,height,score\n"
        "0,0,5,1,2,3,4,0.25\n0,1,2,1,2,3,4,0.75\n0,1,5,1,2,3,4,0.5\n1,0,5,1,2,3,4,-1\n"
    )
    tracks = read_tracks(tmp_path / "tracks.csv")
    assert tracks.present.tolist() == [[[True, False], [True, True]], [[True, False], [False, False]]]
    assert tracks.identities.tolist() == [[[5, -1], [2, 5]], [[5, -1], [-1, -1]]]


def test_reading_puts_objects_into_slots_in_the_order_of_identities(tmp_path: Path):
    tracks = read_tracks(write(tmp_path / "tracks.csv", HEADER + Clip.text))
    assert tracks.identities.tolist() == [[[3, 7], [-1, -1], [3, -1]]]
    assert tracks.present.tolist() == [[[True, True], [False, False], [True, False]]]
    empty = [0.0] * 4
    boxes = [[[[0.1, -3, 4, 5], [1.5, 2, 10, 20]], [empty, empty], [[0.001, 0, 1e6, 0], empty]]]
    assert torch.equal(tracks.boxes, torch.tensor(boxes))
    assert (tracks.boxes.dtype, tracks.present.dtype, tracks.identities.dtype) == (
        torch.float32,
        torch.bool,
        torch.int64,
    )


def test_a_round_trip_is_exact(tmp_path: Path):
    """Sorted by identity, so that every object returns to its slot; magnitudes from 1e-30 to 1e30."""
    generator = torch.Generator().manual_seed(0)
    present = torch.rand(4, 6, 5, generator=generator) < 0.6
    present = present.sort(dim=-1, descending=True).values
    present[-1, -1, 0] = True
    magnitudes = 10 ** (60 * torch.rand(4, 6, 5, 4, generator=generator) - 30)
    signs = torch.ones(4)
    signs[:2] = -1
    boxes = magnitudes * signs * present[..., None]
    identities = torch.randint(-(2**62), 2**62, present.shape, generator=generator).sort(dim=-1).values
    identities = torch.where(present, identities, -1)
    write_tracks(tmp_path / "tracks.csv", boxes, present, identities)
    tracks = read_tracks(tmp_path / "tracks.csv")
    assert torch.equal(tracks.boxes, boxes)
    assert torch.equal(tracks.present, present)
    assert torch.equal(tracks.identities, identities)


def test_the_number_of_videos_and_frames_can_be_stated(tmp_path: Path):
    path = tmp_path / "tracks.csv"
    write_tracks(path, Clip.boxes, Clip.present, Clip.identities)
    assert read_tracks(path, frames=5).boxes.shape == (1, 5, 2, 4)
    assert read_tracks(path, videos=1).boxes.shape == (1, 3, 2, 4)
    with pytest.raises(TracksFileError, match=r"tracks\.csv, line 4: `frame` must be less than 2, got 2"):
        read_tracks(path, frames=2)
    with pytest.raises(TracksFileError, match=r"tracks\.csv, line 1: expected a column `video`"):
        read_tracks(path, videos=2)
    write_tracks(path, *(x[None].expand(2, *x.shape) for x in (Clip.boxes, Clip.present, Clip.identities)))
    assert read_tracks(path, videos=3, frames=4).present.sum((1, 2)).tolist() == [3, 3, 0]
    with pytest.raises(TracksFileError, match=r"tracks\.csv, line 5: `video` must be less than 1, got 1"):
        read_tracks(path, videos=1)


def test_files_without_objects(tmp_path: Path):
    path = tmp_path / "tracks.csv"
    write_tracks(path, Clip.boxes, Clip.present * 0, Clip.identities)
    assert path.read_text() == HEADER
    assert read_tracks(path).boxes.shape == (1, 0, 0, 4)
    assert read_tracks(path, frames=3).identities.shape == (1, 3, 0)
    write_tracks(path, torch.zeros(2, 3, 0, 4), torch.zeros(2, 3, 0), torch.zeros(2, 3, 0, dtype=torch.int64))
    assert path.read_text() == "video," + HEADER
    assert read_tracks(path).boxes.shape == (0, 0, 0, 4)
    assert read_tracks(path, videos=2, frames=3).present.shape == (2, 3, 0)


def test_files_of_other_programs_are_read(tmp_path: Path):
    """A byte order mark, other line ends, columns in another order and further ones, lines in any order."""
    lines = [
        "height,note, identity,frame,top,left,width",
        "4,b,2,1,2,1.0,3e0",
        "",
        "8,,2,0,6, 5,7",
        "9,,1,1,9,9,9",
    ]
    text = "\r\n".join(lines)
    tracks = read_tracks(write(tmp_path / "tracks.csv", "\ufeff" + text))
    assert tracks.boxes.tolist() == [[[[5.0, 6, 7, 8], [0.0] * 4], [[9.0] * 4, [1.0, 2, 3, 4]]]]
    assert tracks.identities.tolist() == [[[2, -1], [1, 2]]]


def test_what_was_read_can_be_evaluated(tmp_path: Path):
    path = tmp_path / "tracks.csv"
    write_tracks(path, Clip.boxes, Clip.present, Clip.identities)
    counts = tracking_counts(read_tracks(path), read_tracks(path))
    # The last box has no area and matches nothing.
    assert (counts.objects, counts.matches, counts.true_tracks) == (3, 2, 2)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "line 1: expected the columns .*, got none"),
        (
            "frame,identity,left,top,width\n",
            "line 1: expected the columns .*, got frame,identity,left,top,width",
        ),
        ("frame," + HEADER, "line 1: expected the columns"),
        ("video,video," + HEADER, "line 1: expected the columns"),
        (HEADER + "0,1,2,3,4,5\n0,2,2,3,4\n", "line 3: expected 6 values, got 5"),
        (HEADER + "\n0,1,2,3,4,5,6\n", "line 3: expected 6 values, got 7"),
        (HEADER + "0.5,1,2,3,4,5\n", "line 2: `frame` must be an integer, got '0.5'"),
        (HEADER + "-1,1,2,3,4,5\n", r"line 2: `frame` must be in \[0, .*got -1"),
        (HEADER + "0,a,2,3,4,5\n", "line 2: `identity` must be an integer, got 'a'"),
        (HEADER + f"0,{2**63},2,3,4,5\n", "line 2: `identity` must be in"),
        (HEADER + "0,1,,3,4,5\n", "line 2: `left` must be a number, got ''"),
        (HEADER + "0,1,2,nan,4,5\n", "line 2: `top` must be finite"),
        (HEADER + "0,1,2,3,inf,5\n", "line 2: `width` must be finite"),
        (HEADER + "0,1,2,3,4,1e39\n", "line 2: `height` must be finite"),
        (HEADER + "0,1,2,3,-4,5\n", "line 2: `width` must not be negative, got -4"),
        (HEADER + "0,1,2,3,4,-5\n", "line 2: `height` must not be negative, got -5"),
        ("video," + HEADER + "-1,0,1,2,3,4,5\n", r"line 2: `video` must be in \[0"),
        (HEADER + "1,4,2,3,4,5\n0,4,2,3,4,5\n1,5,2,3,4,5\n1,4,9,9,9,9\n", "line 5: identity 4 .* line 2"),
        (HEADER + '0,1,2,3,4,"5\n', "line 2: "),
        (HEADER + "1_0,1,2,3,4,5\n", "line 2: `frame` must be an integer, got '1_0'"),
        (HEADER + "0,1,2,3_0,4,5\n", "line 2: `top` must be a number, got '3_0'"),
        (HEADER + "0,1,2,\0,4,5\n", "line 2: "),
        (HEADER + "9" * 10**5 + ",1,2,3,4,5\n", r"line 2: `frame` must be .{,100}$"),
        (HEADER + "0,1,2,3,4," + "x" * 10**5 + "\n", r"line 2: `height` must be .{,100}$"),
        (HEADER + "0,1,2,3,4," + "x" * 10**6 + "\n", "line 2: field larger than field limit"),
        ("x" * 10**5, r"line 1: expected the columns .{,160}$"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, text: str, problem: str):
    with pytest.raises(TracksFileError, match=rf"tracks\.csv, {problem}"):
        read_tracks(write(tmp_path / "tracks.csv", text))


@pytest.mark.parametrize(
    ("lines", "line", "shape"),
    [
        ("0,0,1,2,3,4,5\n0,1000000000,1,2,3,4,5\n0,1,1,2,3,4,5\n", 3, "1 videos x 1000000001 frames x 1"),
        ("0,0,1,2,3,4,5\n9223372036854775807,0,1,2,3,4,5\n", 3, "9223372036854775808 videos x 1 frames x 1"),
        ("".join(f"0,{n},7,2,3,4,5\n{n},0,7,2,3,4,5\n" for n in range(1, 4000)), 7998, "4000 videos x 4000"),
        (
            "".join(f"0,0,{n},2,3,4,5\n" for n in range(4000)) + "0,4000,1,2,3,4,5\n",
            4002,
            "4001 frames x 4000",
        ),
    ],
)
def test_what_a_file_claims_is_checked_before_memory_is_taken(
    tmp_path: Path, lines: str, line: int, shape: str
):
    path = write(tmp_path / "tracks.csv", "video," + HEADER + lines)
    with pytest.raises(TracksFileError, match=rf"tracks\.csv, line {line}: .*{shape}.*the limit is 10000000"):
        read_tracks(path)


def test_the_limit_is_the_most_places_that_are_taken(tmp_path: Path):
    path = write(tmp_path / "tracks.csv", HEADER + "0,1,2,3,4,5\n0,2,2,3,4,5\n4,2,2,3,4,5\n")
    assert read_tracks(path, limit=10).boxes.shape == (1, 5, 2, 4)
    with pytest.raises(TracksFileError, match=r"line 4: frame 4 of video 0 takes 10 places .*limit is 9"):
        read_tracks(path, limit=9)
    with pytest.raises(TracksFileError, match="12 places"):
        read_tracks(path, frames=6, limit=11)
    for name in ("videos", "frames", "limit"):
        with pytest.raises(ValueError, match=f"`{name}` must be at least 0, got -1"):
            read_tracks(path, **{name: -1})


def test_the_same_identity_may_be_in_other_frames_and_videos(tmp_path: Path):
    text = "video," + HEADER + "0,0,4,2,3,4,5\n0,1,4,2,3,4,5\n1,0,4,2,3,4,5\n"
    assert read_tracks(write(tmp_path / "tracks.csv", text)).present.sum() == 3


def test_files_that_are_no_text_or_missing_are_named(tmp_path: Path):
    (tmp_path / "tracks.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TracksFileError, match=r"tracks\.csv: expected text in UTF-8"):
        read_tracks(tmp_path / "tracks.csv")
    with pytest.raises(FileNotFoundError, match=r"none\.csv"):
        read_tracks(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("boxes", torch.zeros(3, 2, 5), "`boxes` must have shape"),
        ("boxes", torch.zeros(1, 3, 2, 4), "`boxes` must have shape"),
        ("present", torch.zeros(3, 3), "`boxes` must have shape"),
        ("identities", torch.zeros(3, 1, dtype=torch.int64), "`boxes` must have shape"),
        ("scores", torch.zeros(3), r"`boxes` must have shape .*\(3,\)"),
        ("present", torch.full((3, 2), 0.5), "`present` must be boolean or of 0 and 1"),
        ("identities", torch.zeros(3, 2), "`identities` must be integers, but are torch.float32"),
        ("identities", torch.full((3, 2), 4), "identity 4 in frame 0 is there twice"),
        (
            "identities",
            torch.tensor([[7, 2**64 - 1], [7, 7], [3, 3]], dtype=torch.uint64),
            "`identities` must be less than",
        ),
        (
            "scores",
            torch.tensor([[1.0, 1], [1, 1], [math.nan, 1]]),
            "identity 3 in frame 2 has a box or score",
        ),
    ],
)
def test_what_cannot_be_written_leaves_the_file_as_it_was(
    tmp_path: Path, name: str, value: Any, problem: str
):
    path = write(tmp_path / "tracks.csv", "old")
    arguments = {name: getattr(Clip, name) for name in ("boxes", "present", "identities")}
    with pytest.raises(ValueError, match=problem):
        write_tracks(path, **{**arguments, name: value})
    assert path.read_text() == "old"


@pytest.mark.parametrize(
    ("value", "problem"), [(math.inf, "not finite"), (1e39, "not finite"), (-1, "negative")]
)
@pytest.mark.parametrize("several", [False, True])
def test_impossible_boxes_are_named(tmp_path: Path, value: float, problem: str, several: bool):
    boxes = Clip.boxes.double()
    boxes[0, 0, 3] = value
    clip = [boxes, Clip.present, Clip.identities]
    good = [Clip.boxes.double(), Clip.present, Clip.identities]
    if several:
        clip = [torch.stack(pair) for pair in zip(good, clip, strict=True)]
    where = "frame 0 of video 1" if several else "frame 0"
    with pytest.raises(ValueError, match=f"identity 7 in {where} has a box .*{problem}"):
        write_tracks(tmp_path / "tracks.csv", *clip)


def test_what_is_in_absent_slots_does_not_matter(tmp_path: Path):
    boxes = torch.where(Clip.present[..., None] > 0, Clip.boxes, math.nan)
    write_tracks(tmp_path / "tracks.csv", boxes, Clip.present, Clip.identities)
    assert (tmp_path / "tracks.csv").read_text() == HEADER + Clip.text


def test_digits_are_as_few_as_single_precision_needs(tmp_path: Path):
    values = np.float32([0.1, 1 / 3, 16777216, 1e-7])
    write_tracks(
        tmp_path / "tracks.csv", torch.tensor(values)[None, None], torch.ones(1, 1), torch.zeros(1, 1).long()
    )
    assert (tmp_path / "tracks.csv").read_text() == HEADER + "0,0,0.1,0.33333334,16777216,0.0000001\n"


@pytest.mark.parametrize("several", [False, True])
def test_tracks_that_come_part_by_part_make_the_same_file(tmp_path: Path, several: bool):
    torch.manual_seed(0)
    boxes, present = torch.rand(3, 7, 2, 4), torch.rand(3, 7, 2) > 0.3
    identities = torch.stack([torch.randperm(2) for _ in range(21)]).unflatten(0, (3, 7))
    scores = torch.rand(3, 7, 2)
    whole = (
        (boxes, present, identities, scores) if several else (boxes[0], present[0], identities[0], scores[0])
    )
    write_tracks(tmp_path / "whole.csv", *whole)
    with tracks_writer(tmp_path / "parts.csv", videos=several, scores=True) as writer:
        for video in range(3 if several else 1):
            for part in (slice(0, 2), slice(2, 3), slice(3, 7)):
                fields = (field[video, part] for field in (boxes, present, identities, scores))
                writer.write(*fields, video=video, frame=part.start)
    assert (tmp_path / "parts.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_a_part_that_cannot_be_written_leaves_the_file_as_it_was(tmp_path: Path):
    (tmp_path / "t.csv").write_text("old")
    present, identities = torch.ones(2, 1), torch.zeros(2, 1, dtype=torch.int64)

    def write_two_parts() -> None:
        with tracks_writer(tmp_path / "t.csv") as writer:
            writer.write(torch.zeros(2, 1, 4), present, identities)
            writer.write(torch.zeros(2, 4), present, identities, frame=2)

    with pytest.raises(ValueError, match="boxes"):
        write_two_parts()
    assert (tmp_path / "t.csv").read_text() == "old"


def test_videos_are_not_mixed_up_in_a_file_without_their_column(tmp_path: Path):
    clip = (Clip.boxes, Clip.present, Clip.identities)
    with tracks_writer(tmp_path / "one.csv") as writer:
        for several in ([x.expand(2, *x.shape) for x in clip], [0 * x.expand(2, *x.shape) for x in clip]):
            with pytest.raises(ValueError, match=r"without a column `video` .* video 0 alone, got video 1"):
                writer.write(*several)
        with pytest.raises(ValueError, match=r"got video 3; .* with `videos=True`"):
            writer.write(*clip, video=3)
        writer.write(*(x[None] for x in clip))  # one video, with an axis of its own
    assert (tmp_path / "one.csv").read_text() == HEADER + Clip.text
