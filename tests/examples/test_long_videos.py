"""One long video, several, or images of any kind: trained on by themselves, and seen alike afterwards."""

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from whatwhere.datasets import DataError, Preparation, load_video, open_frames
from whatwhere.examples import air, data, sqair
from whatwhere.examples.common.recorded import RecordedConfig
from whatwhere.examples.common.video_models import DataConfig, load_data, user_frames, with_levels
from whatwhere.examples.parts import air_auto, air_data, sqair_auto
from whatwhere.examples.parts.air_config import AIRConfig
from whatwhere.examples.parts.sqair_config import SQAIRConfig
from whatwhere.inference.training import load_checkpoint

RNG = np.random.default_rng(0)
LENGTH, SIDE, OBJECT = 60, 64, 8


def place(t: int, k: int) -> tuple[int, int]:
    """Left and top of object k."""
    return (3 * t + 20 * k) % (SIDE - OBJECT), (10 + 30 * k + t // 4) % (SIDE - OBJECT)


@pytest.fixture
def street(tmp_path: Path) -> Path:
    """A folder of frames: two dark objects before a pattern of greys that stays, with their boxes."""
    ground = RNG.uniform(90, 190, (SIDE, SIDE))
    rows = ["frame,id,x,y,w,h"]
    (tmp_path / "street" / "img").mkdir(parents=True)
    for t in range(LENGTH):
        pixels = ground + RNG.normal(0, 1, (SIDE, SIDE))
        for k in range(2):
            left, top = place(t, k)
            pixels[top : top + OBJECT, left : left + OBJECT] = 10
            rows.append(f"{t},{'ab'[k]},{left},{top},{OBJECT},{OBJECT}")
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(tmp_path / "street" / "img" / f"{t}.png")
    (tmp_path / "street" / "boxes.csv").write_text("\n".join(rows))
    return tmp_path / "street"


def test_the_end_of_a_video_is_held_out_and_frames_are_prepared(street: Path) -> None:
    prepare = Preparation("median", "auto", normalise=True)
    config = with_levels(DataConfig(source=str(street), held_out=0.2, prepare=prepare))
    assert config.prepare.polarity == "dark"
    assert config.prepare.white is not None
    train, test = load_data(config, 3)
    assert train.shape == (46, 3, 1, SIDE, SIDE)  # of 48 frames
    assert test.shape == (4, 3, 1, SIDE, SIDE)  # of 12
    batch = test.batch([0])
    assert batch.count is not None
    assert batch.count.tolist() == [[2, 2, 2]]
    left, top = place(48, 0)
    inside = batch.video[0, 0, 0, top : top + OBJECT, left : left + OBJECT]
    assert inside.min() > 0.3
    assert float(batch.video[0, 0].sum()) < 2.2 * OBJECT**2


def test_a_video_without_a_choice_is_windows_too_and_clips_are_as_before(tmp_path: Path) -> None:
    np.savez(tmp_path / "one.npz", video=np.zeros((20, 9, 9), np.uint8))
    train, test = load_data(DataConfig(source=str(tmp_path / "one.npz")), 2)
    assert (len(train), len(test)) == (17, 1)
    np.savez(tmp_path / "clips.npz", video=np.zeros((20, 5, 9, 9), np.uint8))
    train, test = load_data(DataConfig(source=str(tmp_path / "clips.npz")), 2)
    assert (len(train), len(test)) == (18, 2)
    with pytest.raises(DataError, match="a window takes 19 frames, but there are 1 in a row"):
        load_data(DataConfig(source=str(tmp_path / "one.npz")), 19)


def test_several_videos_of_any_length_in_a_folder(tmp_path: Path) -> None:
    for name, length in (("a", 10), ("b", 20)):
        (tmp_path / name).mkdir()
        for t in range(length):
            Image.fromarray(np.full((8, 9), t, np.uint8)).save(tmp_path / name / f"{t}.png")
    train, test = load_data(DataConfig(source=str(tmp_path)), 3)
    assert len(train) == (7 - 2) + (17 - 2)  # a window of each is held out, more than a tenth
    assert len(test) == 2


def test_a_model_sees_the_users_frames_as_in_training(street: Path) -> None:
    prepare = Preparation("median", "auto", normalise=True)
    config = with_levels(DataConfig(source=str(street), scale=0.5, prepare=prepare))
    train, _ = load_data(config, 2)
    frames = user_frames(street, (1, SIDE // 2, SIDE // 2), False, data=config)
    seen = torch.from_numpy(frames.window(7, 9)).float() / 255
    assert (seen - train.batch([7]).video[0]).abs().max() < 0.1  # grounds are of more frames here
    np.testing.assert_allclose(frames.in_source([4, 5, 8, 2]), [8, 10, 16, 4])


@pytest.mark.filterwarnings("ignore:.*not what the model knows")  # after two steps
def test_sqair_learns_from_the_file_and_finds_in_the_users_pixels(
    street: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [
        *("--preset=glyphs", "--frames=3", "--network.hidden=8", "--network.narrow=8", "--monitor-videos=2"),
        *("--training.steps=2", "--training.evaluate-every=1", "--batch-size=2", "--threads=1"),
        *("--data.prepare.background=median", "--data.prepare.polarity=dark", "--data.scale=0.5"),
    ]
    output = ["--data.source", str(street), "--output", str(tmp_path / "run")]
    assert sqair.main(["train", *options, *output]) == 0
    said = capsys.readouterr().out
    assert "52 windows of 3 frames, from all of the 54 frames that are not held out; 2 windows" in said
    assert "objects: 4 x 4 pixels" in said
    assert "warning: objects are of 4 x 4 pixels, too few" in said
    stored = load_checkpoint(tmp_path / "run" / "checkpoint.pt").configuration["data"]
    assert stored["prepare"]["polarity"] == "dark"
    track = ["track", "--checkpoint", str(tmp_path / "run" / "checkpoint.pt"), "--video", str(street)]
    assert sqair.main([*track, "--particles=1", "--films=0", "--output", str(tmp_path / "tracks")]) == 0
    rows = list(csv.DictReader((tmp_path / "tracks" / "tracks.csv").read_text().splitlines()))
    assert all(float(row["left"]) + float(row["width"]) <= 2 * SIDE for row in rows)
    assert sqair.main(["train", *options, *output, "--resume"]) == 0
    # Held-out windows of another length are of the same videos; other frames are others.
    evaluate = ["evaluate", "--checkpoint", str(tmp_path / "run" / "checkpoint.pt"), "--frames=2"]
    assert sqair.main([*evaluate, "--videos=2", "--particles=1", "--iwae-particles=2"]) == 0
    # Six frames were held out: a longer window would be of what was trained on.
    assert sqair.main([*evaluate[:-1], "--frames=7"]) != 0
    assert "a window takes 7 frames, but there are 6 in a row" in capsys.readouterr().err
    for path in (street / "img").glob("*.png"):
        Image.open(path).point(lambda value: 255 - value).save(path)
    assert sqair.main(evaluate) == 2
    assert "was trained with other data" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:.*not what the model knows")  # after a step
def test_a_model_of_parts_of_frames_goes_on_from_whole_ones(
    street: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The given frames are seen whole, before the ground of the whole video."""
    options = [
        *("--preset=video", "--network.hidden=8", "--network.narrow=8", "--network.max-count=2"),
        *("--warm-start.frames.share=0", "--training.minutes=none", "--training.steps=1", "--batch-size=2"),
        *("--data.prepare.background=median", "--data.prepare.polarity=dark", "--monitor-videos=2"),
        *("--data.source", str(street), "--data.crop", "24", "24", "--output", str(tmp_path / "run")),
    ]
    assert sqair.main(["train", *options]) == 0
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(sqair, "write_generated", lambda options, drawn, video: seen.extend((video, *drawn)))
    command = ["generate", "--checkpoint", str(tmp_path / "run" / "checkpoint.pt"), "--given=2", "--frames=3"]
    assert sqair.main([*command, "--video", str(street), "--count=2", "--max-count=4"]) == 0
    video, *drawn = seen
    assert video.shape == (3, 1, SIDE, SIDE)
    assert [canvas.shape for canvas in drawn] == [(2, 1, SIDE, SIDE)] * 3
    for t, frame in enumerate(video):
        for left, top in (place(t, k) for k in range(2)):
            assert (frame[0, top : top + OBJECT, left : left + OBJECT] > 0.2).all()
    assert sqair.main([*command, "--max-count=4"]) == 2
    assert "`max_count` is for a given `video`" in capsys.readouterr().err


def test_few_frames_make_no_ground(tmp_path: Path) -> None:
    (tmp_path / "few").mkdir()
    for t in range(9):
        Image.new("L", (12, 12), 20 * t).save(tmp_path / "few" / f"{t}.png")
    data = RecordedConfig(prepare=Preparation("median"))
    with pytest.warns(UserWarning, match="has 9 frames, of which the ground is made"):
        user_frames(tmp_path / "few", (1, 12, 12), False, data=data)
    user_frames(tmp_path / "few", (1, 12, 12), False, data=RecordedConfig(prepare=Preparation("local")))
    Image.new("L", (12, 12)).save(tmp_path / "few" / "9.png")
    user_frames(tmp_path / "few", (1, 12, 12), False, data=data)


def test_auto_fits_a_model_to_the_objects_of_a_video(
    street: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = SQAIRConfig(auto=True, frames=3, data=DataConfig(source=str(street)))
    config, _ = sqair_auto.chosen(config, speak=True)
    assert (config.data.prepare.background, config.data.prepare.polarity) == ("median", "dark")
    assert config.prior.object_size is not None
    assert all(8 <= side <= 13 for side in config.prior.object_size)
    assert config.network.max_count == 3
    assert 0.1 < config.prior.likelihood_scale < 0.3
    assert config.network.size_limits is not None  # objects are of one size
    assert config.network.size_limits == pytest.approx((0.5**0.5, 2**0.5), abs=0.1)
    said = capsys.readouterr().out
    assert said.count("auto: ") >= 7
    assert "network.max_count: 3 (at most 2 at once, and one more)" in said
    again, _ = sqair_auto.chosen(config, speak=False)
    assert again == config  # a run that is resumed
    own = SQAIRConfig(auto=True, frames=3, data=DataConfig(source=str(street)))
    own = own.__class__(**{**own.__dict__, "network": own.network.__class__(max_count=7)})
    assert sqair_auto.chosen(own, speak=True)[0].network.max_count == 7
    assert "network.max_count: 7 (as it was set)" in capsys.readouterr().out


def test_auto_leaves_what_is_given_as_an_option_even_if_it_is_the_default(
    street: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    default = SQAIRConfig()
    count, scale = default.network.max_count, default.prior.likelihood_scale
    options = (
        f"--data.source={street} --auto --frames=2 --first-frames=2 --batch-size=2 --training.steps=1 "
        f"--network.max-count {count} --prior.likelihood-scale={scale} --no-data.grey --data.scale none"
    ).split()
    assert sqair.main(["train", *options, "--output", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().out
    assert f"network.max_count: {count} (as it was set)" in said
    assert f"prior.likelihood_scale: {scale:g} (as it was set)" in said
    config = SQAIRConfig(auto=True, keep=("prior.prize",), data=DataConfig(source=str(street)))
    with pytest.raises(ValueError, match=r"`keep` must be names of settings.*'prior.prize'"):
        sqair_auto.chosen(config, speak=False)


def test_auto_needs_something_to_look_at() -> None:
    with pytest.raises(ValueError, match="`auto` is for data of your own, got 'glyphs'"):
        air_auto.chosen(AIRConfig(auto=True), speak=False)


def cells(folder: Path, number: int = 40) -> list[int]:
    """Images of 16 bits with 0 to 4 blobs on a dark ground, uneven and in each another; their numbers."""
    folder.mkdir()
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    counts = []
    for i in range(number):
        slope = RNG.uniform(-1, 1, 3)
        pixels = 1000 + 300 * (slope[0] * y + slope[1] * x + slope[2] * x * y) + RNG.normal(0, 15, x.shape)
        places = [(k // 2 * 28 + 16, k % 2 * 28 + 16) for k in RNG.permutation(4)[: RNG.integers(5)]]
        for top, left in places:
            apart = (y * SIDE - top - RNG.uniform(-4, 4)) ** 2 + (x * SIDE - left - RNG.uniform(-4, 4)) ** 2
            pixels += RNG.uniform(1200, 2000) * np.exp(-apart / 2 / RNG.uniform(2.2, 3.2) ** 2)
        Image.fromarray(pixels.astype(np.uint16)).save(folder / f"{i:03d}.png")
        counts.append(len(places))
    return counts


@pytest.mark.filterwarnings("ignore:.* is not what the model knows")  # after one step
def test_air_from_a_folder_of_cells_by_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counts = cells(tmp_path / "cells")
    options = ["--training.steps=1", "--training.evaluate-every=1", "--threads=1", "--iwae-particles=2"]
    source = ["--data.source", str(tmp_path / "cells"), "--auto", "--output", str(tmp_path / "run")]
    assert air.main(["train", *options, *source]) == 0
    said = capsys.readouterr().out
    assert "data.bits: 12" in said
    assert "background local, polarity bright" in said
    assert f"network.max_count: {max(counts) + 1}" in said
    assert "warning" not in said
    checkpoint = str(tmp_path / "run" / "checkpoint.pt")
    assert air.main(["evaluate", "--checkpoint", checkpoint, "--iwae-particles=2"]) == 0
    cells(tmp_path / "others", 3)
    other = ["--data", str(tmp_path / "others"), "--output", str(tmp_path / "evaluation")]
    assert air.main(["evaluate", "--checkpoint", checkpoint, "--iwae-particles=2", *other]) == 0
    assert json.loads((tmp_path / "evaluation" / "metrics.json").read_text())["images"] == 3
    found = tmp_path / "found"
    detect = ["detect", str(tmp_path / "cells"), "--checkpoint", checkpoint, "--output", str(found)]
    assert air.main([*detect, "--pictures=1"]) == 0
    with Image.open(found / "pictures" / "000.png") as picture:  # and not nearly black
        assert 40 < np.median(np.asarray(picture)) < 100


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_cells_are_counted(seed: int, tmp_path: Path) -> None:
    """After five minutes of a core the numbers in other images are right."""
    cells(tmp_path / "cells", 300)
    counts = cells(tmp_path / "others", 200)
    options = ["--auto", "--training.minutes=5", "--training.clock=cpu", f"--training.seed={seed}"]
    source = ["--data.source", str(tmp_path / "cells"), "--output", str(tmp_path / "run"), "--threads=1"]
    assert air.main(["train", *options, *source]) == 0
    checkpoint = [
        "--checkpoint",
        str(tmp_path / "run" / "checkpoint.pt"),
        "--output",
        str(tmp_path / "found"),
    ]
    assert air.main(["detect", str(tmp_path / "others"), *checkpoint]) == 0
    with open(tmp_path / "found" / "detections.csv", newline="") as table:
        found = Counter(row["file"] for row in csv.DictReader(table))
    right = [found[f"{number:03d}.png"] == count for number, count in enumerate(counts)]
    assert np.mean(right) >= 0.95


def test_images_of_any_sizes_are_looked_at_and_learned_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "images"
    cells(folder, 21)
    for number, path in enumerate(sorted(folder.iterdir())):
        with Image.open(path) as image:
            image.resize((60 + number, 74 - number)).save(path)
    assert data.main(["look", str(folder), "--images"]) == 0
    assert "suggested: data.resize: 64 x 70 (pictures have different sizes" in capsys.readouterr().out
    options = ["--training.steps=1", "--training.evaluate-every=1", "--threads=1", "--iwae-particles=2"]
    source = ["--data.source", str(folder), "--auto", "--output", str(tmp_path / "run")]
    assert air.main(["train", *options, *source]) == 0
    stored = load_checkpoint(tmp_path / "run" / "checkpoint.pt").configuration
    assert stored["data"]["resize"] == [64, 70]
    assert stored["network"]["image_shape"] == [1, 64, 70]
    checkpoint = str(tmp_path / "run" / "checkpoint.pt")
    evaluate = ["evaluate", "--checkpoint", checkpoint, "--iwae-particles=2", "--data", str(folder)]
    assert air.main([*evaluate, "--output", str(tmp_path / "evaluation")]) == 0
    # And to a size that is asked for.
    assert data.main(["look", str(folder), "--images", "--resize", "40", "50"]) == 0
    # As frames of one video they must be of one.
    assert data.main(["look", str(folder)]) == 2
    assert "or `--images` if they are no frames of one video" in capsys.readouterr().err


def test_a_look_at_one_frame_says_what_it_does_not_tell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = np.zeros((SIDE, SIDE), np.uint8)
    pixels[20:30, 12:20] = 200
    (tmp_path / "one").mkdir()
    Image.fromarray(pixels).save(tmp_path / "one" / "0.png")
    assert data.main(["look", str(tmp_path / "one")]) == 0
    said = capsys.readouterr().out
    assert "warning: one frame tells neither the ground nor" in said
    assert "suggested: slots" in said
    assert "to train with" not in said  # which would be refused
    assert data.main(["look", str(tmp_path / "one"), "--images"]) == 0
    said = capsys.readouterr().out
    assert "warning: one image is too few to train on" in said
    assert "to train with" not in said
    # Of a ground that is not even there is no other frame to compare it with.
    Image.fromarray(RNG.integers(60, 200, (SIDE, SIDE), np.uint8)).save(tmp_path / "one" / "0.png")
    assert data.main(["look", str(tmp_path / "one")]) == 0


def test_of_images_that_stand_alone_a_look_says_nothing_of_motion(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells(tmp_path / "cells")
    assert data.main(["look", str(tmp_path / "cells"), "--images"]) == 0
    said = capsys.readouterr().out
    assert "suggested: slots" in said
    assert "nan" not in said
    assert "search" not in said


def test_air_takes_frames_of_a_video(street: Path) -> None:
    split = air_data.load_data(
        air_data.DataConfig(source=str(street / "img"), boxes=str(street / "boxes.csv"))
    )
    assert split.train.shape == (54, 1, 1, SIDE, SIDE)
    assert split.test.batch([0]).count is not None


def test_whatwhere_data_looks_cuts_and_imports(
    street: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = ["--scale", "0.5", "--background", "local", "--polarity", "dark", "--normalise"]
    assert data.main(["look", str(street), *frames, "--every", "2"]) == 0
    wanted = (
        f"--data.source {street} --auto --data.every 2 --data.scale 0.5 --data.prepare.background local "
        "--data.prepare.polarity dark --data.prepare.normalise"
    )
    said = capsys.readouterr().out
    assert wanted in said
    assert "(`--scale` above 1 helps a little)" in said  # an option of this program
    assert data.main(["look", str(street), "--output", str(tmp_path / "look.png")]) == 0
    said = capsys.readouterr().out
    assert "suggested: data.prepare: background median, polarity dark" in said
    assert "at once: 2.0 on average" in said
    assert f"whatwhere-sqair train --preset video --data.source {street} --auto" in said
    with Image.open(tmp_path / "look.png") as picture:
        assert picture.size[0] > 2 * SIDE
    ground = ["--background", "median", "--polarity", "auto", "--normalise", "--range", "0", "40"]
    first = ["clips", str(street), *ground, "--frames", "4", "--crop", "32", "40", "--mirror"]
    assert data.main([*first, "--output", str(tmp_path / "train.h5")]) == 0
    second = [
        "clips",
        str(street),
        "--like",
        str(tmp_path / "train.h5"),
        "--range",
        "42",
        "60",
        "--frames",
        "5",
    ]
    assert data.main([*second, "--output", str(tmp_path / "test.h5")]) == 0
    (tmp_path / "text.h5").write_text("text")
    capsys.readouterr()
    like = ["clips", str(street), "--like", str(tmp_path / "text.h5"), "--output", str(tmp_path / "no.h5")]
    assert data.main(like) == 2
    assert "text.h5: not an HDF5 file" in capsys.readouterr().err
    train, test = load_video(tmp_path / "train.h5"), load_video(tmp_path / "test.h5")
    assert (train.shape, test.shape) == ((10, 4, 1, 32, 40), (3, 5, 1, SIDE, SIDE))
    assert test.count is not None
    assert test.boxes is not None
    assert (test.count == 2).all()
    clip = open_frames(tmp_path / "test.h5", video=1)
    np.testing.assert_allclose(clip.in_source(test.boxes[1, 2, 0])[:2], place(42 + 5 + 2, 0))
    assert (test.video[1].max((1, 2, 3)) > 200).all()
    assert test.video.mean() < 20  # dark objects on grey have become bright ones on black
    assert data.main(["import", str(street / "img"), "--video", "--output", str(tmp_path / "film.h5")]) == 0
    assert load_video(tmp_path / "film.h5").shape == (1, LENGTH, 1, SIDE, SIDE)


def test_what_does_not_go_together_is_refused(street: Path) -> None:
    with pytest.raises(ValueError, match="`resize` and `scale` are two ways"):
        RecordedConfig(resize=(3, 3), scale=0.5)
    with pytest.raises(ValueError, match=r"`held_out` must be in \(0, 1\), got 0"):
        RecordedConfig(held_out=0)
    (street / "boxes.csv").write_text("frame,id,x,y,w,h\n60,a,1,1,4,4\n")
    with pytest.raises(DataError, match=r"boxes\.csv: has a box in frame 60, but .* has 60 frames"):
        load_data(DataConfig(source=str(street)), 3)
