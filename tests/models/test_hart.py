"""HART against a loop that writes out boxes, windows, glimpses and the order of its parts, video by video."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pyro import poutine
from torch import Tensor, nn

from whatwhere.models import HART, HARTCell, HARTTracks, kitti_hart, kth_hart, small_hart
from whatwhere.models.components.boxes import iou
from whatwhere.models.components.feature_extractors import human_features
from whatwhere.models.components.gaussian_windows import PolynomialSigma, released_sigma
from whatwhere.models.components.recurrent import LSTMState, ZoneoutLSTM
from whatwhere.models.components.visual_cortex import (
    DorsalStream,
    SmallV1,
    VentralStream,
    batch_normalisation,
    group_normalisation,
)

SHAPE = (2, 24, 32)
HEIGHT, WIDTH = 24, 32
GLIMPSE = (8, 12)
BOXES = torch.tensor([[6.0, 5.0, 12.0, 9.0], [-2.0, 8.5, 9.0, 7.0]], dtype=torch.float64)


def tiny_hart(appearance: bool = True, spread: float = 0.3, margin: float = 0.0, **options: Any) -> HART:
    """Weights are large enough for windows and boxes to move by pixels."""
    cell = HARTCell(
        SHAPE,
        GLIMPSE,
        SmallV1((2, *GLIMPSE), (8, 8), (2, 1)),
        VentralStream(8, 3, normalisation=group_normalisation),
        DorsalStream(8, 6, channels=3) if appearance else None,
        ZoneoutLSTM(6, 6),
        mask_features=4,
        head_size=7,
        margin=margin,
        **options,
    )
    for head in (cell.attention_head, cell.box_head):
        nn.init.normal_(head[-1].weight, std=spread)
    return HART(cell).double()


def some_video(frames: int = 3, batch: int = 2) -> Tensor:
    return torch.rand(batch, frames, *SHAPE, dtype=torch.float64)


def slow_glimpse(image: Tensor, y: float, x: float, h: float, w: float) -> tuple[Tensor, Tensor]:
    """Rows and columns of Gaussians from corner to corner of a box; and the six numbers that say where."""
    banks, sigmas, strides = [], [], []
    for start, extent, count, length in ((y, h, GLIMPSE[0], HEIGHT), (x, w, GLIMPSE[1], WIDTH)):
        stride = extent / (count - 1)
        sigma = (0.405**8 + (0.357 * stride) ** 8) ** (1 / 8)
        bank = torch.zeros(count, length, dtype=torch.float64)
        for r in range(count):
            # A box starts at the border of a pixel, half of one before its centre.
            k = [math.exp(-(((c - (start - 0.5 + r * stride)) / sigma) ** 2) / 2) for c in range(length)]
            bank[r] = torch.tensor(k).double() / (sum(k) + 1e-8)
        banks.append(bank)
        sigmas.append(sigma)
        strides.append(stride)
    where = [x / WIDTH, y / HEIGHT]
    where += [sigmas[1] * (GLIMPSE[1] - 1) / WIDTH, sigmas[0] * (GLIMPSE[0] - 1) / HEIGHT]
    where += [strides[1] * (GLIMPSE[1] - 1) / WIDTH, strides[0] * (GLIMPSE[0] - 1) / HEIGHT]
    rows, columns = banks
    return torch.stack([rows @ channel @ columns.T for channel in image]), torch.tensor(where).double()


def encode(box: list[float]) -> list[float]:
    """(y, x, h, w) in fractions of the frame."""
    left, top, width, height = box
    return [top / HEIGHT, left / WIDTH, height / (HEIGHT - 1), width / (WIDTH - 1)]


def decode(a: list[float]) -> list[float]:
    return [a[0] * HEIGHT, a[1] * WIDTH, a[2] * (HEIGHT - 1), a[3] * (WIDTH - 1)]


def y_first(four: Tensor) -> list[float]:
    x, y, w, h = four.tolist()
    return [y, x, h, w]


@pytest.mark.parametrize("appearance", [True, False])
def test_tracks_equal_an_explicit_loop(appearance: bool):
    model = tiny_hart(appearance).eval()
    cell = model.cell
    with torch.no_grad():
        cell.bias.copy_(torch.tensor([-0.1, -0.2, 0.3, 0.4]))
        cell.step_size.copy_(torch.tensor([-2.0, -1.0, -2.5, -3.0]))
    video = some_video(4)
    tracks = model(video, BOXES)
    beta = y_first(0.25 * cell.bias.detach().tanh())
    rate = y_first(cell.step_size.detach().sigmoid())
    for b in range(2):
        a = encode(BOXES[b].tolist())
        glimpse, where = slow_glimpse(video[b, 0], *decode(a))
        ventral = cell.ventral(cell.v1(glimpse[None]))[0]
        v = F.elu(cell.features(torch.cat([ventral.flatten(), where])))
        v = cell.first_features(v).relu()
        zeros = torch.zeros(6, dtype=torch.float64)
        alpha, state = cell.lstm(v, LSTMState(zeros, zeros))
        state = LSTMState(cell.first_hidden(state.hidden).relu(), cell.first_cell(state.cell).relu())
        a = [i + j for i, j in zip(a, beta, strict=True)]
        for t in range(4):
            y, x, h, w = decode(a)
            torch.testing.assert_close(tracks.attention[b, t], torch.tensor([x, y, w, h]).double())
            glimpse, where = slow_glimpse(video[b, t], y, x, h, w)
            torch.testing.assert_close(tracks.glimpses[b, t], glimpse)
            maps = cell.v1(glimpse[None])
            nu, q = cell.ventral(maps)[0], torch.zeros(0, dtype=torch.float64)
            if appearance:
                logits, filters = cell.dorsal(maps, alpha[None])
                s = logits[0].sigmoid()
                nu, q = nu * s, F.elu(cell.mask_features(s.flatten()))
                torch.testing.assert_close(tracks.mask_logits[b, t], logits[0], rtol=1e-6, atol=1e-6)
                torch.testing.assert_close(tracks.masks[b, t], s, rtol=1e-6, atol=1e-6)
                torch.testing.assert_close(tracks.filters[b, t], filters[0], rtol=1e-6, atol=1e-6)
            v = F.elu(cell.features(torch.cat([nu.flatten(), where])))
            alpha, state = cell.lstm(v, state)
            z = torch.cat([alpha, q])
            if t == 0:
                correction = [0.0] * 4
            else:
                correction = y_first(cell.box_head(z).tanh())
            unmargined = decode([i - j for i, j in zip(a, beta, strict=True)])
            y, x, h, w = (
                i + j * side
                for i, j, side in zip(unmargined, correction, (HEIGHT, WIDTH, HEIGHT, WIDTH), strict=True)
            )
            expected = torch.tensor([x, y, max(w, 1.0), max(h, 1.0)]).double()
            torch.testing.assert_close(tracks.boxes[b, t], expected, rtol=1e-6, atol=1e-6)
            step = y_first(cell.attention_head(z).tanh())
            a = [i + r * d for i, r, d in zip(a, rate, step, strict=True)]
            a = [*a[:2], max(a[2], 1 / (HEIGHT - 1)), max(a[3], 1 / (WIDTH - 1))]
    assert (tracks.attention[:, 1:] - tracks.attention[:, :-1]).abs().mean() > 0.1
    assert (tracks.boxes[:, 1:] - tracks.attention[:, 1:]).abs().mean() > 0.1


def test_in_units_of_windows_boxes_and_windows_move_by_shares_of_their_sides():
    """The networks' answers are taken out of the model's own parts; what is made of them is written out."""
    model = tiny_hart(units="window").eval()
    cell = model.cell
    with torch.no_grad():
        cell.bias.copy_(torch.tensor([-0.1, -0.2, 0.3, 0.4]))
        cell.step_size.copy_(torch.tensor([-2.0, -1.0, -2.5, -3.0]))
    video = some_video(4)
    tracks = model(video, BOXES)
    left, top, wider, higher = (0.9 * cell.bias.detach().tanh()).tolist()
    rate = cell.step_size.detach().sigmoid().tolist()
    state = cell.start(video[:, 0], BOXES)
    windows = [
        [x + left * w, y + top * h, w * (1 + wider), h * (1 + higher)] for x, y, w, h in BOXES.tolist()
    ]
    for t in range(4):
        torch.testing.assert_close(tracks.attention[:, t], torch.tensor(windows).double())
        state, seen = cell(video[:, t], state)
        corrections = cell.box_head(seen.evidence).tanh().tolist()
        steps = cell.attention_head(seen.evidence).tanh().tolist()
        for b, (x, y, w, h) in enumerate(windows):
            box_w, box_h = w / (1 + wider), h / (1 + higher)
            expected = [x - left * box_w, y - top * box_h, box_w, box_h]
            if t > 0:
                shares = zip(expected, corrections[b], (w, h, w, h), strict=True)
                expected = [number + share * side for number, share, side in shares]
            expected = [*expected[:2], max(expected[2], 1.0), max(expected[3], 1.0)]
            torch.testing.assert_close(tracks.boxes[b, t], torch.tensor(expected).double())
            moves = zip((x, y, w, h), rate, steps[b], (w, h, w, h), strict=True)
            windows[b] = [number + share * step * side for number, share, step, side in moves]
    assert (tracks.attention[:, 1:] - tracks.attention[:, :-1]).abs().mean() > 0.1
    assert (tracks.boxes[:, 1:] - tracks.attention[:, 1:]).abs().mean() > 0.1


def test_in_units_of_windows_large_and_small_objects_move_alike():
    model = tiny_hart(units="window").eval()
    with torch.no_grad():
        model.cell.features.weight[:, -6:] = 0.0  # what tells the networks where in the frame they look
        model.cell.first_features.weight.zero_()
    boxes = torch.tensor([[4.0, 4.0, 8.0, 6.0], [6.0, 2.0, 16.0, 12.0]]).double()
    tracks = model(torch.zeros(2, 4, *SHAPE).double(), boxes)
    # All glimpses are black, whatever the window, so the networks answer alike.
    for found in (tracks.boxes, tracks.attention):
        moved = (found - boxes.unsqueeze(1)) / boxes[:, None, [2, 3, 2, 3]]
        torch.testing.assert_close(moved[0], moved[1], rtol=1e-6, atol=1e-6)
        assert moved[:, -1].abs().min() > 1e-4


def test_detached_windows_answer_for_one_step_each():
    model, video = tiny_hart(units="window").eval(), some_video(4)
    expected = model(video, BOXES)
    model.cell.detached = True
    tracks = model(video, BOXES)
    for got, wanted in zip(tracks, expected, strict=True):
        torch.testing.assert_close(got, wanted)
    head = model.cell.attention_head
    tracks.attention[:, 3].sum().backward()
    # Of the last step alone: a_3 = a_2 + rate tanh(W h + c) (w, h, w, h), with a_2 and h held.
    state = model.cell.start(video[:, 0], BOXES)
    for t in range(3):
        state, seen = model.cell(video[:, t], state)
    slope = model.cell.step_size.sigmoid() * (1 - head(seen.evidence).tanh().square())
    wanted = (slope * tracks.attention[:, 2, [2, 3, 2, 3]]).sum(0)
    torch.testing.assert_close(head[-1].bias.grad, wanted)


@pytest.mark.parametrize("units", ["frame", "window"])
def test_a_copy_for_frames_of_another_size_is_the_model_of_that_size(units: Any):
    model = tiny_hart(units=units, margin=0.05).eval()
    other = HARTCell(
        (2, 48, 40),
        GLIMPSE,
        SmallV1((2, *GLIMPSE), (8, 8), (2, 1)),
        VentralStream(8, 3, normalisation=group_normalisation),
        DorsalStream(8, 6, channels=3),
        ZoneoutLSTM(6, 6),
        mask_features=4,
        head_size=7,
        units=units,
    )
    expected = HART(other).double().eval()
    expected.load_state_dict(model.state_dict())
    video = torch.rand(2, 3, 2, 48, 40, dtype=torch.float64)
    resized = model.resized((48, 40))
    for got, wanted in zip(resized(video, BOXES), expected(video, BOXES), strict=True):
        torch.testing.assert_close(got, wanted)
    assert model.image_shape == SHAPE  # the first one is as it was
    assert model(some_video(), BOXES).boxes.shape == (2, 3, 4)


def test_bounded_windows_stay_in_the_frame():
    """A head that always says "left, up, and larger"."""
    for units in ("frame", "window"):
        model = tiny_hart(units=units, bounded=True)
        with torch.no_grad():
            model.cell.step_size.fill_(3.0)
            head = model.cell.attention_head[-1]
            head.weight.mul_(0.01)
            head.bias.copy_(torch.tensor([-3.0, -3.0, 3.0, 3.0]))
        tracks = model(some_video(12), BOXES)
        last = tracks.attention[:, -1]
        torch.testing.assert_close(last[:, 2:], torch.tensor([[32.0, 24.0]] * 2).double())
        torch.testing.assert_close(last[:, :2] + last[:, 2:] / 2, torch.zeros(2, 2).double())
        tracks.attention[:, -1].sum().backward()
        # Bounds do not take the gradient away.
        assert head.bias.grad.ne(0).all()


@pytest.mark.parametrize("units", ["frame", "window"])
def test_the_first_box_is_given_back(units: Any):
    model = tiny_hart(margin=0.05, units=units)
    tracks = model(some_video(), BOXES)
    assert torch.equal(tracks.boxes[:, 0], BOXES)
    model = small_hart((3, 187, 621), margin=0.05)
    boxes = torch.tensor([[480.3, 103.7, 71.9, 33.3]])
    tracks = model(torch.zeros(1, 2, 3, 187, 621, dtype=torch.uint8), boxes)
    assert torch.equal(tracks.boxes[:, 0], boxes)


def test_the_first_box_is_given_back_where_its_window_was_moved_or_cut():
    model = tiny_hart(margin=0.05, bounded=True)
    boxes = torch.tensor([[-10.0, 5.0, 12.0, 9.0], [4.0, 5.0, 40.0, 9.0], [6.0, 5.0, 0.4, 0.7]]).double()
    tracks = model(some_video(2, batch=3), boxes)
    assert torch.equal(tracks.boxes[:, 0], boxes)
    left, _, width, _ = tracks.attention[:2, 0].unbind(-1)
    torch.testing.assert_close((left + width / 2)[0], torch.tensor(0.0).double())  # the middle was at -4
    torch.testing.assert_close(width[1], torch.tensor(32.0).double())


def test_it_begins_at_rest():
    for model in (small_hart((3, 100, 100)), small_hart((3, 100, 100), (56, 56))):
        boxes = torch.tensor([[30.0, 40.0, 25.0, 20.0], [50.0, 10.0, 12.0, 40.0]])
        tracks = model(torch.randint(256, (2, 10, 3, 100, 100), dtype=torch.uint8), boxes)
        # A step is at most sigmoid(-2.5) = 0.076 of what the head says.
        steps = (tracks.attention[:, 1:] - tracks.attention[:, :-1]).abs().max() / 100
        assert steps < 0.02 * 0.0759
        assert (tracks.boxes - boxes.unsqueeze(1)).abs().max() < 3
        assert not torch.equal(tracks.boxes[:, 1], boxes)
        torch.testing.assert_close(
            model.cell.step_size.sigmoid(), torch.full((4,), 0.0759), atol=1e-4, rtol=0
        )


def test_the_margin_is_that_of_the_windows():
    boxes = torch.tensor([[30.0, 40.0, 25.0, 20.0]])
    model = small_hart((3, 100, 200), margin=0.04)
    tracks = model(torch.zeros(1, 2, 3, 100, 200, dtype=torch.uint8), boxes)
    # beta = (-0.04, -0.04, 0.08, 0.08) in units of (W, H, W - 1, H - 1).
    expected = torch.tensor([[30 - 8, 40 - 4, 25 + 0.08 * 199, 20 + 0.08 * 99]])
    torch.testing.assert_close(tracks.attention[:, 0], expected, rtol=0, atol=0.2)
    tracks = small_hart((3, 100, 200), margin=0.3, units="window")(torch.zeros(1, 2, 3, 100, 200), boxes)
    expected = torch.tensor([[30 - 0.3 * 25, 40 - 0.3 * 20, 25 * 1.6, 20 * 1.6]])
    torch.testing.assert_close(tracks.attention[:, 0], expected, rtol=0, atol=0.1)
    no_margin = small_hart((3, 100, 200)).cell.margin()
    assert no_margin.abs().max() <= 0.25 * 1e-3 * 200
    assert no_margin.any()


def test_statements_are_what_is_returned():
    model = tiny_hart()
    trace = poutine.trace(model).get_trace(some_video(), BOXES)
    tracks: HARTTracks = trace.nodes["_RETURN"]["value"]
    sites = {name: site for name, site in trace.nodes.items() if site["type"] == "sample" and name != "data"}
    kinds = ("attention", "glimpse", "mask", "box")
    assert set(sites) == {f"{name}/{t}" for name in kinds for t in range(3)}
    for t in range(3):
        expected = {
            "attention": tracks.attention[:, t],
            "glimpse": tracks.glimpses[:, t],
            "mask": tracks.masks[:, t],
            "box": tracks.boxes[:, t],
        }
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


def test_a_called_model_states_each_parameter_once():
    model = tiny_hart()
    trace = poutine.trace(model).get_trace(some_video(), BOXES)
    names = [name for name, site in trace.nodes.items() if site["type"] == "param"]
    assert len(names) == sum(1 for _ in model.parameters())
    messages = []
    with poutine.messenger.Messenger() as counter:
        counter._process_message = lambda message: messages.append(message["type"])
        model(some_video(), BOXES)
    assert messages.count("param") <= len(names)
    assert messages.count("sample") == 1 + 12  # the plate, and four a frame


def test_without_appearance_attention_there_is_no_mask():
    model = tiny_hart(appearance=False)
    trace = poutine.trace(model).get_trace(some_video(), BOXES)
    assert not any("mask" in name for name in trace.nodes)
    tracks = trace.nodes["_RETURN"]["value"]
    assert tracks.mask_logits is None
    assert tracks.masks is None
    assert tracks.filters is None
    missing = {name for name, _ in tiny_hart().named_parameters()} - {n for n, _ in model.named_parameters()}
    assert all(name.startswith(("cell.dorsal.", "cell.mask_features.")) for name in missing)
    assert missing


def test_a_mask_of_ones_is_spatial_attention_alone():
    """The dorsal stream acts through the mask and its features, and through nothing else."""
    full, spatial = tiny_hart().eval(), tiny_hart(appearance=False).eval()
    with torch.no_grad():
        full.cell.dorsal.readout.weight.zero_()
        full.cell.dorsal.readout.bias.fill_(1e3)
        full.cell.mask_features.weight.zero_()
        full.cell.mask_features.bias.zero_()
        state = dict(full.state_dict())
        for name in ("attention_head", "box_head"):
            state[f"cell.{name}.0.weight"] = state[f"cell.{name}.0.weight"][:, :6]
    spatial.load_state_dict({name: state[name] for name in spatial.state_dict()})
    video = some_video()
    torch.testing.assert_close(full(video, BOXES).boxes, spatial(video, BOXES).boxes)


def test_a_frame_changes_its_box_but_not_its_window():
    model = tiny_hart().eval()
    video = some_video(4)
    changed = video.clone()
    changed[:, 2] = torch.rand(2, *SHAPE, dtype=torch.float64)
    before, after = model(video, BOXES), model(changed, BOXES)
    assert torch.equal(before.attention[:, :3], after.attention[:, :3])
    assert torch.equal(before.boxes[:, :2], after.boxes[:, :2])
    assert (before.boxes[:, 2] != after.boxes[:, 2]).any(-1).all()
    assert (before.attention[:, 3] != after.attention[:, 3]).any(-1).all()


def test_videos_do_not_mix():
    model = tiny_hart().eval()
    video = some_video()
    torch.testing.assert_close(model(video, BOXES).boxes[1:], model(video[1:], BOXES[1:]).boxes)


def test_frames_may_come_one_by_one():
    model = tiny_hart().eval()
    cell, video = model.cell, some_video(4)
    tracks = model(video, BOXES)
    state = cell.start(video[:, 0], BOXES)
    for t in range(4):
        state, frame = cell(video[:, t], state)
        boxes = cell.boxes(frame.attention, frame.evidence) if t else BOXES
        torch.testing.assert_close(boxes, tracks.boxes[:, t])
        torch.testing.assert_close(frame.attention, tracks.attention[:, t])


def test_parameter_counts():
    """1,701,712 is that of the authors' checkpoint for KITTI."""
    model = kitti_hart()

    def count(module: nn.Module) -> int:
        return sum(p.numel() for p in module.parameters() if p.requires_grad)

    assert count(model) == 1_701_712
    cell = model.cell
    expected = {
        "v1": 34_944 + 307_456 + 885_120,
        "ventral": 1_925 + 10,
        "dorsal": 204_530 + 33_335 + 6,
        "lstm": 80_400,
        "features": 98_700,
        "first_features": 10_100,
        "first_hidden": 10_100,
        "first_cell": 10_100,
        "mask_features": 1_970,
        "attention_head": 11_504,
        "box_head": 11_504,
    }
    assert {name: count(part) for name, part in cell.named_children()} == expected
    assert sum(expected.values()) + cell.step_size.numel() + cell.bias.numel() == 1_701_712
    assert count(kitti_hart(normalisation=group_normalisation)) == 1_701_712
    spatial = kitti_hart(appearance=False)
    # The heads do without the ten features of the mask.
    assert count(spatial) == 1_701_712 - expected["dorsal"] - expected["mask_features"] - 2 * 10 * 100


