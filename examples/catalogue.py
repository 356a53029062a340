"""All programs and their commands, in a line each; and one name to run them by.

    whatwhere
    whatwhere sqair track --video clip.gif
    whatwhere zoo

`whatwhere sqair` is `whatwhere-sqair`. The list imports no program, since each takes seconds to import.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import NamedTuple

from whatwhere._version import __version__
from whatwhere.examples.common.launch import launch

__all__ = ["PROGRAMS", "Listed", "main"]

_HELD_OUT = ", and evaluate it on held-out ones."
_EXPORT = "Write a checkpoint to share: without the state of the optimiser, a third of its size."
_GENERATE = "Draw videos from a trained model, or go on from the first frames of a given one."


class Listed(NamedTuple):
    """A program."""

    about: str
    """What it is for, in a line."""
    commands: Mapping[str, str]
    """What each command does, in the words of its own help; none where the program is one command."""


PROGRAMS = {
    "air": Listed(
        "AIR: find, count and draw the objects of images",
        {
            "train": f"Train AIR to count, locate and draw the objects of images{_HELD_OUT}",
            "evaluate": "Evaluate a trained model on held-out images.",
            "detect": (
                "Find the objects of pictures, or of the frames of videos: a table of boxes, and pictures."
            ),
            "sample": "Draw scenes from a trained model's prior.",
        },
    ),
    "sqair": Listed(
        "SQAIR: find the objects of videos, follow each, imagine what comes",
        {
            "train": f"Train SQAIR to find and follow the objects of videos{_HELD_OUT}",
            "evaluate": "Evaluate a trained model on held-out videos.",
            "track": "Follow the objects of videos: a table of boxes with identities, and films with them.",
            "generate": _GENERATE,
            "export": _EXPORT,
        },
    ),
    "hart": Listed(
        "HART: follow one object through clutter and real video",
        {
            "train": f"Train HART to follow one object through videos{_HELD_OUT}",
            "cross-validate": "Train HART leaving out one person after another, and evaluate it on that one.",
            "evaluate": "Evaluate a trained tracker on held-out videos.",
            "track": "Follow one object through a video: a table of boxes, and an annotated film.",
            "export": _EXPORT,
        },
    ),
    "ratm": Listed(
        "RATM: follow one object by a window that moves before it looks",
        {
            "train": f"Train RATM to follow one object through videos{_HELD_OUT}",
            "cross-validate": "Train RATM leaving out one person after another, and evaluate it on that one.",
            "pretrain": "Train the classifier whose features, or whose opinion, a tracker is trained with.",
            "evaluate": "Evaluate a trained tracker on held-out videos.",
            "track": "Follow one object through a video: a table of boxes, and an annotated film.",
            "export": _EXPORT,
        },
    ),
    "glimpse-clouds": Listed(
        "Glimpse Clouds: look at the places of a video that tell what goes on",
        {
            "train": f"Train Glimpse Clouds to tell what goes on in videos{_HELD_OUT}",
            "cross-validate": "Train leaving out one person or camera after another, evaluating on that one.",
            "evaluate": "Evaluate a trained model on held-out videos.",
            "look": "Show where a model looks in a video of yours, and what it takes it for.",
            "export": _EXPORT,
        },
    ),
    "vrnn": Listed(
        "VRNN: the baseline of videos that knows no objects",
        {
            "train": f"Train a variational recurrent neural network on videos{_HELD_OUT}",
            "evaluate": "Evaluate a trained model on held-out videos.",
            "generate": _GENERATE,
            "export": _EXPORT,
        },
    ),
    "table1": Listed("SQAIR, AIR and VRNN compared as in table 1 of SQAIR's paper", {}),
    "data": Listed(
        "make, import, join, check and show data sets",
        {
            "multi-mnist": "make still images of several MNIST digits",
            "glyphs": "make still images of several printed digits",
            "moving-digits": "make videos of moving digits",
            "ratm-digits": "make RATM's videos of moving digits",
            "bouncing-balls": "make videos of bouncing balls",
            "clutter": "make videos of an object to follow through clutter",
            "pasted": "make videos of parts of your pictures that move over others",
            "spmot": "make videos of coloured sprites that come and go, Sprites-MOT",
            "coloured-balls": "make videos of balls that hide each other and collide",
            "kth": "join the KTH actions' videos with their boxes",
            "weizmann": "collect the Weizmann actions' silhouettes",
            "otb": "collect sequences of the Object Tracking Benchmark",
            "tld": "collect sequences of Tracking-Learning-Detection",
            "targets": "collect sequences in the layouts of VOT, LaSOT and GOT-10k",
            "kitti": "cut clips of one object each out of KITTI's drives",
            "scenes": "cut clips of one object each out of videos of several",
            "import": "collect a folder of PNG, JPEG, BMP, TIFF or WebP files, or videos",
            "look": "tell what is in images or a video, and which settings suit it",
            "clips": "cut clips out of videos, with all objects' boxes",
            "join": "join files whose frames have one size",
            "check": "read a whole file and report what is wrong with it",
            "show": "draw images and boxes into a picture",
        },
    ),
    "zoo": Listed(
        "the packaged checkpoints: where they are, what they were trained on, how good they are", {}
    ),
}
"""By the name that follows `whatwhere`, in the order of the list."""


def main(argv: Sequence[str] | None = None) -> int:
    """List the programs, or run one.

    Returns:
        the program's exit code; 2 if there is none of that name.
    """
    name, *rest = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help"):
        print("\n".join(_listing()))
        return 0
    if name == "--version":
        print(f"whatwhere {__version__}")
        return 0
    if name not in PROGRAMS:
        near = get_close_matches(name, PROGRAMS, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"expected one of {', '.join(PROGRAMS)}"
        print(f"whatwhere: error: there is no program `{name}`; {hint}", file=sys.stderr)
        return 2
    return launch(name, rest)


def _listing() -> list[str]:
    lines = ["usage: whatwhere PROGRAM [COMMAND] [--help]", ""]
    width = max(len(name) for program in PROGRAMS.values() for name in program.commands)
    for name, program in PROGRAMS.items():
        lines.append(f"{name}: {program.about}")
        lines += [f"    {command:{width}}  {line}" for command, line in program.commands.items()]
    return lines


if __name__ == "__main__":
    sys.exit(main())
