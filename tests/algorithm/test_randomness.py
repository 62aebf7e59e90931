import torch

from idm_ray.algorithm.randomness import generator


def test_equal_keys_draw_equal_numbers_and_other_keys_others():
    def draw(*key):
        return torch.rand(4, generator=generator(*key)).tolist()

    assert draw(0, "augment", 3, 1) == draw(0, "augment", 3, 1)
    keys = [(0, "augment", 3, 1), (1, "augment", 3, 1), (0, "match", 3, 1), (0, "augment", 1, 3)]
    assert len({tuple(draw(*key)) for key in keys}) == 4


def test_generators_of_neighbouring_keys_are_not_correlated():
    draws = torch.stack([torch.rand(500, generator=generator(0, "x", i)) for i in range(20)])
    assert (torch.corrcoef(draws) - torch.eye(20)).abs().max() < 0.2


def test_a_generator_lives_on_the_cpu():
    assert generator(0).device.type == "cpu"