def test_weight_decay_is_of_matrices_and_filters():
    model = kitti_hart()
    decayed = {name: model.get_parameter(name) for name in model.decayed}
    others = [name for name, _ in model.named_parameters() if name not in decayed]
    assert all(name.endswith("weight") for name in decayed)
    assert not any("normalisation" in name for name in decayed)
    kept = ("bias", "step_size", "normalisation.weight")
    assert all(name.endswith(kept) for name in others)
    assert "cell.v1.layers.0.weight" in decayed
    assert "cell.dorsal.readout.weight" in decayed


@pytest.mark.parametrize("appearance", [True, False])
@pytest.mark.parametrize("make", [small_hart, kth_hart])
def test_the_boxes_alone_give_every_part_a_gradient(make, appearance: bool):
    channels = 1 if make is kth_hart else 3
    model = make((channels, 40, 50), appearance=appearance)
    boxes = torch.tensor([[10.0, 12.0, 20.0, 15.0], [25.0, 5.0, 15.0, 25.0]])
    video = torch.randint(256, (2, 3, channels, 40, 50), dtype=torch.uint8)
    tracks = model(video, boxes)
    (-iou(tracks.boxes[:, 1:], boxes.unsqueeze(1) + 2).log()).mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_gradients_are_those_of_finite_differences():
    model = tiny_hart(spread=0.1).eval()
    cell, video = model.cell, some_video(3)
    assert model(video, BOXES).boxes[..., 2:].min() > 1.1  # no size is held at a pixel
    parameters = [cell.step_size, cell.bias, cell.first_cell.bias, cell.dorsal.first.static_bias]

    def boxes(*values: Tensor) -> Tensor:
        named = dict(
            zip(("step_size", "bias", "first_cell.bias", "dorsal.first.static_bias"), values, strict=True)
        )
        full = {f"cell.{name}": value for name, value in named.items()}
        return torch.func.functional_call(model, full, (video, BOXES)).boxes

    copies = [parameter.detach().clone().requires_grad_() for parameter in parameters]
    assert torch.autograd.gradcheck(boxes, copies, eps=1e-6, atol=1e-4)


