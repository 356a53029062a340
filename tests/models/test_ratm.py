"""RATM against a loop that writes out filters, glimpses, cell and windows video by video."""

import math
from collections.abc import Callable

import pyro
import pytest
import torch
from pyro import poutine
from torch import Tensor, nn

from whatwhere.models.components.boxes import iou
from whatwhere.models.components.feature_extractors import (
    Frozen,
    PixelFeatures,
    digit_features,
    human_features,
)
from whatwhere.models.components.inputs import require_first_boxes
from whatwhere.models.components.recurrent import GRU, IRNN
from whatwhere.models.ratm import (
    RATM,
    AbsoluteAttention,
    BoxStart,
    FrameShareStart,
    KTHWindows,
    LearnedStart,
    PaperWindows,
    RATMAttention,
    RATMTracks,
    ResidualAttention,
    WindowRule,
    random_box,
)

SHAPE = (2, 12, 16)
GLIMPSE = (3, 4)
BOXES = torch.tensor([[3.0, 2.0, 6.0, 5.0], [-1.0, 4.5, 4.0, 3.0]], dtype=torch.float64)


def tiny_ratm(
    attention: type[RATMAttention], windows: WindowRule, start: nn.Module | None = None, spread: float = 0.05
) -> RATM:
    """Weights are large enough for windows to move by pixels."""
    pixels = PixelFeatures((2, *GLIMPSE))
    model = RATM(SHAPE, attention(5, windows, start or BoxStart()), pixels, IRNN(pixels.size, 5)).double()
    for parameter in (model.cell.from_input.weight, model.attention.from_hidden.weight):
        nn.init.normal_(parameter, std=spread)
    with torch.no_grad():
        model.cell.from_hidden.weight.add_(0.1 * torch.randn(5, 5))
        model.cell.from_input.weight[:2].abs_()  # not all units are off
    return model


def slow_filter(g: float, delta: float, sigma: float, count: int, length: int) -> Tensor:
    rows = torch.zeros(count, length, dtype=torch.float64)
    for r in range(count):
        mu = g + delta * (r - (count - 1) / 2)
        k = [math.exp(-(((c - mu) / sigma) ** 2) / 2) for c in range(length)]
        rows[r] = torch.tensor(k) / (sum(k) + 1e-4)
    return rows


def paper_pixels(p: list[float]) -> tuple[list[float], list[float], list[float]]:
    """g, delta and sigma of x and y; positions count from the middle of the first pixel."""
    centre, stride, sigma = [], [], []
    for axis, (length, count) in enumerate(((16, 4), (12, 3))):
        centre.append(length * (p[axis] + 1) / 2 - 0.5)
        stride.append((length - 1) / (count - 1) * abs(p[2 + axis]))
        sigma.append(max(abs(p[4 + axis]), 0.3))
    return centre, stride, sigma


def kth_pixels(p: list[float]) -> tuple[list[float], list[float], list[float]]:
    centre, stride, sigma = [], [], []
    for axis, (length, count) in enumerate(((16, 4), (12, 3))):
        centre.append(length * p[axis] - 0.5)
        stride.append((length - 1) / (count - 1) * abs(p[2 + axis]))
        sigma.append(max(abs(p[4 + axis]) / 2, 0.3))
    return centre, stride, sigma


def kth_encoding(box: list[float]) -> list[float]:
    left, top, width, height = box
    return [
        (left + width / 2) / 16,
        (top + height / 2) / 12,
        1.5 * width / 16,
        1.5 * height / 12,
        width / 4,
        height / 3,
    ]


