from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from whatwhere.inference.evaluation import ActionReport, evaluate_actions
from whatwhere.inference.training import NonFiniteError


class Batch(NamedTuple):
    video: Tensor
    labels: Tensor
    joints: Tensor | None = None
    seen: Tensor | None = None


class Told(nn.Module):
    """Says what the grey value of a video is: logits of class k are 5 at 0.1 k."""

    classes = 3
    locator = SimpleNamespace(needs_joints=False)

    def forward(self, video: Tensor, joints: Tensor | None = None) -> Any:
        grey = video.flatten(1)[:, 0]
        logits = 5 - 100 * (grey[:, None] - torch.tensor([0.0, 0.1, 0.2])).abs()
        coords = torch.zeros(*video.shape[:2], 1, 4)
        coords[..., 2] = grey[:, None, None]
        return SimpleNamespace(logits=logits, overview=logits.flip(-1), coords=coords)

    def glance(self, video: Tensor) -> Any:
        return SimpleNamespace(overview=self(video).overview)


def videos(*greys: float) -> Tensor:
    return torch.tensor(greys)[:, None, None, None, None].expand(-1, 2, 1, 1, 1)


def test_answers_are_counted_by_true_and_told_class():
    batches = [
        [Batch(videos(0.0, 0.1, 0.2), torch.tensor([0, 1, 1]))],
        [Batch(videos(0.1), torch.tensor([2]))],
    ]
    report = evaluate_actions(Told(), batches)
    assert report.confusion.tolist() == [[1, 0, 0], [0, 1, 1], [0, 1, 0]]
    assert report.overview_confusion.tolist() == [[0, 0, 1], [1, 1, 0], [0, 1, 0]]
    assert (report.videos, report.accuracy, report.overview_accuracy) == (4, 0.5, 0.25)
    assert report.distance is None
    # Sure answers of one against the other's: equal probabilities, of which the first counts.
    assert report.fused_confusion.tolist() == [[1, 0, 0], [1, 1, 0], [0, 1, 0]]
    blind = evaluate_actions(Told(), batches, glimpses=False)
    assert torch.equal(blind.confusion, report.overview_confusion)
    assert torch.equal(blind.fused_confusion, report.overview_confusion)


def test_logits_of_several_clips_are_averaged():
    labels = torch.tensor([0])
    clips = [Batch(videos(grey), labels) for grey in (0.1, 0.01, 0.0)]
    assert evaluate_actions(Told(), [clips]).accuracy == 1
    assert evaluate_actions(Told(), [clips[:1]]).accuracy == 0


def test_both_paths_answer_together_by_the_mean_of_their_probabilities():
    """By the sums of logits, 2 - 6 and 8 - 6 for the first class and 3 for the second, neither were right."""

    class Two(Told):
        def forward(self, video: Tensor, joints: Tensor | None = None) -> Any:
            sure = 20 * video.flatten(1)[:, :1]
            logits = sure * torch.tensor([1.0, 0.0, 0.0])
            overview = torch.tensor([[-6.0, 3.0, 0.0]]).expand(len(video), -1)
            return SimpleNamespace(logits=logits, overview=overview, coords=torch.zeros(1, 1, 1, 4))

    label = torch.tensor([0])
    # Probabilities of the first two classes: overview .0001 and .952; sigma = e^l / (e^l + 2).
    unsure = [Batch(videos(0.0), label), Batch(videos(0.2), label)]  # mean logit 2: .787 and .106
    assert evaluate_actions(Two(), [unsure]).fused_accuracy == 0
    sure = [Batch(videos(0.1), label), Batch(videos(0.7), label)]  # mean logit 8: .9993 and .0003
    assert evaluate_actions(Two(), [sure]).fused_accuracy == 1


def test_the_distance_is_to_the_nearest_joint_of_whoever_is_there():
    joints = torch.tensor([[0.0, 0.0], [1.0, 0.0]]).expand(1, 2, 2, 2, 2).clone()
    joints[:, :, 1] = 0.3  # nearer, but not there
    joints[..., 1] = 0
    seen = torch.tensor([[[True, False], [False, False]]])
    batch = Batch(videos(0.2), torch.tensor([2]), joints, seen)
    assert evaluate_actions(Told(), [[batch]]).distance == pytest.approx(0.2)


def test_reports_are_joined():
    first = ActionReport(*torch.tensor([[[1, 0], [1, 2]], [[0, 1], [3, 0]], [[1, 0], [2, 1]]]), 0.5)
    second = ActionReport(*torch.tensor([[[1, 1], [0, 0]], [[2, 0], [0, 0]], [[0, 2], [0, 0]]]), 0.2)
    both = ActionReport.joined([first, second])
    assert both.confusion.tolist() == [[2, 1], [1, 2]]
    assert both.overview_confusion.tolist() == [[2, 1], [3, 0]]
    assert both.fused_confusion.tolist() == [[1, 2], [2, 1]]
    assert both.distance == pytest.approx((4 * 0.5 + 2 * 0.2) / 6)
    assert ActionReport.joined([first._replace(distance=None)] * 2).distance is None
    assert both.numbers()["accuracy"] == pytest.approx(4 / 6)


def test_no_video_is_refused():
    none: Sequence[Any] = []
    with pytest.raises(ValueError, match="at least one video"):
        evaluate_actions(Told(), none)
    with pytest.raises(ValueError, match="at least one clip"):
        evaluate_actions(Told(), [none])


@pytest.mark.parametrize("glimpses", [True, False])
def test_votes_that_are_no_numbers_are_no_answer(glimpses: bool):
    batch = Batch(videos(0.1, torch.nan), torch.tensor([1, 0]))
    with pytest.raises(NonFiniteError, match="`votes`"):
        evaluate_actions(Told(), [[batch]], glimpses)
