"""Evaluation of videos against numbers known by hand, by enumeration, and from the recorded draws."""

import dataclasses
import json
import math
import sys
from collections.abc import Iterator
from typing import NamedTuple

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from whatwhere.examples.sqair import NetworkConfig, PriorConfig, build
from whatwhere.inference.evaluation import (
    VideoReport,
    Videos,
    count_accuracy_of_videos,
    evaluate_videos,
    infer_video,
)
from whatwhere.inference.objectives import FrameError
from whatwhere.models.components.boxes import boxes_inside
from whatwhere.models.components.likelihood import GaussianImage
from whatwhere.models.components.slots import TrackedSlots

SLOTS, HEIGHT, WIDTH = 2, 12, 10
PRIOR, SCALE = 0.4, 2.0


class Frame(NamedTuple):
    slots: TrackedSlots
    propagated: Tensor
    discovered: Tensor
    canvas: Tensor


def box(slot: int, t: int) -> tuple[int, int, int, int]:
    """Left, top, width, height: the first object moves to the right, out of the frame at t = 5; both are
    disjoint."""
    return (2 * t + 1 if slot == 0 else 3, 6 * slot + 1, 4, 3)


def sprites(t: int) -> Tensor:
    """Each object alone, `(N, 1, H, W)`."""
    images = torch.zeros(SLOTS, 1, HEIGHT, WIDTH).double()
    for slot, image in enumerate(images):
        left, top, width, height = box(slot, t)
        image[:, top : top + height, left : left + width] = 1
    return images


def paint(present: Tensor) -> Tensor:
    """Frames `(..., T, 1, H, W)` of the objects that are there, `(..., T, N)`."""
    images = torch.stack([sprites(t) for t in range(present.shape[-2])])
    return (present[..., None, None, None] * images).sum(-4)


def model(video: Tensor) -> list[Frame]:
    """Every object is in every frame with probability `PRIOR`, at its place; it is new after an absence."""
    frames = []
    with pyro.plate("data", len(video), dim=-1):
        before, found = torch.zeros(len(video), SLOTS).double(), torch.zeros(len(video), SLOTS).long()
        for t in range(video.shape[1]):
            here = [pyro.sample(f"z_pres/{t}/{i}", dist.Bernoulli(tensor(PRIOR))) for i in range(SLOTS)]
            z_pres = torch.stack(here, dim=-1)
            canvas = (z_pres[..., None, None, None] * sprites(t)).sum(-4)
            pyro.sample(f"x/{t}", GaussianImage(canvas, SCALE), obs=video[:, t])
            new = (z_pres * (1 - before)).long()
            found = found + new
            identity = torch.where(z_pres > 0, torch.arange(SLOTS) + SLOTS * found, -1)
            place = torch.tensor([box(i, t) for i in range(SLOTS)]).double().expand(*z_pres.shape, 4)
            nothing = torch.zeros(*z_pres.shape, 1)
            slots = TrackedSlots(z_pres, place, nothing, nothing, identity)
            # In the first frame nothing can be propagated, so this number has no particles.
            propagated = torch.zeros(len(video)) if t == 0 else (z_pres * before).sum(-1)
            frames.append(Frame(slots, propagated, new.sum(-1), canvas))
            before = z_pres
    return frames


class Guide:
    """Presence by the evidence in the frame, `logit = slope * evidence + offset`.

    With slope 1 and the prior's logit as offset it is the posterior, since objects are disjoint; with a
    steep slope it is sure. It records what it drew, `(K, B, T, N)`.
    """

    def __init__(self, slope: float = 1.0, offset: float = math.log(PRIOR / (1 - PRIOR))) -> None:
        self.slope, self.offset = slope, offset
        self.drawn: list[Tensor] = []

    def logits(self, video: Tensor) -> Tensor:
        """`(B, T, N)`."""
        images = torch.stack([sprites(t) for t in range(video.shape[1])])
        evidence = (images * (video.unsqueeze(2) - 0.5)).sum((-1, -2, -3)) / SCALE**2
        return self.slope * evidence + self.offset

    def __call__(self, video: Tensor) -> None:
        logits = self.logits(video)
        _, frames, slots = logits.shape
        with pyro.plate("data", len(video), dim=-1):
            drawn = [
                [pyro.sample(f"z_pres/{t}/{i}", dist.Bernoulli(logits=logits[:, t, i])) for i in range(slots)]
                for t in range(frames)
            ]
        self.drawn.append(torch.stack([torch.stack(here, dim=-1) for here in drawn], dim=-2))


