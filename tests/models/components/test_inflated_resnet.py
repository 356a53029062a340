import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from whatwhere.models.components import InflatedResNet, inflated
from whatwhere.models.components.inflated_resnet import MEAN, STD


class Bottleneck(nn.Module):
    """A block of a ResNet for pictures, named as torchvision names it."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(before, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
        self.downsample: nn.Module | None = None
        if stride > 1 or before != 4 * width:
            self.downsample = nn.Sequential(
                nn.Conv2d(before, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(y)))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ForPictures(nn.Module):
    """A small ResNet for pictures."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width)
        before = width
        for stage in range(4):
            block = Bottleneck(before, width * 2**stage, 2 if stage else 1)
            setattr(self, f"layer{stage + 1}", nn.Sequential(block))
            before = 4 * width * 2**stage
        self.fc = nn.Linear(before, 10)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        context = self.layer3(self.layer2(self.layer1(x)))  # type: ignore[operator]
        return context, self.layer4(context)  # type: ignore[operator]


@pytest.fixture
def pictures() -> ForPictures:
    torch.manual_seed(0)
    network = ForPictures().eval()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 2)
    return network


def test_an_inflated_network_does_on_each_frame_what_that_for_pictures_does(pictures: ForPictures):
    clips = InflatedResNet(4, (1, 1, 1, 1)).eval()
    clips.load_state_dict(inflated(pictures.state_dict(), clips.state_dict()))
    video = torch.rand(2, 3, 3, 64, 96)
    found = clips(video)
    frames = (video.flatten(0, 1) - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    context, last = pictures(frames)
    torch.testing.assert_close(found.context.flatten(0, 1), context)
    torch.testing.assert_close(found.glimpses.flatten(0, 1), last)
    torch.testing.assert_close(found.overview, last.unflatten(0, (2, 3)).mean((1, 3, 4)))
    assert (clips.context_channels, clips.glimpse_channels) == (context.shape[1], last.shape[1])


def test_weights_of_another_network_are_refused(pictures: ForPictures):
    clips = InflatedResNet(4, (1, 1, 1, 1))
    weights = pictures.state_dict()
    weights["layer2.0.conv2.weight"] = torch.zeros(8, 8, 5, 5)
    with pytest.raises(ValueError, match=r"layer2\.0\.conv2\.weight"):
        inflated(weights, clips.state_dict())
    del weights["layer2.0.conv2.weight"]
    with pytest.raises(ValueError, match="got None"):
        inflated(weights, clips.state_dict())


def test_the_published_one_has_the_sizes_of_resnet_50():
    with torch.device("meta"):
        network = InflatedResNet()
        found = network(torch.empty(1, 8, 3, 224, 224))
    assert found.context.shape == (1, 8, 1024, 14, 14)
    assert found.glimpses.shape == (1, 8, 2048, 7, 7)
    # ResNet-50 without its classifier has 23,508,032, and each 3 x 3 filter becomes three of them.
    extra = 2 * 9 * sum(n * w * w for n, w in zip((3, 4, 6, 3), (64, 128, 256, 512), strict=True))
    assert sum(p.numel() for p in network.parameters()) == 23_508_032 + extra
    with pytest.raises(ValueError, match="four stages"):
        InflatedResNet(4, (1, 1))
