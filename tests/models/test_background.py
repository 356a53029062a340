"""Backgrounds: what objects are added to, against the same model of frames without it."""

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pyro import poutine
from torch import Tensor

from whatwhere.examples.sqair import NetworkConfig, PriorConfig, Programs, build
from whatwhere.guides import BackgroundVAEGuide, SQAIRGuide, StaticBackgroundGuide
from whatwhere.inference.evaluation import empty_scene_bound, infer_parts
from whatwhere.inference.objectives import FIVO, VIMCO
from whatwhere.models import SQAIR, BackgroundVAE, CameraBackground, StaticBackground
from whatwhere.models.components.active_set import use_active_set

SIDE, FRAMES, SIZE = 12, 3, 5
NETWORK = NetworkConfig("mlp", (1, SIDE, SIDE), 2, 3, 5, 8, 6, 6)
KINDS = ("static", "vae")


def varied(background: Any, **options: Any) -> Programs:
    """Model and guide with parameters off their start, which let go about as often as they follow."""
    torch.manual_seed(2)
    network = replace(NETWORK, background=background, **options)
    programs = build(network, PriorConfig(stay_logit=0.5), 0.5 * torch.rand(1, SIDE, SIDE))
    for parameter in dict.fromkeys([*programs.model.parameters(), *programs.guide.parameters()]):
        parameter.data += 0.1 * torch.randn_like(parameter)
    for phase in (programs.guide.propagation, programs.guide.discovery):
        phase.presence_head[-1].bias.data.fill_(0.2)
    return Programs(*(program.double() for program in programs))


def log_prob(trace: poutine.Trace, size: int) -> Tensor:
    trace.compute_log_prob()
    terms = [n["log_prob"] for n in trace.nodes.values() if n["type"] == "sample" and "log_prob" in n]
    return sum((term for term in terms if term.shape == (size,)), start=torch.zeros(size).double())


