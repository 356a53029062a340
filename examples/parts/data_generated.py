"""The commands of `whatwhere-data` that make data: still images and videos whose objects are known."""

import argparse
import dataclasses
from collections.abc import Callable
from typing import Any

from whatwhere.datasets import (
    BALLS,
    MOTIONS,
    RECIPES,
    BouncingBallsRecipe,
    ClutterRecipe,
    GeneratedVideos,
    MovingDigitsRecipe,
    PastedRecipe,
    RatmDigitsRecipe,
    SpMOTRecipe,
    bouncing_ball_videos,
    clutter_videos,
    coloured_ball_videos,
    in_parts,
    load_pictures,
    moving_digit_videos,
    multi_object_images,
    pasted_videos,
    save_video,
    save_video_parts,
    spmot_videos,
)
from whatwhere.datasets.generated.pasted import LEAST_SIDE


def add_generating_commands(add_command: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the commands from `multi-mnist` to `coloured-balls`.

    Args:
        add_command: makes a parser for a command of a name, with its `help`.
    """
    for name, source, kind in (
        ("multi-mnist", "mnist", "MNIST digits"),
        ("glyphs", "glyphs", "printed digits"),
    ):
        command = add_command(name, help=f"make still images of several {kind}")
        command.set_defaults(run=make, source=source, digits=None)
        command.add_argument("--recipe", choices=sorted(RECIPES), default="pyro", help="default: %(default)s")
        add_common_arguments(command, "images")
        if source == "mnist":
            add_digits_argument(command)
    command = add_command("moving-digits", help="make videos of moving digits")
    command.set_defaults(run=make_moving)
    add_moving_arguments(command)
    command = add_command("ratm-digits", help="make RATM's videos of moving digits")
    command.set_defaults(run=make_ratm)
    add_ratm_arguments(command)
    command = add_command("bouncing-balls", help="make videos of bouncing balls")
    command.set_defaults(run=make_balls)
    add_balls_arguments(command)
    command = add_command("clutter", help="make videos of an object to follow through clutter")
    command.set_defaults(run=make_clutter)
    add_clutter_arguments(command)
    command = add_command("pasted", help="make videos of parts of your pictures that move over others")
    command.set_defaults(run=make_pasted)
    add_pasted_arguments(command)
    command = add_command("spmot", help="make videos of coloured sprites that come and go, Sprites-MOT")
    command.set_defaults(run=make_spmot)
    add_spmot_arguments(command)
    command = add_command("coloured-balls", help="make videos of balls that hide each other and collide")
    command.set_defaults(run=make_coloured_balls)
    add_coloured_balls_arguments(command)


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


def add_pasted_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `pasted`."""
    parser.add_argument("folder", help="PNG and JPEG files, in it or in its folders; of each at most 32")
    parser.add_argument(
        "--split",
        choices=("train", "test"),
        default="train",
        help="made of the first nine tenths of the pictures, or of the rest (default: %(default)s)",
    )
    parser.add_argument("--size", type=int, default=300, metavar="N", help="videos (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument(
        "--image-size",
        nargs=2,
        type=int,
        default=(128, 128),
        metavar=("HEIGHT", "WIDTH"),
        help="of the frames in pixels (default: 128 128)",
    )
    parser.add_argument("--frames", type=int, default=30, help="of a video (default: %(default)s)")
    parser.add_argument("--output", required=True, metavar="FILE", help="HDF5 file to write")


def add_video_arguments(parser: argparse.ArgumentParser, size: int, frames: int) -> None:
    """Adds what the commands that make videos by a published recipe have in common."""
    parser.add_argument("--split", choices=("train", "test"), default="train", help="default: %(default)s")
    parser.add_argument("--size", type=int, default=size, metavar="N", help="videos (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--frames", type=int, default=frames, help="of a video (default: %(default)s)")
    parser.add_argument("--output", required=True, metavar="FILE", help="HDF5 file to write")


def add_spmot_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `spmot`."""
    add_video_arguments(parser, 9_600, 10)
    parser.add_argument(
        "--image-size", type=int, choices=(64, 128), default=64, help="side in pixels (default: %(default)s)"
    )
    parser.add_argument(
        "--identities",
        choices=("true", "slot"),
        default="true",
        help="of each object, or of the three slots as in the benchmark's labels (default: %(default)s)",
    )


def add_coloured_balls_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `coloured-balls`."""
    add_video_arguments(parser, 5_000, 100)
    names = [name.removeprefix("balls-") for name in BALLS]
    parser.add_argument("--set", choices=names, default="interaction", help="default: %(default)s")


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


def make_pasted(arguments: argparse.Namespace) -> int:
    """Makes videos of objects that are cut out of pictures and move over others."""
    recipe = PastedRecipe(image_size=tuple(arguments.image_size), frames=arguments.frames)
    pictures = load_pictures(arguments.folder, smallest=LEAST_SIDE)
    videos = pasted_videos(recipe, pictures, arguments.split, arguments.size, arguments.seed)
    parameters = {**dataclasses.asdict(recipe), "split": arguments.split, "pictures": len(pictures)}
    return save_generated(videos, "pasted", parameters, arguments)


def make_spmot(arguments: argparse.Namespace) -> int:
    """Makes videos of coloured sprites that come and go."""
    recipe = SpMOTRecipe(arguments.frames, arguments.image_size, arguments.identities)
    videos = spmot_videos(recipe, arguments.split, arguments.size, arguments.seed)
    parameters = {**dataclasses.asdict(recipe), "split": arguments.split}
    return save_generated(videos, "spmot", parameters, arguments)


def make_coloured_balls(arguments: argparse.Namespace) -> int:
    """Makes videos of coloured balls."""
    recipe = dataclasses.replace(BALLS[f"balls-{arguments.set}"], frames=arguments.frames)
    videos = coloured_ball_videos(recipe, arguments.split, arguments.size, arguments.seed)
    parameters = {**dataclasses.asdict(recipe), "split": arguments.split}
    return save_generated(videos, "coloured_balls", parameters, arguments)


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
