"""Networks of an iteration's rounds, and whole iterations of several rounds, by literal loops."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from idm_ray.algorithm.augment import OPERATIONS, draw_per_image, draw_siamese
from idm_ray.algorithm.gradient_matching import GradientMatching
from idm_ray.algorithm.model_server import ModelServer
from idm_ray.algorithm.numerics import FlatNetwork, Numerics
from idm_ray.algorithm.randomness import generator
from idm_ray.algorithm.round_networks import RoundNetworks
from idm_ray.building import build_network
from idm_ray.config import CondenseConfig, QueueConfig
from idm_ray.errors import NonFiniteLossError
from tests import reference
from tests.algorithm.making import class_group, normal

SHAPE, CLASSES, IPC, SEED = (3, 8, 8), 2, 3, 7
FRESH = {"queue_size": 0, "batch_train": 4}
EPOCHS = 2


def make(operations=(), num_matched=1, **options):
    return RoundNetworks(
        QueueConfig(**FRESH | options),
        build_network("convnet-2", SHAPE, CLASSES),
        Numerics(),
        operations=operations,
        num_matched_models=num_matched,
        inner_epochs=EPOCHS,
        seed=SEED,
    )


def cut(weights):
    return reference.convnet_parts(
        weights, channels=3, depth=2, num_features=512, num_classes=CLASSES
    )


def images(seed=1):
    """Class by class."""
    return normal(CLASSES * IPC, *SHAPE, seed=seed)


def trained(weights, images, *, model, round_, operations, lr=0.01):
    """Some epochs of plain SGD, one batch after the other."""
    labels = [c for c in range(CLASSES) for _ in range(IPC)]
    for epoch in range(EPOCHS):
        draws = generator(SEED, "inner", model, round_, epoch)
        order = torch.randperm(len(labels), generator=draws).tolist()
        for rows in reference.batches_of_an_epoch(order, 4):
            batch = [images[row] for row in rows]
            if operations:
                how = draw_per_image(operations, len(rows), draws)
                batch = [
                    reference.augment_torch(image.unsqueeze(0), name, uniforms).squeeze(0)
                    for image, name, uniforms in zip(
                        batch, how.operations, how.uniforms, strict=True
                    )
                ]
            leaf = weights.clone().requires_grad_()
            targets = [labels[row] for row in rows]
            loss = reference.mean_entropy_torch(torch.stack(batch), targets, cut(leaf))
            weights = weights - lr * torch.autograd.grad(loss, leaf)[0]
    return weights


@pytest.mark.parametrize("operations", [OPERATIONS, ()], ids=["augmented", "as they are"])
def test_between_rounds_each_network_is_trained_as_the_reference_does(operations):
    networks = make(operations, num_matched=2)
    firsts = networks.begin(4)
    assert [snapshot.model for snapshot in firsts] == [8, 9]
    expected = [torch.from_numpy(snapshot.weights).double() for snapshot in firsts]
    for round_ in (1, 2):
        found = networks.go_on(images(round_).float())
        for n, snapshot in enumerate(found):
            before = expected[n]
            expected[n] = trained(
                before, images(round_), model=8 + n, round_=round_, operations=operations
            )
            moved = (expected[n] - before).abs().max().item()
            assert moved > 1e-3
            np.testing.assert_allclose(snapshot.weights, expected[n], rtol=0, atol=1e-3 * moved)
            # Six images in batches of four.
            assert snapshot.age == round_ * EPOCHS * 2
            assert 0 <= snapshot.accuracy <= 1
    report = networks.train(4)
    assert (report.iteration, report.size, report.ages) == (4, 2, (0, 0, 4, 4, 8, 8))
    assert report.trained.images == 2 * 2 * EPOCHS * CLASSES * IPC
    assert len(report.accuracies) == 6


def test_the_networks_of_first_rounds_are_those_of_a_queue_of_fresh_ones():
    server = ModelServer(
        QueueConfig(**FRESH),
        build_network("convnet-2", SHAPE, CLASSES),
        Numerics(),
        lambda model, step: pytest.fail("nothing is trained"),
        num_matched_models=2,
        seed=SEED,
    )
    networks = make(num_matched=2)
    for iteration in range(3):
        fresh = server.begin(iteration)
        server.train(iteration)
        for one, other in zip(networks.begin(iteration), fresh, strict=True):
            assert (one.model, one.age, one.accuracy) == (other.model, other.age, other.accuracy)
            np.testing.assert_array_equal(one.weights, other.weights)
        networks.go_on(images().float())


def test_an_iteration_can_be_begun_again_at_any_time_and_snapshots_stay_what_they_were():
    networks, other = make(), make()
    (first,) = networks.begin(2)
    kept = first.weights.copy()
    (later,) = networks.go_on(images().float())
    assert (first.weights == kept).all()
    assert (first.weights != later.weights).any()
    networks.begin(5)
    for again in (networks, other):
        np.testing.assert_array_equal(again.begin(2)[0].weights, first.weights)
        np.testing.assert_array_equal(again.go_on(images().float())[0].weights, later.weights)


def test_nothing_but_the_place_is_to_be_kept():
    networks = make(num_matched=2)
    state, versions = networks.state()
    assert state.is_new
    networks.begin(6)
    networks.release(6)
    state, versions = networks.state()
    assert (state.iteration, state.next_id, state.models, versions) == (6, 12, (), {})
    other = make(num_matched=2)
    other.restore(state, versions)
    assert other.state() == (state, {})
    assert list(networks.due()) == list(networks.due_after(6)) == []


def test_a_network_that_diverges_says_what_to_change():
    networks = make(lr_net=1e20)
    networks.begin(0)
    with pytest.raises(NonFiniteLossError, match=r"model 0 .* after round 1; lower lr_img or lr_n"):
        networks.go_on(images().float())


def real_batch(step, c):
    batch = normal(5, *SHAPE, seed=100 * step + c) + c
    return batch.float(), torch.full((5,), 0.2)


def literal_run(config, operations, *, iterations, rounds, first_weights):
    """Alg. 1 of DC and DSA, word for word: the images after each iteration, and its losses."""
    syn = nn.Parameter(images().reshape(CLASSES, IPC, *SHAPE))
    optimizer = torch.optim.SGD([syn], lr=config.lr_img, momentum=config.momentum_img)
    found, losses = [], []
    for t in range(iterations):
        weights = first_weights(t)
        losses.append(np.zeros(CLASSES))
        for r in range(rounds):
            step, total = t * rounds + r, 0.0
            for c in range(CLASSES):
                real, own = real_batch(step, c)[0].double(), syn[c]
                if operations:
                    draw = draw_siamese(operations, [generator(SEED, "augment", step, c)])
                    how = draw.operations[0], draw.uniforms[0]
                    real, own = (reference.augment_torch(x, *how) for x in (real, own))
                distance = reference.gradient_distance_torch(own, real, c, cut, weights)
                losses[-1][c] += distance.item()
                total = total + distance
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
            if r + 1 < rounds:
                weights = trained(
                    weights,
                    syn.detach().flatten(0, 1),
                    model=t,
                    round_=r + 1,
                    operations=operations,
                    lr=0.05,
                )
        found.append(syn.detach().clone())
    return found, np.array(losses)


@pytest.mark.parametrize("operations", [OPERATIONS, ()], ids=["dsa", "dc"])
def test_iterations_of_two_rounds_equal_a_literal_run(operations):
    config = CondenseConfig(ipc=IPC, seed=SEED, lr_img=1.0, momentum_img=0.5, lambda_reg=0.0)
    networks = make(operations, lr_net=0.05)
    groups = [
        class_group(
            config,
            [c],
            num_classes=CLASSES,
            operations=operations,
            network=FlatNetwork(build_network("convnet-2", SHAPE, CLASSES), Numerics()),
            real_batches=real_batch,
            matcher=GradientMatching,
            start=images().float().reshape(CLASSES, 1, IPC, *SHAPE)[c],
            rounds=2,
        )
        for c in range(CLASSES)
    ]
    expected, losses = literal_run(
        config,
        operations,
        iterations=3,
        rounds=2,
        first_weights=lambda t: torch.from_numpy(make().begin(t)[0].weights).double(),
    )
    before = images().reshape(CLASSES, IPC, *SHAPE)
    for t in range(3):
        for r in range(2):
            gathered = torch.cat([group.images.flatten(0, 1) for group in groups])
            snapshots = networks.go_on(gathered) if r else networks.begin(t)
            reports = [group.run_round(t, r, snapshots) for group in groups]
        step = (expected[t] - before).abs().max().item()
        assert step > 0.01
        ours = torch.cat([group.images for group in groups])
        np.testing.assert_allclose(ours, expected[t], rtol=0, atol=0.01 * step)
        matching = np.concatenate([report.matching for report in reports], axis=1)
        np.testing.assert_allclose(matching, losses[t : t + 1], rtol=1e-3)
        before = expected[t]
    assert math.isfinite(networks.train(2).trained.loss)


def rounds_group(rounds=2, **more):
    return class_group(
        CondenseConfig(ipc=IPC, seed=SEED, lr_img=1.0, lambda_reg=0.0),
        [0, 1],
        num_classes=CLASSES,
        operations=(),
        network=FlatNetwork(build_network("convnet-2", SHAPE, CLASSES), Numerics()),
        real_batches=real_batch,
        matcher=GradientMatching,
        start=images().float().reshape(CLASSES, IPC, *SHAPE),
        rounds=rounds,
        **more,
    )


def run_rounds(group, rounds, snapshots):
    return [group.run_round(n // 2, n % 2, snapshots) for n in rounds]


def test_an_iteration_is_finished_and_reported_with_its_last_round():
    group, snapshots = rounds_group(copy_at=(1,)), make().begin(0)
    start = group.images.clone()
    (first,) = run_rounds(group, [0], snapshots)
    assert (first.first_iteration, first.matching.shape) == (0, (0, CLASSES))
    assert (group.iteration, list(group.copied)) == (0, [])
    assert not group.images.equal(start)
    np.testing.assert_array_equal(group.state().images, start)
    (second,) = run_rounds(group, [1], snapshots)
    assert (second.first_iteration, second.matching.shape) == (0, (1, CLASSES))
    assert (group.iteration, list(group.copied)) == (1, [1])
    np.testing.assert_array_equal(group.state().images, group.images)
    # The losses of two rounds, which are not far from each other.
    one_round = rounds_group(rounds=1).run(0, [snapshots]).matching
    assert (second.matching > 1.5 * one_round).all()
    assert (second.matching < 2.5 * one_round).all()


def test_a_state_can_be_had_as_it_was_before_the_last_iterations_and_no_earlier():
    group, snapshots = rounds_group(), make().begin(0)
    whole = [group.state()]
    for n in range(8):
        run_rounds(group, [n], snapshots)
        if n % 2:
            whole.append(group.state())
    run_rounds(group, [8], snapshots)
    assert group.iteration == 4
    for at in (2, 3, 4):
        np.testing.assert_array_equal(group.state(at).images, whole[at].images)
        np.testing.assert_array_equal(group.state(at).velocity, whole[at].velocity)
    assert group.state(1) is None
    assert group.state(5) is None


def test_a_group_that_is_restored_goes_on_with_whole_iterations_and_the_same_bits():
    group, snapshots = rounds_group(), make().begin(0)
    run_rounds(group, range(5), snapshots)  # in the middle of the third
    restored = rounds_group()
    restored.restore(group.state())
    assert restored.iteration == 2
    reports = run_rounds(restored, range(4, 8), snapshots)
    run_rounds(group, range(5, 8), snapshots)
    assert restored.images.equal(group.images)
    # What came before is told once more, with the first round.
    assert [(r.first_iteration, len(r.matching)) for r in reports] == [
        *((0, 2), (2, 1), (3, 0), (3, 1)),
    ]


def test_rounds_of_finished_iterations_are_passed_over():
    group, snapshots = rounds_group(), make().begin(0)
    run_rounds(group, range(2), snapshots)
    kept = group.images.clone()
    reports = run_rounds(group, range(2), snapshots)
    assert [report.matching.size for report in reports] == [0, 0]
    assert group.images.equal(kept)
