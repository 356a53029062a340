"""Finding the objects of a user's pictures, or of the frames of videos, with AIR."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from whatwhere import checks
from whatwhere.datasets import Frames, count_videos, frame_names, own_frames, video_name
from whatwhere.examples.common.assessment import print_assessment, warn_of_unknown
from whatwhere.examples.common.films import Animation, require_rate, write_film
from whatwhere.examples.common.recorded import RecordedConfig
from whatwhere.examples.common.results import (
    Format,
    Results,
    print_summary,
    results,
    table_path,
    write_summary,
)
from whatwhere.examples.common.video_models import user_frames
from whatwhere.inference.evaluation import (
    Assessor,
    COCOImage,
    Known,
    explained_shares,
    infer_best_scene,
    object_boxes,
)
from whatwhere.inference.pictures import overlay_pictures, reconstruction_picture, save_picture
from whatwhere.inference.training import check_device, positional_field

_AT_ONCE = 50
"""Pictures that are in memory at a time."""
_SHOWN = 10
"""Pictures whose reconstructions are shown."""


@dataclass(frozen=True)
class DetectConfig:
    """Find the objects of pictures, or of the frames of videos: a table of boxes, and pictures."""

    checkpoint: Path
    """The checkpoint of a training run."""
    source: Path = positional_field()
    """A folder of pictures of any sizes, or a video: a file, an animated GIF, an `.npz` or an HDF5 file, see
    `whatwhere.datasets.load_clips`.
    """
    output: Path = Path("detections")
    """Folder for the table `detections`, whose boxes are in the user's pixels, the pictures or the film with
    what was found, `reconstructions.png` with what the model makes of the first ones, and `summary.json`.
    """
    format: Format = "csv"
    """Of the table: CSV, see `inference.evaluation.tracks_file`; or what the MOTChallenge's or COCO's
    programs read.
    """
    particles: int = 10
    """Posterior samples of each picture; the one of greatest weight is taken."""
    pictures: int = 100
    """Number of pictures of a folder that are drawn with what was found, the first ones."""
    animation: Animation = "auto"
    """Format of a video's film: GIF, or MP4, which needs PyAV, `pip install whatwhere[video]`. By default a
    short one is a GIF, and another one MP4 where that is installed.
    """
    fps: float | None = None
    """Frames per second of the film; by default those of the video, or 8."""
    seed: int = 0
    """Seed of the posterior samples."""
    device: str = "cpu"
    """`cpu`, `cuda`, or `auto`."""

    def __post_init__(self) -> None:
        check_device(self.device)
        checks.literals(self)
        checks.positive(self, "particles", "fps")
        checks.not_negative(self, "pictures")
        require_rate(self.animation, self.fps)
        checks.seed(self, "seed")


class _Frame(NamedTuple):
    """A frame of a user's."""

    video: int
    number: int
    own: npt.NDArray[np.uint8]
    """As it is, `(3, H, W)`."""
    given: npt.NDArray[np.uint8]
    """What the model is given of it, `(C, h, w)`."""


class _Found(NamedTuple):
    """What was found in a frame, in its own pixels."""

    frame: _Frame
    boxes: Tensor
    """`(N, 4)`."""
    present: Tensor
    """`(N,)`."""
    scores: Tensor
    """`(N,)`."""

    def picture(self) -> Image.Image:
        """The frame with its objects, which are numbered."""
        own, names = torch.tensor(self.frame.own), torch.arange(len(self.present))
        return next(overlay_pictures(own[None], self.boxes[None], self.present[None], names[None]))