def normal(value: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    terms = -0.5 * ((value - loc) / scale).square() - scale.log() - 0.5 * math.log(2 * math.pi)
    return terms.sum(-1)


def prior_by_hand(background: BackgroundVAE, codes: list[Tensor]) -> Tensor:
    """log p of the codes `(B, Z)` of all frames."""
    total = normal(codes[0], torch.zeros(1).double(), torch.ones(1).double())
    hidden = background.rnn.initial.expand(len(codes[0]), -1)
    for before, now in itertools.pairwise(codes):
        hidden = background.rnn(before, hidden)
        said = hidden @ background.readout.weight.T + background.readout.bias
        total = total + normal(now, before + said[:, :10], F.softplus(said[:, 10:]) + 0.01)
    return total


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("active", [False, True])
def test_weights_are_those_of_frames_without_their_background(kind: str, active: bool):
    """Objects are added: p(x, z, b) = p(b) p(x - b, z) of SQAIR, and q sees the frame without the mean's."""
    model, guide = varied(kind)
    use_active_set(model, guide, on=active)
    plain = SQAIR(model.propagation_prior, model.discovery, model.latent_encoder, model.decoder)
    plain_guide = SQAIRGuide(guide.propagation, guide.discovery, guide.latent_encoder, guide.image_shape)
    video = torch.rand(SIZE, FRAMES, 1, SIDE, SIDE, dtype=torch.float64)
    said = poutine.trace(guide).get_trace(video)
    drawn = poutine.trace(poutine.replay(model, trace=said)).get_trace(video)
    names = [f"background/z/{t}" for t in range(FRAMES)]
    if kind == "static":
        assert not any(name.startswith("background/z") for name in drawn.nodes)
        image = model.background.logits.sigmoid()
        behind, seen, extra, known = image, image, 0.0, 0.0
    else:
        codes = [said.nodes[name]["value"] for name in names]
        changes = [model.background.decoder(z)[..., :SIDE, :SIDE] for z in codes]
        behind = torch.stack([(model.background.logits + change).sigmoid() for change in changes], dim=1)
        loc, raw = guide.background.readout(guide.background.features(video)).chunk(2, dim=-1)
        seen = torch.stack([model.background.image(loc[:, t]) for t in range(FRAMES)], dim=1)
        extra = prior_by_hand(model.background, codes)
        known = sum(normal(z, loc[:, t], F.softplus(raw[:, t]) + 0.01) for t, z in enumerate(codes))
    # Frames without a background are not within [0, 1], which only the guide's check of its input minds.
    of_objects = poutine.trace(poutine.replay(plain, trace=said)).get_trace(video - behind)
    torch.testing.assert_close(log_prob(drawn, SIZE), log_prob(of_objects, SIZE) + extra)
    again = poutine.trace(poutine.replay(plain_guide, trace=said)).get_trace(video - seen)
    torch.testing.assert_close(log_prob(said, SIZE), log_prob(again, SIZE) + known)
    assert sum(said.nodes[f"propagation/z_pres/1/{i}"]["value"].sum() for i in range(2)) > 0


def test_a_static_background_starts_as_it_is_given():
    image = torch.rand(3, 4, 4)
    shown, _ = StaticBackground(image).step(0, ())
    torch.testing.assert_close(shown, image.clamp(0.01, 0.99))


@pytest.mark.parametrize(
    "image", [torch.zeros(1, 4, 4).byte(), *torch.tensor([math.nan, 255.0]).expand(1, 4, 4, 2).movedim(-1, 0)]
)
def test_an_image_has_grey_values(image: Tensor):
    for make in (StaticBackground, BackgroundVAE, lambda image: CameraBackground(image, (4, 4))):
        with pytest.raises(ValueError, match=r"`image` must be .*in \[0, 1\]"):
            make(image)


def test_a_background_that_changes_starts_near_the_image_it_is_given():
    image = torch.rand(3, 10, 14)
    background = BackgroundVAE(image)
    shown = background.image(torch.randn(5, 10))
    assert shown.shape == (5, 3, 10, 14)
    assert (shown - image).abs().max() < 0.1
    assert shown.std(0).max() > 1e-4  # but the code has a say in it


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_gets_a_gradient(kind: str):
    programs = varied(kind)
    loss, _ = VIMCO(3)(*programs)(torch.rand(4, 3, 1, SIDE, SIDE, dtype=torch.float64))
    loss.backward()
    for part in (programs.model.background, programs.guide.background):
        for name, parameter in part.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


def test_objects_are_looked_for_in_front_of_the_background():
    """A frame that is the background and nothing else shows the objects' guide a black frame."""
    model, guide = varied("static")
    video = model.background.logits.sigmoid().detach().expand(2, 3, 1, SIDE, SIDE)
    seen: list[Tensor] = []
    guide.discovery.image_encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    guide(video)
    assert seen[0].abs().max() < 1e-12


def test_particles_carry_their_own_background():
    """FIVO copies the states of likely particles, whose codes go with them."""
    model, guide = varied("vae")
    video = torch.rand(2, 3, 1, SIDE, SIDE, dtype=torch.float64)
    with torch.no_grad():
        loss, found = FIVO(4, resample="always")(model, guide)(video)
    assert loss.isfinite()
    assert found.effective_sample_size.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_long_videos_go_on_from_part_to_part(kind: str):
    model, guide = varied(kind)
    video = torch.rand(2, 4, 1, SIDE, SIDE, dtype=torch.float64)
    parts = list(infer_parts(model, guide, [video[:, :2], video[:, 2:]], particles=3))
    assert [len(part.frames) for part in parts] == [2, 2]
    assert all(frame.canvas.shape == (2, 1, SIDE, SIDE) for part in parts for frame in part.frames)


def test_an_empty_scene_is_worth_what_its_background_is():
    """Where the code changes nothing, as much as with an image that has none: its density does not count."""
    still, changing = varied("static").model, varied("vae").model
    *_, last = changing.background.decoder.convolutions
    for parameter in last.parameters():
        parameter.data.zero_()
    still.background.logits.data.copy_(changing.background.logits)
    still.discovery.load_state_dict(changing.discovery.state_dict())
    video = torch.rand(2, 3, 1, SIDE, SIDE, dtype=torch.float64)
    found, expected = (empty_scene_bound(model, video) for model in (changing, still))
    torch.testing.assert_close(found, expected)


def test_the_canvas_has_one_background():
    model, _ = varied("static")
    parts = model.propagation_prior, model.discovery, model.latent_encoder
    learned = build(NETWORK, PriorConfig()).model.decoder
    with pytest.raises(ValueError, match="`decoder` has a background"):
        SQAIR(*parts, learned, background=model.background)


def test_guides_of_backgrounds_have_the_statements_of_the_model():
    video = torch.rand(2, 3, 1, SIDE, SIDE)
    for background, guide in (
        (b := StaticBackground(video[0, 0]), StaticBackgroundGuide(b)),
        (c := BackgroundVAE(video[0, 0]), BackgroundVAEGuide(c, torch.nn.Flatten(-3), SIDE**2)),
    ):
        made = []
        for program in (background, guide):
            codes = guide.look(video).codes

            def run(program: Any = program, codes: Any = codes) -> None:
                state = program.start(2)
                for t in range(3):
                    if isinstance(program, StaticBackground | BackgroundVAE):
                        _, state = program.step(t, state)
                    else:
                        state = program.step(t, codes, state)

            made.append(list(poutine.trace(run).get_trace().stochastic_nodes))
        assert made[0] == made[1]
