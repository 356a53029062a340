"""Provokes what can go wrong, for the pictures of `troubleshooting.md`.

    python docs/symptoms.py                   # all of them, some six minutes of processor time
    python docs/symptoms.py one-box black

Each is a run of the programs that did go wrong, or a packaged model that was given what it does not know,
and beside it one that did not. Pictures are `docs/symptoms/NAME.png`. What diverges goes on from a run of the
presets `glyphs` and `glyphs-10`, an hour of a core, which has to be there.
"""

import math
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyro
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from pyro.infer import SVI
from pyro.optim import Adam
from torch import Tensor

from whatwhere.datasets import (
    MovingDigitsRecipe,
    PyroRecipe,
    load_clips,
    moving_digit_videos,
    multi_object_images,
)
from whatwhere.examples import air, hart, sqair
from whatwhere.guides import AIRGuide
from whatwhere.inference.evaluation import (
    Tracks,
    found_tracks,
    infer_scene,
    infer_video,
    object_boxes,
    tracking_counts,
    tracks_by_slot,
)
from whatwhere.inference.objectives import MarginalELBO
from whatwhere.inference.pictures import (
    Caption,
    TrackedVideo,
    draw_boxes,
    film_strip,
    grid,
    save_picture,
    slot_colour,
    tracking_strips,
    upscale,
)
from whatwhere.inference.training import read_log
from whatwhere.models import AIR

FOLDER = Path(__file__).parent / "symptoms"
PUBLISHED = Path("runs/sqair-glyphs-10/checkpoint.pt")
CPU = torch.device("cpu")
RUNS = Path("runs/symptoms")


def run(main: Callable[[list[str]], int], name: str, options: str, fails: bool = False) -> Path:
    """The folder of a training by a program of the command line; one that came to its end is taken again."""
    folder = RUNS / name
    if not (folder / "metrics.json").exists():
        command = ["train", f"--output={folder}", "--overwrite", "--training.evaluate-every=none"]
        assert (main([*command, *options.split()]) != 0) == fails
    return folder


def steps_of(folder: Path) -> list[dict[str, Any]]:
    """The lines of a log that tell of training."""
    return [line for line in read_log(folder / "log.jsonl") if line["event"] == "train"]


def axes(count: int) -> tuple[Figure, Any]:
    """A figure with some axes side by side."""
    figure = Figure(figsize=(4 * count, 2.6), layout="constrained")
    return figure, figure.subplots(1, count)


def line(number: int, label: str) -> dict[str, Any]:
    """What a curve is drawn with, in the colours of slots."""
    return {"label": label, "color": [part / 255 for part in slot_colour(number)]}


