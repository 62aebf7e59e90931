import itertools
from typing import get_args

import pytest
import torch
from torch.profiler import ProfilerActivity, profile, record_function

from idm_ray.algorithm.model_server import ModelServer
from idm_ray.algorithm.numerics import FlatNetwork, Numerics
from idm_ray.algorithm.spans import PREFIX, Part
from idm_ray.algorithm.steps import train_step
from idm_ray.building import build_network
from idm_ray.config import CondenseConfig, QueueConfig
from tests.algorithm.making import class_group, convnet, flat_network, normal

SHAPE = (3, 8, 8)
IMAGES, LABELS = normal(4, *SHAPE).float(), torch.arange(4) % 2
MARK = "test/"


def marked(name, function):
    """The function, with a mark of its own in the profile."""

    def run(*args):
        with record_function(MARK + name):
            return function(*args)

    return run


def make_server(network):
    return ModelServer(
        QueueConfig(train_steps=2),
        network,
        Numerics(),
        marked("training batch", lambda model, step: (IMAGES, LABELS)),
        num_matched_models=1,
        seed=0,
    )


def make_group(network):
    network.features = marked("features", network.features)
    network.head = marked("head", network.head)
    real = (IMAGES, torch.full((4,), 0.25))
    return class_group(
        CondenseConfig(),
        [0, 1],
        num_classes=2,
        operations=("color", "rotate"),
        network=network,
        real_batches=marked("real batch", lambda iteration, c: real),
        start=normal(2, 1, *SHAPE, seed=1).float(),
    )


@pytest.fixture(scope="module")
def events():
    """What a profiler saw of two iterations and of one training step."""
    server = make_server(build_network("convnet-2", SHAPE, 2))
    group = make_group(flat_network(convnet(SHAPE, 2)).freeze())
    trained: FlatNetwork = flat_network(convnet(SHAPE, 2))
    trained.logits = marked("logits", trained.logits)
    trained.gradient = marked("gradient", trained.gradient)
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as profiler:
        for iteration in range(2):
            group.run(iteration, [server.begin(iteration)])
            server.train(iteration)
        train_step(trained, IMAGES, LABELS, torch.zeros_like(trained.weights), lr=0.01)
    return sorted(profiler.events(), key=lambda event: event.time_range.start)


def spans_of(events):
    return [e for e in events if e.name.startswith(PREFIX)]


def test_an_iteration_marks_every_part(events):
    assert {e.name.removeprefix(PREFIX) for e in spans_of(events)} == set(get_args(Part))


def test_spans_lie_side_by_side_so_that_their_times_add_up(events):
    for before, after in itertools.pairwise(spans_of(events)):
        assert before.time_range.end <= after.time_range.start


def test_what_is_done_lies_in_the_span_of_its_part(events):
    found = set()
    for event in (e for e in events if e.name.startswith(MARK)):
        (part,) = (
            span.name.removeprefix(PREFIX)
            for span in spans_of(events)
            if span.time_range.start <= event.time_range.start
            and event.time_range.end <= span.time_range.end
        )
        found.add((event.name.removeprefix(MARK), part))
    assert found == {
        ("real batch", "data"),
        ("training batch", "data"),
        ("features", "real"),
        ("features", "synthetic"),
        ("head", "synthetic"),
        ("logits", "training"),
        ("gradient", "training"),
    }
