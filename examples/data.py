"""Makes, imports, checks and shows data sets in HDF5 files.

    whatwhere-data multi-mnist --recipe pyro --split train --size 60000 --output train.h5
    whatwhere-data glyphs --recipe static_sqair --max-objects 3 --size 10000 --output glyphs.h5
    whatwhere-data moving-digits --source glyphs --frames 10 --size 10000 --output moving.h5
    whatwhere-data ratm-digits --split test --frames 30 --size 10000 --output ratm.h5
    whatwhere-data ratm-digits --motion billiard --min-objects 2 --max-objects 2 --output ratm2.h5
    whatwhere-data bouncing-balls --size 10000 --output balls.h5
    whatwhere-data clutter --difficulty 0.5 --size 10000 --output clutter.h5
    whatwhere-data kth kth_videos/ --annotation KTHBoundingBoxInfo.txt --output kth.h5
    whatwhere-data weizmann weizmann/ --output weizmann.h5
    whatwhere-data otb otb/ --resize 240 320 --output otb.h5
    whatwhere-data tld tld/ --resize 240 320 --output tld.h5
    whatwhere-data kitti kitti/ --part train --frames 30 --output kitti_train.h5
    whatwhere-data kitti kitti/ --part test --frames 60 --output kitti_test.h5
    whatwhere-data import my_images/ --resize 50 50 --grey --output mine.h5
    whatwhere-data check mine.h5
    whatwhere-data show mine.h5 --output mine.png

`multi-mnist` and `glyphs` make the same images of different digits: MNIST's, which are fetched once if they
are not here, or digits of the fonts that come with Matplotlib, which need no network. `moving-digits` makes
SQAIR's videos of either, `ratm-digits` and `bouncing-balls` those of RATM, `clutter` those of an object to
follow among others. `kth` cuts the KTH actions' clips out of their videos and joins them with the boxes of
Jiang, Lin and Davis; `weizmann` collects the silhouettes of the Weizmann actions. `show` draws a video as a
strip of its frames.
"""