def drawn(figure: Figure) -> Image.Image:
    """A figure as an image."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba()).convert("RGB")


# Images: AIR, trained with an option that does not fit, and without it.


def trained_air(name: str, options: str) -> air.Programs:
    """AIR after some steps of the demo."""
    folder = run(air.main, name, f"--preset demo --data.test-images 50 --iwae-particles 1 {options}")
    return air.restore(folder / "checkpoint.pt", CPU)[1]


def beside_healthy(name: str, options: str, said: str) -> Image.Image:
    """Held-out images, what a run with `options` found in them, and what one without did."""
    data = multi_object_images(PyroRecipe(), "test", 60, seed=1, source="glyphs")
    batch = data.batch(range(60))
    images = batch.images[batch.count[:, 0] == 2][:8]
    rows = [[upscale(image, 2) for image in images]]
    ill = trained_air(name, f"{options} --training.steps 600")
    for model, guide in (ill, trained_air("healthy", "--training.steps 1500")):
        torch.manual_seed(0)
        with torch.no_grad():
            scene = infer_scene(model, guide, images)
        found = zip(scene.canvas, object_boxes(scene.objects), scene.slots.z_pres, strict=True)
        rows.append([draw_boxes(upscale(canvas, 2), boxes, here, factor=2) for canvas, boxes, here in found])
    return grid(rows, ["image", Caption("what it draws", said), Caption("what it draws", "by default")])


def one_box() -> Image.Image:
    """The first video of the picture beside table 1, whose rows are SQAIR and AIR."""
    whole = Image.open(Path(__file__).parent / "overlaps.png")
    return whole.crop((0, 0, 870, 496))


def black() -> Image.Image:
    """Pixels that count so little that no object is worth its price."""
    return beside_healthy("black", "--prior.likelihood-scale 1", "objects not worth it")


# Videos: the packaged SQAIR.


def packaged_video() -> Tensor:
    """`(1, 10, 1, 50, 50)`, two digits on black."""
    return load_clips(sqair.EXAMPLE).batch([0]).video


def on_grey(video: Tensor) -> Tensor:
    """The same on a ground of a quarter of white."""
    return 0.75 * video + 0.25


def follow(video: Tensor, let_go: bool = False) -> tuple[Tensor, Tracks]:
    """What it draws, and the objects that it follows."""
    _, (model, guide) = sqair.restore(sqair.PRETRAINED, CPU)
    torch.manual_seed(0)
    with torch.no_grad():
        if let_go:
            guide.propagation.presence_head[-1].bias -= 30
        frames = infer_video(model, guide, video)
    tracks = found_tracks([frame.slots for frame in frames], model.decoder.boxes)
    return torch.stack([frame.canvas for frame in frames], 1), tracks


def strip(parts: list[tuple[str, Tensor, Tensor, Tracks]]) -> Image.Image:
    """For each part its frames, and what was made of them, with the same boxes."""
    rows = [row for _, video, canvas, _ in parts for row in (video, canvas)]
    labels = [label for name, *_ in parts for label in (name, "what SQAIR draws")]
    return film_strip(rows, labels, [tracks for *_, tracks in parts for _ in range(2)], factor=2)


def of(tracks: Tracks, number: int) -> Tracks:
    """The objects of one video, without the axis of the batch."""
    return Tracks(*(field[number] for field in tracks))


def one(tracks: Tracks, number: int) -> Tracks:
    """The objects of one video, as a batch of one."""
    return Tracks(*(field[number : number + 1] for field in tracks))


def three_objects() -> Image.Image:
    """A grey ground, which can only be drawn by objects."""
    video = packaged_video()[:, :8]
    given = torch.cat([on_grey(video), video])
    canvas, tracks = follow(given)
    names = ("grey ground", "the same on black")
    return strip([(name, given[i], canvas[i], of(tracks, i)) for i, name in enumerate(names)])


def rediscovered() -> Image.Image:
    """A guide that lets go of every object, since its bias of staying was lowered by 30."""
    video = moving_digit_videos(MovingDigitsRecipe(), "test", 4, seed=0, source="glyphs").batch([1]).video
    gone, kept = follow(video, let_go=True), follow(video)
    names = ("lets go", "as it was trained")
    return strip(
        [
            (name, video[0], canvas[0], of(tracks, 0))
            for name, (canvas, tracks) in zip(names, (gone, kept), strict=True)
        ]
    )


def swapped() -> Image.Image:
    """Of 300 held-out videos the one with most exchanges of identities."""
    data = moving_digit_videos(MovingDigitsRecipe(), "test", 300, seed=0, source="glyphs")
    batch = data.batch(range(300))
    canvas, tracks = follow(batch.video)
    true = tracks_by_slot(batch.boxes, batch.boxes[..., 2] > 0)
    switches = [tracking_counts(one(tracks, i), one(true, i)).switches for i in range(300)]
    worst = switches.index(max(switches))
    return strip([("digits that cross", batch.video[worst], canvas[worst], of(tracks, worst))])


def diverged() -> Image.Image:
    """SQAIR as published, trained on with too great a learning rate while videos become longer."""
    figure, (bound, norm) = axes(2)
    for number, rate in ((1, "3e-3"), (0, "1e-4")):
        options = (
            f"--preset glyphs-10 --initial {PUBLISHED} --learning-rate {rate} --training.steps 72 "
            "--first-frames 2 --stage-steps 6 --hold-steps 0 --batch-size 8 --training.log-every 1 "
            "--data.test-videos 8"
        )
        steps = steps_of(run(sqair.main, f"diverged-{rate}", options))
        x = [step["step"] for step in steps]
        frames = [min(10, 2 + (step - 1) // 6) for step in x]
        style = line(number, f"learning rate {rate}")
        bound.plot(x, [step["bound"] / count for step, count in zip(steps, frames, strict=True)], **style)
        norm.semilogy(x, [max(step["gradient_norm"], 1) for step in steps], **style)
    bound.set(xlabel="step; a frame more every 6 steps", ylabel="bound, nats a frame")
    norm.set(xlabel="step", ylabel="gradient norm")
    norm.legend(frameon=False, fontsize="small")
    return drawn(figure)


def not_finite() -> Image.Image:
    """AIR at a learning rate of 30, which stops, and at that of the demo."""
    figure, (bound, skipped) = axes(2)
    for number, rate, most in ((1, "30", 200), (0, "2e-3", 20)):
        options = (
            "--preset demo --data.train-images 2000 --data.test-images 50 --iwae-particles 1 "
            f"--learning-rate {rate} --final-learning-rate {rate} --training.steps {most} "
            "--training.log-every 1"
        )
        steps = steps_of(run(air.main, f"not-finite-{rate}", options, fails=rate == "30"))
        x, style = [step["step"] for step in steps], line(number, f"learning rate {rate}")
        bounds = [math.nan if step["bound"] is None else step["bound"] for step in steps]
        bound.plot(x, bounds, marker="o", **style)
        skipped.plot(x, [step["skipped"] for step in steps], marker="o", **style)
    bound.set_yscale("symlog", linthresh=1e6)
    bound.set(xlabel="step", ylabel="bound, nats", yticks=[-1e12, -1e9, -1e6, 0])
    skipped.set(xlabel="step", ylabel="steps skipped")
    skipped.legend(frameon=False, fontsize="small")
    return drawn(figure)


def svi_again() -> Image.Image:
    """AIR trained by `SVI`, and anew in the same process, without and with another store."""
    images = multi_object_images(PyroRecipe(), "train", 32, seed=0, source="glyphs").batch(range(32)).images
    figure, bound = axes(1)
    named = ("the first", "a second", "after clear_param_store()")
    for number, label in ((2, named[0]), (1, named[1]), (0, named[2])):
        if label != named[1]:
            pyro.clear_param_store()
        bounds = svi_bounds(images, seed=number)
        bound.plot(range(len(bounds)), bounds, **line(number, label))
    bound.set(xlabel="step", ylabel="bound, nats")
    bound.legend(frameon=False, fontsize="small")
    return drawn(figure)


def svi_bounds(images: Tensor, steps: int = 40, seed: int = 0) -> list[float]:
    """The bound of each step of a new AIR, which sees the same images in all of them."""
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the store has others: it is shown
        svi = SVI(AIR(), AIRGuide(), Adam({"lr": 1e-3}), loss=MarginalELBO())
        return [-svi.step(images) / len(images) for _ in range(steps)]


def growing_box() -> Image.Image:
    """HART that was trained on five frames of a few objects, beside the packaged one."""
    options = (
        "--preset general --training.steps 60 --first-frames 5 --frames 5 --data.test-videos 8 "
        "--test-frames 5"
    )
    _, small = hart.restore(run(hart.main, "growing-box", options) / "checkpoint.pt", CPU)
    _, packaged = hart.restore(hart.PRETRAINED, CPU)
    clip = load_clips(hart.EXAMPLE, size=(128, 128)).batch([0])
    truth = clip.boxes[:, :, 0]
    rows = []
    for tracker in (small, packaged):
        with torch.no_grad():
            tracks = tracker(clip.video, truth[:, 0])
        rows.append(TrackedVideo(clip.video[0], tracks.boxes[0], truth[0]))
    labels = ["sizes learned from five frames", "evidence, bounded sizes"]
    picture = tracking_strips(rows, labels, columns=6, factor=1)
    return picture.quantize(64)  # textures take a third of the room


SYMPTOMS = {
    "three-objects": three_objects,
    "one-box": one_box,
    "black": black,
    "rediscovered": rediscovered,
    "swapped": swapped,
    "diverged": diverged,
    "growing-box": growing_box,
    "not-finite": not_finite,
    "svi-again": svi_again,
}


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    FOLDER.mkdir(exist_ok=True)
    for name in sys.argv[1:] or SYMPTOMS:
        save_picture(FOLDER / f"{name}.png", SYMPTOMS[name]())