@pytest.mark.parametrize("kind", ["absolute", "residual", "kth"])
def test_tracks_equal_an_explicit_loop(kind: str):
    windows = KTHWindows(GLIMPSE) if kind == "kth" else PaperWindows(GLIMPSE)
    learned = LearnedStart(torch.tensor([0.1, -0.2, 0.5, -0.6, 0.9, -0.1]).double())
    attention = AbsoluteAttention if kind == "absolute" else ResidualAttention
    model = tiny_ratm(attention, windows, BoxStart() if kind == "kth" else learned)
    video = torch.rand(2, 4, *SHAPE, dtype=torch.float64)
    tracks = model(video, BOXES)
    w_in, w_rec = model.cell.from_input.weight.detach(), model.cell.from_hidden.weight.detach()
    w_read = model.attention.from_hidden.weight.detach()
    for b in range(2):
        first = kth_encoding(BOXES[b].tolist()) if kind == "kth" else learned.bias.tolist()
        p, h = torch.tensor(first).double(), torch.zeros(5, dtype=torch.float64)
        for t in range(4):
            if t:
                p = w_read @ h + (torch.tensor(first).double() if kind == "absolute" else p)
            centre, stride, sigma = (kth_pixels if kind == "kth" else paper_pixels)(p.tolist())
            rows = slow_filter(centre[1], stride[1], sigma[1], 3, 12)
            columns = slow_filter(centre[0], stride[0], sigma[0], 4, 16)
            glimpse = torch.stack([rows @ channel @ columns.T for channel in video[b, t]])
            h = (w_in @ glimpse.flatten() + w_rec @ h).clamp(min=0)
            shrink = 1.5 if kind == "kth" else 1
            width, height = 3 * stride[0] / shrink, 2 * stride[1] / shrink
            box = [centre[0] + 0.5 - width / 2, centre[1] + 0.5 - height / 2, width, height]
            torch.testing.assert_close(tracks.boxes[b, t], torch.tensor(box).double())
            torch.testing.assert_close(tracks.windows.centre[b, t], torch.tensor(centre).double())
            torch.testing.assert_close(tracks.windows.stride[b, t], torch.tensor(stride).double())
            torch.testing.assert_close(tracks.windows.sigma[b, t], torch.tensor(sigma).double())
            torch.testing.assert_close(tracks.glimpses[b, t], glimpse)
            torch.testing.assert_close(tracks.features[b, t], glimpse.flatten())
            torch.testing.assert_close(tracks.hidden[b, t], h)
    assert (tracks.boxes[:, 1:] - tracks.boxes[:, :-1]).abs().amax(dim=-1).min() > 0.01


def test_statements_are_what_is_returned():
    model = tiny_ratm(ResidualAttention, PaperWindows(GLIMPSE))
    trace = poutine.trace(model).get_trace(torch.rand(2, 3, *SHAPE, dtype=torch.float64), BOXES)
    tracks: RATMTracks = trace.nodes["_RETURN"]["value"]
    sites = {name: site for name, site in trace.nodes.items() if site["type"] == "sample" and name != "data"}
    assert set(sites) == {f"{name}/{t}" for name in ("window", "glimpse", "box") for t in range(3)}
    for t in range(3):
        window = torch.cat([field[:, t] for field in tracks.windows], dim=-1)
        expected = {"window": window, "glimpse": tracks.glimpses[:, t], "box": tracks.boxes[:, t]}
        for name, value in expected.items():
            site = sites[f"{name}/{t}"]
            assert torch.equal(site["value"], value)
            assert site["infer"]["_deterministic"]
            assert site["fn"].batch_shape == (2,)
            assert site["fn"].event_shape == value.shape[1:]
            assert [(frame.name, frame.dim, frame.size) for frame in site["cond_indep_stack"]] == [
                ("data", -1, 2)
            ]
    assert trace.log_prob_sum() == 0


@pytest.mark.parametrize("attention", [AbsoluteAttention, ResidualAttention])
def test_a_frame_changes_only_later_boxes(attention: type[RATMAttention]):
    model = tiny_ratm(attention, PaperWindows(GLIMPSE))
    video = torch.rand(2, 4, *SHAPE, dtype=torch.float64)
    changed = video.clone()
    changed[:, 1] = torch.rand(2, *SHAPE, dtype=torch.float64)
    before, after = model(video, BOXES), model(changed, BOXES)
    assert torch.equal(before.boxes[:, :2], after.boxes[:, :2])
    assert (before.boxes[:, 2] != after.boxes[:, 2]).all(dim=-1).all()
    assert (before.glimpses[:, 1] != after.glimpses[:, 1]).all()


