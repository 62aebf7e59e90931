import torch
from torch.autograd import gradcheck

from idm_ray.algorithm.resample import resample, sampling_matrix
from tests.algorithm.making import normal


def test_a_whole_position_reads_one_pixel_and_a_position_between_reads_two():
    positions = torch.tensor([0.0, 2.0, 1.25])
    expected = [[1, 0, 0, 0], [0, 0, 1, 0], [0, 0.75, 0.25, 0]]
    assert sampling_matrix(positions, 4).tolist() == expected


def test_positions_outside_fade_to_zero_over_one_pixel():
    positions = torch.tensor([-0.25, -1.0, -7.0, 3.5, 4.0])
    expected = [[0.75, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0.5], [0, 0, 0, 0]]
    assert sampling_matrix(positions, 4).tolist() == expected


def test_sampling_matrices_come_in_batches():
    positions = normal(2, 3, 5)
    matrices = sampling_matrix(positions, 4)
    assert matrices.shape == (2, 3, 5, 4)
    assert matrices[1, 2].equal(sampling_matrix(positions[1, 2], 4))


def test_resample_applies_each_group_s_own_matrices_to_all_its_planes():
    images = normal(2, 3, 2, 4, 5)
    rows, columns = normal(2, 6, 4, seed=1), normal(2, 7, 5, seed=2)
    out = resample(images, rows, columns)
    assert out.shape == (2, 3, 2, 6, 7)
    for group in range(2):
        for image in range(3):
            for channel in range(2):
                expected = rows[group] @ images[group, image, channel] @ columns[group].T
                torch.testing.assert_close(out[group, image, channel], expected)


def test_resample_has_the_right_gradient():
    images = normal(2, 1, 2, 3, 4).requires_grad_()
    rows, columns = normal(2, 2, 3, seed=1), normal(2, 5, 4, seed=2)
    assert gradcheck(lambda x: resample(x, rows, columns), images)
