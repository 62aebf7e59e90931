import pytest
import torch
from torch.nn import functional as F

from idm_ray.algorithm.cutmix import Mix, draw_mix
from idm_ray.algorithm.evaluate import TrainingImages, fit
from idm_ray.algorithm.numerics import Numerics
from idm_ray.algorithm.protocols import Protocol
from idm_ray.algorithm.randomness import generator
from tests.algorithm.making import normal


def mixed_literally(images, mix):
    out = images.clone()
    for i, partner in enumerate(mix.partners.tolist()):
        for y in range(*mix.rows):
            for x in range(*mix.columns):
                out[i, :, y, x] = images[partner, :, y, x]
    return out


@pytest.mark.parametrize("seed", range(20))
def test_a_box_is_the_partner_s_and_the_share_is_what_is_left(seed):
    images = normal(5, 3, 6, 8, seed=seed)
    mix = draw_mix(5, 6, 8, generator(seed, "mix"))
    assert mix.apply(images).equal(mixed_literally(images, mix))
    assert sorted(mix.partners.tolist()) == list(range(5))
    (top, bottom), (left, right) = mix.rows, mix.columns
    assert 0 <= top <= bottom <= 6 and 0 <= left <= right <= 8
    assert mix.share == pytest.approx(1 - (bottom - top) * (right - left) / 48)


def test_boxes_cover_half_of_the_image_on_average_before_clipping():
    # Clipped at the border, a side s keeps s - s*s/4 on average over its centres; the mean of that
    # squared over uniform s*s is 1/2 - 1/5 + 1/48.
    mixes = [draw_mix(2, 256, 256, generator(seed, "box")) for seed in range(4000)]
    covered = sum(1 - mix.share for mix in mixes) / len(mixes)
    assert covered == pytest.approx(1 / 2 - 1 / 5 + 1 / 48, abs=0.012)


def test_the_input_is_left_alone():
    images = normal(2, 1, 4, 4, seed=0)
    before = images.clone()
    Mix(partners=torch.tensor([1, 0]), rows=(0, 2), columns=(0, 4), share=0.5).apply(images)
    assert images.equal(before)


def test_a_mixed_step_weighs_both_labels_by_their_share_of_the_image():
    images, labels = normal(4, 2, 6, 6, seed=1), torch.tensor([0, 1, 2, 0])
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(72, 3)).double()
    with torch.no_grad():
        network[1].weight.copy_(0.1 * normal(3, 72, seed=2))
        network[1].bias.zero_()
    weights = [w.detach().clone() for w in network.parameters()]
    protocol = Protocol(
        epochs=1, drop_epoch=9, lr_net=0.1, batch_train=4, operations=(), cutmix=1.0
    )
    training = TrainingImages(count=4, take=lambda rows: (images[rows], labels[rows]))
    fit(network, training, protocol, Numerics(), (7, "x"))

    draws = generator(7, "x", 0)
    rows = torch.randperm(4, generator=draws)
    torch.rand(1, generator=draws)  # whether to mix
    mix = draw_mix(4, 6, 6, draws)
    batch, own = mixed_literally(images[rows], mix), labels[rows]
    leaves = [w.clone().requires_grad_() for w in weights]
    loss = torch.zeros((), dtype=torch.float64)
    for image, label, other in zip(batch, own, own[mix.partners], strict=True):
        logits = (leaves[0] @ image.flatten() + leaves[1])[None]
        loss = loss + mix.share * F.cross_entropy(logits, label[None]) / 4
        loss = loss + (1 - mix.share) * F.cross_entropy(logits, other[None]) / 4
    gradients = torch.autograd.grad(loss, leaves)
    for trained, old, gradient in zip(network.parameters(), weights, gradients, strict=True):
        expected = old - 0.1 * (gradient + 0.0005 * old)
        torch.testing.assert_close(trained.detach(), expected, rtol=1e-4, atol=1e-7)


def test_without_mixing_nothing_is_drawn_for_it():
    images, labels = normal(4, 2, 6, 6, seed=1), torch.tensor([0, 1, 2, 0])
    seen = []

    def take(rows):
        seen.append(rows.tolist())
        return images[rows], labels[rows]

    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(72, 3)).double()
    protocol = Protocol(epochs=1, drop_epoch=9, lr_net=0.1, batch_train=2, operations=())
    fit(network, TrainingImages(count=4, take=take), protocol, Numerics(), (7, "x"))
    order = torch.randperm(4, generator=generator(7, "x", 0)).tolist()
    assert seen == [order[:2], order[2:]]
