import torch

from whatwhere.inference.training import preserve_random_state, seed_generators
from whatwhere.inference.training.randomness import hash_seed

CPU = torch.device("cpu")


def draw(*key: int | str) -> torch.Tensor:
    seed_generators(CPU, *key)
    return torch.rand(4)


def test_numbers_are_a_function_of_the_key_alone():
    with preserve_random_state(CPU):
        first = draw("train", 0, 5, 1)
        torch.rand(3)
        assert torch.equal(first, draw("train", 0, 5, 1))


def test_every_part_of_the_key_matters_and_parts_do_not_run_together():
    keys = [(0, 1, 2), (0, 2, 1), (1, 1, 2), (0, 12), (0, 1, "2"), ("train", 0, 1, 2)]
    assert len({hash_seed(*key) for key in keys}) == len(keys)
    assert all(0 <= hash_seed(*key) < 2**63 for key in keys)


def test_seeds_do_not_depend_on_the_process():
    # Python's own `hash` of a string would; a run could then not be resumed.
    assert hash_seed("train", 0, 0, 0) == 0x1213FE2735DD47A5


def test_callers_state_is_restored_after_an_error():
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    try:
        with preserve_random_state(CPU):
            seed_generators(CPU, 1)
            raise KeyError
    except KeyError:
        pass
    assert torch.equal(torch.rand(2), expected)