def test_videos_do_not_mix():
    model = tiny_ratm(ResidualAttention, KTHWindows(GLIMPSE))
    video = torch.rand(2, 3, *SHAPE, dtype=torch.float64)
    torch.testing.assert_close(model(video, BOXES).boxes[1:], model(video[1:], BOXES[1:]).boxes)


def test_the_first_window_spans_the_first_box():
    model = tiny_ratm(ResidualAttention, PaperWindows(GLIMPSE))
    tracks = model(torch.rand(2, 1, *SHAPE, dtype=torch.float64), BOXES)
    torch.testing.assert_close(tracks.boxes[:, 0], BOXES)
    first_sample = tracks.windows.centre - tracks.windows.stride * torch.tensor([3, 2]) / 2
    torch.testing.assert_close(first_sample[:, 0], BOXES[:, :2] - 0.5)


@pytest.mark.parametrize("enlargement", [1.5, 2.0])
def test_on_kth_the_first_window_leaves_room_around_the_box(enlargement: float):
    model = tiny_ratm(ResidualAttention, KTHWindows(GLIMPSE, enlargement))
    assert KTHWindows().enlargement == 1.5
    tracks = model(torch.rand(2, 1, *SHAPE, dtype=torch.float64), BOXES)
    fractions = torch.tensor([15 / 16, 11 / 12])
    torch.testing.assert_close(tracks.windows.centre[:, 0] + 0.5, BOXES[:, :2] + BOXES[:, 2:] / 2)
    extent = tracks.windows.stride[:, 0] * torch.tensor([3, 2])
    torch.testing.assert_close(extent, enlargement * fractions * BOXES[:, 2:])
    assert (extent > BOXES[:, 2:]).all()
    torch.testing.assert_close(tracks.boxes[:, 0, 2:], fractions * BOXES[:, 2:])


@pytest.mark.parametrize(("quirks", "expected"), [(False, 0.9855), (True, 0.7594)])
def test_the_greatest_possible_overlap_on_kth(quirks: bool, expected: float):
    model = kth_ratm(KTHWindows(released_quirks=quirks)).double()
    box = torch.tensor([[60.0, 20.0, 28.0, 90.0]], dtype=torch.float64)
    tracks = model(torch.zeros(1, 1, 1, 120, 160, dtype=torch.uint8), box)
    assert iou(tracks.boxes[:, 0], box).item() == pytest.approx(expected, abs=1e-4)


def test_a_start_may_be_a_share_of_the_frame_about_the_object():
    model = tiny_ratm(AbsoluteAttention, PaperWindows(GLIMPSE), FrameShareStart(0.8))
    tracks = model(torch.rand(2, 1, *SHAPE, dtype=torch.float64), BOXES)
    torch.testing.assert_close(tracks.boxes[:, 0, 2:], torch.tensor([[12.8, 9.6]] * 2).double())
    middles = tracks.boxes[:, 0, :2] + tracks.boxes[:, 0, 2:] / 2
    torch.testing.assert_close(middles, BOXES[:, :2] + BOXES[:, 2:] / 2)


def test_bounded_windows_always_see_the_frame():
    """A tracker that runs away: without bounds its boxes leave the frame for good."""
    video, inside = torch.rand(2, 6, *SHAPE, dtype=torch.float64), []
    for bounded in (False, True):
        torch.manual_seed(0)
        model = tiny_ratm(ResidualAttention, PaperWindows(GLIMPSE, bounded=bounded), spread=2.0)
        boxes = model(video, BOXES).boxes[:, 1:]
        middles, frame = boxes[..., :2] + boxes[..., 2:] / 2, torch.tensor([16.0, 12.0])
        inside.append(((middles >= 0) & (middles <= frame) & (boxes[..., 2:] <= frame - 1 + 1e-9)).all())
    assert inside == [False, True]


