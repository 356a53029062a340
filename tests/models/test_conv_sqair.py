"""The convolutional variant of SQAIR: its size, and one step of training."""

import torch
from torch import nn

from whatwhere.guides.sqair import Discovery, Propagation, SQAIRGuide, WhatEncoder
from whatwhere.inference.objectives import VIMCO
from whatwhere.models.components.networks import (
    ConvFeatures,
    SubPixelGlimpseDecoder,
    convolutions,
    fill_output_bias,
    initialise,
    mlp,
)
from whatwhere.models.discovery_priors import DiscoveryCountPrior, DiscoveryWherePrior
from whatwhere.models.propagation_priors import RecurrentPropagationPrior
from whatwhere.models.sqair import SQAIR, LatentEncoder, SceneDecoder


def build(
    image_shape: tuple[int, int, int],
    decoder: SubPixelGlimpseDecoder,
    trunk: nn.Sequential,
    count: int = 3,
    what: int = 50,
    hidden: int = 128,
    presence_hidden: int = 64,
) -> tuple[SQAIR, SQAIRGuide]:
    """CONV-SQAIR: all fully connected and recurrent layers have one width, but for those of presence."""
    shape = decoder.glimpse_shape
    latent_encoder = LatentEncoder(what, hidden)
    model = SQAIR(
        RecurrentPropagationPrior(what, hidden),
        DiscoveryCountPrior(count),
        DiscoveryWherePrior(hidden + 1, hidden),
        latent_encoder,
        SceneDecoder(decoder, torch.zeros(image_shape)),
        count,
        what,
    )
    what_encoder = WhatEncoder(ConvFeatures(shape, features=hidden, trunk=trunk), hidden, what)
    image_encoder = ConvFeatures(image_shape, features=hidden, trunk=trunk)
    propagation = Propagation(what_encoder, what, shape[1:], hidden, narrow=hidden)
    propagation.presence_head = mlp([2 * hidden + what, presence_hidden, 1], nn.ELU)
    initialise(propagation.presence_head)
    fill_output_bias(propagation.presence_head, 5.0)
    discovery = Discovery(
        image_encoder, what_encoder, hidden, hidden, count, what, shape[1:], hidden, presence_hidden
    )
    return model, SQAIRGuide(propagation, discovery, latent_encoder, image_shape)


def parameters_of(*modules: nn.Module) -> set[nn.Parameter]:
    return {p for module in modules for p in module.parameters()}


def small() -> tuple[SQAIR, SQAIRGuide]:
    """With glimpses that are not square."""
    decoder = SubPixelGlimpseDecoder(3, (1, 8, 4), (6,), channels=(4, 3), strides=(2, 1))
    trunk = convolutions(1, (3, 4), (2, 1))
    model, guide = build((1, 12, 14), decoder, trunk, count=2, what=3, hidden=8, presence_hidden=4)
    for parameter in parameters_of(model, guide):
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model.double(), guide.double()


def test_the_number_of_parameters():
    """The paper says 2.6 million; these are counted by hand, layer by layer."""
    decoder = SubPixelGlimpseDecoder(50, (1, 20, 20))
    trunk = convolutions(1, (16, 32, 32, 64), (2, 2, 1, 1))
    model, guide = build((1, 50, 50), decoder, trunk)
    fully_connected = 50 * 256 + 256 + 256 * 800 + 800
    sub_pixel = 9 * (32 * 32 + 32 * 256 + 64 * 256 + 64) + 32 + 256 + 256 + 1
    assert sum(p.numel() for p in decoder.parameters()) == fully_connected + sub_pixel
    assert sum(p.numel() for p in trunk.parameters()) == 32_544
    assert sum(p.numel() for p in parameters_of(model, guide)) == 2_696_051


def test_frames_and_glimpses_share_their_convolutions():
    _, guide = small()
    frames, glimpses = guide.discovery.image_encoder, guide.propagation.what_encoder.features
    assert parameters_of(frames) & parameters_of(glimpses) == parameters_of(frames.convolutions)
    assert guide.discovery.what_encoder is guide.propagation.what_encoder


def test_a_step_of_training():
    """Of the two encoders and the decoder too, every parameter gets a gradient, and moves."""
    torch.manual_seed(1)
    model, guide = small()
    video = torch.rand(6, 3, 1, 12, 14, dtype=torch.float64)
    objective = VIMCO(4, reduction="mean")(model, guide)
    optimizer = torch.optim.SGD(objective.parameters(), lr=1e-4)
    before = {name: p.detach().clone() for name, p in objective.named_parameters()}
    objective(video)[0].backward()
    for name, parameter in objective.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name
    optimizer.step()
    assert all((p != before[name]).any() for name, p in objective.named_parameters())
    assert objective(video)[0].isfinite()