def find_boxes(slots: TrackedSlots) -> Tensor:
    """Places are boxes."""
    return boxes_inside(slots.z_where, (HEIGHT, WIDTH))


def tensor(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def evaluate(guide: Guide, *batches: Videos, **options) -> VideoReport:
    return evaluate_videos(model, guide, batches, find_boxes=find_boxes, **{"iwae_particles": 3, **options})


def find_segments(slots: TrackedSlots) -> Tensor:
    """The slot whose place a pixel is in."""
    left, top, width, height = (x[..., None, None] for x in slots.z_where.unbind(-1))
    rows, columns = torch.arange(HEIGHT)[:, None], torch.arange(WIDTH)
    inside = (columns >= left) & (columns < left + width) & (rows >= top) & (rows < top + height)
    inside = inside & (slots.z_pres[..., None, None] > 0)
    return torch.where(inside.any(-3), inside.int().argmax(-3), -1)


def noisy(videos: int, frames: int = 3) -> Tensor:
    return paint((torch.rand(videos, frames, SLOTS) < 0.5).double()) + 0.5 * torch.randn(
        videos, frames, 1, HEIGHT, WIDTH
    )


def true_boxes(videos: int, frames: int) -> Tensor:
    """Both objects in all frames, `(B, T, N, 4)`."""
    boxes = torch.tensor([[box(i, t) for i in range(SLOTS)] for t in range(frames)]).double()
    return boxes.repeat(videos, 1, 1, 1)


def log_joint(video: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """log p(z) and log p(x | z) of each frame, by hand; `(..., T)`."""
    log_prior = (z * math.log(PRIOR) + (1 - z) * math.log(1 - PRIOR)).sum(-1)
    return log_prior, dist.Normal(paint(z), SCALE).log_prob(video).sum((-1, -2, -3))


def test_exact_posterior_gives_the_evidence_by_enumeration():
    video = noisy(5)
    states = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]).double()
    terms = [sum(log_joint(video, state.expand(5, 3, SLOTS))) for state in states]
    evidence = torch.stack(terms).logsumexp(0).sum(-1)  # frames are independent
    report = evaluate(Guide(), Videos(video[:3]), Videos(video[3:]), particles=4, iwae_videos=4)
    assert (report.videos, report.frames, report.particles) == (5, 3, 4)
    assert (report.iwae_particles, report.iwae_videos) == (3, 4)
    assert report.log_marginal == pytest.approx(evidence[:4].mean().item(), rel=1e-9)
    for bound in (report.elbo, report.iwae, report.weighted_log_likelihood - report.weighted_kl):
        assert bound == pytest.approx(evidence.mean().item(), rel=1e-9)
    assert report.effective_sample_size == pytest.approx([4.0] * 3)
    assert report.log_likelihood - report.kl == pytest.approx(report.elbo)
    assert report.weighted_kl == pytest.approx(report.kl)
    unknown = (report.counting, report.visible_counting, report.discoveries_per_object_after_first)
    assert (*unknown, report.tracking) == (None,) * 4