def test_a_gated_cell_may_take_the_place_of_the_rectified_one():
    windows = PaperWindows(GLIMPSE)
    pixels = PixelFeatures((2, *GLIMPSE))
    model = RATM(SHAPE, AbsoluteAttention(5, windows, BoxStart()), pixels, GRU(pixels.size, 5)).double()
    nn.init.normal_(model.cell.initial)
    tracks = model(torch.rand(2, 3, *SHAPE, dtype=torch.float64), BOXES)
    hidden = model.cell.initial.expand(2, 5)
    for t in range(3):
        hidden = model.cell(tracks.glimpses[:, t].flatten(1), hidden)
        torch.testing.assert_close(tracks.hidden[:, t], hidden)


def test_a_learned_start_needs_no_box_and_learns():
    windows = PaperWindows((28, 28))
    whole = torch.tensor([0.0, 0.0, 100.0, 100.0])
    start = LearnedStart(windows.parameters(whole, (100, 100)))
    model = RATM(
        (1, 100, 100), AbsoluteAttention(100, windows, start), PixelFeatures((1, 28, 28)), IRNN(784, 100)
    )
    tracks = model(torch.rand(3, 2, 1, 100, 100))
    torch.testing.assert_close(tracks.boxes[:, 0], whole.expand(3, 4), rtol=0, atol=1e-4)
    assert iou(tracks.boxes[0, 0], torch.tensor([30.0, 50.0, 28.0, 28.0])).item() == pytest.approx(0.0784)
    tracks.boxes[:, 0].square().sum().backward()
    assert start.bias.grad.shape == (6,)
    assert start.bias.grad[:4].abs().sum() > 0


def test_random_boxes_are_in_their_ranges():
    generator = torch.Generator().manual_seed(1)
    boxes = torch.stack([random_box((20, 40), generator) for _ in range(500)])
    share = boxes[:, 2:] / torch.tensor([40, 20])
    middle = (boxes[:, :2] + boxes[:, 2:] / 2) / torch.tensor([40, 20])
    for values, low, high in ((share, 0.3, 0.8), (middle, 0.25, 0.75)):
        assert values.amin() == pytest.approx(low, abs=0.01)
        assert values.amax() == pytest.approx(high, abs=0.01)
        assert values.amin() >= low - 1e-6
        assert values.amax() <= high + 1e-6
    again = random_box((20, 40), torch.Generator().manual_seed(1))
    assert torch.equal(again, boxes[0])


def kth_ratm(windows: KTHWindows | None = None) -> RATM:
    features = Frozen(human_features())
    attention = ResidualAttention(32, windows or KTHWindows(), BoxStart())
    return RATM((1, 120, 160), attention, features, IRNN(3136, 32))


