from itertools import islice

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from idm_ray.algorithm.model_server import ModelServer, QueueReport
from idm_ray.algorithm.model_start import draw_start
from idm_ray.algorithm.networks import init_parameters
from idm_ray.algorithm.numerics import Numerics
from idm_ray.algorithm.randomness import generator
from idm_ray.algorithm.state import Pretrained
from idm_ray.algorithm.steps import TrainMetrics
from idm_ray.building import build_network
from idm_ray.config import QueueConfig
from tests import reference
from tests.algorithm.making import flat_weights

SEED = 6
SMALL = {"queue_size": 3, "queue_init": 2, "push_interval": 3, "train_steps": 2, "lr_net": 0.02}


def batches(model, step):
    """Two classes that differ in brightness, so that there is something to learn."""
    draws = generator("batch", model, step)
    labels = torch.randint(2, (7,), generator=draws)
    images = torch.randn(7, 1, 8, 8, generator=draws) + labels.reshape(-1, 1, 1, 1)
    return images * torch.linspace(-1, 1, 8), labels


def make_server(num_matched_models=1, pretrained=(), **options):
    network = build_network("convnet-1", (1, 8, 8), 2)
    return ModelServer(
        QueueConfig(**(SMALL | {"pretrained": len(pretrained)} | options)),
        network,
        Numerics(),
        batches,
        num_matched_models=num_matched_models,
        seed=SEED,
        pretrained=pretrained,
    )


class PlainModel:
    """A network of the queue as one would write it by hand."""

    def __init__(self, model):
        self.network = nn.Sequential(
            nn.Conv2d(1, 128, 3, padding=1),
            nn.InstanceNorm2d(128, affine=True),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(2048, 2),
        )
        init_parameters(self.network, generator(SEED, "init", model))
        self.optimizer = torch.optim.SGD(
            self.network.parameters(), lr=0.02, momentum=0.9, weight_decay=0.0005
        )
        self.model, self.age, self.hits = model, 0, []

    def train(self, steps):
        for _ in range(steps):
            images, labels = batches(self.model, self.age)
            logits = self.network(images)
            self.hits += (logits.argmax(1) == labels).tolist()
            self.optimizer.zero_grad()
            F.cross_entropy(logits, labels).backward()
            self.optimizer.step()
            self.age += 1

    @property
    def accuracy(self):
        return sum(self.hits) / len(self.hits) if self.hits else 0.0


def plain_sequence(config, num_matched, iterations):
    """(model, weights, accuracy, age) of the networks that are matched in each iteration."""

    def shuffled(purpose, iteration, n):
        return torch.randperm(n, generator=generator(SEED, purpose, iteration)).tolist()

    state = torch.get_rng_state()  # torch's own initialisation is drawn from it, then replaced
    models = {model: PlainModel(model) for model in range(config.queue_init)}
    history = reference.queue_history(config, num_matched=num_matched, shuffled=shuffled)
    sequence = []
    for iteration, plan in enumerate(islice(history, iterations)):
        window = config.accuracy_window
        for model in models.values():
            if isinstance(window, int) and iteration % window == 0:
                model.hits = []
        models |= {model: PlainModel(model) for model in plan["pushed"]}
        sequence.append(
            [
                (m.model, flat_weights(m.network).clone(), m.accuracy, m.age)
                for m in (models[model] for model in plan["matched"])
            ]
        )
        for model in plan["trained"]:
            if window == "last":
                models[model].hits = []
            models[model].train(config.train_steps)
    torch.set_rng_state(state)
    return sequence


@pytest.mark.parametrize(
    ("num_matched", "options"),
    [
        (1, {}),
        (2, {"accuracy_window": "last"}),
        (1, {"accuracy_window": 4}),
        (2, {"queue_size": 1, "queue_init": 1}),
        (1, {"train_interval": 2, "num_trained_models": 1, "train_steps": 3}),
    ],
)
def test_snapshots_equal_those_of_networks_trained_by_hand(num_matched, options):
    server = make_server(num_matched, **options)
    expected = plain_sequence(QueueConfig(**(SMALL | options)), num_matched, 10)
    accuracies = set()
    for iteration, networks in enumerate(expected):
        snapshots = server.begin(iteration)
        assert len(snapshots) == len(networks)
        for snapshot, (model, weights, accuracy, age) in zip(snapshots, networks, strict=True):
            assert (snapshot.model, snapshot.age) == (model, age)
            assert snapshot.accuracy == accuracy
            np.testing.assert_allclose(snapshot.weights, weights, rtol=0, atol=1e-4)
            accuracies.add(accuracy)
        server.train(iteration)
    assert len(accuracies) > 2