import argparse
import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from whatwhere.datasets.bouncing_balls import BouncingBallsRecipe, bouncing_ball_videos
from whatwhere.datasets.clutter import clutter_videos
from whatwhere.datasets.clutter_recipe import ClutterRecipe
from whatwhere.datasets.folder import load_folder
from whatwhere.datasets.generated import GeneratedVideos
from whatwhere.datasets.kitti import KITTI_SIZES, KITTIRecipe, kitti_parts
from whatwhere.datasets.kitti_labels import KITTI_CLASSES
from whatwhere.datasets.kth import KTH_ACTIONS, LOCOMOTION, kth_parts
from whatwhere.datasets.moving_digits import MovingDigitsRecipe, moving_digit_videos
from whatwhere.datasets.multi_object import RECIPES, multi_object_images
from whatwhere.datasets.otb import otb_parts
from whatwhere.datasets.preview import contact_sheet
from whatwhere.datasets.ratm_digits import MOTIONS, RatmDigitsRecipe
from whatwhere.datasets.store import VideoStore, check, in_parts, save_video, save_video_parts
from whatwhere.datasets.tld import tld_parts
from whatwhere.datasets.video import VideoData
from whatwhere.datasets.weizmann import load_weizmann
from whatwhere.files import atomic_path


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Returns:
        0, or 1 if `check` found a problem, or 2 after an error, which is told in one line on the standard
        error.
    """
    parser = build_parser()
    arguments = parser.parse_args(argv)
    try:
        result: int = arguments.run(arguments)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"{parser.prog} {arguments.command}: error: {error}", file=sys.stderr)
        return 2
    return result


class Parser(argparse.ArgumentParser):
    """A parser that tells errors in one line."""

    def error(self, message: str) -> NoReturn:
        """Prints the message and exits with status 2."""
        self.exit(2, f"{self.prog}: error: {message} (see `{self.prog} --help`)\n")


def build_parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    form = argparse.RawDescriptionHelpFormatter
    parser = Parser(prog="whatwhere-data", description=__doc__, formatter_class=form)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, source, kind in (
        ("multi-mnist", "mnist", "MNIST digits"),
        ("glyphs", "glyphs", "printed digits"),
    ):
        command = commands.add_parser(name, help=f"make still images of several {kind}")
        command.set_defaults(run=make, source=source, digits=None)
        command.add_argument("--recipe", choices=sorted(RECIPES), default="pyro", help="default: %(default)s")
        add_common_arguments(command, "images")
        if source == "mnist":
            add_digits_argument(command)
    command = commands.add_parser("moving-digits", help="make videos of moving digits")
    command.set_defaults(run=make_moving)
    add_moving_arguments(command)
    command = commands.add_parser("ratm-digits", help="make RATM's videos of moving digits")
    command.set_defaults(run=make_ratm)
    add_ratm_arguments(command)
    command = commands.add_parser("bouncing-balls", help="make videos of bouncing balls")
    command.set_defaults(run=make_balls)
    add_balls_arguments(command)
    command = commands.add_parser("kth", help="join the KTH actions' videos with their boxes")
    command.set_defaults(run=import_kth)
    command.add_argument("videos", help="folder of `person01_walking_d1_uncomp.avi` and so on")
    command.add_argument(
        "--annotation", required=True, metavar="FILE", help="KTHBoundingBoxInfo.txt, or with .gz"
    )
    command.add_argument("--output", required=True, metavar="FILE", help="HDF5 file to write")
    command.add_argument(
        "--actions",
        nargs="+",
        choices=KTH_ACTIONS,
        default=LOCOMOTION,
        metavar="ACTION",
        help=f"some of {', '.join(KTH_ACTIONS)} (default: {' '.join(LOCOMOTION)})",
    )
    command.add_argument(
        "--skip-bad", action="store_true", help="leave out clips whose video is missing or damaged"
    )
    command = commands.add_parser("weizmann", help="collect the Weizmann actions' silhouettes")
    command.set_defaults(run=import_weizmann)
    command.add_argument("folder", help="folder of silhouettes_packed.npz and boxes_from_masks.csv")
    command.add_argument("--output", required=True, metavar="FILE", help="HDF5 file to write")
    command = commands.add_parser("clutter", help="make videos of an object to follow through clutter")
    command.set_defaults(run=make_clutter)
    add_clutter_arguments(command)
    command = commands.add_parser("otb", help="collect sequences of the Object Tracking Benchmark")
    command.set_defaults(run=import_otb)
    add_target_arguments(command, (240, 320), "folders of img/ and groundtruth_rect.txt, or one of them")
    add_skip_missing_argument(command, "end a sequence before a missing frame")
    command = commands.add_parser("tld", help="collect sequences of Tracking-Learning-Detection")
    command.set_defaults(run=import_tld)
    add_target_arguments(command, (240, 320), "folders of gt.txt and images or a video, or one of them")
    command = commands.add_parser("kitti", help="cut clips of one object each out of KITTI's drives")
    command.set_defaults(run=import_kitti)
    add_target_arguments(command, KITTIRecipe.size, "folder of label_02/ and image_02/")
    add_skip_missing_argument(command, "leave out clips that lack frames")
    add_kitti_arguments(command)
    command = commands.add_parser("import", help="collect a folder of PNG or JPEG files")
    command.set_defaults(run=import_folder)
    command.add_argument("folder")
    command.add_argument("--output", required=True, metavar="FILE", help="HDF5 file to write")
    command.add_argument(
        "--resize", nargs=2, type=int, metavar=("HEIGHT", "WIDTH"), help="size of all images"
    )
    command.add_argument("--grey", action="store_true", help="one channel instead of three")
    command.add_argument("--skip-unreadable", action="store_true", help="leave out files that cannot be read")
    command = commands.add_parser("check", help="read a whole file and report what is wrong with it")
    command.set_defaults(run=check_file)
    command.add_argument("file")
    command = commands.add_parser("show", help="draw images and boxes into a picture")
    command.set_defaults(run=show)
    command.add_argument("file")
    command.add_argument("--output", required=True, metavar="PNG", help="picture to write")
    command.add_argument("--start", type=int, default=0, help="first image or video (default: %(default)s)")
    command.add_argument("--number", type=int, help="how many (default: 64 images or 8 videos)")
    command.add_argument("--zoom", type=int, default=3, help="enlargement of a pixel (default: %(default)s)")
    return parser


def add_common_arguments(parser: argparse.ArgumentParser, items: str) -> None:
    """Adds what the generating commands have in common."""
    parser.add_argument("--split", choices=("train", "test"), default="train", help="default: %(default)s")
    parser.add_argument(
        "--size", type=int, default=60_000, metavar="N", help=f"{items} (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--min-objects", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--max-objects", type=int, default=2, help="default: %(default)s")
    parser.add_argument("--image-size", type=int, default=50, help="side in pixels (default: %(default)s)")
    parser.add_argument("--output", required=True, metavar="FILE", help="HDF5 file to write")


def add_digits_argument(parser: argparse.ArgumentParser) -> None:
    """Adds where MNIST is."""
    parser.add_argument("--digits", metavar="FOLDER", help="folder of MNIST's four files")


def add_digit_video_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the commands that make videos of digits have in common."""
    parser.add_argument(
        "--source", choices=("mnist", "glyphs"), default="mnist", help="the digits (default: %(default)s)"
    )
    add_digits_argument(parser)
    add_common_arguments(parser, "videos")
    parser.add_argument("--frames", type=int, default=10, help="of a video (default: %(default)s)")
    parser.add_argument(
        "--noise-std",
        type=float,
        default=0.0,
        metavar="STD",
        help="noise of the pixels, grey values being in [0, 1] (default: %(default)s)",
    )