def trainable(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def test_parameter_counts():
    """Those of the authors' program for KTH, but for 32 weights of a parameter without effect."""
    assert trainable(kth_ratm()) == 3136 * 32 + 32 * 32 + 32 * 7 - 32 == 101_568
    windows = PaperWindows((5, 5))
    attention = AbsoluteAttention(64, windows, LearnedStart(torch.ones(6)))
    balls = RATM((1, 20, 20), attention, PixelFeatures((1, 5, 5)), IRNN(25, 64))
    assert trainable(balls) == 25 * 64 + 64 * 64 + 64 * 6 + 6


def test_attention_begins_almost_still():
    weight = ResidualAttention(500, PaperWindows(GLIMPSE), BoxStart()).from_hidden.weight
    assert weight.abs().max() <= 1e-3
    assert weight.abs().max() > 0.99e-3
    assert weight.std().item() == pytest.approx(1e-3 / 3**0.5, rel=0.05)


def test_the_boxes_alone_give_every_part_a_gradient():
    windows = PaperWindows((8, 8))
    features = digit_features((2, 8, 8), dropout=0.0)
    model = RATM(SHAPE, ResidualAttention(5, windows, BoxStart()), features, IRNN(features.size, 5)).double()
    nn.init.uniform_(model.cell.from_input.weight, 0, 0.1)  # no unit is off
    tracks = model(torch.rand(2, 3, *SHAPE, dtype=torch.float64), BOXES)
    middles = tracks.boxes[..., :2] + tracks.boxes[..., 2:] / 2
    (middles - torch.tensor([8.0, 6.0])).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("windows", [PaperWindows(GLIMPSE), KTHWindows(GLIMPSE)])
def test_bytes_stand_for_grey_values(windows: WindowRule):
    model = tiny_ratm(ResidualAttention, windows)
    video = torch.randint(256, (2, 3, *SHAPE), dtype=torch.uint8)
    for given, expected in zip(model(video, BOXES), model(video.double() / 255, BOXES), strict=True):
        torch.testing.assert_close(given, expected)
    torch.testing.assert_close(
        model.read_boxes(video, BOXES.expand(3, 2, 4).transpose(0, 1)),
        model.read_boxes(video.double() / 255, BOXES.expand(3, 2, 4).transpose(0, 1)),
    )


@pytest.mark.parametrize("windows", [PaperWindows(GLIMPSE), KTHWindows(GLIMPSE)])
def test_true_boxes_are_read_as_the_first_frame_is(windows: WindowRule):
    model = tiny_ratm(ResidualAttention, windows)
    video, boxes = torch.rand(2, 3, *SHAPE).double(), torch.rand(2, 3, 4).double() * 4 + 2
    glimpses = model.read_boxes(video, boxes)
    assert glimpses.shape == (2, 3, 2, *GLIMPSE)
    for t in range(3):
        expected = model(video[:, t : t + 1], boxes[:, t]).glimpses[:, 0]
        torch.testing.assert_close(glimpses[:, t], expected)


def test_windows_are_as_exact_under_autocast():
    attention = AbsoluteAttention(5, PaperWindows(GLIMPSE), BoxStart(), bound=1.0)
    hidden, first = torch.rand(2, 5), torch.rand(2, 6)
    expected = first + hidden @ attention.from_hidden.weight.T
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(attention(hidden, first, first), expected, rtol=1e-6, atol=1e-6)
        boxes = (
            tiny_ratm(ResidualAttention, PaperWindows(GLIMPSE)).float()(torch.rand(2, 3, *SHAPE), BOXES).boxes
        )
    assert boxes.dtype == torch.float32


def test_boxes_may_be_of_any_type():
    model = tiny_ratm(ResidualAttention, PaperWindows(GLIMPSE))
    video, boxes = torch.rand(2, 2, *SHAPE, dtype=torch.float64), torch.tensor([[3, 2, 6, 5], [0, 4, 4, 3]])
    expected = model(video, boxes.double()).boxes
    assert torch.equal(model(video, boxes).boxes, expected)
    assert torch.equal(model(video, boxes.float()).boxes, expected)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ([3.0, 2.0, 0.0, 5.0], "of positive width and height, but that of video 1 is"),
        ([3.0, 2.0, 4.0, -5.0], "of positive width and height"),
        ([16.0, 2.0, 4.0, 5.0], "at least in part inside frames of 12 x 16"),
        ([3.0, -5.0, 4.0, 5.0], r"inside frames of 12 x 16, but that of video 1 is \[3.0, -5.0, 4.0, 5.0\]"),
        ([-4.0, 2.0, 4.0, 5.0], "inside"),
        ([3.0, 12.0, 4.0, 5.0], "inside"),
        ([float("nan"), 2.0, 4.0, 5.0], "finite"),
        ([3.0, 2.0, float("inf"), 5.0], "finite"),
    ],
)
def test_impossible_first_boxes_are_refused(box: list[float], message: str):
    model = tiny_ratm(ResidualAttention, PaperWindows(GLIMPSE))
    boxes = torch.stack([BOXES[0], torch.tensor(box).double()])
    with pytest.raises(ValueError, match=message):
        model(torch.rand(2, 2, *SHAPE, dtype=torch.float64), boxes)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PaperWindows((1, 1)), "`glimpse_size` must be at least 2"),
        (lambda: PaperWindows((2.5, 3)), "`glimpse_size` must be a whole number"),  # type: ignore[arg-type]
        (lambda: KTHWindows((28, 1)), "`glimpse_size` must be at least 2"),
        (lambda: KTHWindows((5, 5), 0.0), "`enlargement` must be positive, got 0"),
        (lambda: FrameShareStart(math.nan), "`share` must be positive and finite, got nan"),
        (lambda: FrameShareStart(-1), "`share` must be positive, got -1"),
    ],
)
def test_windows_that_cannot_be_are_refused(make: Callable[[], object], message: str):
    with pytest.raises(ValueError, match=message):
        make()