def test_training_drops_and_zones_out_and_evaluation_does_not():
    model, video = tiny_hart(), some_video()
    assert not torch.equal(model(video, BOXES).boxes, model(video, BOXES).boxes)
    model.eval()
    assert torch.equal(model(video, BOXES).boxes, model(video, BOXES).boxes)


def test_bytes_stand_for_grey_values():
    model = tiny_hart().eval()
    video = torch.randint(256, (2, 3, *SHAPE), dtype=torch.uint8)
    for given, expected in zip(model(video, BOXES), model(video.double() / 255, BOXES), strict=True):
        torch.testing.assert_close(given, expected)


def test_true_boxes_are_read_as_the_first_frame_is():
    model = tiny_hart().eval()
    with torch.no_grad():
        model.cell.bias.zero_()
    video, boxes = some_video(), torch.rand(2, 3, 4).double() * 4 + 3
    glimpses = model.read_boxes(video, boxes)
    assert glimpses.shape == (2, 3, 2, *GLIMPSE)
    for t in range(3):
        expected = model(video[:, t : t + 1], boxes[:, t]).glimpses[:, 0]
        torch.testing.assert_close(glimpses[:, t], expected)


def test_a_window_that_leaves_the_frame_stays_finite():
    """A head that always says "left, and smaller": the window leaves the frame and would turn inside out."""
    model = tiny_hart()
    with torch.no_grad():
        model.cell.step_size.fill_(3.0)
        for head in (model.cell.attention_head, model.cell.box_head):
            head[-1].weight.mul_(0.01)
            head[-1].bias.fill_(-3.0)
    tracks = model(some_video(12), BOXES)
    assert (tracks.attention[:, -1, :2] < -200).all()
    assert torch.equal(tracks.attention[:, -1, 2:], torch.ones(2, 2).double())
    assert (tracks.boxes[..., 2:] >= 1).all()
    assert not tracks.glimpses[:, -1].any()
    (tracks.boxes.sum() + tracks.mask_logits.square().sum() + tracks.filters.square().sum()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), name
    # A size that is held at a pixel still has a gradient.
    assert model.cell.attention_head[-1].bias.grad[2:].ne(0).all()