def add_moving_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `moving-digits`."""
    add_digit_video_arguments(parser)
    parser.add_argument("--intermittent", action="store_true", help="let digits appear and disappear")
    parser.add_argument(
        "--return-probability",
        type=float,
        default=0.0,
        metavar="P",
        help="probability that an intermittent digit comes a second time (default: %(default)s)",
    )


def add_ratm_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `ratm-digits`."""
    add_digit_video_arguments(parser)
    parser.set_defaults(size=100_000, min_objects=1, max_objects=1, image_size=100)
    parser.add_argument(
        "--motion",
        choices=tuple(MOTIONS),
        default="momentum",
        help="how the digits move (default: %(default)s; for several digits billiard)",
    )


def add_balls_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `bouncing-balls`."""
    add_common_arguments(parser, "videos")
    parser.set_defaults(size=100_000, min_objects=1, max_objects=1, image_size=20)
    parser.add_argument("--frames", type=int, default=32, help="of a video (default: %(default)s)")
    parser.add_argument(
        "--radius", type=float, default=1.2, help="in tenths of the frame's side (default: %(default)s)"
    )
    parser.add_argument(
        "--speed",
        type=float,
        default=0.5,
        help="of all balls together, in tenths of the frame's side per frame (default: %(default)s)",
    )


def add_clutter_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `clutter`."""
    parser.add_argument(
        "--source",
        choices=("silhouettes", "glyphs", "mnist"),
        default="silhouettes",
        help="the objects (default: %(default)s)",
    )
    add_digits_argument(parser)
    parser.add_argument("--split", choices=("train", "test"), default="train", help="default: %(default)s")
    parser.add_argument("--size", type=int, default=10_000, metavar="N", help="videos (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument(
        "--difficulty",
        type=float,
        default=0.5,
        metavar="LEVEL",
        help="from 0, a plain object on a plain ground, to 1 (default: %(default)s)",
    )
    parser.add_argument(
        "--image-size",
        nargs=2,
        type=int,
        default=(64, 64),
        metavar=("HEIGHT", "WIDTH"),
        help="of the frames in pixels (default: 64 64)",
    )
    parser.add_argument("--grey", action="store_true", help="one channel instead of three")
    parser.add_argument("--frames", type=int, default=30, help="of a video (default: %(default)s)")
    parser.add_argument("--output", required=True, metavar="FILE", help="HDF5 file to write")


