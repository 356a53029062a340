"""The commands of `whatwhere-data` that collect what others filmed and annotated."""

import argparse
import dataclasses
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from whatwhere import checks
from whatwhere.datasets import (
    KITTI_CLASSES,
    KITTI_SIZES,
    KTH_ACTIONS,
    LIMIT,
    LOCOMOTION,
    DataError,
    KITTIRecipe,
    SceneRecipe,
    SizeError,
    UnreadableError,
    VideoData,
    VideoStore,
    in_parts,
    kitti_parts,
    kth_parts,
    load_clips,
    load_folder,
    load_weizmann,
    otb_parts,
    save_video,
    save_video_parts,
    scene_parts,
    target_folder_parts,
    tld_parts,
    used_bits,
)
from whatwhere.datasets.opening import IMAGE_KINDS, is_image
from whatwhere.examples.common.program import UsageError
from whatwhere.files import user_path


def add_importing_commands(add_command: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds `kth`, `weizmann`, `otb`, `tld`, `targets`, `kitti`, `scenes` and `import`.

    Args:
        add_command: makes a parser for a command of a name, with its `help`.
    """
    command = add_command("kth", help="join the KTH actions' videos with their boxes")
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
    command = add_command("weizmann", help="collect the Weizmann actions' silhouettes")
    command.set_defaults(run=import_weizmann)
    command.add_argument("folder", help="folder of silhouettes_packed.npz and boxes_from_masks.csv")
    command.add_argument("--output", required=True, metavar="FILE", help="HDF5 file to write")
    command = add_command("otb", help="collect sequences of the Object Tracking Benchmark")
    command.set_defaults(run=import_otb)
    add_target_arguments(command, (240, 320), "folders of img/ and groundtruth_rect.txt, or one of them")
    add_sequences_argument(command)
    add_skip_missing_argument(command, "end a sequence before a missing frame")
    command = add_command("tld", help="collect sequences of Tracking-Learning-Detection")
    command.set_defaults(run=import_tld)
    add_target_arguments(command, (240, 320), "folders of gt.txt and images or a video, or one of them")
    add_sequences_argument(command)
    command = add_command("targets", help="collect sequences in the layouts of VOT, LaSOT and GOT-10k")
    command.set_defaults(run=import_target_folders)
    add_target_arguments(command, (240, 320), "folders of groundtruth.txt and images, or one of them")
    add_sequences_argument(command)
    command.add_argument(
        "--origin",
        type=float,
        default=0.0,
        metavar="PIXEL",
        help="coordinates of the first pixel; 1 where they count from 1 (default: %(default)s)",
    )
    command = add_command("kitti", help="cut clips of one object each out of KITTI's drives")
    command.set_defaults(run=import_kitti)
    add_target_arguments(command, KITTIRecipe.size, "folder of label_02/ and image_02/")
    add_skip_missing_argument(command, "leave out clips that lack frames")
    add_kitti_arguments(command)
    command = add_command("scenes", help="cut clips of one object each out of videos of several")
    command.set_defaults(run=import_scenes)
    add_target_arguments(
        command, SceneRecipe.size, "folders of boxes.csv and img/, images or a video, or one of them"
    )
    add_sequences_argument(command)
    add_scene_arguments(command)
    command = add_command("import", help=f"collect a folder of {IMAGE_KINDS} files, or videos")
    command.set_defaults(run=import_users)
    command.add_argument(
        "folder", help="images; or a video file, an animation, an archive, folders of frames"
    )
    command.add_argument("--video", action="store_true", help="the images of the folder are one video")
    command.add_argument("--output", required=True, metavar="FILE", help="HDF5 file to write")
    command.add_argument(
        "--resize", nargs=2, type=int, metavar=("HEIGHT", "WIDTH"), help="size of all images"
    )
    command.add_argument("--grey", action="store_true", help="one channel instead of three")
    command.add_argument("--skip-unreadable", action="store_true", help="leave out files that cannot be read")
    command.add_argument(
        "--bits",
        type=int,
        help="used bits of grey values stored in 16, 12 for many scientific cameras (default: 16)",
    )
    command.add_argument(
        "--limit",
        type=float,
        default=LIMIT / 2**30,
        metavar="GIB",
        help="most memory that the images may take (default: %(default)g)",
    )


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


def add_sequences_argument(parser: argparse.ArgumentParser) -> None:
    """Adds which sequences are taken."""
    parser.add_argument(
        "--sequences", nargs="+", metavar="NAME", help="names of their folders (default: all)"
    )


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


def add_scene_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds which clips `scenes` makes."""
    parser.add_argument(
        "--frames", type=int, default=SceneRecipe.frames, help="most of a clip (default: %(default)s)"
    )
    parser.add_argument(
        "--min-frames", type=int, default=SceneRecipe.min_frames, help="fewest (default: %(default)s)"
    )
    parser.add_argument(
        "--min-side",
        type=float,
        default=SceneRecipe.min_side,
        metavar="PIXELS",
        help="objects that are narrower or lower, before frames are resized, count as absent "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--first-number",
        type=int,
        default=SceneRecipe.first_number,
        metavar="N",
        help="number of the image that boxes.csv calls frame 0 (default: %(default)s)",
    )


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
        sequences=arguments.sequences,
        skip_missing=arguments.skip_missing,
        on_bad=skipped.append if arguments.skip_bad else None,
    )
    parameters = {"sequences": arguments.sequences, "skip_missing": arguments.skip_missing}
    return save_targets(parts, skipped, parameters, arguments)