def run(server, iterations):
    """The first snapshot and the report of every iteration."""
    return [(server.begin(i)[0], server.train(i)) for i in range(iterations)]


def test_networks_are_matched_as_they_are_before_the_iteration_s_training():
    # One model is pushed at iteration 0 and stays: matched and trained every time.
    history = run(make_server(queue_size=1, queue_init=1, push_interval=100), 3)
    assert [snapshot.age for snapshot, _ in history] == [0, 2, 4]
    assert [report.ages for _, report in history] == [(0,), (2,), (4,)]
    assert all(report.trained.images == 14 for _, report in history)
    assert history[0][0].accuracy == 0
    for (snapshot, report), (_, before) in zip(history[1:], history, strict=False):
        assert report.accuracies == (snapshot.accuracy,)
        assert snapshot.accuracy > 0
        assert before.trained.correct <= 14


@pytest.mark.parametrize(
    ("window", "counted"),
    [("lifetime", [0, 1, 2, 3, 4, 5]), ("last", [0, 1, 1, 1, 1, 1]), (3, [0, 1, 2, 0, 1, 2])],
)
def test_the_accuracy_is_over_the_trainings_within_the_window(window, counted):
    server = make_server(
        queue_size=1, queue_init=1, push_interval=100, accuracy_window=window, lr_net=0.001
    )
    history = run(server, 6)
    for iteration, (snapshot, _) in enumerate(history):
        trainings = [r.trained for _, r in history[iteration - counted[iteration] : iteration]]
        total = sum(trainings, TrainMetrics())
        assert snapshot.accuracy == (total.correct / total.images if trainings else 0)


def test_the_accuracy_window_changes_accuracies_only():
    lifetime, last = (run(make_server(accuracy_window=w), 5) for w in ("lifetime", "last"))
    for (first, _), (second, _) in zip(lifetime, last, strict=True):
        assert (first.model, first.age) == (second.model, second.age)
        assert (first.weights == second.weights).all()


def test_a_training_within_the_queue_learns():
    server = make_server(queue_size=1, queue_init=1, push_interval=100, accuracy_window="last")
    assert run(server, 25)[-1][0].accuracy > 0.9


def test_snapshots_are_copies():
    server = make_server(queue_size=1, queue_init=1, push_interval=100)
    (snapshot,) = server.begin(0)
    before = snapshot.weights.copy()
    server.train(0)
    assert (snapshot.weights == before).all()
    snapshot.weights[:] = 0
    (later,) = server.begin(1)
    assert (later.weights != 0).any()
    assert later.weights.dtype == np.float32


def test_models_that_leave_and_come_do_not_share_weights_or_momentum():
    server = make_server(queue_size=1, queue_init=1, push_interval=2)
    snapshots = [snapshot for snapshot, _ in run(server, 4)]
    assert [(s.model, s.age, s.accuracy > 0) for s in snapshots] == [
        (1, 0, False),
        (1, 2, True),
        (2, 0, False),
        (2, 2, True),
    ]
    fresh = build_network("convnet-1", (1, 8, 8), 2).to_empty(device="cpu")
    init_parameters(fresh, generator(SEED, "init", 2))
    assert (snapshots[2].weights == flat_weights(fresh).numpy()).all()


def test_without_a_queue_every_iteration_has_fresh_networks_and_no_training():
    server = make_server(2, queue_size=0)
    for iteration in range(3):
        snapshots = server.begin(iteration)
        assert [s.model for s in snapshots] == [2 * iteration, 2 * iteration + 1]
        assert [(s.age, s.accuracy) for s in snapshots] == [(0, 0.0)] * 2
        report = server.train(iteration)
        assert report == QueueReport(
            iteration=iteration, size=2, ages=(0, 0), accuracies=(0.0, 0.0), trained=TrainMetrics()
        )