class Detector:
    """Finds the objects of a user's pictures.

    Args:
        options: of the command.
        image_shape: channels, height and width that the model was trained on; frames are resized to it, as
            those of training are.
        model: as `models.AIR`, on the device.
        guide: as `guides.AIRGuide`.
        device: where they are.
        data: of the training run: what was done to its frames is done to these.
    """

    def __init__(
        self,
        options: DetectConfig,
        image_shape: tuple[int, int, int] | None,
        model: Any,
        guide: Any,
        device: torch.device,
        data: RecordedConfig | None = None,
    ) -> None:
        self.options, self.image_shape, self.device, self.data = options, image_shape, device, data
        self.model, self.guide = model, guide
        self.assessor = Assessor(model)
        self.bits = 16 if data is None else data.bits
        self.videos = count_videos(options.source)
        self.first = self._open(0)

    def run(self, known: Known) -> None:
        """Write boxes and pictures as they come, and print what was found.

        Args:
            known: of training.

        Raises:
            DataError: if the pictures cannot be read.
        """
        options, path = self.options, self.options.output / "detections"
        stills = self.videos == 1 and (options.source.is_dir() or self.first.length == 1)
        videos = () if stills else tuple(video_name(options.source, each) for each in range(self.videos))
        self.video, self.name = 0, frame_names(options.source)
        with results(path, options.format, self._image, videos=videos, scores=True, files=stills) as table:
            found = self._found(table)
            if options.source.is_dir() and self.videos == 1:
                self._save_pictures(found)
            else:
                pages = (each.picture() for each in found if each.frame.video == 0)
                write_film(path, pages, self.first, options.animation, options.fps)
            for _ in found:
                pass
            summary = table.summary()
        assessment = self.assessor.assessment(known)
        write_summary(options.output, summary, "objects", assessment=assessment)
        print(f"boxes:     {table_path(path, options.format, len(videos))}")
        print_summary(summary, "objects")
        print_assessment(assessment, assessment.of_model())
        warn_of_unknown(options.source, [assessment.unknown()])

    def _open(self, video: int) -> Frames:
        return user_frames(self.options.source, self.image_shape, True, video, data=self.data)

    def _image(self, video: int, frame: int) -> COCOImage:
        """What there is to be told of the frame that is being written."""
        if video != self.video:
            self.video, self.name = video, frame_names(self.options.source, video)
        return COCOImage(self.name(frame), *self.size)

    def _frames(self) -> Iterator[_Frame]:
        for video in range(self.videos):
            own = own_frames(self.options.source, video, bits=self.bits)
            for number, (pixels, given) in enumerate(zip(own, self._open(video), strict=False)):
                yield _Frame(video, number, pixels, given)

    def _found(self, table: Results) -> Iterator[_Found]:
        """Everything that is found, picture by picture; the boxes of each are written before it is given."""
        frames = self._frames()
        while some := list(islice(frames, _AT_ONCE)):
            images = torch.from_numpy(np.stack([frame.given for frame in some])).to(self.device).float() / 255
            scene = infer_best_scene(self.model, self.guide, images, self.options.particles)
            boxes = object_boxes(scene.objects)
            present = (scene.present & (boxes[..., 2] > 0)).cpu()
            scores = explained_shares(images, scene.canvas, scene.objects, boxes).cpu()
            self.assessor.add(images, scene.bound, present)
            if some[0].video == some[0].number == 0:
                fields = (images, scene.canvas, boxes, present, scene.objects)
                shown, canvas, places, here, objects = (field[:_SHOWN].cpu() for field in fields)
                picture = reconstruction_picture(shown, canvas, places, here, objects=objects)
                save_picture(self.options.output / "reconstructions.png", picture)
            for frame, places, here, sure in zip(some, boxes.cpu(), present, scores, strict=True):
                self.size = frame.own.shape[1:]
                found = _Found(frame, places * _scale(frame), here, sure)
                row = (found.boxes, here, torch.arange(len(here)), sure)
                table.write(*(x.unsqueeze(0) for x in row), video=frame.video, frame=frame.number)
                yield found

    def _save_pictures(self, found: Iterator[_Found]) -> None:
        folder = self.options.output / "pictures"
        names = [Path(self.name(number)) for number in range(self.first.count())]
        stems = Counter(name.with_suffix("") for name in names)
        for each in islice(found, self.options.pictures):
            name = names[each.frame.number]
            alone = stems[name.with_suffix("")] == 1  # and not `1.jpg` beside `1.png`
            save_picture(folder / (name.with_suffix(".png") if alone else f"{name}.png"), each.picture())
        print(f"pictures:  {folder}")


def _scale(frame: _Frame) -> Tensor:
    """Factors `(4,)` that turn boxes in what the model is given into those of the user's frame."""
    height, width = (
        own / given for own, given in zip(frame.own.shape[1:], frame.given.shape[1:], strict=True)
    )
    return torch.tensor([width, height]).repeat(2)
