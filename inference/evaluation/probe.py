"""Digit addition: how much of what is in a frame can be read from the latent variables of a frozen model.

A classifier of 19 classes is trained on latent variables to tell the sum of the two digits in a frame, as
Kosiorek et al., *Sequential Attend, Infer, Repeat*, 2018, section 4.1, compare representations.
It knows no model: it takes latent variables and labels. `encode_frames` collects them from any guide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from ... import checks
from ...models.components.networks import mlp
from ..local_parameters import local_parameters
from ..objectives.base import Program
from ..supervised.objective import ClassifierObjective
from ..training.optimizers import make_optimizer
from ..training.randomness import preserve_random_state, seed_generators
from ..training.trainer import Trainer, TrainingConfig

__all__ = [
    "LabelledLatents",
    "ProbeConfig",
    "TrainedProbe",
    "appearance_features",
    "digit_sums",
    "encode_frames",
    "probe_accuracy",
    "train_probe",
]

_CHUNK = 8192
"""Rows that are classified at a time in evaluation."""


Reason = Literal["converged", "out of steps", "interrupted"]
"""Why training ended."""


class LabelledLatents(NamedTuple):
    """Latent variables of frames, and what is to be read from them."""

    latents: Tensor
    """`(M, F)`."""
    labels: Tensor
    """`(M,)`, int64, from 0."""


@dataclass(frozen=True)
class ProbeConfig:
    """The classifier, and how it is trained."""

    classes: int = 19
    """Number of classes: sums from 0 to 18."""
    hidden: tuple[int, ...] = (256, 256)
    """Widths of the hidden layers, which are followed by ELUs."""
    batch_size: int = 256
    """Frames in a step, drawn with replacement; the paper does not tell."""
    learning_rate: float = 1e-3
    """Of Adam with its usual parameters."""
    evaluate_every: int = 500
    """Steps between two looks at the validation frames."""
    patience: int = 20
    """Training has converged when so many looks in a row have found no greater accuracy than before."""
    max_steps: int = 1_000_000
    """Most steps; in the paper all 10 million are taken."""
    seed: int = 0
    """Seed of the first weights and of the batches."""

    def __post_init__(self) -> None:
        checks.positive(self, "hidden", "batch_size", "learning_rate", "evaluate_every")
        checks.positive(self, "patience", "max_steps")
        checks.at_least(2, self, "classes")
        checks.seed(self, "seed")


class TrainedProbe(NamedTuple):
    """A classifier with the parameters that were best on the validation frames."""

    classifier: nn.Module
    """Maps latent variables `(..., F)` to logits `(..., classes)`; in evaluation mode."""
    steps: int
    """Steps taken."""
    best_step: int
    """Steps after which the parameters were best."""
    reason: Reason
    """Why training ended; only in the first case the accuracy says what can be read."""
    validation_accuracy: list[float]
    """At each look."""


def digit_sums(classes: Tensor, present: Tensor) -> Tensor:
    """Sum of the classes of the digits in each frame, 0 in an empty one.

    Args:
        classes: of each digit, `(B, N)`; those that are never there may have any.
        present: which are there, `(B, T, N)`, boolean or 0 and 1.

    Returns:
        `(B, T)`, int64.
    """
    return torch.where(present > 0, classes.unsqueeze(1), 0).sum(-1)


def appearance_features(slots: Any) -> Tensor:
    """Appearances of objects side by side, zeros for absent ones: what is read of models of objects.

    Args:
        slots: with `z_pres`, `(..., N)`, and `z_what`, `(..., N, W)`.

    Returns:
        `(..., N W)`.
    """
    features: Tensor = (slots.z_what * slots.z_pres.unsqueeze(-1)).flatten(-2)
    return features


@torch.no_grad()
def encode_frames(
    guide: Program,
    data: Iterable[tuple[Tensor, Tensor]],
    features: Callable[[Any], Tensor] = lambda frame: frame,
) -> LabelledLatents:
    """One posterior sample of each frame of videos, with its label.

    Args:
        guide: called with a batch of videos, it returns something for each frame.
        data: batches of videos `(B, T, C, H, W)` and labels `(B, T)`.
        features: makes latent variables `(B, F)` of what the guide returns for a frame, which a `VRNNGuide`
            does itself; for a `SQAIRGuide` it is `appearance_features`.

    Raises:
        ValueError: if there are no videos, or labels do not fit them.
    """
    latents, labels = [], []
    with local_parameters(guide):
        for video, label in data:
            if label.shape != video.shape[:2]:
                raise ValueError(
                    f"labels must have the shape (B, T) of the video, {tuple(video.shape[:2])}, "
                    f"but got {tuple(label.shape)}."
                )
            frames = torch.stack([features(frame) for frame in guide(video)], dim=1)
            latents.append(frames.flatten(0, 1))
            labels.append(label.to(frames.device).flatten())
    if not latents:
        raise ValueError("`data` has no videos.")
    return LabelledLatents(torch.cat(latents), torch.cat(labels))


def train_probe(
    train: LabelledLatents, validation: LabelledLatents, config: ProbeConfig | None = None
) -> TrainedProbe:
    """Train a classifier until it gets no better on frames it is not trained on.

    These should be of other videos, and others again those that its accuracy is reported for: the frames of a
    video resemble each other.

    Args:
        train: frames to learn from, on the device to train on.
        validation: frames that tell when to stop, and which parameters to take.
        config: see `ProbeConfig`.

    Raises:
        ValueError: if shapes or labels are not as expected.
        NonFiniteError: if latent variables are not finite.
    """
    config = config or ProbeConfig()
    for name, data in (("train", train), ("validation", validation)):
        _check(name, data, train.latents.shape[-1], config.classes)
    device = train.latents.device
    with preserve_random_state(device):
        seed_generators(device, "probe", config.seed)
        sizes = [train.latents.shape[-1], *config.hidden, config.classes]
        classifier = mlp(sizes, nn.ELU).to(train.latents)

    def batches(step: int) -> tuple[Tensor, Tensor]:
        # The trainer seeds the generators anew in every step.
        rows = torch.randint(len(train.labels), (config.batch_size,), device=device)
        return train.latents[rows], train.labels[rows]

    trainer = Trainer(
        ClassifierObjective(classifier),
        make_optimizer("adam", classifier.parameters(), config.learning_rate),
        batches,
        _training(config, 0),
    )
    accuracies: list[float] = []
    best = _Best(classifier, 0)
    reason: Reason | None = None
    while reason is None:
        # Each run of the trainer ends where the next one goes on.
        trainer.config = _training(config, trainer.step)
        if trainer.run().reason == "interrupted":
            reason = "interrupted"
            break
        accuracies.append(probe_accuracy(classifier, validation))
        if accuracies[-1] > max(accuracies[:-1], default=-1.0):
            best = _Best(classifier, trainer.step)
        reason = _reason(config, trainer.step, accuracies)
    best.restore(classifier)
    return TrainedProbe(classifier.eval(), trainer.step, best.step, reason, accuracies)


@torch.no_grad()
def probe_accuracy(classifier: nn.Module, data: LabelledLatents) -> float:
    """Fraction of frames whose most probable class is the true one."""
    chunks = zip(data.latents.split(_CHUNK), data.labels.split(_CHUNK), strict=True)
    hits = [(classifier(latents).argmax(-1) == labels).sum() for latents, labels in chunks]
    return float(torch.stack(hits).sum()) / len(data.labels)


class _Best:
    """The parameters of a step."""

    def __init__(self, module: nn.Module, step: int) -> None:
        self.step = step
        self.state = {name: value.clone() for name, value in module.state_dict().items()}

    def restore(self, module: nn.Module) -> None:
        module.load_state_dict(self.state)


def _training(config: ProbeConfig, step: int) -> TrainingConfig:
    """How to train from a step until the next look."""
    steps = min(step + config.evaluate_every, config.max_steps)
    return TrainingConfig(steps=steps, seed=config.seed, log_every=config.evaluate_every, progress=False)


def _reason(config: ProbeConfig, step: int, accuracies: list[float]) -> Reason | None:
    """Why training should end now, if it should."""
    if len(accuracies) > config.patience:
        earlier, latest = accuracies[: -config.patience], accuracies[-config.patience :]
        if max(latest) <= max(earlier):
            return "converged"
    return "out of steps" if step >= config.max_steps else None


def _check(name: str, data: LabelledLatents, size: int, classes: int) -> None:
    latents, labels = data
    if latents.dim() != 2 or labels.shape != latents.shape[:1] or latents.shape[1] != size or not len(labels):
        raise ValueError(
            f"`{name}` must be latents (M, {size}) and labels (M,) with M > 0, but got "
            f"{tuple(latents.shape)} and {tuple(labels.shape)}."
        )
    if labels.dtype != torch.int64 or int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise ValueError(
            f"labels of `{name}` must be int64 in [0, {classes - 1}], but got {labels.dtype} from "
            f"{int(labels.min())} to {int(labels.max())}."
        )