def test_iterations_without_training_report_none():
    server = make_server(train_interval=3)
    trained = [report.trained.images for _, report in run(server, 7)]
    assert [images > 0 for images in trained] == [True, False, False, True, False, False, True]
    assert trained[0] == 2 * 2 * 7


def test_reports_count_the_networks_in_the_queue():
    sizes = [report.size for _, report in run(make_server(), 8)]
    assert sizes == [3] * 8


def test_two_servers_of_one_seed_serve_the_same_bits():
    for (first, _), (second, _) in zip(run(make_server(), 5), run(make_server(), 5), strict=True):
        assert (first.weights == second.weights).all()


def pretrained_set(size=3):
    """Networks with weights and counts of their own; read-only, as from shared memory."""
    found = []
    for member in range(size):
        network = build_network("convnet-1", (1, 8, 8), 2).to_empty(device="cpu")
        init_parameters(network, generator("pretrained", member))
        weights = flat_weights(network).numpy()
        weights.setflags(write=False)
        found.append(Pretrained(weights=weights, images=100, correct=60 + member))
    return found


def start_of(model, **options):
    config = QueueConfig(**(SMALL | {"pretrained": 3} | options))
    return draw_start(config, model, num_classes=2, seed=SEED)


def test_models_at_the_start_and_pushed_ones_are_copies_of_pretrained_networks():
    networks = pretrained_set()
    server, entered = make_server(pretrained=networks, push_interval=1, train_interval=99), {}
    for iteration in range(30):
        (snapshot,) = server.begin(iteration)
        if snapshot.age == 0:
            entered[snapshot.model] = snapshot
        server.train(iteration)
    members = {model: start_of(model).member for model in entered}
    assert set(members.values()) == {0, 1, 2}
    assert min(members) < 2  # there from the start
    for model, snapshot in entered.items():
        assert (snapshot.weights == networks[members[model]].weights).all()
        assert snapshot.accuracy == networks[members[model]].accuracy


def test_a_copy_is_trained_with_its_own_learning_rate_and_a_momentum_from_rest():
    networks = pretrained_set()
    options = {"queue_size": 1, "queue_init": 1, "push_interval": 100}
    history = run(make_server(pretrained=networks, **options), 3)
    # Model 1 is pushed in iteration 0 and stays.
    start = start_of(1, **options)
    assert 0.018 <= start.lr <= 0.022
    assert start.lr != 0.02
    plain = build_network("convnet-1", (1, 8, 8), 2).to_empty(device="cpu")
    torch.nn.utils.vector_to_parameters(
        torch.tensor(networks[start.member].weights), plain.parameters()
    )
    optimizer = torch.optim.SGD(plain.parameters(), lr=start.lr, momentum=0.9, weight_decay=5e-4)
    for step in range(4):
        images, labels = batches(1, step)
        optimizer.zero_grad()
        F.cross_entropy(plain(images), labels).backward()
        optimizer.step()
    snapshot = history[2][0]
    assert (snapshot.model, snapshot.age) == (1, 4)
    np.testing.assert_allclose(snapshot.weights, flat_weights(plain), rtol=0, atol=1e-4)


@pytest.mark.parametrize("window", ["lifetime", "last", 3])
def test_the_accuracy_of_pretraining_counts_until_the_window_has_left_it_behind(window):
    options = {"queue_size": 1, "queue_init": 1, "push_interval": 100, "accuracy_window": window}
    history = run(make_server(pretrained=pretrained_set(), **options), 4)
    source = pretrained_set()[start_of(1, **options).member]
    counts = [TrainMetrics(images=source.images, correct=source.correct)]
    counts += [report.trained for _, report in history]
    for iteration, (snapshot, _) in enumerate(history):
        first = {"lifetime": 0, "last": iteration, 3: 0 if iteration < 3 else iteration + 1}[window]
        total = sum(counts[first : iteration + 1], TrainMetrics())
        assert snapshot.accuracy == (total.correct / total.images if total.images else 0)


