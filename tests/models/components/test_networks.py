"""Convolutional networks against loops over pixels, and against TensorFlow's rule of padding."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from whatwhere.models.components.networks import ConvFeatures, SubPixelGlimpseDecoder, convolutions


def slow_convolution(maps: Tensor, layer: nn.Conv2d, stride: int = 1) -> Tensor:
    """One image `(C, H, W)`, pixel by pixel: filters centred on every `stride`-th pixel, zero outside."""
    channels, height, width = maps.shape
    padded = torch.zeros(channels, height + 2, width + 2, dtype=maps.dtype)
    padded[:, 1:-1, 1:-1] = maps
    rows, columns = range(0, height, stride), range(0, width, stride)
    out = torch.zeros(layer.out_channels, len(rows), len(columns), dtype=maps.dtype)
    for i, y in enumerate(rows):
        for j, x in enumerate(columns):
            window = padded[:, y : y + 3, x : x + 3]
            for o in range(layer.out_channels):
                out[o, i, j] = (layer.weight[o] * window).sum() + layer.bias[o]
    return out


def slow_pixel_shuffle(maps: Tensor, stride: int) -> Tensor:
    """Pixel `(y, x)` of a channel comes from that one of its `stride^2` maps that its block assigns to it."""
    channels, height, width = maps.shape[0] // stride**2, *maps.shape[1:]
    out = torch.zeros(channels, height * stride, width * stride, dtype=maps.dtype)
    for c in range(channels):
        for y in range(height * stride):
            for x in range(width * stride):
                source = c * stride**2 + stride * (y % stride) + x % stride
                out[c, y, x] = maps[source, y // stride, x // stride]
    return out


def tensorflow_same(maps: Tensor, layer: nn.Conv2d, weight: Tensor) -> Tensor:
    """A convolution whose padding is what the output size `ceil(size / stride)` needs, the odd pixel last."""
    stride = layer.stride[0]
    padding: list[int] = []
    for size in (maps.shape[-1], maps.shape[-2]):
        needed = max((-(-size // stride) - 1) * stride + 3 - size, 0)
        padding += [needed // 2, needed - needed // 2]
    return F.conv2d(F.pad(maps, padding), weight, layer.bias, stride)


def randomise(module: nn.Module) -> None:
    """Give every parameter, biases included, a part in the result."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)


def test_conv_features_equal_a_loop_over_pixels():
    network = ConvFeatures((2, 7, 6), channels=(3, 4), strides=(2, 1), features=5).double()
    randomise(network)
    images = torch.rand(2, 3, 2, 7, 6).double()
    features = network(images)
    for index in ((0, 0), (1, 2)):
        first = F.elu(slow_convolution(images[index], network.convolutions[0], stride=2))
        maps = F.elu(slow_convolution(first, network.convolutions[2]))
        assert maps.shape == (4, 4, 3)
        expected = F.elu(network.readout.weight @ maps.flatten() + network.readout.bias)
        torch.testing.assert_close(features[index], expected)
    torch.testing.assert_close(network(images[0, 0]), features[0, 0])


@pytest.mark.parametrize(
    ("size", "strides", "sizes"),
    [
        ((50, 50), (2, 2, 1, 1), [(25, 25), (13, 13), (13, 13), (13, 13)]),
        ((20, 20), (2, 2, 1, 1), [(10, 10), (5, 5), (5, 5), (5, 5)]),
        ((28, 12), (2, 2, 2, 1), [(14, 6), (7, 3), (4, 2), (4, 2)]),
    ],
)
def test_convolutions_are_tensorflows_in_a_mirror(
    size: tuple[int, int], strides: tuple[int, ...], sizes: list[tuple[int, int]]
):
    """Sizes agree, and mirrored filters on the mirrored image give the mirrored maps."""
    trunk = convolutions(1, (2, 3, 3, 4), strides).double()
    randomise(trunk)
    maps = torch.rand(1, 1, *size).double()
    mirrored = maps.flip(-1, -2)
    for layer, activation, expected in zip(trunk[::2], trunk[1::2], sizes, strict=True):
        maps = activation(layer(maps))
        mirrored = F.elu(tensorflow_same(mirrored, layer, layer.weight.flip(-1, -2)))
        assert maps.shape[-2:] == mirrored.shape[-2:] == expected
        torch.testing.assert_close(maps, mirrored.flip(-1, -2))