@pytest.mark.parametrize("shade", [0, 255])
def test_a_frame_of_one_shade_stays_finite(shade: int):
    for model in (small_hart((3, 40, 40)), kth_hart((1, 40, 40))):
        video = torch.full((2, 3, *model.image_shape), shade, dtype=torch.uint8)
        tracks = model(video, torch.tensor([[5.0, 5.0, 20.0, 20.0], [-15.0, 30.0, 20.0, 20.0]]))
        (tracks.boxes.sum() + tracks.mask_logits.sum()).backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("sigma", [PolynomialSigma(), released_sigma])
def test_the_width_of_the_gaussians_is_a_choice(sigma):
    model = small_hart((3, 60, 60), sigma=sigma)
    window = model.cell.window(torch.tensor([[10.0, 10.0, 40.0, 20.0]]))
    torch.testing.assert_close(window.sigma, sigma(window.stride))
    tracks = model(
        torch.randint(256, (1, 2, 3, 60, 60), dtype=torch.uint8), torch.tensor([[10.0, 10.0, 40.0, 20.0]])
    )
    assert tracks.boxes.isfinite().all()


def test_modern_biases_are_zero_but_that_of_the_forget_gate():
    features = human_features()
    before = [p.clone() for p in features.parameters()]
    with torch.no_grad():
        features.blocks[0].bias.fill_(0.5)
    model = kth_hart(features=features, init="modern")
    assert torch.equal(features.blocks[0].bias, torch.full((128,), 0.5))
    assert torch.equal(features.blocks[0].weight, before[0])
    cell = model.cell
    expected = torch.zeros(400)
    expected[200:300] = 1
    assert torch.equal(cell.lstm.from_input.bias, expected)
    filters = [cell.dorsal.first.weight.bias, cell.dorsal.second.weight.bias]
    biases = [
        p
        for n, p in cell.named_parameters()
        if n.endswith("bias") and n != "bias" and not n.startswith(("v1", "lstm"))
    ]
    for bias in biases:
        assert bias.any() == any(bias is other for other in filters)
    released = kth_hart().cell
    assert all(
        p.any()
        for n, p in released.named_parameters()
        if n.endswith("bias")
        and not n.startswith("v1")
        and n not in ("attention_head.2.bias", "box_head.2.bias", "ventral.normalisation.bias")
    )