@pytest.mark.parametrize("chunk_size", [2, 10])
def test_numbers_from_the_recorded_draws(chunk_size: int):
    """A guide far from the posterior: every number computed again by hand."""
    guide, video = Guide(slope=0.3, offset=0.5), noisy(3)
    counts = torch.randint(0, 3, (3, 3))
    boxes = true_boxes(3, 3)
    batches = [Videos(video[b], counts[b], boxes=boxes[b]) for b in (slice(2), slice(2, 3))]
    report = evaluate(guide, *batches, particles=5, chunk_size=chunk_size, iwae_videos=1, iwae_particles=1)
    chunks = math.ceil(5 / chunk_size)
    assert max(len(drawn) for drawn in guide.drawn) == min(5, chunk_size)
    first, last = guide.drawn[:chunks], guide.drawn[chunks + 1 :]  # between them, that of `log_marginal`
    z = torch.cat([torch.cat(first), torch.cat(last)], dim=1)  # z.shape = (K, B, T, N)
    log_prior, log_likelihood = log_joint(video, z)
    log_q = dist.Bernoulli(logits=guide.logits(video)).log_prob(z).sum(-1)
    by_frame = log_prior + log_likelihood - log_q  # (K, B, T)
    log_weight, log_likelihood = by_frame.sum(-1), log_likelihood.sum(-1)
    share = log_weight.exp() / log_weight.exp().sum(0)
    assert report.elbo == pytest.approx(log_weight.mean().item())
    assert report.iwae == pytest.approx(log_weight.exp().mean(0).log().mean().item())
    assert report.log_likelihood == pytest.approx(log_likelihood.mean().item())
    assert report.kl == pytest.approx((log_likelihood - log_weight).mean().item())
    assert report.weighted_log_likelihood == pytest.approx((share * log_likelihood).sum(0).mean().item())
    weighted_kl = (share * (log_likelihood - log_weight)).sum(0).mean().item()
    assert report.weighted_kl == pytest.approx(weighted_kl)
    prefix = by_frame.cumsum(-1)
    prefix = (prefix - prefix.amax(0)).exp()
    size = prefix.sum(0) ** 2 / (prefix**2).sum(0)
    assert report.effective_sample_size == pytest.approx(size.mean(0).tolist())
    right = z.sum(-1) == counts
    assert report.counting.accuracy == pytest.approx(right[0].double().mean().item())
    assert report.counting.frame_accuracy == pytest.approx(right[0].double().mean(0).tolist())
    weighted_accuracy = (share[..., None] * right).sum(0).mean().item()
    assert report.counting.weighted_accuracy == pytest.approx(weighted_accuracy)
    assert report.tracking.misses == (z[0] == 0).sum()
    assert report.tracking.false_positives == 0


def test_counts_of_independent_frames_are_weighted_each_by_itself():
    guide, video, counts = Guide(slope=0.3, offset=0.5), noisy(4), torch.randint(0, 3, (4, 3))
    report = evaluate(guide, Videos(video, counts), particles=5, iwae_particles=1, independent_frames=True)
    z, one_frame = guide.drawn[0], guide.drawn[1]
    assert one_frame.shape[:3] == (1, 12, 1)
    log_q = dist.Bernoulli(logits=guide.logits(video)).log_prob(z).sum(-1)
    by_frame = sum(log_joint(video, z)) - log_q  # (K, B, T)
    right = (by_frame.softmax(0) * (z.sum(-1) == counts)).sum(0)
    assert report.counting.weighted_accuracy == pytest.approx(right.mean().item())
    bound = by_frame.logsumexp(0) - math.log(5)
    assert report.iwae == pytest.approx(bound.sum(-1).mean().item())


def test_weighted_terms_exceed_the_bound_by_the_divergence_of_the_weights_from_uniform():
    """So in every video by something in [0, log K], which no evidence lower bound does."""
    guide, particles = Guide(slope=-0.3, offset=0.0), 4
    for video in noisy(6).split(1):
        guide.drawn.clear()
        report = evaluate(guide, Videos(video), particles=particles, iwae_particles=1)
        z = guide.drawn[0]
        log_weight = sum(log_joint(video, z)).sum(-1)
        log_weight = log_weight - dist.Bernoulli(logits=guide.logits(video)).log_prob(z).sum((-1, -2))
        share = log_weight.softmax(0)
        divergence = (share * (share * particles).log()).sum().item()
        excess = report.weighted_log_likelihood - report.weighted_kl - report.iwae
        assert excess == pytest.approx(divergence, abs=1e-9)
        assert 0.001 < excess <= math.log(particles)


def test_particles_are_drawn_in_chunks():
    guide = Guide()
    evaluate(guide, Videos(noisy(2)), particles=5, iwae_particles=7, chunk_size=3)
    assert [tuple(drawn.shape[:2]) for drawn in guide.drawn] == [(3, 2), (2, 2), (3, 2), (3, 2), (1, 2)]