def add_target_arguments(parser: argparse.ArgumentParser, size: tuple[int, int], folder: str) -> None:
    """Adds what the commands for single-object tracking data have in common."""
    parser.add_argument("folder", help=folder)
    parser.add_argument("--output", required=True, metavar="FILE", help="HDF5 file to write")
    parser.add_argument(
        "--resize",
        nargs=2,
        type=int,
        default=size,
        metavar=("HEIGHT", "WIDTH"),
        help=f"size of all frames (default: {size[0]} {size[1]})",
    )
    parser.add_argument("--grey", action="store_true", help="one channel instead of three")
    parser.add_argument("--skip-bad", action="store_true", help="leave out what cannot be used")


def add_skip_missing_argument(parser: argparse.ArgumentParser, effect: str) -> None:
    """Adds what becomes of frames that are missing."""
    parser.add_argument("--skip-missing", action="store_true", help=f"{effect}, instead of stopping")


def add_kitti_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds which clips `kitti` makes."""
    parser.add_argument("--frames", type=int, default=30, help="most of a clip (default: %(default)s)")
    parser.add_argument(
        "--part",
        choices=("all", "train", "test"),
        default="all",
        help="the first 80%% of the frames of every drive, the others, or all (default: %(default)s)",
    )
    parser.add_argument(
        "--classes",
        nargs="+",
        choices=KITTI_CLASSES,
        default=KITTI_CLASSES,
        metavar="CLASS",
        help=f"some of {', '.join(KITTI_CLASSES)} (default: all)",
    )
    parser.add_argument(
        "--max-occlusion",
        type=int,
        default=1,
        metavar="LEVEL",
        help="objects that are hidden more count as absent (default: %(default)s)",
    )
    parser.add_argument(
        "--min-side",
        type=float,
        default=0.0,
        metavar="PIXELS",
        help="objects that are narrower or lower count as absent (default: %(default)s)",
    )
    parser.add_argument(
        "--resized-frames",
        action="store_true",
        help="the frames of KITTI's training drives were resized, while the labels were not",
    )


def make(arguments: argparse.Namespace) -> int:
    """Makes still images of several digits."""
    recipe = RECIPES[arguments.recipe](
        min_objects=arguments.min_objects, max_objects=arguments.max_objects, image_size=arguments.image_size
    )
    data = multi_object_images(
        recipe,
        arguments.split,
        arguments.size,
        arguments.seed,
        source=arguments.source,
        folder=arguments.digits,
    )
    parameters = {**dataclasses.asdict(recipe), "split": arguments.split, "source": arguments.source}
    save_video(arguments.output, data, generator=arguments.recipe, parameters=parameters, seed=arguments.seed)
    print(f"{arguments.output}: {len(data)} images")
    return 0


def make_moving(arguments: argparse.Namespace) -> int:
    """Makes videos of moving digits."""
    recipe = MovingDigitsRecipe(
        min_objects=arguments.min_objects,
        max_objects=arguments.max_objects,
        image_size=arguments.image_size,
        frames=arguments.frames,
        intermittent=arguments.intermittent,
        return_probability=arguments.return_probability,
        noise_std=arguments.noise_std,
    )
    videos = videos_of_digits(moving_digit_videos, recipe, arguments)
    parameters = {**dataclasses.asdict(recipe), "split": arguments.split, "source": arguments.source}
    return save_generated(videos, "moving_digits", parameters, arguments)


def make_ratm(arguments: argparse.Namespace) -> int:
    """Makes RATM's videos of moving digits."""
    motion = MOTIONS[arguments.motion]()
    recipe = RatmDigitsRecipe(
        min_objects=arguments.min_objects,
        max_objects=arguments.max_objects,
        image_size=arguments.image_size,
        frames=arguments.frames,
        motion=motion,
        noise_std=arguments.noise_std,
    )
    videos = videos_of_digits(moving_digit_videos, recipe, arguments)
    rule = {"rule": arguments.motion, **dataclasses.asdict(motion)}
    chosen = {"motion": rule, "split": arguments.split, "source": arguments.source}
    return save_generated(videos, "ratm_digits", {**dataclasses.asdict(recipe), **chosen}, arguments)