def test_first_values_of_the_released_program():
    cell = kitti_hart().cell
    for linear in (cell.features, cell.first_features, cell.first_cell, cell.mask_features, cell.box_head[0]):
        outputs, inputs = linear.weight.shape
        for values, bound in (
            (linear.weight, (6 / (inputs + outputs)) ** 0.5),
            (linear.bias, (3 / outputs) ** 0.5),
        ):
            assert 0.6 * bound < values.abs().max() <= bound
    for head in (cell.attention_head, cell.box_head):
        assert 0.9e-3 < head[-1].weight.abs().max() <= 1e-3
        assert not head[-1].bias.any()
    assert cell.bias.abs().max() <= 1e-3
    assert torch.equal(cell.step_size, torch.full((4,), -2.5))
    assert isinstance(cell.ventral.normalisation, nn.BatchNorm2d)
    assert cell.ventral.normalisation.eps == 1e-3
    assert cell.ventral.normalisation.momentum == 0.05
    assert cell.lstm.zoneout == 0.05
    assert cell.ventral.dropout.p == 0.25


def test_kth_and_small_configurations():
    kth = kth_hart().cell
    assert kth.v1.map_shape == (64, 7, 7)
    assert kth.features.in_features == 245 + 6
    assert kth.mask_features.in_features == 49
    assert small_hart().cell.features.in_features == 245 + 6
    large = small_hart(glimpse_size=(56, 56), normalisation=batch_normalisation).cell
    assert large.v1.map_shape == (64, 14, 14)
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in large.modules()) == 4
    assert small_hart(hidden_size=32).cell.lstm.hidden_size == 32


