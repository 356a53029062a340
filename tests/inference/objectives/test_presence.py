import itertools

import torch

from whatwhere.inference.objectives.presence import is_presence, log_count, prefixes, step_of


def test_steps_of_names():
    assert [step_of(name) for name in ("z_what/0", "discovery/z_pres/4/2", "z", "x/", "z/1a")] == [
        0,
        2,
        None,
        None,
        None,
    ]
    assert is_presence("z_pres/3", "z_pres")
    assert not is_presence("z_pres_logit/3", "z_pres")
    assert not is_presence("z_pres", "z_pres")
    assert is_presence("discovery/z_pres/4/2", "discovery/z_pres/4")


def test_distribution_of_the_count_is_that_of_the_bernoulli_variables():
    logits = torch.randn(3, 4)
    yes = torch.sigmoid(logits)
    expected = torch.zeros(4, 4)
    for bits in itertools.product((0, 1), repeat=3):
        probability = torch.stack([yes[i] if bit else 1 - yes[i] for i, bit in enumerate(bits)]).prod(0)
        expected[next((i for i, bit in enumerate(bits) if not bit), 3)] += probability
    torch.testing.assert_close(log_count(logits).exp(), expected)


def test_distribution_of_the_count_at_extreme_logits():
    logits = torch.tensor([[500.0], [-500.0], [0.0]], requires_grad=True)
    log_q = log_count(logits)
    torch.testing.assert_close(log_q.flatten(), torch.tensor([-500.0, 0.0, -500.0, -500.0]), rtol=0, atol=1)
    (gradient,) = torch.autograd.grad(log_q.sum(), logits)
    assert torch.isfinite(gradient).all()


def test_patterns():
    patterns = prefixes(["p/0", "p/1"], torch.zeros(()), rank=2)
    assert {value.shape for value in patterns.values()} == {(3, 1, 1)}
    assert torch.stack(list(patterns.values()), 1).squeeze().tolist() == [[0, 0], [1, 0], [1, 1]]
