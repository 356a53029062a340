"""Objects that hide each other: the canvas by a loop, and weights beside those of SQAIR without depths."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pyro import poutine
from torch import Tensor

from whatwhere.examples.sqair import NetworkConfig, PriorConfig, Programs, SQAIRConfig, build
from whatwhere.guides import SQAIRGuide
from whatwhere.inference.evaluation import infer_parts
from whatwhere.inference.objectives import VIMCO
from whatwhere.models.components.active_set import use_active_set
from whatwhere.models.components.attention import crop, paste
from whatwhere.models.components.layers import soft_over
from whatwhere.models.components.slots import slots_of, tracked

SIDE, COUNT, FRAMES, SIZE = 12, 3, 2, 6
NETWORK = NetworkConfig(
    "mlp", (1, SIDE, SIDE), COUNT, 3, 5, 8, 6, 6, layers=True, background="static", reach=2.0
)


def varied(**options: Any) -> Programs:
    torch.manual_seed(2)
    programs = build(replace(NETWORK, **options), PriorConfig(stay_logit=0.5), torch.rand(1, SIDE, SIDE))
    for parameter in dict.fromkeys([*programs.model.parameters(), *programs.guide.parameters()]):
        parameter.data += 0.1 * torch.randn_like(parameter)
    for phase in (programs.guide.propagation, programs.guide.discovery):
        phase.presence_head[-1].bias.data.fill_(0.7)
    return Programs(*(program.double() for program in programs))


def drawn_by_hand(model: Any, objects: list[tuple[Tensor, Tensor, float]]) -> Tensor:
    """The canvas of the objects that are there: place, looks and depth of each."""
    decoder, layers = model.decoder, []
    for where, what, depth in objects:
        colour, alpha = decoder.glimpse_decoder(what).split(1)
        alpha = (alpha + 1).sigmoid()
        coords = decoder.windows(where)
        picture = paste(alpha * colour.sigmoid(), coords, (SIDE, SIDE))
        layers.append((picture, paste(alpha, coords, (SIDE, SIDE)), depth))
    left, visible = torch.ones(1, SIDE, SIDE).double(), []
    for k, (_, alpha, depth) in enumerate(layers):
        seen = alpha
        for j, (_, other, its) in enumerate(layers):
            if j != k:
                seen = seen * (1 - other / (1 + math.exp(-(depth - its) / 0.5)))
        visible.append(seen)
        left = left * (1 - alpha)
    canvas = left * model.background.logits.sigmoid()
    total = sum(visible, torch.zeros_like(left))
    for (picture, alpha, _), seen in zip(layers, visible, strict=True):
        canvas = canvas + (1 - left) * seen / (total + 1e-6) * picture / (alpha + 1e-6)
    return canvas


def normal(value: Tensor, loc: Any, scale: Any) -> Tensor:
    loc, scale = (torch.as_tensor(x).double() for x in (loc, scale))
    return (-0.5 * ((value - loc) / scale) ** 2 - scale.log() - 0.5 * math.log(2 * math.pi)).sum(-1)


def traces(programs: Programs, video: Tensor) -> tuple[poutine.Trace, poutine.Trace]:
    """Of the guide, and of the model with what it has drawn."""
    said = poutine.trace(programs.guide).get_trace(video)
    drawn = poutine.trace(poutine.replay(programs.model, trace=said)).get_trace(video)
    for trace in (said, drawn):
        trace.compute_log_prob()
    return said, drawn


@pytest.mark.parametrize("active", [False, True])
def test_the_model_s_canvas_and_depths_are_those_of_a_loop(active: bool):
    programs = varied()
    use_active_set(*programs, on=active)
    video = torch.rand(SIZE, FRAMES, 1, SIDE, SIDE, dtype=torch.float64)
    with torch.no_grad():
        _, drawn = traces(programs, video)
        frames = drawn.nodes["_RETURN"]["value"]
        for t, frame in enumerate(frames):
            slots: Any = frame.slots
            for b in range(SIZE):
                here = [i for i in range(COUNT) if slots.z_pres[b, i]]
                objects = [
                    (slots.z_where[b, i], slots.z_what[b, i], slots.z_depth[b, i].item()) for i in here
                ]
                canvas = drawn_by_hand(programs.model, objects)
                torch.testing.assert_close(frame.canvas[b], canvas)
                expected = torch.distributions.Normal(canvas, 0.3).log_prob(video[b, t]).sum()
                torch.testing.assert_close(drawn.nodes[f"x/{t}"]["log_prob"][b], expected)
        step = F.softplus(programs.model.propagation_prior.further["z_depth"].raw_scale) + 1e-3
        many = 0
        for i in range(COUNT):
            first, new, then = (
                drawn.nodes[name]
                for name in (
                    f"discovery/z_depth/0/{i}",
                    f"discovery/z_depth/1/{i}",
                    f"propagation/z_depth/1/{i}",
                )
            )
            found = [drawn.nodes[f"discovery/z_pres/{t}/{i}"]["value"] for t in (0, 1)]
            torch.testing.assert_close(first["log_prob"], found[0] * normal(first["value"], 0.0, 1.0))
            torch.testing.assert_close(new["log_prob"], found[1] * normal(new["value"], 0.0, 1.0))
            stays = drawn.nodes[f"propagation/z_pres/1/{i}"]["value"]
            before = frames[0].slots.z_depth[:, i]
            torch.testing.assert_close(then["log_prob"], stays * normal(then["value"], before, step))
            many += stays.sum()
        assert many > 3


@pytest.mark.parametrize("active", [False, True])
@pytest.mark.parametrize("follow", [{}, {"looks": "static", "follow": "tracked"}])
def test_the_guide_is_sqair_s_beside_its_depths(active: bool, follow: Any):
    programs = varied(**follow)
    guide = programs.guide
    use_active_set(*programs, on=active)
    video = torch.rand(SIZE, FRAMES, 1, SIDE, SIDE, dtype=torch.float64)
    with torch.no_grad():
        said, _ = traces(programs, video)
        further = guide.discovery.further
        guide.discovery.further = guide.propagation.further = None
        if follow:
            guide.propagation.prior = programs.model.propagation_prior.prior
        plain_guide = SQAIRGuide(
            guide.propagation,
            guide.discovery,
            guide.latent_encoder,
            guide.image_shape,
            background=guide.background,
        )
        plain = poutine.trace(poutine.replay(plain_guide, trace=said)).get_trace(video)
        plain.compute_log_prob()
        for name, site in plain.nodes.items():
            if "/z_" in name:
                torch.testing.assert_close(said.nodes[name]["log_prob"], site["log_prob"])
        frames = said.nodes["_RETURN"]["value"]
        seen = video - programs.model.background.logits.sigmoid()
        checked = 0
        for phase, t in (("discovery", 0), ("propagation", 1), ("discovery", 1)):
            for i in range(COUNT):
                names = (f"{phase}/{variable}/{t}/{i}" for variable in ("z_where", "z_depth", "z_pres"))
                where, depth, used = (said.nodes[name]["value"] for name in names)
                drawn = said.nodes.get(f"{phase}/z_what/{t}/{i}")
                what = frames[0].z_what[:, i] if drawn is None else drawn["value"]
                before = frames[0].z_depth[:, i] if phase == "propagation" else torch.zeros(SIZE, 1).double()
                glimpse = crop(seen[:, t], guide.discovery.windows(where), (5, 5))
                told = torch.cat([further.features(glimpse), where, what, before], dim=-1)
                loc, raw = further.readout(told).chunk(2, dim=-1)
                expected = used * normal(depth, loc, F.softplus(raw) + 0.01)
                torch.testing.assert_close(said.nodes[f"{phase}/z_depth/{t}/{i}"]["log_prob"], expected)
                checked += used.sum()
        assert checked > 6


def test_every_parameter_gets_a_gradient_and_videos_may_be_long():
    programs = varied(background="vae")
    loss, _ = VIMCO(3)(*programs)(torch.rand(4, 3, 1, SIDE, SIDE, dtype=torch.float64))
    loss.backward()
    for part in (programs.model, programs.guide):
        for name, parameter in part.named_parameters():
            assert parameter.grad is not None, name
    video = torch.rand(2, 4, 1, SIDE, SIDE, dtype=torch.float64)
    found = list(infer_parts(*programs, [video[:, :2], video[:, 2:]], particles=2))
    slots: Any = found[1].frames[1].slots
    assert slots.z_depth.shape == (2, COUNT, 1)


def test_boxes_and_pictures_are_of_objects_on_black():
    decoder = varied().model.decoder
    one = torch.ones(1, 1).double()
    where, what = torch.tensor([[[-1.0, -1.0, 0.3, 0.0]]]).double(), torch.randn(1, 1, 3).double()
    slots = tracked(
        slots_of(one, z_where=where, z_what=what, z_depth=one[..., None]), one[..., None], one.long()
    )
    alone = decoder(one, where, what, one[..., None])
    torch.testing.assert_close(decoder.objects(slots)[:, 0], alone, atol=1e-5, rtol=0)
    assert decoder.boxes(slots).shape == (1, 1, 4)


def test_a_pixel_belongs_to_whom_it_is_most_of():
    """Of a loop over pixels: shares of objects as `soft_over` has them, and of the background."""
    decoder = varied().model.decoder
    z_pres = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]]).double()[:, :COUNT]
    where = torch.randn(2, COUNT, 4).double() * z_pres[..., None]
    what, depth = (torch.randn(2, COUNT, size).double() * z_pres[..., None] for size in (3, 1))
    slots = tracked(slots_of(z_pres, z_where=where, z_what=what, z_depth=depth), depth, z_pres.long())
    found = decoder.segments(slots)
    coverage = decoder.place(decoder._painted(what)[..., -1:, :, :] * z_pres[..., None, None, None], where)
    weights, covered = soft_over(coverage.squeeze(-3).detach(), depth.squeeze(-1))
    for video in range(2):
        for row in range(SIDE):
            for column in range(SIDE):
                shares = [float(1 - covered[video, row, column]), *weights[video, :, row, column].tolist()]
                assert found[video, row, column] == shares.index(max(shares)) - 1
    assert {int(slot) for slot in found.unique()} >= {-1, 0}


def test_what_does_not_go_together_is_refused():
    with pytest.raises(ValueError, match="draw no mean image"):
        NetworkConfig(layers=True)
    with pytest.raises(ValueError, match="is for SQAIR: AIR has none"):
        SQAIRConfig(model="air", network=NETWORK)
