"""A camera's image behind the objects: the part that is seen is found, and the model is that of the part."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from pyro import poutine
from torch import Tensor

from whatwhere.examples.parts.sqair_programs import refitted
from whatwhere.examples.sqair import NetworkConfig, PriorConfig, Programs, SQAIRConfig, build
from whatwhere.guides import CameraBackgroundGuide
from whatwhere.inference.evaluation import empty_scene_bound, infer_parts, watched_metrics
from whatwhere.inference.evaluation.assessment import objects_in
from whatwhere.inference.objectives import FIVO, VIMCO
from whatwhere.models import SQAIR, CameraBackground
from whatwhere.models.components.active_set import use_active_set
from whatwhere.models.components.contrast import Contrast

WHOLE, SIDE, FRAMES = (15, 17), (12, 11), 3
NETWORK = NetworkConfig(
    "mlp", (1, *SIDE), 2, 3, 5, 8, 6, 6, background="camera", camera=WHOLE, clamp=True, discovery="evidence"
)
PRIOR = PriorConfig(stay_logit=0.5, where="fixed", object_size=(5.0, 5.0), size_scale=0.3, price=2.0)


def camera(mirror: bool = True) -> CameraBackground:
    torch.manual_seed(1)
    return CameraBackground(0.1 + 0.8 * torch.rand(2, *WHOLE, dtype=torch.float64), SIDE, mirror)


def varied(**options: Any) -> Programs:
    """Model and guide with parameters off their start."""
    torch.manual_seed(2)
    programs = build(replace(NETWORK, **options), PRIOR, 0.1 + 0.8 * torch.rand(1, *WHOLE))
    for program in programs:
        for name, parameter in program.named_parameters():
            if "background" not in name:
                parameter.data += 0.1 * torch.randn_like(parameter)
    return Programs(*(program.double() for program in programs))


def parts_by_hand(image: Tensor, mirror: bool) -> list[Tensor]:
    """All parts of an image in the order of their numbers."""
    height, width = SIDE
    rows, columns = image.shape[-2] - height + 1, image.shape[-1] - width + 1
    parts = [image[..., y : y + height, x : x + width] for y in range(rows) for x in range(columns)]
    return parts + [part.flip(-1) for part in parts] if mirror else parts


def seen(programs: Programs, size: int) -> tuple[Tensor, Tensor]:
    """Videos `(B, T, C, H, W)` of random parts, with something bright and something dark, and the views."""
    background = programs.model.background
    views = torch.randint(background.views, (size,))
    video = background.part(views).detach().unsqueeze(1).repeat(1, FRAMES, 1, 1, 1)
    video[:, :, :, 2:5, 3:6] = 0.97
    video[:, :, :, 8:10, 6:9] = 0.03
    return video, views


@pytest.mark.parametrize("mirror", [False, True])
def test_views_are_all_parts_of_the_image(mirror: bool):
    background = camera(mirror)
    expected = torch.stack(parts_by_hand(background.image(), mirror))
    assert background.views == len(expected) == 4 * 7 * (1 + mirror)
    torch.testing.assert_close(background.part(torch.arange(background.views)), expected)
    particles = torch.arange(6).reshape(3, 2)
    torch.testing.assert_close(background.part(particles), expected[:6].unflatten(0, (3, 2)))


def test_the_view_is_uniform_and_said_once():
    background = camera()

    def run() -> Tensor:
        state: Any = background.start(1)
        for t in range(3):
            shown, state = background.step(t, state)
        return shown

    trace = poutine.trace(run).get_trace()
    trace.compute_log_prob()
    (name,) = trace.stochastic_nodes
    assert name == "background/view/0"
    assert trace.nodes[name]["log_prob"].item() == pytest.approx(-math.log(56))


@pytest.mark.parametrize("mirror", [False, True])
def test_the_part_of_least_squared_error_is_found(mirror: bool):
    """As by trying them one by one, in frames that fit none, and again without pixels that are far off."""
    background = camera(mirror)
    images = torch.rand(30, 2, *SIDE, dtype=torch.float64)
    parts = torch.stack(parts_by_hand(background.image(), mirror))
    found = CameraBackgroundGuide(background).views(images)
    for image, view in zip(images, found.tolist(), strict=True):
        squares = (image - parts).square()
        nearest = squares.sum((-1, -2, -3)).argmin()
        off = (image - parts[nearest]).abs().mean(0)
        near = off <= 3 * off.flatten().sort().values[(off.numel() - 1) // 2] + 1 / 255
        assert view == int((squares * near).sum((-1, -2, -3)).argmin())
    assert len(found.unique()) > 10


@pytest.mark.parametrize("mirror", [False, True])
def test_an_object_that_stands_still_does_not_pull_the_view(mirror: bool):
    torch.manual_seed(3)
    slope = torch.linspace(0.3, 0.6, WHOLE[1]).expand(1, *WHOLE)
    background = CameraBackground(slope + 0.02 * torch.randn(1, *WHOLE), SIDE, mirror)
    views = torch.arange(background.views)
    video = background.part(views).detach().unsqueeze(1).repeat(1, FRAMES, 1, 1, 1)
    video[..., 3:8, 2:6] = 0.95
    guide = CameraBackgroundGuide(background)
    nearest = guide._nearest(video[:, 0], torch.ones(1, 1, *SIDE))
    assert (nearest != views).float().mean() > 0.3  # an object of a seventh of the frame
    torch.testing.assert_close(guide.look(video).codes, views)


def test_whole_frames_that_may_be_mirrored_have_two_views():
    image = 0.1 + 0.8 * torch.rand(1, *SIDE)
    background = CameraBackground(image, SIDE, mirror=True)
    assert background.views == 2
    seen = CameraBackgroundGuide(background).look(torch.stack([image, image.flip(-1)])[:, None])
    assert seen.codes.tolist() == [0, 1]
    assert seen.objects.max() < 1e-3


def test_an_image_of_one_view_has_no_statement():
    background = CameraBackground(torch.rand(1, *SIDE), SIDE)
    guide = CameraBackgroundGuide(background)

    def run() -> None:
        background.step(0, background.start(2))
        guide.step(0, guide.look(torch.rand(2, 3, 1, *SIDE)).codes, ())

    assert not poutine.trace(run).get_trace().stochastic_nodes


def test_frames_larger_than_the_image_are_refused():
    with pytest.raises(ValueError, match=r"no larger than the camera's image, \(15, 17\), got \(16, 4\)"):
        CameraBackground(torch.rand(1, *WHOLE), (16, 4))


def test_contrasts_are_what_is_brighter_and_what_is_darker():
    images, behind = torch.rand(2, 3, 4, 5), torch.rand(3, 4, 5)
    found = Contrast().of(images, behind)
    assert found.shape == (2, 6, 4, 5)
    assert (found >= 0).all()
    assert (found[:, :3] * found[:, 3:] == 0).all()
    torch.testing.assert_close(found[:, :3] - found[:, 3:], images - behind)
    torch.testing.assert_close(Contrast().in_front(found, behind), images)


def test_contrasts_are_relative_to_white():
    behind = torch.full((1, 1, 4), 0.5)
    images = behind + torch.tensor([-0.45, -0.1, 0.0, 0.4])
    found = Contrast(0.4).of(images, behind)
    expected = torch.tensor([[0, 0, 0, 1], [0.45 / 0.4, 0.1 / 0.4, 0, 0]])
    torch.testing.assert_close(found[:, 0], expected)
    torch.testing.assert_close(Contrast(0.4).added(found, 1), images - behind)
    torch.testing.assert_close(Contrast(0.4).in_front(found, behind), images)
    torch.testing.assert_close(Contrast(0.4).added(images, 1), images)  # colours are colours


def test_contrasts_of_objects_that_overlap_add_up_in_front_of_the_image():
    """Alone they are clamped, for those who look for objects; the image is clamped as a whole."""
    model, guide = varied(contrast=0.25)
    video, _ = seen(Programs(model, guide), 4)
    slots = guide(video)[0]
    model.decoder.output_scale.data.fill_(40.0)
    behind = torch.full((1, *SIDE), 0.4).double()
    drawn, alone = model.decoder(*slots[:3], behind=behind), model.decoder(*slots[:3])
    brighter, darker = model.decoder.objects(slots).sum(-4).split(1, dim=-3)
    torch.testing.assert_close(drawn, (behind + 0.25 * (brighter - darker)).clamp(0, 1))
    assert drawn.max() > 0.65
    assert alone.max() == 1


@pytest.mark.parametrize("white", [0.0, 1.1, math.nan])
def test_white_is_a_difference_of_grey_values(white: float):
    with pytest.raises(ValueError, match="`white`"):
        Contrast(white)
    with pytest.raises(ValueError, match="`contrast`"):
        replace(NETWORK, contrast=white)


def test_contrasts_are_to_a_cameras_image():
    with pytest.raises(ValueError, match="`contrast` is for `background` \"camera\", got 'none'"):
        NetworkConfig(background="none", contrast=0.6)


def test_colours_are_added_to_a_background_or_hide_it():
    drawn, behind, covered = torch.rand(2, 3, 4, 5), torch.rand(3, 4, 5), torch.rand(2, 4, 5)
    torch.testing.assert_close(Contrast().in_front(drawn, behind), drawn + behind)
    expected = drawn + (1 - covered[:, None]) * behind
    torch.testing.assert_close(Contrast(0.3).in_front(drawn, behind, covered), expected)


@pytest.mark.parametrize("contrast", [1.0, 0.5])
@pytest.mark.parametrize("layers", [False, True])
@pytest.mark.parametrize("active", [False, True])
def test_weights_are_those_of_the_part_and_of_the_view(layers: bool, active: bool, contrast: float):
    """p(x, z, view) = p(z) N(x; part + white (brighter - darker), white sigma) / views; q(view) = 1."""
    model, guide = varied(layers=layers, contrast=contrast)
    use_active_set(model, guide, on=active)
    video, views = seen(Programs(model, guide), 4)
    said = poutine.trace(guide).get_trace(video)
    drawn = poutine.trace(poutine.replay(model, trace=said)).get_trace(video)
    torch.testing.assert_close(said.nodes["background/view/0"]["value"], views)
    for trace in (said, drawn):
        trace.compute_log_prob()
    assert (said.nodes["background/view/0"]["log_prob"] == 0).all()
    torch.testing.assert_close(
        drawn.nodes["background/view/0"]["log_prob"], torch.full((4,), -math.log(56)).double()
    )
    parts = torch.stack(parts_by_hand(model.background.image(), True))[views]
    for t, frame in enumerate(drawn.nodes["_RETURN"]["value"]):
        latents = frame.slots[:3] + ((frame.slots.z_depth,) if layers else ())
        brighter, darker = model.decoder(*latents).split(1, dim=-3)
        mean = parts + contrast * (brighter - darker)
        torch.testing.assert_close(frame.canvas, mean if layers else mean.clamp(0, 1))
        scale = torch.tensor(PRIOR.likelihood_scale * contrast, dtype=torch.float64)
        error = ((video[:, t] - frame.canvas) / scale).square().sum((-1, -2, -3))
        expected = -0.5 * error - 132 * (scale.log() + 0.5 * math.log(2 * math.pi))
        torch.testing.assert_close(drawn.nodes[f"x/{t}"]["log_prob"], expected.double())
    assert sum(said.nodes["_RETURN"]["value"][0].z_pres.sum(-1)) > 0  # there is something to draw


def test_objects_are_looked_for_in_contrasts():
    programs = varied(contrast=0.25)
    video, views = seen(programs, 3)
    found = programs.guide.background.look(video)
    parts = torch.stack(parts_by_hand(programs.model.background.image(), True))[views]
    expected = torch.cat([video[:, 1] - parts, parts - video[:, 1]], dim=1).relu() / 0.25
    torch.testing.assert_close(found.objects[:, 1], expected)
    torch.testing.assert_close(found.codes, views)
    assert not found.objects.requires_grad


def test_the_image_learns():
    programs = varied()
    loss, _ = VIMCO(3)(*programs)(seen(programs, 4)[0])
    loss.backward()
    assert programs.model.background.logits.grad.abs().sum() > 0


def test_particles_and_long_videos_keep_their_view():
    programs = varied()
    video, views = seen(programs, 2)
    parts = list(infer_parts(*programs, [video, video], particles=3))
    expected = programs.model.background.part(views)
    empty = expected + 0.0
    for part in parts:
        assert all(frame.canvas.shape == (2, 1, *SIDE) for frame in part.frames)
        far = torch.stack([(frame.canvas - empty).abs() for frame in part.frames])
        assert far.median() < 0.1  # but for objects it is the view
    with torch.no_grad():
        loss, _ = FIVO(4, resample="always")(*programs)(video)
    assert loss.isfinite()


def test_an_empty_scene_is_worth_its_part_and_its_view():
    model, guide = varied()
    video, views = seen(Programs(model, guide), 3)
    found = empty_scene_bound(model, video, guide)
    whole = refitted_to_parts(model, views)
    expected = torch.stack([empty_scene_bound(part, video[i : i + 1])[0] for i, part in enumerate(whole)])
    torch.testing.assert_close(found, expected - math.log(56))


def test_frames_of_another_camera_are_far_from_its_image():
    """What is watched of frames is how far they are from the background, on either side."""
    programs = varied()
    video, views = seen(programs, 3)
    parts = programs.model.background.part(views).unsqueeze(1)
    torch.testing.assert_close(objects_in(video, programs.guide), (video - parts).abs())
    own, other = (
        watched_metrics(*programs, each, video)["frame_background"]
        for each in (parts.expand_as(video).detach(), torch.rand_like(video))
    )
    assert own < 1e-6
    assert other > 0.15


def refitted_to_parts(model: SQAIR, views: Tensor) -> list[SQAIR]:
    """The same model, of which each knows one part and no other."""
    models = []
    for part in model.background.part(views).detach():
        background = CameraBackground(part, SIDE).double()
        pieces = model.propagation_prior, model.discovery, model.latent_encoder, model.decoder
        models.append(SQAIR(*pieces, float(model.likelihood_scale), background=background).double())
    return models


def test_a_model_of_parts_becomes_one_of_the_whole():
    """There is one view then, the image is the same, and where objects are is measured as before."""
    programs = varied()
    config = SQAIRConfig(network=NETWORK, prior=PRIOR)
    changed_config, changed = refitted(config, programs, (1, *WHOLE), 4)
    assert changed_config.network.image_shape == (1, *WHOLE)
    changed = Programs(*(program.double() for program in changed))
    image = changed.model.background.image()
    torch.testing.assert_close(image, programs.model.background.image())
    video = image.detach().expand(1, 3, 1, *WHOLE).clone()
    trace = poutine.trace(changed.guide).get_trace(video)
    assert "background/view/0" not in trace.nodes
    canvas = changed.model(video)[0].canvas
    assert canvas.shape == (1, 1, *WHOLE)
