"""A look ahead before the first frame is drawn: against arithmetic, and two bars that come apart."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import Tensor

import whatwhere
from whatwhere.examples.sqair import NetworkConfig, PriorConfig, build, restore
from whatwhere.guides.hindsight import first_objects
from whatwhere.inference.evaluation import log_marginal
from whatwhere.models.components.frames import Frames
from whatwhere.models.components.slots import TrackedSlots

PACKAGED = Path(whatwhere.__file__).parent / "examples" / "pretrained" / "sqair-mnist.pt"
SMALL = NetworkConfig(image_shape=(1, 50, 50), hidden=8, what_hidden=8)
LEAST, SCALE = 3.0, 0.2


def explained(image: Tensor, free: Tensor, found: TrackedSlots) -> Tensor:
    """Objects are as bright in all pixels as the first component of their places says."""
    return found.z_where[:, :, 0].sum(-1, keepdim=True).expand(-1, image[0].numel())


class Discovery:
    """What is asked of one."""

    least, scale = LEAST, SCALE
    explained = staticmethod(explained)

    @contextmanager
    def asking(self, least: float) -> Iterator[None]:
        self.least = least
        yield
        self.least = LEAST


DISCOVERY: Any = Discovery()


class Unroll:
    """A guide that sees one object, and keeps it: as bright as it is told, or as the next of a list."""

    def __init__(self, *brightness: list[float]) -> None:
        self.brightness = list(brightness)
        self.calls: list[tuple[Tensor, TrackedSlots | None]] = []
        self.asked: list[float] = []

    def __call__(self, video: Tensor, known: TrackedSlots | None) -> Frames:
        self.calls.append((video, known))
        self.asked.append(DISCOVERY.least)
        bright = torch.tensor(self.brightness.pop(0)) if known is None else known.z_where[:, 0, 0]
        pyro.sample(f"seen/{len(self.calls)}", dist.Normal(0.0, 1.0))  # random, as a guide is
        here = torch.stack([(bright > 0).float(), torch.zeros_like(bright)], -1)
        where = bright.view(-1, 1, 1) * here.unsqueeze(-1)
        found = TrackedSlots(here, where, where, where, torch.zeros_like(here).long())
        return Frames(None, [lambda state: (found, state)] * video.shape[1])


def video_of(*rows: list[float]) -> Tensor:
    """Videos of frames of two pixels, given their brightness."""
    return torch.tensor(rows)[:, :, None, None, None].expand(-1, -1, 1, 1, 2).contiguous()


def cost(frames: list[float], bright: float) -> float:
    left = sum(2 * (pixel - min(bright, 1.0)) ** 2 for pixel in frames)
    return left / (2 * SCALE**2) + 2 * LEAST * (bright > 0)


def test_the_start_from_which_frames_are_explained_best_is_taken():
    frames = [0.9, 0.5, 0.3, 0.4, 2.0]
    video = video_of([0.5] * 5, frames, [0.0] * 5)
    tried = [2.2, 0.9, 0.45, 0.6, 0.7, 0.5, 0.95]
    unroll = Unroll([0.4, 2.2, 0.0], *([bright] for bright in tried[1:]))
    with poutine.trace() as outside:
        found = first_objects(unroll, DISCOVERY, video, ahead=3)
    assert found is not None
    best = min(tried, key=lambda bright: cost(frames[:4], bright))
    assert best == 0.5, "neither the first nor the last that is tried"
    assert found.z_pres.tolist() == [[0, 0], [1, 0], [0, 0]]
    assert found.z_where[1, 0, 0].item() == pytest.approx(best)
    assert not outside.trace.nodes, "what is drawn to look ahead is no statement"
    assert torch.equal(unroll.calls[3][0][0], video[1, [2, 1, 0]])
    # All are followed once; then one, backwards from each frame that is looked at, and forwards again; and
    # once more, looking for what is faint, since the best so far leaves much of the first frame.
    shapes = [tuple(video.shape[:2]) for video, _ in unroll.calls]
    assert shapes == [(3, 4), *2 * [(1, 2), (1, 4), (1, 3), (1, 4), (1, 4), (1, 4)]]
    assert unroll.asked == [*7 * [LEAST], *3 * [LEAST / 2, LEAST]]


def test_faint_objects_are_not_looked_for_where_all_is_explained_without():
    unroll = Unroll([2.2], [2.1], [0.55], [0.6])
    found = first_objects(unroll, DISCOVERY, video_of([0.55] * 4), ahead=3)
    assert found is not None
    assert found.z_where[0, 0, 0].item() == pytest.approx(0.55)
    assert unroll.asked == 7 * [LEAST]


def test_an_object_more_must_be_worth_it():
    """Without it a little more is left than an object must explain, in one frame, or in two."""
    for second, taken in ((0.0, False), (0.2, False), (0.36, True)):
        frames = [0.36, second]
        assert LEAST < cost([0.36], 0.0) < LEAST + 0.3
        assert (cost(frames, 0.3) < cost(frames, 0.0)) == taken
        found = first_objects(Unroll([0.0], [0.3], [0.3]), DISCOVERY, video_of(frames), ahead=1)
        assert (found is not None) == taken


def test_nothing_is_looked_at_again_where_all_is_explained():
    unroll = Unroll([0.4, 0.0])
    assert first_objects(unroll, DISCOVERY, video_of([0.5] * 4, [0.1] * 4), ahead=3) is None
    assert len(unroll.calls) == 1
    assert first_objects(Unroll([0.0]), DISCOVERY, video_of([1.0]), ahead=3) is None  # there is no next frame


@pytest.mark.parametrize(("first", "again"), [(0.48, True), (0.50, False)])
def test_a_first_frame_that_is_not_explained_at_all_is_not_looked_at_again(first: float, again: bool):
    """A model that has learned nothing yet leaves too much of every frame."""
    unroll = Unroll([0.0], [0.0], [0.0])
    assert (cost([first], 0.0) < 2 * LEAST) == again
    assert first_objects(unroll, DISCOVERY, video_of([first, 0.1]), ahead=1) is None
    assert (len(unroll.calls) > 1) == again


def bars(frames: int) -> Tensor:
    """Two bars six pixels from each other, each of which goes away from the other by three a frame."""
    video = torch.zeros(1, frames, 1, 50, 50)
    for t in range(frames):
        for x in (22 - 3 * t, 28 + 3 * t):
            video[0, t, 0, 16:32, x : x + 2] = 1.0
    return video


def counts(frames: Sequence[Any]) -> list[int]:
    return [int(frame.z_pres.sum()) for frame in frames]


def test_two_bars_that_come_apart_are_two_from_the_start():
    """One picture, that of an 11, is of both, and the packaged model sees one digit in the first frame."""
    model, guide = (program.eval() for program in restore(PACKAGED, torch.device("cpu"))[1])
    video = bars(3)
    found, bounds = {}, {}
    for ahead in (0, 2):
        guide.hindsight = ahead
        torch.manual_seed(0)
        with torch.no_grad():
            trace = poutine.trace(guide).get_trace(video)
        found[ahead] = counts(trace.nodes["_RETURN"]["value"]), [*trace.nodes]
        bounds[ahead] = log_marginal(model, guide, video, num_particles=2).item()
    assert found[0][0][0] == 1
    assert found[2][0] == [2, 2, 2]
    assert found[0][1] == found[2][1], "the same statements"
    assert bounds[2] > bounds[0] + 100
    state = torch.get_rng_state()
    guide.unroll(video)
    assert torch.equal(torch.get_rng_state(), state), "it looks ahead when the first frame is drawn"


def test_while_it_learns_it_does_not_look_ahead():
    network = replace(SMALL, explain_away=True, hindsight=3)
    guide = build(network, PriorConfig()).guide
    sampled = []
    for training, ahead in ((True, 3), (True, 0)):
        guide.train(training)
        guide.hindsight = ahead
        torch.manual_seed(0)
        with torch.no_grad():
            sampled.append(poutine.trace(guide).get_trace(bars(4)).log_prob_sum())
    assert torch.equal(*sampled)


def test_it_is_for_what_explains_away():
    with pytest.raises(ValueError, match="`hindsight` is for"):
        NetworkConfig(hindsight=3)
    guide = build(SMALL, PriorConfig()).guide
    arguments = [guide.propagation, guide.discovery, guide.latent_encoder]
    with pytest.raises(ValueError, match="needs an `ExplainingDiscovery`, got `discovery` Discovery"):
        type(guide)(*arguments, hindsight=2)
    guide = build(replace(SMALL, explain_away=True, background="static"), PriorConfig()).guide
    arguments = [guide.propagation, guide.discovery, guide.latent_encoder]
    with pytest.raises(ValueError, match="objects on black"):
        type(guide)(*arguments, background=guide.background, hindsight=2)
    with pytest.raises(ValueError, match="`hindsight` is for"):
        replace(SMALL, explain_away=True, background="static", hindsight=2)
