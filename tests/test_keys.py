import subprocess
import sys

import numpy as np
import pytest
import torch

from idm_ray.keys import seed_from


def test_a_seed_is_what_torch_and_numpy_generators_take():
    seeds = [seed_from(seed, "purpose", i) for seed in range(5) for i in range(100)]
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert max(seeds) > 2**62
    torch.Generator().manual_seed(max(seeds))
    np.random.default_rng(max(seeds))


def test_keys_that_differ_anywhere_have_different_seeds():
    keys = [(s, word, i, c) for s in range(4) for word in "ab" for i in range(40) for c in range(9)]
    assert len({seed_from(*key) for key in keys}) == len(keys)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((1, 23), (12, 3)),
        (("ab", "c"), ("a", "bc")),
        ((1,), ("1",)),
        ((0, "x", 1, 2), (0, "x", 2, 1)),
        ((0,), (0, 0)),
        ((0, "x"), (0, "x", 0)),
        (("a, b",), ("a", "b")),
        (('a", "b',), ("a", "b")),
        ((-1,), (1,)),
    ],
)
def test_keys_that_look_alike_have_different_seeds(first, second):
    assert seed_from(*first) != seed_from(*second)


def test_whole_numbers_of_any_type_are_the_same_key():
    assert seed_from(np.int64(3), "x", np.int32(7)) == seed_from(3, "x", 7)


@pytest.mark.parametrize("part", [1.0, None, (1,), b"x"])
def test_what_is_neither_a_whole_number_nor_a_word_is_refused(part):
    with pytest.raises(TypeError):
        seed_from(0, part)


def test_another_process_has_the_same_seeds():
    code = "from idm_ray.keys import seed_from; print(seed_from(3, 'real', 17, 4))"
    there = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
    assert int(there) == seed_from(3, "real", 17, 4)


def test_seeds_stay_what_they_are():
    # Changing them changes the images of every run: a resumed run would not be the one that began.
    assert seed_from(0, "augment", 0, 0) == 2723686952212004203
    assert seed_from(3, "real", 17, 4) == 7076813463934339984
