"""Makes, imports, checks and shows data sets in HDF5 files.

    whatwhere-data multi-mnist --recipe pyro --split train --size 60000 --output train.h5
    whatwhere-data glyphs --recipe static_sqair --max-objects 3 --size 10000 --output glyphs.h5
    whatwhere-data moving-digits --source glyphs --frames 10 --size 10000 --output moving.h5
    whatwhere-data ratm-digits --split test --frames 30 --size 10000 --output ratm.h5
    whatwhere-data ratm-digits --motion billiard --min-objects 2 --max-objects 2 --output ratm2.h5
    whatwhere-data bouncing-balls --size 10000 --output balls.h5
    whatwhere-data clutter --difficulty 0.5 --size 10000 --output clutter.h5
    whatwhere-data pasted my_pictures/ --size 1000 --output pasted.h5
    whatwhere-data spmot --split test --size 1000 --output spmot.h5
    whatwhere-data coloured-balls --set occlusion --output occlusion.h5
    whatwhere-data kth kth_videos/ --annotation KTHBoundingBoxInfo.txt --output kth.h5
    whatwhere-data weizmann weizmann/ --output weizmann.h5
    whatwhere-data otb otb/ --resize 240 320 --output otb.h5
    whatwhere-data tld tld/ --resize 240 320 --output tld.h5
    whatwhere-data targets vot/ --resize 240 320 --output vot.h5
    whatwhere-data kitti kitti/ --part train --frames 30 --output kitti_train.h5
    whatwhere-data kitti kitti/ --part test --frames 60 --output kitti_test.h5
    whatwhere-data scenes street/ --frames 60 --min-side 8 --resize 128 128 --output street.h5
    whatwhere-data join otb.h5 tld.h5 street.h5 --output real.h5
    whatwhere-data import my_images/ --resize 50 50 --grey --output mine.h5
    whatwhere-data look street.mp4 --output look.png
    whatwhere-data clips street.mp4 --frames 5 --crop 64 64 --background median --output clips.h5
    whatwhere-data check mine.h5
    whatwhere-data show mine.h5 --output mine.png

`multi-mnist` and `glyphs` make the same images of different digits: MNIST's, which are fetched once if they
are not here, or digits of the fonts that come with Matplotlib, which need no network. `moving-digits` makes
SQAIR's videos of either, `ratm-digits` and `bouncing-balls` those of RATM, `clutter` those of an object to
follow among others, and `pasted` the same of parts of your own pictures. `spmot` makes the videos of a
benchmark of following objects, `coloured-balls` those on which predictions are measured. `kth` cuts the KTH
actions' clips out of their videos and joins them with the boxes of Jiang, Lin and Davis; `weizmann` collects
the silhouettes of the Weizmann actions; `targets` collects sequences in the layouts of VOT, LaSOT and
GOT-10k. `scenes` cuts clips of one object each out of annotated videos of several. `join` makes one file of
several, whose groups stay apart. `look` tells what is in a user's images or video and which settings suit it,
and `clips` cuts pieces out of one, which remember where in its frames they are from. `show` draws a video as
a strip of its frames.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np

from whatwhere.datasets import JoinedVideos, VideoStore, check, contact_sheet, save_video_parts
from whatwhere.datasets.storage import FRAME_LABELS, VideoData
from whatwhere.examples.common.program import exit_code, run_command, usage_errors
from whatwhere.examples.parts.data_cut import add_cutting_commands
from whatwhere.examples.parts.data_generated import add_generating_commands
from whatwhere.examples.parts.data_imported import add_importing_commands
from whatwhere.files import atomic_path


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Returns:
        0, or 1 if `check` found a problem; else see `exit_code`.
    """
    parser = build_parser()
    given = list(sys.argv[1:] if argv is None else argv)

    def work() -> int:
        arguments = parser.parse_args(given)
        with usage_errors():
            return run_command(arguments.run, arguments)

    return exit_code(" ".join([parser.prog, *given[:1]]), work)


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
    add_generating_commands(commands.add_parser)
    add_importing_commands(commands.add_parser)
    add_cutting_commands(commands.add_parser)
    command = commands.add_parser("join", help="join files whose frames have one size")
    command.set_defaults(run=join)
    command.add_argument("files", nargs="+", metavar="FILE", help="HDF5 files, in the order of their videos")
    command.add_argument("--output", required=True, metavar="FILE", help="HDF5 file to write")
    command = commands.add_parser("check", help="read a whole file and report what is wrong with it")
    command.set_defaults(run=check_file)
    command.add_argument("file")
    command = commands.add_parser("show", help="draw images and boxes into a picture")
    command.set_defaults(run=show)
    command.add_argument("file")
    command.add_argument("--output", required=True, metavar="PNG", help="picture to write")
    command.add_argument("--start", type=int, default=0, help="first image or video (default: %(default)s)")
    command.add_argument("--number", type=int, help="how many (default: 64 images or 8 videos)")
    command.add_argument(
        "--every", type=int, default=1, metavar="N", help="show every N-th frame (default: %(default)s)"
    )
    command.add_argument("--zoom", type=int, default=3, help="enlargement of a pixel (default: %(default)s)")
    return parser


def join(arguments: argparse.Namespace) -> int:
    """Joins files, and tells which groups each has become and which labels were left out."""
    data = JoinedVideos(arguments.files)
    groups = [sorted(set(rows.tolist())) for rows in data.groups]
    names = [path.name for path in data.paths]
    parameters = {"files": names, "groups": groups, "left_out": data.left_out}
    save_video_parts(arguments.output, data.parts(), generator="join", parameters=parameters)
    for path, rows, own in zip(data.paths, data.groups, groups, strict=True):
        which = f"groups {own[0]} to {own[-1]}" if len(own) > 1 else f"group {own[0]}"
        print(f"{path}: {len(rows)} videos, {which}")
    left_out = f"; left out, since not all files have them: {', '.join(data.left_out)}"
    videos, frames = data.shape[:2]
    print(f"{arguments.output}: {videos} videos of up to {frames} frames{left_out if data.left_out else ''}")
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
    if arguments.every < 1:
        raise ValueError(f"--every must be at least 1, got {arguments.every}.")
    chosen = np.arange(arguments.start, min(arguments.start + number, len(data)))
    sheet = contact_sheet(every_frame(data.subset(chosen), arguments.every), zoom=arguments.zoom)
    with atomic_path(Path(arguments.output)) as temporary:
        sheet.save(temporary, format="PNG")
    print(f"{arguments.output}: {len(chosen)} of {len(data)}")
    return 0


def every_frame(data: VideoData, step: int) -> VideoData:
    """The first frame of each video, and each that is `step` after one of these."""
    labels = {name: x[:, ::step] if name in FRAME_LABELS else x for name, x in data.labels().items()}
    return VideoData(data.video[:, ::step], **labels)


if __name__ == "__main__":
    sys.exit(main())
