"""The addition probe on latent variables whose sums are known to be readable, or not."""

import signal
from typing import NamedTuple

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from whatwhere.examples import sqair, vrnn
from whatwhere.inference.evaluation import (
    LabelledLatents,
    ProbeConfig,
    appearance_features,
    digit_sums,
    encode_frames,
    probe,
    probe_accuracy,
    train_probe,
)
from whatwhere.inference.supervised import ClassifierObjective
from whatwhere.inference.supervised.objective import ClassifierDiagnostics
from whatwhere.inference.training import NonFiniteError

SMALL = ProbeConfig(hidden=(32,), batch_size=64, evaluate_every=25, patience=4, max_steps=2000)


class Slots(NamedTuple):
    z_pres: Tensor
    z_what: Tensor


def readable(size: int) -> LabelledLatents:
    """Two digits, each as one of ten: the logits `-(s - a - b)^2` are linear in them up to a constant."""
    digits = torch.randint(10, (size, 2))
    return LabelledLatents(torch.nn.functional.one_hot(digits, 10).flatten(1).float(), digits.sum(-1))


def unreadable(size: int) -> LabelledLatents:
    return LabelledLatents(torch.randn(size, 5), torch.randint(19, (size,)))


def test_sums_count_only_the_digits_that_are_there():
    classes = torch.tensor([[3, 9], [7, -1], [-1, -1]])
    present = torch.tensor([[[1, 1], [1, 0], [0, 0]], [[1, 0], [0, 0], [1, 0]], [[0, 0]] * 3])
    expected = torch.tensor([[12, 3, 0], [7, 0, 7], [0, 0, 0]])
    assert torch.equal(digit_sums(classes, present), expected)
    assert torch.equal(digit_sums(classes, present.bool()), expected)
    assert digit_sums(classes, present.float()).dtype == torch.int64


def test_appearances_stand_side_by_side_and_absent_ones_are_zero():
    slots = Slots(torch.tensor([[1.0, 0.0]]), torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]))
    assert appearance_features(slots).tolist() == [[1.0, 2.0, 0.0, 0.0]]


def test_frames_stay_beside_their_labels():
    def guide(video: Tensor) -> list[Slots]:
        frames = []
        with pyro.plate("data", len(video), dim=-1):
            for t in range(video.shape[1]):
                pixel = video[:, t].flatten(1)
                z = pyro.sample(f"z/{t}", dist.Delta(pixel, event_dim=1))
                frames.append(Slots(torch.ones(len(video), 1), z.unsqueeze(-2)))
        return frames

    videos = torch.arange(12.0).reshape(4, 3, 1, 1, 1)
    batches = [(part, part.flatten(1).long()) for part in videos.split(3)]
    found = encode_frames(guide, batches, appearance_features)
    assert found.latents.shape == (12, 1)
    assert found.latents[:, 0].tolist() == found.labels.tolist() == list(range(12))
    with pytest.raises(ValueError, match=r"\(B, T\) of the video, \(4, 3\), but got \(4,\)"):
        encode_frames(guide, [(videos, torch.zeros(4))])
    with pytest.raises(ValueError, match="no videos"):
        encode_frames(guide, [])


def test_the_latent_variables_are_those_of_the_guides():
    """As wide as in the paper: 165 numbers of a VRNN, 150 of SQAIR's objects, zeros for absent ones."""
    video = torch.rand(4, 2, 1, 20, 20)
    labels = torch.zeros(4, 2, dtype=torch.int64)
    whole = vrnn.build(vrnn.NetworkConfig(image_shape=(1, 20, 20), hidden=8, recurrent=8)).guide
    network = sqair.NetworkConfig(image_shape=(1, 20, 20), glimpse_size=8, hidden=8, narrow=8)
    objects = sqair.build(network, sqair.PriorConfig()).guide
    torch.manual_seed(1)
    vectors = encode_frames(whole, [(video, labels)]).latents.unflatten(0, (4, 2))
    appearances = encode_frames(objects, [(video, labels)], appearance_features).latents.unflatten(0, (4, 2))
    assert (vectors.shape[-1], appearances.shape[-1]) == (165, 150)
    torch.manual_seed(1)
    with torch.no_grad():
        expected, slots = whole(video), objects(video)
    for t in range(2):
        assert torch.equal(vectors[:, t], expected[t])
        assert torch.equal(appearances[:, t].unflatten(-1, (3, 50)), slots[t].z_what)
        assert (slots[t].z_pres == 0).any()
        assert (slots[t].z_what[slots[t].z_pres == 0] == 0).all()


def test_what_can_be_read_is_read_and_training_stops_by_itself():
    train, validation, test = (readable(size) for size in (4000, 500, 500))
    config = ProbeConfig(hidden=(128, 64), learning_rate=3e-3, evaluate_every=50, patience=4, max_steps=2000)
    trained = train_probe(train, validation, config)
    assert trained.reason == "converged"
    assert trained.steps < config.max_steps
    assert probe_accuracy(trained.classifier, test) > 0.99
    assert not trained.classifier.training