def test_boxes_are_as_exact_under_autocast():
    model = small_hart((3, 60, 60)).eval()
    video, boxes = torch.rand(1, 4, 3, 60, 60), torch.tensor([[20.3, 10.1, 30.7, 25.9]])
    expected = model(video, boxes)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        tracks = model(video, boxes)
    assert tracks.boxes.dtype == tracks.attention.dtype == tracks.glimpses.dtype == torch.float32
    # What is seen is rounded, but not the place, nor how it is read out.
    torch.testing.assert_close(tracks.boxes, expected.boxes, rtol=0, atol=0.05)
    attention, evidence = torch.rand(1, 4), torch.randn(1, 110).to(torch.bfloat16)
    plain = model.cell.boxes(attention, evidence.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(model.cell.boxes(attention, evidence), plain)


def test_parts_that_do_not_fit_are_refused():
    v1, ventral, lstm = SmallV1((2, *GLIMPSE), (8,), (2,)), VentralStream(8), ZoneoutLSTM(6, 6)
    with pytest.raises(ValueError, match=r"`v1.map_shape` must be three numbers"):
        HARTCell(SHAPE, GLIMPSE, nn.Identity(), ventral, None, lstm)
    with pytest.raises(ValueError, match=r"`ventral.in_channels` must be 8, .* but got 9"):
        HARTCell(SHAPE, GLIMPSE, v1, VentralStream(9), None, lstm)
    with pytest.raises(ValueError, match=r"`dorsal.in_channels` must be 8, .* but got 7"):
        HARTCell(SHAPE, GLIMPSE, v1, ventral, DorsalStream(7, 6), lstm)
    with pytest.raises(ValueError, match=r"`dorsal.control_size` must be 6, .* but got 5"):
        HARTCell(SHAPE, GLIMPSE, v1, ventral, DorsalStream(8, 5), lstm)
    with pytest.raises(ValueError, match="`margin` must be in"):
        HARTCell(SHAPE, GLIMPSE, v1, ventral, None, lstm, margin=0.2)
    with pytest.raises(ValueError, match="`init` must be"):
        HARTCell(SHAPE, GLIMPSE, v1, ventral, None, lstm, init="old")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`units` must be"):
        HARTCell(SHAPE, GLIMPSE, v1, ventral, None, lstm, units="pixels")  # type: ignore[arg-type]


def test_impossible_videos_and_boxes_are_refused():
    model = tiny_hart()
    with pytest.raises(
        ValueError, match=r"`video` must have shape \(B, T, 2, 24, 32\), but got \(2, 3, 2, 24\)"
    ):
        model(torch.rand(2, 3, 2, 24), BOXES)
    with pytest.raises(ValueError, match=r"floating point in \[0, 1\], but got torch.int64"):
        model(torch.zeros(2, 3, *SHAPE, dtype=torch.int64), BOXES)
    with pytest.raises(ValueError, match=r"`first_box` must have shape \(2, 4\), but got \(3, 4\)"):
        model(some_video(), torch.ones(3, 4))
    for wrong in ([3.0, 2.0, 0.0, 5.0], [40.0, 2.0, 4.0, 5.0], [float("nan"), 2.0, 4.0, 5.0]):
        with pytest.raises(ValueError, match="`first_box` must be"):
            model(some_video(), torch.stack([BOXES[0], torch.tensor(wrong).double()]))


@pytest.mark.parametrize("appearance", [True, False])
def test_a_video_that_comes_part_by_part_is_tracked_like_a_whole_one(appearance: bool):
    torch.manual_seed(0)
    model, video = tiny_hart(appearance).eval(), some_video(frames=7)
    whole = model(video, BOXES)
    with poutine.trace() as traced:
        parts = list(model.follow([video[:, :3], video[:, 3:4], video[:, 4:]], BOXES))
    assert [part.boxes.shape[1] for part in parts] == [3, 1, 3]
    for name in ("boxes", "attention", "glimpses", *(["mask_logits", "filters"] if appearance else [])):
        found = torch.cat([getattr(part, name) for part in parts], dim=1)
        torch.testing.assert_close(found, getattr(whole, name))
    for t in range(7):
        torch.testing.assert_close(traced.trace.nodes[f"box/{t}"]["value"], whole.boxes[:, t])