def test_boxes_that_reach_into_the_frame_are_accepted():
    require_first_boxes(torch.tensor([[-3.9, 11.9, 4.0, 9.0], [15.9, -1.0, 4.0, 1.1]]), 2, (12, 16))


def test_impossible_videos_and_missing_boxes_are_refused():
    model = tiny_ratm(ResidualAttention, PaperWindows(GLIMPSE))
    with pytest.raises(
        ValueError, match=r"`video` must have shape \(B, T, 2, 12, 16\), but got \(2, 3, 2, 12\)"
    ):
        model(torch.rand(2, 3, 2, 12), BOXES)
    with pytest.raises(ValueError, match=r"`video` must have shape .* but got \(2, 3, 1, 12, 16\)"):
        model(torch.zeros(2, 3, 1, 12, 16, dtype=torch.uint8), BOXES)
    with pytest.raises(ValueError, match=r"floating point in \[0, 1\], but got torch.int64"):
        model(torch.zeros(2, 3, *SHAPE, dtype=torch.int64), BOXES)
    video = torch.rand(2, 3, *SHAPE, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"`first_box` must have shape \(2, 4\), but got \(3, 4\)"):
        model(video, torch.ones(3, 4))
    with pytest.raises(ValueError, match=r"`first_box` of shape \(B, 4\) is needed by `BoxStart`"):
        model(video)
    with pytest.raises(ValueError, match=r"`parameters` must have shape \(6,\), but got \(7,\)"):
        LearnedStart(torch.ones(7))


def test_a_tracker_leaves_no_trace_in_sample_statements_of_others():
    """Deterministic sites have no log-probability, so a tracker can stand inside a generative model."""
    model = tiny_ratm(ResidualAttention, PaperWindows(GLIMPSE))

    def program() -> None:
        tracks = model(torch.rand(2, 2, *SHAPE, dtype=torch.float64), BOXES)
        with pyro.plate("videos", 2):
            pyro.sample("x", pyro.distributions.Normal(tracks.boxes[:, 0, 0], 1.0), obs=BOXES[:, 0])

    trace = poutine.trace(program).get_trace()
    assert trace.log_prob_sum().item() == pytest.approx(-math.log(2 * math.pi))


@pytest.mark.parametrize("attention", [AbsoluteAttention, ResidualAttention])
def test_a_video_that_comes_part_by_part_is_tracked_like_a_whole_one(attention: type[RATMAttention]):
    torch.manual_seed(0)
    model, video = tiny_ratm(attention, PaperWindows(GLIMPSE)), torch.rand(2, 7, *SHAPE).double()
    whole = model(video, BOXES)
    with poutine.trace() as traced:
        parts = list(model.follow([video[:, :3], video[:, 3:4], video[:, 4:]], BOXES))
    assert [part.boxes.shape[1] for part in parts] == [3, 1, 3]
    for name in ("boxes", "glimpses", "features", "hidden"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts], dim=1), getattr(whole, name))
    for t in range(7):
        assert torch.equal(traced.trace.nodes[f"box/{t}"]["value"], whole.boxes[:, t])