def test_what_cannot_be_read_is_not_and_the_best_parameters_are_kept():
    validation = unreadable(400)
    trained = train_probe(unreadable(300), validation, SMALL)
    assert trained.reason == "converged"
    assert max(trained.validation_accuracy) < 0.15
    assert probe_accuracy(trained.classifier, validation) == max(trained.validation_accuracy)
    looks = len(trained.validation_accuracy)
    best = 1 + trained.validation_accuracy.index(max(trained.validation_accuracy))
    assert looks == best + SMALL.patience
    assert (trained.best_step, trained.steps) == (25 * best, 25 * looks)


def test_the_classifier_is_that_of_the_paper():
    trained = train_probe(readable(10), readable(10), ProbeConfig(max_steps=1))
    shapes = [tuple(parameter.shape) for parameter in trained.classifier.parameters()]
    assert shapes == [(256, 20), (256,), (256, 256), (256,), (19, 256), (19,)]
    assert [type(layer).__name__ for layer in trained.classifier] == [
        "Linear",
        "ELU",
        "Linear",
        "ELU",
        "Linear",
    ]


@pytest.mark.parametrize(
    ("accuracies", "looks", "best"),
    [([0.1, 0.2, 0.2, 0.2], 4, 2), ([0.3, 0.2, 0.31, 0.1, 0.1], 5, 3), ([0.3, 0.1, 0.3], 3, 1)],
)
def test_training_ends_after_looks_in_a_row_that_find_nothing_better(
    accuracies: list[float], looks: int, best: int, monkeypatch: pytest.MonkeyPatch
):
    coming = iter([*accuracies, *[0.0] * 9])
    monkeypatch.setattr(probe, "probe_accuracy", lambda classifier, data: next(coming))
    config = ProbeConfig(hidden=(4,), batch_size=4, evaluate_every=3, patience=2)
    trained = train_probe(readable(10), readable(10), config)
    assert (trained.steps, trained.best_step, trained.reason) == (3 * looks, 3 * best, "converged")
    assert trained.validation_accuracy == accuracies


def test_training_ends_in_any_case():
    config = ProbeConfig(hidden=(4,), batch_size=4, evaluate_every=4, patience=2, max_steps=6)
    trained = train_probe(readable(10), readable(10), config)
    assert (trained.steps, trained.reason, len(trained.validation_accuracy)) == (6, "out of steps", 2)


def test_looking_more_often_changes_no_step():
    """All but the last parameters: looks are taken between the same steps."""
    data = readable(200)
    found = []
    for every in (2, 10):
        config = ProbeConfig(hidden=(8,), batch_size=16, evaluate_every=every, patience=100, max_steps=10)
        torch.manual_seed(every)
        state = torch.get_rng_state()
        found.append(train_probe(data, LabelledLatents(data.latents, data.labels), config))
        assert torch.equal(torch.get_rng_state(), state)
    assert found[0].validation_accuracy[-1] == found[1].validation_accuracy[-1]
    other = train_probe(data, data, ProbeConfig(hidden=(8,), batch_size=16, max_steps=10, seed=1))
    assert not torch.equal(other.classifier[0].weight, found[1].classifier[0].weight)


def test_an_interruption_ends_training(monkeypatch: pytest.MonkeyPatch):
    class Interrupted(ClassifierObjective):
        calls = 0

        def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, ClassifierDiagnostics]:
            self.calls += 1
            if self.calls == 5:
                signal.raise_signal(signal.SIGTERM)
            return super().forward(images, labels)

    monkeypatch.setattr(probe, "ClassifierObjective", Interrupted)
    config = ProbeConfig(hidden=(4,), batch_size=4, evaluate_every=3)
    trained = train_probe(readable(10), readable(10), config)
    assert (trained.reason, trained.steps, trained.best_step) == ("interrupted", 5, 3)


def test_accuracy_is_that_of_all_frames(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(probe, "_CHUNK", 3)
    latents = torch.eye(4)[[0, 1, 2, 3, 0, 1, 2]]
    data = LabelledLatents(latents, torch.tensor([0, 1, 2, 3, 1, 1, 0]))
    assert probe_accuracy(torch.nn.Identity(), data) == pytest.approx(5 / 7)


def test_what_cannot_be_trained_on_is_refused():
    good = readable(10)
    bad = LabelledLatents(good.latents, good.labels.clone())
    bad.labels[3] = 19
    with pytest.raises(ValueError, match=r"labels of `validation` must be int64 in \[0, 18\].* to 19"):
        train_probe(good, bad)
    with pytest.raises(ValueError, match=r"labels of `train` must be int64 .*torch\.float32"):
        train_probe(LabelledLatents(good.latents, good.labels.float()), good)
    with pytest.raises(ValueError, match=r"`validation` must be latents \(M, 20\).*\(10, 19\) and \(10,\)"):
        train_probe(good, LabelledLatents(good.latents[:, 1:], good.labels))
    with pytest.raises(ValueError, match=r"`train` must .*\(10, 20\) and \(9,\)"):
        train_probe(LabelledLatents(good.latents, good.labels[1:]), good)
    with pytest.raises(NonFiniteError):
        train_probe(LabelledLatents(good.latents / 0, good.labels), good)
    with pytest.raises(ValueError, match="`patience` must be positive, got 0"):
        ProbeConfig(patience=0)
    with pytest.raises(ValueError, match="`classes` must be at least 2"):
        ProbeConfig(classes=1)