def test_without_a_queue_every_iteration_has_new_copies_of_pretrained_networks():
    networks, members = pretrained_set(), []
    server = make_server(2, pretrained=networks, queue_size=0)
    for iteration in range(12):
        for snapshot in server.begin(iteration):
            member = start_of(snapshot.model, queue_size=0).member
            assert (snapshot.weights == networks[member].weights).all()
            assert snapshot.age == 0
            members.append(member)
        assert server.train(iteration).trained == TrainMetrics()
    assert set(members) == {0, 1, 2}
    assert members[::2] != members[1::2]


def test_a_copy_s_training_leaves_the_set_as_it_is():
    networks, before = pretrained_set(), pretrained_set()
    run(make_server(pretrained=networks), 4)
    for network, copy in zip(networks, before, strict=True):
        assert (network.weights == copy.weights).all()


@pytest.mark.parametrize(
    "options", [{}, {"train_interval": 2}, {"push_interval": 1}, {"queue_size": 0}]
)
def test_the_batches_of_the_next_trainings_are_known_before(options, monkeypatch):
    server, drawn = make_server(**options), []
    monkeypatch.setattr(
        server, "_batches", lambda model, step: drawn.append((model, step)) or batches(model, step)
    )
    announced = None
    for iteration in range(9):
        server.begin(iteration)
        due = list(server.due())
        assert announced in (None, due)
        announced = list(server.due_after(iteration))
        assert drawn == []
        server.train(iteration)
        assert drawn == due
        drawn.clear()


def run_from(server, first, last):
    """Snapshots and reports of some iterations."""
    return [(server.begin(i), server.train(i)) for i in range(first, last)]


def assert_same_run(one, other):
    assert len(one) == len(other)
    for (snapshots, report), (other_snapshots, other_report) in zip(one, other, strict=True):
        assert report == other_report
        for a, b in zip(snapshots, other_snapshots, strict=True):
            assert (a.model, a.accuracy, a.age) == (b.model, b.accuracy, b.age)
            np.testing.assert_array_equal(a.weights, b.weights)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"accuracy_window": "last"},
        {"accuracy_window": 4},
        {"train_interval": 3},
        {"queue_size": 0, "queue_init": 1},
    ],
)
def test_a_restored_server_continues_with_the_same_bits(options):
    server, other = make_server(**options), make_server(**options)
    run_from(server, 0, 8)
    server.release(8)
    state, versions = server.state()
    assert state.iteration == 8
    other.restore(state, versions)
    assert_same_run(run_from(server, 8, 15), run_from(other, 8, 15))


def test_a_server_remembers_where_it_was_until_that_is_released():
    server, other = make_server(), make_server()
    everything = run_from(server, 0, 9)
    assert server.state()[0].iteration == 0
    server.release(4)
    state, versions = server.state()
    assert state.iteration == 4
    other.restore(state, versions)
    assert_same_run(run_from(other, 4, 9), everything[4:])


def test_a_state_leaves_out_weights_that_are_known():
    server = make_server()
    run_from(server, 0, 5)
    server.release(4)
    versions = server.state()[1]
    server.release(5)
    later, changed = server.state(known=versions)
    # Two networks are trained in an iteration, and none is pushed in this one.
    assert len(changed) == 2
    assert {model.version for model in later.models} <= versions.keys() | changed.keys()


def test_a_state_during_training_is_that_before_it():
    seen = []
    server = make_server()

    def spy(model, step):
        seen.append(server.state())
        return batches(model, step)

    run_from(server, 0, 3)
    server.release(3)
    before, versions = server.state()
    server._batches = spy
    run_from(server, 3, 4)
    assert len(seen) == 2 * SMALL["train_steps"]
    for state, arrays in seen:
        assert state == before
        for key, version in arrays.items():
            np.testing.assert_array_equal(version.weights, versions[key].weights)
            np.testing.assert_array_equal(version.velocity, versions[key].velocity)


def test_a_restored_server_of_pretrained_networks_needs_no_more_than_the_set():
    server, other = (make_server(pretrained=pretrained_set()) for _ in range(2))
    run_from(server, 0, 5)
    server.release(5)
    other.restore(*server.state())
    assert_same_run(run_from(server, 5, 12), run_from(other, 5, 12))
