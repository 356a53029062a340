"""Videos that come part by part are inferred as if they came whole."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from whatwhere.datasets import MovingDigitsRecipe, moving_digit_videos
from whatwhere.examples.sqair import NetworkConfig, PriorConfig, SQAIRConfig, programs_of
from whatwhere.inference.evaluation import InferredPart, infer_parts, infer_video, long_videos
from whatwhere.inference.objectives import FrameError
from whatwhere.models.components.active_set import use_active_set

NETWORK = NetworkConfig(
    image_shape=(1, 32, 32), what_size=4, glimpse_size=8, hidden=12, narrow=8, presence_hidden=8
)


@pytest.fixture(scope="module")
def video() -> Tensor:
    data = moving_digit_videos(MovingDigitsRecipe(image_size=32, frames=9), "test", 3, 0, source="glyphs")
    return data.batch(range(3)).video.double()


def programs(model: str = "sqair", active_set: bool = False, stay_logit: float = 0.0):
    torch.manual_seed(1)
    config = SQAIRConfig(model=model, network=NETWORK, prior=PriorConfig(stay_logit=stay_logit))  # type: ignore[arg-type]
    made = programs_of(config)
    for program in made:
        program.double()  # how sums are rounded depends on the processor and on how many rows there are
    with torch.no_grad():
        for parameter in (p for program in made for p in program.parameters()):
            parameter.add_(0.05 * torch.randn_like(parameter))
    return use_active_set(*made, on=active_set) or made


def inferred(made, video: Tensor, cuts: Sequence[int], particles: int) -> list[InferredPart]:
    torch.manual_seed(2)
    parts = (video[:, start:stop] for start, stop in zip((0, *cuts), (*cuts, video.shape[1]), strict=True))
    return list(infer_parts(*made, parts, particles))


@pytest.mark.parametrize("model", ["sqair", "air"])
@pytest.mark.parametrize("active_set", [False, True])
@pytest.mark.parametrize("cuts", [(4,), (1, 2, 8)])
def test_where_a_video_is_cut_changes_nothing_but_which_samples_are_compared(
    model: str, active_set: bool, cuts: tuple[int, ...], video: Tensor
):
    # With one particle there is nothing to compare.
    made = programs(model, active_set)
    (whole,) = inferred(made, video, (), 1)
    parts = inferred(made, video, cuts, 1)
    frames = [frame for part in parts for frame in part.frames]
    assert len(frames) == len(whole.frames) == 9
    for a, b in zip(frames, whole.frames, strict=True):
        assert torch.equal(a.slots.identity, b.slots.identity)
        torch.testing.assert_close(a.slots.z_where, b.slots.z_where)
        torch.testing.assert_close(a.canvas, b.canvas)
    torch.testing.assert_close(sum(part.bound for part in parts), whole.bound)


def test_one_part_is_inferred_like_any_video(video: Tensor):
    made = programs()
    (part,) = inferred(made, video, (), 4)
    torch.manual_seed(2)
    for a, b in zip(part.frames, infer_video(*made, video, 4), strict=True):
        assert torch.equal(a.slots.z_pres, b.slots.z_pres)
        torch.testing.assert_close(a.canvas, b.canvas)


def test_all_samples_go_on_from_the_best_one(video: Tensor, monkeypatch: pytest.MonkeyPatch):
    states = []

    class Spy(long_videos.Stepper):
        def copy(self, ancestors: Tensor) -> None:
            super().copy(ancestors)
            states.append(self.state)

    monkeypatch.setattr(long_videos, "Stepper", Spy)
    before, after = inferred(programs(), video, (5,), 6)
    for state in states[:2]:  # the model's and the guide's
        for particle in range(6):
            for name in ("z_pres", "z_where", "z_what", "identity"):  # memories are their own
                carried, chosen = (getattr(s, name) for s in (state.slots, before.frames[-1].slots))
                assert torch.equal(carried[particle], chosen)
    for video_of in range(3):
        seen = {int(i) for frame in before.frames for i in frame.slots.identity[video_of]} - {-1}
        known = set(before.frames[-1].slots.identity[video_of].tolist()) - {-1}
        now = set(after.frames[0].slots.identity[video_of].tolist()) - {-1}
        assert all(new > max(seen, default=-1) for new in now - known)


def test_programs_without_frames_are_refused(video: Tensor):
    with pytest.raises(FrameError, match="unroll"):
        next(infer_parts(lambda video: [], lambda video: [], [video]))