SURE = {"slope": 1000.0, "offset": 50.0}
"""A guide that is sure of what it sees, and believes in objects that it cannot see."""


def scripted() -> Videos:
    """Two objects, the second hidden in frame 2; and one object, with a false one in frame 3.

    The first object of each video leaves the frame before the last of the six, and is kept.
    """
    seen = torch.ones(2, 6, SLOTS).double()
    seen[0, 2, 1] = 0
    seen[1, :, 1] = torch.tensor([0, 0, 0, 1, 0, 0])
    boxes = true_boxes(2, 6)
    boxes[1, :, 1] = 0
    counts = torch.tensor([[2] * 6, [1] * 6])
    visible_counts = torch.tensor([[2] * 5 + [1], [1] * 5 + [0]])
    return Videos(paint(seen), counts, visible_counts, boxes)


def in_pieces(videos: Videos) -> Iterator[Videos]:
    for b in range(len(videos.video)):
        yield Videos(*(None if field is None else field[b : b + 1] for field in videos))


@pytest.mark.parametrize("pieces", [False, True])
def test_counting_and_discovery_of_known_detections(pieces: bool):
    batches = in_pieces(scripted()) if pieces else [scripted()]
    report = evaluate(Guide(**SURE), *batches, particles=2)
    for counting in (report.counting, report.visible_counting):
        assert counting.weighted_accuracy == pytest.approx(counting.accuracy)
    assert report.counting.accuracy == pytest.approx(10 / 12)
    assert report.counting.frame_accuracy == [1, 1, 0.5, 0.5, 1, 1]
    assert report.counting.confusion == [[0, 0, 0], [0, 5, 1], [0, 1, 5]]
    assert report.visible_counting.accuracy == pytest.approx(8 / 12)
    assert report.visible_counting.frame_accuracy == [1, 1, 0.5, 0.5, 1, 0]
    assert report.visible_counting.confusion == [[0, 1, 0], [0, 4, 2], [0, 1, 4]]
    assert report.propagated == [0, 1.5, 1, 1, 1.5, 1.5]
    assert report.discovered == [1.5, 0, 0, 1, 0, 0]
    assert report.discoveries_per_object_after_first == pytest.approx(2 / 15)


@pytest.mark.parametrize("pieces", [False, True])
def test_tracking_of_known_detections(pieces: bool):
    """Boxes end at the border, where the moving object leaves; outside there is nothing to find."""
    batches = in_pieces(scripted()) if pieces else [scripted()]
    tracking = evaluate(Guide(**SURE), *batches, particles=2).tracking
    assert (tracking.misses, tracking.false_positives) == (1, 1)
    assert (tracking.switches, tracking.fragmentations) == (1, 1)
    assert tracking.mota == pytest.approx(1 - 3 / 16)
    assert tracking.motp == pytest.approx(1)
    assert tracking.idf1 == pytest.approx(2 * (5 + 3 + 5) / (16 + 16))
    assert tracking.discovered_per_object == pytest.approx(5 / 3)


def test_objects_that_are_not_to_be_found_are_not_missed():
    videos = scripted()
    present = torch.ones(2, 6, SLOTS)
    present[0, 2, 1] = 0  # hidden
    present[1, 4, 0] = 0  # found all the same
    tracking = evaluate(Guide(**SURE), videos._replace(present=present), particles=1).tracking
    assert (tracking.misses, tracking.false_positives) == (0, 2)


def test_boxes_on_all_sides_end_at_the_border():
    """A true box that reaches out to the left and the top is that of the object drawn inside."""
    videos = scripted()
    boxes = torch.zeros(2, 6, 1, 4).double()
    boxes[:, :, 0] = torch.tensor([-90.0, -90.0, 100.0, 200.0])  # the whole frame is inside
    whole = torch.tensor([0.0, 0.0, WIDTH, HEIGHT]).expand(2, 6, SLOTS, 4)
    report = evaluate_videos(
        model,
        Guide(**SURE),
        [videos._replace(boxes=boxes)],
        find_boxes=lambda slots: whole[:, 0],
        particles=1,
        iwae_particles=1,
    )
    assert report.tracking.misses == 0
    assert report.tracking.motp == 1