def make_balls(arguments: argparse.Namespace) -> int:
    """Makes videos of bouncing balls."""
    recipe = BouncingBallsRecipe(
        min_objects=arguments.min_objects,
        max_objects=arguments.max_objects,
        image_size=arguments.image_size,
        frames=arguments.frames,
        radius=arguments.radius,
        speed=arguments.speed,
    )
    videos = bouncing_ball_videos(recipe, arguments.split, arguments.size, arguments.seed)
    parameters = {**dataclasses.asdict(recipe), "split": arguments.split}
    return save_generated(videos, "bouncing_balls", parameters, arguments)


def make_clutter(arguments: argparse.Namespace) -> int:
    """Makes videos of an object to follow through clutter."""
    recipe = ClutterRecipe.of_difficulty(
        arguments.difficulty,
        image_size=tuple(arguments.image_size),
        channels=1 if arguments.grey else 3,
        frames=arguments.frames,
    )
    videos = videos_of_digits(clutter_videos, recipe, arguments)
    parameters = {**dataclasses.asdict(recipe), "split": arguments.split, "source": arguments.source}
    return save_generated(videos, "clutter", parameters, arguments)


def videos_of_digits(
    make_videos: Callable[..., GeneratedVideos], recipe: Any, arguments: argparse.Namespace
) -> GeneratedVideos:
    """Videos of the digits, or other pictures, that the options ask for."""
    return make_videos(
        recipe,
        arguments.split,
        arguments.size,
        arguments.seed,
        source=arguments.source,
        folder=arguments.digits,
    )


def save_generated(
    videos: GeneratedVideos, generator: str, parameters: dict[str, Any], arguments: argparse.Namespace
) -> int:
    """Writes videos that are made part by part."""
    save_video_parts(
        arguments.output,
        in_parts(videos),
        generator=generator,
        parameters=parameters,
        seed=arguments.seed,
    )
    print(f"{arguments.output}: {len(videos)} videos of {videos.shape[1]} frames")
    return 0


def import_kth(arguments: argparse.Namespace) -> int:
    """Joins the KTH actions' videos with their boxes."""
    skipped: list[str] = []
    parts = kth_parts(
        arguments.videos,
        arguments.annotation,
        actions=arguments.actions,
        on_bad=skipped.append if arguments.skip_bad else None,
    )
    parameters = {"annotation": Path(arguments.annotation).name, "actions": list(arguments.actions)}
    return save_clips(parts, skipped, "clips skipped", parameters, arguments)


def import_weizmann(arguments: argparse.Namespace) -> int:
    """Collects the Weizmann actions' silhouettes."""
    data = load_weizmann(arguments.folder)
    save_video_parts(arguments.output, in_parts(data), generator="weizmann")
    print(f"{arguments.output}: {len(data)} clips of up to {data.shape[1]} frames")
    return 0


def import_otb(arguments: argparse.Namespace) -> int:
    """Collects sequences of the Object Tracking Benchmark."""
    skipped: list[str] = []
    parts = otb_parts(
        arguments.folder,
        size=tuple(arguments.resize),
        grey=arguments.grey,
        skip_missing=arguments.skip_missing,
        on_bad=skipped.append if arguments.skip_bad else None,
    )
    return save_targets(parts, skipped, {"skip_missing": arguments.skip_missing}, arguments)


