"""Ridge regressions of frequencies against least squares in pixels, and the shifts they answer with."""

import pytest
import torch

from whatwhere.models.components.ridge_filter import RidgeFilter, peak_at_corner


def test_filter_is_a_ridge_regression_over_all_shifts():
    # Of one channel: the weights that map each circular shift of a signal to the label's value there.
    signal = torch.rand(8, dtype=torch.float64)
    label = peak_at_corner(8, 1.0).double()
    shifts = torch.stack([signal.roll(-k) for k in range(8)])
    spectrum = torch.fft.fft(signal)[None, None]
    learned = RidgeFilter.learned(spectrum, torch.fft.fft(label))
    strength = 0.3
    regularisation = strength / learned.denominator.mean().item()
    weights = torch.linalg.solve(shifts.T @ shifts + strength * torch.eye(8).double(), shifts.T @ label)
    other = torch.rand(8, dtype=torch.float64)
    answer = torch.fft.ifft(learned.answer(torch.fft.fft(other)[None, None], regularisation)).real[0]
    expected = torch.stack([other.roll(-k) for k in range(8)]) @ weights
    torch.testing.assert_close(answer, expected)


def test_answer_moves_with_the_looks():
    looks = torch.rand(2, 3, 12, 10)
    peak = peak_at_corner(12, 1.0)[:, None] * peak_at_corner(10, 1.0)
    learned = RidgeFilter.learned(torch.fft.rfft2(looks), torch.fft.rfft2(peak))
    moved = looks.roll((3, -2), (-2, -1))
    answer = torch.fft.irfft2(learned.answer(torch.fft.rfft2(moved), 1e-6), s=(12, 10))
    torch.testing.assert_close(answer, peak.roll((3, -2), (0, 1)).expand(2, -1, -1), atol=1e-3, rtol=0)


@pytest.mark.parametrize("rate", [0.25, torch.tensor([0.25, 0.5])])
def test_running_mean_of_each_video(rate):
    old, new = (RidgeFilter.learned(torch.fft.rfft2(torch.rand(2, 3, 4, 4)), torch.ones(4, 3)) for _ in "ab")
    after = old.towards(new, rate)
    for video, share in enumerate(torch.as_tensor(rate).expand(2).tolist()):
        for field in ("numerator", "denominator"):
            a, b, c = (getattr(each, field)[video] for each in (old, new, after))
            torch.testing.assert_close(c, (1 - share) * a + share * b)


def test_label_has_its_top_in_the_corner():
    label = peak_at_corner(7, 1.5)
    assert label.argmax() == 0
    assert label[0] == 1
    torch.testing.assert_close(label[1:], label[1:].flip(0))


def test_what_was_learned_of_nothing_answers_with_nothing():
    label = torch.fft.rfft2(torch.rand(8, 8))
    flat = RidgeFilter.learned(torch.zeros(2, 3, 8, 5, dtype=torch.complex64), label)
    looks = torch.fft.rfft2(torch.rand(2, 3, 8, 8))
    assert (flat.answer(looks, 0.01) == 0).all()