def test_boxes_are_matched_at_any_overlap():
    """True boxes that are a third higher than drawn ones: an overlap of three quarters."""
    video = paint(torch.ones(2, 3, SLOTS)).double()
    boxes = true_boxes(2, 3)
    boxes[..., 3] += 1
    for threshold, matches in ((0.3, 12), (0.75, 12), (0.76, 0)):
        report = evaluate(Guide(1000.0), Videos(video, boxes=boxes), iou_threshold=threshold)
        assert report.tracking is not None
        assert (12 - report.tracking.misses, report.iou_threshold) == (matches, threshold)
    for wrong in (0, 1.5, math.nan):
        with pytest.raises(ValueError, match="`iou_threshold` must be in"):
            evaluate(Guide(), Videos(video, boxes=boxes), iou_threshold=wrong)


def test_without_scipy_there_is_no_tracking(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    report = evaluate(Guide(**SURE), scripted(), particles=1)
    assert report.tracking is None
    assert report.counting is not None


def test_one_posterior_sample_and_its_monitor():
    videos, guide = scripted(), Guide(**SURE)
    frames = infer_video(model, guide, videos.video)
    counts = torch.stack([frame.slots.z_pres.sum(-1) for frame in frames], dim=-1)
    assert counts.tolist() == [[2, 2, 1, 2, 2, 2], [1, 1, 1, 2, 1, 1]]
    for batches in ([videos], list(in_pieces(videos))):
        monitor = count_accuracy_of_videos(model, guide, batches)
        assert monitor.count_accuracy == pytest.approx(10 / 12)
        assert monitor.propagated == pytest.approx((1.5 + 1 + 1 + 1.5 + 1.5) / 5)
        assert monitor.discovered == pytest.approx(1 / 5)


def test_the_monitor_keeps_no_graphs():
    """Otherwise what a batch took would stay in memory until the last one."""
    recorded = []

    class Learned(Guide):
        def logits(self, video: Tensor) -> Tensor:
            found = super().logits(video) * torch.ones((), requires_grad=True)
            recorded.append(found.requires_grad)
            return found

    count_accuracy_of_videos(model, Learned(), in_pieces(scripted()))
    assert recorded == [False, False]
    assert torch.is_grad_enabled()


def test_of_several_samples_the_heaviest_is_shown():
    guide, video = Guide(slope=-0.3, offset=0.0), noisy(4)
    frames = infer_video(model, guide, video, particles=6)
    z = guide.drawn[0]
    log_weight = sum(log_joint(video, z)).sum(-1)
    log_weight = log_weight - dist.Bernoulli(logits=guide.logits(video)).log_prob(z).sum((-1, -2))
    best = torch.stack([z[k, b] for b, k in enumerate(log_weight.argmax(0).tolist())])
    assert len({*log_weight.argmax(0).tolist()}) > 1
    torch.testing.assert_close(torch.stack([frame.slots.z_pres for frame in frames], dim=1), best)
    torch.testing.assert_close(torch.stack([frame.canvas for frame in frames], dim=1), paint(best))
    kept = torch.stack([frame.propagated for frame in frames], dim=1)
    assert kept.tolist() == [[0, *(row[1:] * row[:-1]).sum(-1).tolist()] for row in best]


def test_single_frames_have_nothing_after_the_first():
    videos = Videos(scripted().video[:, :1], torch.tensor([[2], [1]]))
    monitor = count_accuracy_of_videos(model, Guide(**SURE), [videos])
    assert monitor.count_accuracy == 1
    assert math.isnan(monitor.propagated)
    assert math.isnan(monitor.discovered)
    report = evaluate(Guide(**SURE), videos, particles=1)
    assert math.isnan(report.discoveries_per_object_after_first)
    numbers = json.loads(json.dumps(report.numbers(), allow_nan=False))
    assert numbers["discoveries_per_object_after_first"] is None
    assert numbers["counting"]["confusion"] == [[0, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert numbers["tracking"] is None


def test_numbers_are_those_of_the_report():
    report = evaluate(Guide(**SURE), scripted(), particles=1)
    numbers = json.loads(json.dumps(report.numbers(), allow_nan=False))
    assert numbers["tracking"]["mota"] == report.tracking.mota
    assert numbers["visible_counting"]["frame_accuracy"] == report.visible_counting.frame_accuracy
    assert list(numbers) == [field.name for field in dataclasses.fields(VideoReport)]


def test_sqair():
    """Small and untrained: everything is a number, and the numbers agree with each other."""
    network = NetworkConfig(
        image_shape=(1, 12, 12), max_count=2, what_size=3, glimpse_size=5, hidden=8, narrow=6
    )
    sqair, guide = build(network, PriorConfig(stay_logit=0.5))
    guide.propagation.presence_head[-1].bias.data.zero_()
    boxes = torch.tensor([2.0, 3.0, 5.0, 4.0]).expand(4, 3, 1, 4)
    videos = Videos(torch.rand(4, 3, 1, 12, 12), torch.ones(4, 3), torch.ones(4, 3), boxes)

    report = evaluate_videos(
        sqair,
        guide,
        in_pieces(videos),
        find_boxes=sqair.decoder.boxes,
        particles=3,
        iwae_particles=4,
        chunk_size=2,
    )
    json.dumps(report.numbers(), allow_nan=False)
    assert all(1 <= size <= 3 for size in report.effective_sample_size)
    assert report.elbo < report.iwae < report.weighted_log_likelihood - report.weighted_kl
    found = sum(n * sum(row[n] for row in report.counting.confusion) for n in range(3))
    assert 0 < found == pytest.approx(4 * (sum(report.propagated) + sum(report.discovered)))
    assert not pyro.get_param_store().keys()
    monitor = count_accuracy_of_videos(sqair, guide, [videos])
    assert 0 <= monitor.count_accuracy <= 1
    assert not pyro.get_param_store().keys()


def test_frames_of_sites_must_be_known():
    def nameless(video: Tensor) -> list[Frame]:
        with pyro.plate("data", len(video), dim=-1):
            pyro.sample("z", dist.Bernoulli(tensor(0.5)))
        return []

    with pytest.raises(FrameError, match="`z`"):
        evaluate_videos(nameless, nameless, [Videos(noisy(1))], find_boxes=find_boxes)


@pytest.mark.parametrize("name", ["particles", "iwae_particles", "iwae_videos", "chunk_size"])
def test_impossible_numbers_are_refused(name: str):
    with pytest.raises(ValueError, match=f"`{name}` must be at least 1, got 0"):
        evaluate(Guide(), Videos(noisy(1)), **{name: 0})


def test_data_that_cannot_be_evaluated_are_refused():
    video, counts = noisy(2), torch.ones(2, 3)
    for measure in (lambda *data: evaluate(Guide(), *data), monitor_of):
        with pytest.raises(ValueError, match="`data` has no videos"):
            measure()
        with pytest.raises(ValueError, match=r"`counts` must have .* \(2, 3\), but got \(2,\)"):
            measure(Videos(video, counts[:, 0]))
        with pytest.raises(ValueError, match=r"3 frames with \['video', 'counts'\] and another 2 frames"):
            measure(Videos(video, counts), Videos(video[:, :2], counts[:, :2]))
    with pytest.raises(ValueError, match=r"same labels.*\['video', 'counts'\].*\['video'\]"):
        evaluate(Guide(), Videos(video, counts), Videos(video))
    with pytest.raises(ValueError, match="no true counts"):
        monitor_of(Videos(video))


NOT_FINITE = true_boxes(2, 3).index_fill(-1, torch.tensor([0]), math.nan)


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        ({"counts": torch.full((2, 3), -1)}, "`counts` must hold integers from 0"),
        ({"counts": torch.full((2, 3), 0.5)}, "`counts` must hold integers from 0"),
        (
            {"visible_counts": torch.ones(3, 2)},
            r"`visible_counts` must have shape \(2, 3\), but got \(3, 2\)",
        ),
        ({"boxes": torch.ones(2, 2, 4)}, r"`boxes` must have shape \(2, 3, .*\(2, 2, 4\)"),
        ({"boxes": torch.ones(2, 3, 5, 3)}, r"`boxes` must have shape \(2, 3, 5, 4\)"),
        ({"boxes": NOT_FINITE}, "`boxes` must be finite .* number 0, 0, 0 is"),
        ({"boxes": true_boxes(2, 3), "present": torch.ones(2, 3)}, r"`present` must have shape \(2, 3, 2\)"),
        ({"boxes": true_boxes(2, 3), "present": torch.full((2, 3, 2), 2)}, "`present` must be boolean"),
        (
            {"boxes": NOT_FINITE, "present": torch.eye(2).expand(2, 2, 2)[:, [0, 1, 0]]},
            "`boxes` must be finite",
        ),
    ],
)
def test_labels_that_do_not_fit_or_cannot_be_true_are_refused(labels: dict[str, Tensor], problem: str):
    data = Videos(noisy(2), **{"counts": torch.ones(2, 3), **labels})
    for measure in (lambda *data: evaluate(Guide(), *data), monitor_of):
        with pytest.raises(ValueError, match=problem):
            measure(data)


def test_videos_of_nothing_are_refused():
    for video in (noisy(1)[:0], noisy(1)[:, :0]):
        data = Videos(video, torch.ones(video.shape[:2]))
        for measure in (
            lambda data: evaluate(Guide(), data),
            monitor_of,
            lambda data: infer_video(model, Guide(), data.video),
        ):
            with pytest.raises(ValueError, match=r"`video` must have shape .*, at least 1 each"):
                measure(data)
    with pytest.raises(ValueError, match="`particles` must be at least 1, got 0"):
        infer_video(model, Guide(), noisy(1), particles=0)


def test_where_an_object_is_not_its_box_does_not_matter():
    video = paint(torch.ones(2, 3, SLOTS)).double()
    boxes, present = true_boxes(2, 3), torch.ones(2, 3, SLOTS)
    present[0, 1, 0] = present[1, 2, 1] = 0
    reports = []
    for value in (0.0, math.nan, math.inf, -math.inf):
        there = torch.where(present.unsqueeze(-1) > 0, boxes, value)
        reports.append(evaluate(Guide(1000.0), Videos(video, boxes=there, present=present)).tracking)
    assert reports[0] is not None
    assert (reports[0].misses, reports[0].false_positives) == (0, 2)
    assert reports == [reports[0]] * 4


def monitor_of(*data: Videos) -> None:
    count_accuracy_of_videos(model, Guide(), data)


def test_pixels_are_compared_with_those_of_true_objects():
    """An object that comes back has another identity, a switch; frames before the first do not count."""
    present = torch.tensor([[[1, 1], [1, 0], [0, 1], [1, 1]], [[0, 0], [1, 1], [1, 1], [1, 1]]]).double()
    video, numbers = paint(present), torch.tensor([1, 2])[:, None, None]
    segments = torch.stack([(sprites(t)[:, 0] * numbers).sum(0) for t in range(4)])
    known = Videos(video, segments=segments.expand(2, -1, -1, -1).byte())
    sure: dict = {"find_segments": find_segments}
    report = evaluate(Guide(1000.0), known, **sure)
    tracking = report.segmentation
    assert tracking is not None
    # Of 16 true masks 12 are seen; in the first video both come back under another name.
    assert (tracking.misses, tracking.switches, tracking.false_positives) == (4, 2, 0)
    assert tracking.motp == 1
    assert tracking.mostly_detected == 0
    later = evaluate(Guide(1000.0), known, **sure, segmented_from=1)
    assert later.segmentation is not None
    assert (later.segmentation.misses, later.segmentation.switches) == (2, 1)
    assert (later.segmentation.mostly_detected, later.segmented_from) == (0.5, 1)
    assert evaluate(Guide(), known).segmentation is None
    assert evaluate(Guide(), Videos(video), **sure).segmentation is None
    with pytest.raises(ValueError, match="segmented_from"):
        evaluate(Guide(), known, **sure, segmented_from=4)
    with pytest.raises(ValueError, match="`segments` must have shape"):
        evaluate(Guide(), known._replace(segments=known.segments[..., :5]), **sure)