def test_encoders_share_a_trunk():
    trunk = convolutions(1, (4, 6), (2, 2))
    encoders = nn.ModuleList([ConvFeatures((1, n, n), features=8, trunk=trunk) for n in (20, 8)])
    convolved = (9 * 4 + 4) + (4 * 9 * 6 + 6)
    read = (6 * 5 * 5 * 8 + 8) + (6 * 2 * 2 * 8 + 8)
    assert sum(p.numel() for p in encoders.parameters()) == convolved + read
    image = torch.rand(1, 1, 20, 20)
    assert all((encoder.convolutions(image) == trunk(image)).all() for encoder in encoders)
    sums = []
    for encoder, size in zip(encoders, (20, 8), strict=True):
        trunk.zero_grad()
        encoder(torch.rand(2, 1, size, size)).sum().backward()
        sums.append([p.grad.abs().sum() for p in trunk.parameters()])
    assert torch.tensor(sums).isfinite().all()
    assert (torch.tensor(sums) > 0).all()


def test_encoders_without_a_trunk_share_nothing():
    first, second = (ConvFeatures((1, 8, 8), (2,), (2,), 3) for _ in range(2))
    assert not {*first.parameters()} & {*second.parameters()}


@pytest.mark.parametrize("strides", [(1, 2), (2, 1)])
def test_sub_pixel_decoder_equals_a_loop_over_pixels(strides: tuple[int, int]):
    decoder = SubPixelGlimpseDecoder(3, (2, 6, 4), (5,), channels=(2, 3), strides=strides).double()
    randomise(decoder)
    z_what = torch.randn(2, 4, 3).double()
    glimpses = decoder(z_what)
    assert glimpses.shape == (2, 4, 2, 6, 4)
    for index in ((0, 0), (1, 3)):
        hidden = z_what[index]
        for layer in (decoder.map[0], decoder.map[2]):
            hidden = F.elu(layer.weight @ hidden + layer.bias)
        maps = hidden.reshape(2, 3, 2)
        for layer, stride in zip(decoder.convolutions[:6:3], strides, strict=True):
            maps = slow_pixel_shuffle(F.elu(slow_convolution(maps, layer)), stride)
        torch.testing.assert_close(glimpses[index], slow_convolution(maps, decoder.convolutions[-1]))
    torch.testing.assert_close(decoder(z_what[0, 0]), glimpses[0, 0])


@pytest.mark.parametrize(
    ("shape", "channels", "strides", "first"),
    [
        ((1, 20, 20), (32, 64, 64), (1, 2, 2), (32, 5, 5)),
        ((1, 28, 12), (64, 64), (2, 2), (64, 7, 3)),
        ((3, 9, 5), (4,), (1,), (4, 9, 5)),
    ],
)
def test_sub_pixel_decoder_sizes_and_gradients(
    shape: tuple[int, int, int],
    channels: tuple[int, ...],
    strides: tuple[int, ...],
    first: tuple[int, int, int],
):
    decoder = SubPixelGlimpseDecoder(50, shape, (128,), channels, strides)
    assert decoder.map_shape == first
    glimpses = decoder(torch.randn(2, 3, 50))
    assert glimpses.shape == (2, 3, *shape)
    assert glimpses.min() < 0, "the last layer is linear"
    glimpses.square().sum().backward()
    for name, parameter in decoder.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_sub_pixel_decoder_starts_as_the_others_do():
    """Truncated normal weights with standard deviation `1 / sqrt(fan_in)`, and no biases."""
    decoder = SubPixelGlimpseDecoder(50, (1, 20, 20))
    truncated = 0.8796  # standard deviation of a standard normal truncated at two
    for layer in (*decoder.map[::2], *decoder.convolutions[:9:3]):
        fan_in = layer.weight[0].numel()
        assert layer.weight.detach().std() * fan_in**0.5 == pytest.approx(truncated, rel=0.03)
        assert layer.weight.abs().max() <= 2 * fan_in**-0.5
        assert not layer.bias.any()


def test_networks_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="one length, got 2 and 1"):
        convolutions(1, (4, 6), (2,))
    with pytest.raises(ValueError, match="one length, got 4 and 3"):
        ConvFeatures((1, 20, 20), strides=(2, 2, 2))
    with pytest.raises(ValueError, match="one length, got 1 and 3"):
        SubPixelGlimpseDecoder(50, (1, 20, 20), channels=(32,))
    for height, width in ((18, 20), (20, 18)):
        with pytest.raises(ValueError, match=f"divisible by 4, .* but got {height} x {width}"):
            SubPixelGlimpseDecoder(50, (1, height, width))