def import_tld(arguments: argparse.Namespace) -> int:
    """Collects sequences of Tracking-Learning-Detection."""
    skipped: list[str] = []
    parts = tld_parts(
        arguments.folder,
        size=tuple(arguments.resize),
        grey=arguments.grey,
        sequences=arguments.sequences,
        on_bad=skipped.append if arguments.skip_bad else None,
    )
    return save_targets(parts, skipped, {"sequences": arguments.sequences}, arguments)


def import_target_folders(arguments: argparse.Namespace) -> int:
    """Collects sequences in the layouts of VOT, LaSOT and GOT-10k."""
    skipped: list[str] = []
    checks.finite(arguments, "origin")
    parts = target_folder_parts(
        arguments.folder,
        size=tuple(arguments.resize),
        grey=arguments.grey,
        sequences=arguments.sequences,
        origin=arguments.origin,
        on_bad=skipped.append if arguments.skip_bad else None,
    )
    parameters = {"sequences": arguments.sequences, "origin": arguments.origin}
    return save_targets(parts, skipped, parameters, arguments)


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


def import_scenes(arguments: argparse.Namespace) -> int:
    """Cuts clips out of videos of several objects."""
    skipped: list[str] = []
    short: list[int] = []
    recipe = SceneRecipe(
        frames=arguments.frames,
        min_frames=arguments.min_frames,
        size=tuple(arguments.resize),
        grey=arguments.grey,
        min_side=arguments.min_side,
        first_number=arguments.first_number,
    )
    parts = scene_parts(
        arguments.folder,
        recipe,
        sequences=arguments.sequences,
        on_bad=skipped.append if arguments.skip_bad else None,
        on_short=short.append,
    )
    parameters = {**dataclasses.asdict(recipe), "sequences": arguments.sequences}
    code = save_targets(parts, skipped, parameters, arguments)
    if any(short):
        print(f"{sum(short)} with fewer than {recipe.min_frames} frames left out (`--min-frames`)")
    return code


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


def import_users(arguments: argparse.Namespace) -> int:
    """Collects what a user has, and says so if most grey levels of it are lost."""
    checks.positive(arguments, "limit")
    used = 16
    if arguments.bits is None:
        arguments.bits = 16
        with suppress(DataError):  # collecting tells, or leaves out what cannot be read
            used = used_bits(arguments.folder) or 16
    with warnings.catch_warnings():
        if used < 16:
            warnings.filterwarnings("ignore", ".*: grey values of 16 bits")  # of single pictures
        code = collect(arguments)
    if used < 16:
        warnings.warn(
            f"grey values have at most {used} of 16 bits, so {2 ** (used - 8)} of 256 levels are left: "
            f"`--bits {used}` keeps all",
            stacklevel=2,
        )
    return code


def collect(arguments: argparse.Namespace) -> int:
    """Collects the images of a folder, or whatever videos `load_clips` reads."""
    root = user_path(arguments.folder)
    if root.is_dir() and any(map(is_image, root.iterdir())) and not arguments.video:
        return import_folder(arguments)
    if arguments.skip_unreadable:
        raise UsageError("`--skip-unreadable` is for images, not for frames of videos")
    data = load_clips(
        arguments.folder,
        size=None if arguments.resize is None else tuple(arguments.resize),
        channels=1 if arguments.grey else None,
        bits=arguments.bits,
        limit=arguments.limit * 2**30,
    )
    parameters = {"folder": root.name, "size": arguments.resize, "grey": arguments.grey}
    save_video_parts(arguments.output, in_parts(data), generator="import", parameters=parameters)
    print(f"{arguments.output}: {len(data)} videos of {data.shape[1]} frames")
    return 0


def import_folder(arguments: argparse.Namespace) -> int:
    """Collects the images of a folder."""
    size = None if arguments.resize is None else tuple(arguments.resize)
    try:
        images = load_folder(
            arguments.folder,
            size=size,
            grey=arguments.grey,
            skip_unreadable=arguments.skip_unreadable,
            bits=arguments.bits,
            limit=arguments.limit * 2**30,
        )
    except SizeError as error:
        raise UsageError(f"{error} Give `--resize HEIGHT WIDTH`.") from error
    except UnreadableError as error:
        raise UsageError(f"{error} `--skip-unreadable` leaves out what cannot be read.") from error
    for problem in images.skipped:
        print(f"skipped: {problem}")
    parameters = {"folder": Path(arguments.folder).name, "size": size, "grey": arguments.grey}
    save_video(arguments.output, images.data, generator="import", parameters=parameters)
    print(f"{arguments.output}: {len(images.data)} images, {len(images.skipped)} files skipped")
    return 0
