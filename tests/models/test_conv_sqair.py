"""The convolutional variant of SQAIR: its size, and one step of training."""

import dataclasses
from collections.abc import Set

import torch
from torch import nn

from whatwhere.examples.sqair import PRESETS, NetworkConfig, PriorConfig, Programs, build
from whatwhere.inference.objectives import VIMCO


def parameters_of(*modules: nn.Module) -> Set[nn.Parameter]:
    return dict.fromkeys(p for module in modules for p in module.parameters()).keys()


def small() -> Programs:
    """With frames that are not square."""
    network = NetworkConfig("conv", (1, 12, 14), 2, 3, 8, hidden=8, narrow=6, presence_hidden=4)
    model, guide = build(network, PriorConfig())
    for parameter in parameters_of(model, guide):
        parameter.data += 0.1 * torch.randn_like(parameter)
    return Programs(model.double(), guide.double())


def test_the_number_of_parameters():
    """The paper says 2.6 million; these are counted by hand, layer by layer."""
    network = dataclasses.replace(PRESETS["conv"].network, image_shape=(1, 50, 50))
    model, guide = build(network, PriorConfig())
    decoder, trunk = model.decoder.glimpse_decoder, guide.discovery.image_encoder.convolutions
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
