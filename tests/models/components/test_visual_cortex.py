"""V1 and its two streams against formulas written out, and against the sizes of the authors' program."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from whatwhere.models.components.feature_extractors import human_features
from whatwhere.models.components.visual_cortex import (
    AlexNetV1,
    ClassifierV1,
    DorsalStream,
    SmallV1,
    VentralStream,
    batch_normalisation,
    contrast_normalised,
    group_normalisation,
)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_contrast_is_stretched_over_all_channels_and_each_is_centred():
    glimpses = torch.rand(2, 3, 4, 5, dtype=torch.float64) * torch.tensor([0.1, 0.9])[:, None, None, None]
    result = contrast_normalised(glimpses)
    for b in range(2):
        low, high = glimpses[b].min(), glimpses[b].max()
        for c in range(3):
            channel = (glimpses[b, c] - low) / (high - low + 1e-5)
            torch.testing.assert_close(result[b, c], channel - channel.mean())
    assert (result.amax((1, 2, 3)) - result.amin((1, 2, 3)) <= 2).all()


def test_contrast_of_a_flat_glimpse_and_its_gradient_are_finite():
    glimpse = torch.full((1, 3, 4, 4), 0.3, requires_grad=True)
    result = contrast_normalised(glimpse)
    assert not result.any()
    (gradient,) = torch.autograd.grad((result * torch.randn(1, 3, 4, 4)).sum(), glimpse)
    assert gradient.isfinite().all()


def test_gradients_flow_through_the_extremes():
    glimpse = torch.rand(1, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(contrast_normalised, glimpse)


def test_alexnet_has_the_size_and_the_maps_of_the_authors_program():
    v1 = AlexNetV1()
    convolutions = [layer for layer in v1.layers if isinstance(layer, nn.Conv2d)]
    assert [count(layer) for layer in convolutions] == [34_944, 307_456, 885_120]
    assert v1.map_shape == (384, 14, 14)
    maps = v1(torch.rand(2, 3, 56, 56))
    assert maps.shape == (2, 384, 14, 14)
    assert (maps >= 0).all()
    assert v1.padding == (3, 4, 3, 4)
    for size in ((28, 28), (30, 61)):
        other = AlexNetV1((3, *size))
        assert other(torch.rand(1, 3, *size)).shape[1:] == other.map_shape


def test_alexnet_is_written_out():
    """Channels are normalised as in TensorFlow: x / (1 + 2e-5 sum of squares over five channels)^0.75."""
    v1 = AlexNetV1((3, 12, 12)).double()
    glimpses = torch.rand(2, 3, 12, 12).double()
    first, second, third = (layer for layer in v1.layers if isinstance(layer, nn.Conv2d))
    with torch.no_grad():
        first.weight.mul_(300)  # so that the normalisation matters

    def normalised(maps: torch.Tensor) -> torch.Tensor:
        squares = torch.stack(
            [maps[:, max(c - 2, 0) : c + 3].square().sum(1) for c in range(maps.shape[1])], dim=1
        )
        return maps / (1 + 2e-5 * squares) ** 0.75

    maps = F.pad(contrast_normalised(glimpses), (3, 4, 3, 4))
    maps = F.conv2d(maps, first.weight, first.bias, stride=4).relu()
    assert not torch.allclose(normalised(maps), maps, rtol=0.05)
    maps = normalised(maps)
    halves = [
        F.conv2d(part, weight, padding=2)
        for part, weight in zip(maps.chunk(2, 1), second.weight.chunk(2), strict=True)
    ]
    maps = normalised((torch.cat(halves, 1) + second.bias[:, None, None]).relu())
    maps = F.conv2d(maps, third.weight, third.bias, padding=1).relu()
    torch.testing.assert_close(v1(glimpses), maps)


def test_small_v1_is_convolution_normalisation_and_elu():
    v1 = SmallV1((2, 9, 12), (8, 16), (2, 1)).double()
    glimpses = torch.rand(2, 2, 9, 12).double()
    maps = contrast_normalised(glimpses)
    for layer, stride, groups in ((v1.layers[0], 2, 8), (v1.layers[3], 1, 8)):
        maps = F.conv2d(maps, layer.weight, stride=stride, padding=1)
        parts = maps.reshape(2, groups, -1)
        parts = (parts - parts.mean(-1, keepdim=True)) / (
            parts.var(-1, correction=0, keepdim=True) + 1e-5
        ).sqrt()
        maps = F.elu(parts.reshape(maps.shape))
    torch.testing.assert_close(v1(glimpses), maps)
    assert v1.map_shape == maps.shape[1:] == (16, 5, 6)


def test_small_v1_makes_the_maps_of_hart():
    assert SmallV1().map_shape == SmallV1()(torch.rand(1, 3, 28, 28)).shape[1:] == (64, 7, 7)
    large = SmallV1((3, 56, 56), (32, 64, 64), (2, 2, 1), batch_normalisation)
    assert large.map_shape == large(torch.rand(1, 3, 56, 56)).shape[1:] == (64, 14, 14)
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in large.modules()) == 3
    with pytest.raises(ValueError, match="one length, got 2 and 3"):
        SmallV1((3, 28, 28), (32, 64), (2, 2, 1))


def test_classifier_v1_is_the_features_as_maps():
    features = human_features()
    v1 = ClassifierV1(features)
    glimpses = torch.rand(2, 1, 28, 28)
    maps = v1(glimpses)
    assert v1.map_shape == maps.shape[1:] == (64, 7, 7)
    torch.testing.assert_close(maps, features.blocks(255 * glimpses))


def test_the_ventral_stream_reads_out_normalises_and_activates():
    stream = VentralStream(6, 3).double()
    maps = torch.randn(4, 6, 5, 5).double()
    with torch.no_grad():
        stream.normalisation.weight.uniform_(0.5, 2)
        stream.normalisation.bias.normal_()
    weight, bias = stream.readout.weight[:, :, 0, 0], stream.readout.bias
    linear = torch.einsum("oi,bihw->bohw", weight, maps) + bias[:, None, None]
    scale, shift = (p[:, None, None] for p in (stream.normalisation.weight, stream.normalisation.bias))
    stream.eval()
    expected = F.elu(linear / (1 + 1e-3) ** 0.5 * scale + shift)
    torch.testing.assert_close(stream(maps), expected)
    stream.train()
    stream.dropout.p = 0.0
    mean, variance = linear.mean((0, 2, 3), keepdim=True), linear.var((0, 2, 3), correction=0, keepdim=True)
    expected = F.elu((linear - mean) / (variance + 1e-3).sqrt() * scale + shift)
    torch.testing.assert_close(stream(maps), expected)
    torch.testing.assert_close(stream.normalisation.running_mean, 0.05 * mean.flatten())


def test_the_ventral_stream_drops_a_quarter_in_training_before_it_normalises():
    stream = VentralStream(4, 5, normalisation=lambda channels: nn.Identity())
    with torch.no_grad():
        stream.readout.weight.zero_()
        stream.readout.bias.fill_(3.0)
    out = stream(torch.randn(50, 4, 8, 8))
    assert set(out.unique().tolist()) == {0.0, 4.0}
    assert (out == 0).float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert (stream.eval()(torch.randn(5, 4, 8, 8)) == 3.0).all()
    assert VentralStream(384).readout.weight.numel() + 5 == 1925


def test_the_dorsal_stream_is_two_dynamic_layers_and_a_readout():
    stream = DorsalStream(6, 7, channels=3).double()
    maps, appearance = torch.randn(2, 6, 5, 4).double(), torch.randn(2, 7).double()
    location = stream(maps, appearance)
    hidden, first = stream.first(maps, appearance)
    hidden, second = stream.second(hidden, appearance)
    expected = torch.einsum("i,bihw->bhw", stream.readout.weight[0, :, 0, 0], hidden) + stream.readout.bias
    torch.testing.assert_close(location.logits, expected)
    assert first.weight.shape == (2, 3, 6, 1, 1)
    assert second.weight.shape == (2, 3, 3, 3, 3)
    squares = sum(part.square().flatten(1).sum(1) for part in (*first, *second))
    torch.testing.assert_close(location.filters.square().sum(1), squares)
    assert location.filters.shape == (2, 18 + 3 + 81 + 3)
    assert count(DorsalStream(384, 100)) == 204_530 + 33_335 + 6


def test_normalisation_by_groups_leaves_samples_apart():
    maps = torch.randn(3, 5, 4, 4)
    layer = group_normalisation(5)
    torch.testing.assert_close(layer(maps)[:1], layer(maps[:1]))
    assert count(layer) == count(batch_normalisation(5)) == 10
    assert group_normalisation(64).num_groups == 8
