"""Held-out evaluation of models of scenes: counting, likelihood, and where the objects are.

Works with any model and guide that say what `models.AIR` and `guides.AIRGuide` say: the guide returns slots
with `z_pres`, and the model, replayed, a scene with `slots`, `objects` and `canvas`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from pyro import poutine
from torch import Tensor

from ...checks import at_least, within
from ...models.components.boxes import object_boxes
from ..local_parameters import local_parameters
from ..objectives import MultiSampleELBO, ObjectiveModule
from .labels import check_filled, check_shape, checked_boxes, checked_counts, settled
from .log_marginal import log_marginal
from .metrics import CountReport, Detections, TrueBoxes, average_precision, count_report

Program = Callable[..., Any]


class Images(NamedTuple):
    """Images and what is known about them."""

    images: Tensor
    """`(B, C, H, W)` in [0, 1]."""
    counts: Tensor | None = None
    """Number of objects, `(B,)`."""
    boxes: Tensor | None = None
    """`(B, N, 4)`, `(left, top, width, height)` in pixels; zero width where there is no object. N can differ
    between batches."""


class SceneReport(NamedTuple):
    """Held-out numbers of a model of scenes. Nats are per image."""

    images: int
    """Number of images."""
    elbo: float
    """Single-sample evidence lower bound: `log_likelihood - kl`."""
    iwae: float
    """Importance-weighted bound with `iwae_particles` particles, counts and all drawn from the guide."""
    iwae_particles: int
    """Number of particles of `iwae`."""
    log_likelihood: float
    """Reconstruction term `E_q[log p(x | z)]`."""
    kl: float
    """`E_q[log q(z | x) - log p(z)]`, estimated with the same samples."""
    counting: CountReport | None
    """Counts of one posterior sample an image, against the true ones."""
    average_precision: float | None
    """Of the boxes around the drawn objects at `iou_threshold`, all with score 1."""
    iou_threshold: float = 0.5
    """The least intersection over union of a match of `average_precision`."""

    def numbers(self) -> dict[str, Any]:
        """The report as nested primitives, for JSON."""
        numbers = self._asdict()
        if self.counting is not None:
            numbers["counting"] = self.counting._asdict()
        return numbers


@torch.no_grad()
def infer_scene(model: Program, guide: Program, images: Tensor) -> Any:
    """One posterior sample: run the guide on images `(B, C, H, W)` and let the model draw what it found."""
    with local_parameters(model, guide):
        trace = poutine.trace(guide).get_trace(images)
        return poutine.replay(model, trace=trace)(images)


class BestScene(NamedTuple):
    """What was found in images: of several posterior samples of each, the one of greatest weight."""

    present: Tensor
    """Which slots hold an object, `(B, N)`, boolean."""
    objects: Tensor
    """What is drawn of each, `(B, N, C, H, W)`."""
    canvas: Tensor
    """All of it, `(B, C, H, W)`."""
    bound: Tensor
    """Importance-weighted bound on log p(x) with all samples, `(B,)`, in nats."""


@torch.no_grad()
def infer_best_scene(model: Program, guide: Program, images: Tensor, particles: int = 1) -> BestScene:
    """Find the objects of images `(B, C, H, W)` by some posterior samples of each.

    Raises:
        ValueError: if there is no particle.
        NonFiniteError: if a weight is NaN or infinite.
    """
    at_least(1, particles=particles)
    weights: list[Tensor] = []
    best: BestScene | None = None
    for _ in range(particles):
        with local_parameters(model, guide):
            of_guide = poutine.trace(guide).get_trace(images)
            of_model = poutine.trace(poutine.replay(model, trace=of_guide)).get_trace(images)
        weights.append(settled("log_weight", _log_probability(of_model) - _log_probability(of_guide)))
        scene = of_model.nodes["_RETURN"]["value"]
        found = BestScene(scene.slots.z_pres > 0, scene.objects, scene.canvas, weights[-1])
        best = found if best is None else _where(found.bound > best.bound, found, best)
    assert best is not None
    return best._replace(bound=torch.stack(weights).logsumexp(0) - math.log(particles))


def _log_probability(trace: poutine.Trace) -> Tensor:
    """Of all statements, `(B,)`."""
    trace.compute_log_prob()
    total: Tensor = sum(site["log_prob"] for site in trace.nodes.values() if "log_prob" in site)
    return total


def _where(better: Tensor, one: BestScene, other: BestScene) -> BestScene:
    """One where it is better, and else the other."""
    pairs = zip(one, other, strict=True)
    return BestScene(*(torch.where(better.reshape(-1, *[1] * (a.dim() - 1)), a, b) for a, b in pairs))


def count_accuracy(model: Program, guide: Program, data: Iterable[Images]) -> float:
    """Share of images whose number of objects, in one posterior sample, is the true one.

    Raises:
        ValueError: if there are no images, or they have no true counts.
    """
    hits, total = 0, 0
    for batch in _checked(data):
        if batch.counts is None:
            raise ValueError("`data` has no true counts.")
        counts = infer_scene(model, guide, batch.images).slots.z_pres.sum(-1).round()
        hits += int((counts == batch.counts.to(counts)).sum())
        total += len(counts)
    return hits / total


@torch.no_grad()
def evaluate_scenes(
    model: Program,
    guide: Program,
    elbo: MultiSampleELBO,
    data: Iterable[Images],
    *,
    iwae_particles: int = 100,
    chunk_size: int = 10,
    iou_threshold: float = 0.5,
) -> SceneReport:
    """Evaluate a model and guide on held-out images.

    Args:
        model: as `models.AIR`.
        guide: as `guides.AIRGuide`.
        elbo: objective whose diagnostics give the evidence lower bound, with as many particles as wanted.
        data: batches; memory is bounded by one of them times `chunk_size`.
        iwae_particles: particles of the importance-weighted bound.
        chunk_size: particles that are held in memory at a time.
        iou_threshold: see `SceneReport.iou_threshold`; a small one where objects are of few pixels.

    Raises:
        ValueError: if there are no images, batches differ in labels, labels do not fit the images or cannot
            be true, or a number is not positive.
        NonFiniteError: if a number is NaN or infinite.
    """
    at_least(1, iwae_particles=iwae_particles, chunk_size=chunk_size)
    within("(0, 1]", iou_threshold=iou_threshold)
    objective = ObjectiveModule(model, guide, elbo)
    sizes, bounds, likelihoods, kls = [], [], [], []
    found: list[tuple[Tensor, ...]] = []
    truth: list[Tensor] = []
    true_counts: list[Tensor] = []
    for batch in _checked(data):
        diagnostics = objective(batch.images)[1]
        sizes.append(len(batch.images))
        likelihoods.append(diagnostics.log_likelihood)
        kls.append(diagnostics.kl)
        bounds.append(
            log_marginal(
                model, guide, batch.images, num_particles=iwae_particles, chunk_size=chunk_size
            ).mean()
        )
        scene = infer_scene(model, guide, batch.images)
        found.append((scene.slots.z_pres > 0, object_boxes(scene.objects)))
        if batch.counts is not None:
            true_counts.append(batch.counts)
        if batch.boxes is not None:
            truth.append(batch.boxes.cpu())
    present, boxes = (torch.cat(parts) for parts in zip(*found, strict=True))
    log_likelihood = _mean("log_likelihood", likelihoods, sizes)
    kl = _mean("kl", kls, sizes)
    counting, precision = None, None
    if true_counts:
        counting = count_report(present.sum(-1), torch.cat(true_counts), present.shape[-1])
    if truth:
        detections = Detections(boxes, present, torch.ones_like(boxes[..., 0]))
        precision = average_precision(detections, _true_boxes(truth), iou_threshold)
    return SceneReport(
        images=sum(sizes),
        elbo=log_likelihood - kl,
        iwae=_mean("iwae", bounds, sizes),
        iwae_particles=iwae_particles,
        log_likelihood=log_likelihood,
        kl=kl,
        counting=counting,
        average_precision=precision,
        iou_threshold=iou_threshold,
    )


def _true_boxes(parts: list[Tensor]) -> TrueBoxes:
    """The boxes of all images `(M, N, 4)`; those of no width are no objects."""
    slots = max(boxes.shape[1] for boxes in parts)
    boxes = torch.cat([F.pad(boxes, (0, 0, 0, slots - boxes.shape[1])) for boxes in parts])
    return TrueBoxes(boxes, boxes[..., 2] > 0)


def _checked(data: Iterable[Images]) -> Iterator[Images]:
    """The batches; an error if there are none, or they cannot be evaluated together."""
    first: list[str] | None = None
    for batch in data:
        images, counts, boxes = batch
        check_filled("images", images, "(B, C, H, W)")
        check_shape("counts", counts, len(images))
        slots = boxes.shape[1] if boxes is not None and boxes.dim() > 1 else 0
        check_shape("boxes", boxes, len(images), slots, 4)
        if counts is not None:
            checked_counts("counts", counts)
        if boxes is not None:
            checked_boxes("boxes", boxes, torch.ones(boxes.shape[:-1], dtype=torch.bool))
        labels = [name for name, value in batch._asdict().items() if value is not None]
        first = first or labels
        if labels != first:
            raise ValueError(
                f"`data` must be batches with the same labels, but one has {first} and another {labels}."
            )
        yield batch
    if first is None:
        raise ValueError("`data` has no images.")


def _mean(name: str, values: list[Tensor], sizes: list[int]) -> float:
    """Mean over images of the means over batches."""
    means = settled(name, torch.stack([value.double().cpu() for value in values]))
    return float((means * torch.tensor(sizes)).sum() / sum(sizes))
