import torch

from whatwhere.models.components import Workers


def test_each_worker_reads_its_own_state_and_input():
    torch.manual_seed(0)
    workers = Workers(3, 4, 5, 2).double()
    inputs = torch.randn(2, 3, 4, dtype=torch.float64)
    states = torch.randn(2, 3, 5, dtype=torch.float64)
    votes, after = workers(inputs, states)
    for c in range(3):
        expected = workers.cells[c](inputs[:, c], states[:, c])
        torch.testing.assert_close(after[:, c], expected)
        torch.testing.assert_close(votes[:, c], workers.readouts[c](expected))
    changed = states.clone()
    changed[:, 0] += 1
    other = workers(inputs, changed)[1]
    assert torch.equal(other[:, 1:], after[:, 1:])
    assert not torch.equal(other[:, 0], after[:, 0])
    assert not workers.initial_state(inputs).any()
