"""Evidence of the first glimpse on pictures that are moved, enlarged, hidden and shown again."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from whatwhere.models.components.correlation import normalised_cross_correlation
from whatwhere.models.components.glimpse_evidence import NUMBERS, GlimpseEvidence, Memory


def smooth(size: int, seed: int) -> Tensor:
    """A random picture without detail below 4 pixels, `(3, size, size)` in [0, 1]."""
    coarse = torch.rand(1, 3, size // 4, size // 4, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=False)[0].clamp(0, 1)


GROUND, THING = smooth(96, 0), smooth(24, 1)


def frame(left: int | None, top: int = 0, scale: float = 1.0) -> Tensor:
    """The thing, of 24 x 24 pixels times a scale, over the ground, `(1, 3, 96, 96)`."""
    picture = GROUND.clone()
    if left is not None:
        side = round(24 * scale)
        thing = F.interpolate(THING[None], size=(side, side), mode="bicubic", align_corners=False)[0]
        picture[:, top : top + side, left : left + side] = thing.clamp(0, 1)
    return picture[None]


BOX = torch.tensor([[30.0, 40.0, 24.0, 24.0]])
MIDDLE = BOX[:, :2] + 12
LEVEL = torch.zeros(1, 1)


def start(evidence: GlimpseEvidence) -> Memory:
    return evidence.start(frame(30, 40), BOX)


def shapes(memory: Memory) -> list[torch.Size]:
    parts = [part if isinstance(part, tuple) else (part,) for part in memory]
    return [tensor.shape for tensor in itertools.chain(*parts)]


@pytest.mark.parametrize(("x", "y"), [(0, 0), (7, -5), (-12, 3), (4, 15)])
def test_finds_how_far_an_object_moved(x: int, y: int):
    evidence = GlimpseEvidence()
    found, _ = evidence(frame(30 + x, 40 + y), MIDDLE, LEVEL, start(evidence))
    torch.testing.assert_close(found.shift, torch.tensor([[x, y]]).float(), atol=0.5, rtol=0)
    assert found.score > 0.75
    assert found.trust > 0.99
    assert not found.lost
    assert found.numbers.shape == (1, NUMBERS)


@pytest.mark.parametrize(("scale", "better"), [(0.9, 7), (1.1, 8)])
def test_numbers_tell_smaller_and_larger_objects(scale: float, better: int):
    evidence = GlimpseEvidence()
    offset = round(12 * (1 - scale))
    found, _ = evidence(frame(30 + offset, 40 + offset, scale), MIDDLE, LEVEL, start(evidence))
    assert found.numbers[0, better] > 0 > found.numbers[0, 15 - better]


def test_size_is_taken_into_account():
    evidence = GlimpseEvidence()
    large = frame(24, 34, 1.5)
    memory = start(evidence)
    blind, _ = evidence(large, MIDDLE, LEVEL, memory)
    told, _ = evidence(large, MIDDLE, torch.full((1, 1), 1.5).log(), memory)
    assert told.score > blind.score + 0.1
    torch.testing.assert_close(told.shift, torch.zeros(1, 2), atol=1.0, rtol=0)


def test_lost_objects_are_looked_for_around_and_taken_up_again():
    evidence = GlimpseEvidence(threshold=0.65, familiar=0.9, retake=0.65, elsewhere=0.65)
    memory = start(evidence)
    for count in range(3):
        found, memory = evidence(frame(None), MIDDLE, LEVEL, memory)
        assert found.trust < 0.5
        assert found.lost.item() == (count == 2)
    # 20 pixels away, which is more than the reach of 18 * 1.2 / 2: found within one round.
    shifts = []
    for _ in range(9):
        found, memory = evidence(frame(50, 60), MIDDLE, LEVEL, memory)
        shifts.append(found.shift)
        if not found.lost:
            break
    assert not found.lost
    assert found.score > 0.65
    assert len(shifts) > 1
    torch.testing.assert_close(found.shift, torch.full((1, 2), 20.0), atol=2.0, rtol=0)


@pytest.mark.parametrize(("x", "y", "is_taken"), [(30, 40, True), (50, 60, False)])
def test_what_is_found_elsewhere_must_be_surer_than_where_it_was_lost(x: int, y: int, is_taken: bool):
    evidence = GlimpseEvidence(threshold=0.65, familiar=0.9, retake=0.65, elsewhere=1.2)
    memory = start(evidence)
    for _ in range(3):
        _, memory = evidence(frame(None), MIDDLE, LEVEL, memory)
    lost = []
    for _ in range(9):
        found, memory = evidence(frame(x, y), MIDDLE, LEVEL, memory)
        lost.append(found.lost.item())
    assert all(lost) != is_taken


@pytest.mark.parametrize("away", [3, 7, 12, 15])
def test_all_places_around_are_looked_at_in_nine_frames_whenever_they_begin(away: int):
    evidence = GlimpseEvidence(threshold=0.65, familiar=0.9, retake=0.65, elsewhere=0.65)
    memory = start(evidence)
    for _ in range(away):
        _, memory = evidence(frame(None), MIDDLE, LEVEL, memory)
    lost = []
    for _ in range(9):
        found, memory = evidence(frame(0, 72), MIDDLE, LEVEL, memory)
        lost.append(found.lost.item())
    assert not all(lost)


def test_first_looks_stay_and_the_filter_follows_only_what_is_trusted():
    evidence = GlimpseEvidence(threshold=0.8, familiar=0.9)
    memory = start(evidence)
    _, after = evidence(frame(33, 40), MIDDLE, LEVEL, memory)
    assert after.first is memory.first
    assert not torch.equal(after.filter.denominator, memory.filter.denominator)
    _, hidden = evidence(frame(None), MIDDLE, LEVEL, memory)
    change, usual = (
        (each.filter.denominator - memory.filter.denominator).abs().max() for each in (hidden, after)
    )
    assert change < 0.1 * usual


@pytest.mark.parametrize(("x", "y"), [(7, -5), (-12, 3)])
def test_the_filter_learns_from_the_place_where_the_object_was_found(x: int, y: int):
    """With a rate of 1 it knows nothing else, and answers that place with its peak, of height about 1."""
    evidence = GlimpseEvidence(rate=1.0)
    moved = frame(30 + x, 40 + y)
    _, memory = evidence(moved, MIDDLE, LEVEL, start(evidence))
    there, _ = evidence(moved, MIDDLE + torch.tensor([[x, y]]), LEVEL, memory)
    assert there.numbers[0, 3] > 0.8
    torch.testing.assert_close(there.shift, torch.zeros(1, 2), atol=0.5, rtol=0)


def test_sizes_are_compared_by_the_correlation_at_the_best_place():
    """An independent way: windows of looks at three strides, compared with the same samples of the frame."""
    evidence = GlimpseEvidence()
    memory, now = start(evidence), frame(33, 40)
    found, _ = evidence(now, MIDDLE, LEVEL, memory)
    x, y = (int(place) for place in (9 * found.numbers[0, :2]).round())
    region = evidence._surroundings(now, MIDDLE, memory.stride)[0]
    under = region[:, 9 + y : 26 + y, 9 + x : 26 + x]
    half = 5.0
    cells = torch.arange(17.0) - 8
    line = (half + 0.5 - cells.abs()).clamp(0, 1) * (-0.5 * (cells / (0.8 * half)).square()).exp()
    expected = []
    for scale in (0.9, 1.0, 1.1):
        first = evidence._looks(frame(30, 40), MIDDLE, memory.stride / scale, 17)[0]
        expected.append(normalised_cross_correlation(under, first, line[:, None] * line)[0, 0])
    correlations = found.numbers[0, 2] + torch.stack(
        [found.numbers[0, 7], torch.zeros(()), found.numbers[0, 8]]
    )
    torch.testing.assert_close(correlations, torch.stack(expected), atol=1e-4, rtol=0)


def test_what_changes_its_looks_for_good_is_followed():
    """By the correlation with its first looks alone it would count as lost."""
    evidence, other = GlimpseEvidence(), smooth(24, 2)
    memory, middle = start(evidence), MIDDLE
    for t in range(41):
        picture = GROUND.clone()
        picture[:, 40:64, 30 + t % 3 : 54 + t % 3] = THING.lerp(other, t / 40)
        found, memory = evidence(picture[None], middle, LEVEL, memory)
        middle = middle + found.shift
        assert not found.lost
        assert found.trust > 0.5
    torch.testing.assert_close(middle, MIDDLE + torch.tensor([[40 % 3, 0]]), atol=2.0, rtol=0)
    assert found.score < evidence.threshold


def test_no_gradient_passes_and_nothing_grows():
    evidence = GlimpseEvidence()
    moving = MIDDLE.clone().requires_grad_()
    memory = start(evidence)
    sizes = shapes(memory)
    for _ in range(5):
        found, memory = evidence(frame(31, 40), moving, LEVEL, memory)
    assert not any(x.requires_grad for x in found)
    assert shapes(memory) == sizes


def test_impossible_numbers_are_refused():
    with pytest.raises(ValueError, match="`samples` must be at least 3 and `reach` positive, got 2 and 9"):
        GlimpseEvidence(samples=2)


@pytest.mark.filterwarnings("error")
def test_evidence_of_another_type_finds_the_same():
    """`Module.to` drops what is imaginary: the filter's answer would no longer be where it looks for it."""
    expected, _ = GlimpseEvidence()(frame(37, 35), MIDDLE, LEVEL, start(GlimpseEvidence()))
    same = GlimpseEvidence().to(torch.float32)
    found, _ = same(frame(37, 35), MIDDLE, LEVEL, start(same))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    for double in (GlimpseEvidence().double(), GlimpseEvidence().to(torch.float64)):
        memory = double.start(frame(30, 40).double(), BOX.double())
        found, memory = double(frame(37, 35).double(), MIDDLE.double(), LEVEL.double(), memory)
        assert memory.filter.numerator.dtype == torch.complex128
        assert found.numbers.dtype == torch.float64
        torch.testing.assert_close(found.numbers.float(), expected.numbers, rtol=0, atol=1e-4)