def import_tld(arguments: argparse.Namespace) -> int:
    """Collects sequences of Tracking-Learning-Detection."""
    skipped: list[str] = []
    parts = tld_parts(
        arguments.folder,
        size=tuple(arguments.resize),
        grey=arguments.grey,
        on_bad=skipped.append if arguments.skip_bad else None,
    )
    return save_targets(parts, skipped, {}, arguments)


def import_kitti(arguments: argparse.Namespace) -> int:
    """Cuts clips out of KITTI's drives."""
    skipped: list[str] = []
    recipe = KITTIRecipe(
        frames=arguments.frames,
        part=arguments.part,
        size=tuple(arguments.resize),
        grey=arguments.grey,
        classes=tuple(arguments.classes),
        max_occlusion=arguments.max_occlusion,
        min_side=arguments.min_side,
    )
    parts = kitti_parts(
        arguments.folder,
        recipe,
        label_sizes=KITTI_SIZES if arguments.resized_frames else None,
        skip_missing=arguments.skip_missing,
        on_bad=skipped.append if arguments.skip_bad else None,
    )
    parameters = {**dataclasses.asdict(recipe), "skip_missing": arguments.skip_missing}
    return save_targets(parts, skipped, parameters, arguments)


def save_targets(
    parts: Iterator[VideoData], skipped: list[str], parameters: dict[str, Any], arguments: argparse.Namespace
) -> int:
    """Writes clips of single-object tracking data."""
    common = {"folder": Path(arguments.folder).name, "size": list(arguments.resize), "grey": arguments.grey}
    return save_clips(parts, skipped, "skipped", {**common, **parameters}, arguments)


def save_clips(
    parts: Iterator[VideoData],
    skipped: list[str],
    skipped_words: str,
    parameters: dict[str, Any],
    arguments: argparse.Namespace,
) -> int:
    """Writes clips that are read part by part, and tells what was left out, to which `parts` add."""
    save_video_parts(arguments.output, parts, generator=arguments.command, parameters=parameters)
    for problem in skipped:
        print(f"skipped: {problem}")
    clips, frames = VideoStore(arguments.output).shape[:2]
    print(f"{arguments.output}: {clips} clips of up to {frames} frames, {len(skipped)} {skipped_words}")
    return 0


def import_folder(arguments: argparse.Namespace) -> int:
    """Collects the images of a folder."""
    size = None if arguments.resize is None else tuple(arguments.resize)
    images = load_folder(
        arguments.folder, size=size, grey=arguments.grey, skip_unreadable=arguments.skip_unreadable
    )
    for problem in images.skipped:
        print(f"skipped: {problem}")
    parameters = {"folder": Path(arguments.folder).name, "size": size, "grey": arguments.grey}
    save_video(arguments.output, images.data, generator="import", parameters=parameters)
    print(f"{arguments.output}: {len(images.data)} images, {len(images.skipped)} files skipped")
    return 0


def check_file(arguments: argparse.Namespace) -> int:
    """Reports what is wrong with a file."""
    report = check(arguments.file)
    print(report)
    return 1 if report.problems else 0


def show(arguments: argparse.Namespace) -> int:
    """Draws images and boxes."""
    data = VideoStore(arguments.file)
    number = arguments.number if arguments.number is not None else (64 if data.shape[1] == 1 else 8)
    if not 0 <= arguments.start < len(data):
        raise ValueError(f"--start must be in [0, {len(data)}), got {arguments.start}.")
    if number < 1:
        raise ValueError(f"--number must be at least 1, got {number}.")
    chosen = np.arange(arguments.start, min(arguments.start + number, len(data)))
    sheet = contact_sheet(data.subset(chosen), zoom=arguments.zoom)
    with atomic_path(Path(arguments.output)) as temporary:
        sheet.save(temporary, format="PNG")
    print(f"{arguments.output}: {len(chosen)} of {len(data)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
