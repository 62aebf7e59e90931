import itertools
from typing import get_args

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from idm_ray.algorithm.class_group import ClassGroup
from idm_ray.algorithm.model_server import ModelServer
from idm_ray.algorithm.networks import build_network
from idm_ray.algorithm.numerics import FlatNetwork, Numerics
from idm_ray.algorithm.spans import PREFIX, Part
from idm_ray.config import CondenseConfig, QueueConfig
from tests.algorithm.making import normal

SHAPE = (3, 8, 8)


@pytest.fixture(scope="module")
def events():
    """What a profiler saw of two iterations."""
    images, labels = normal(4, *SHAPE).float(), torch.arange(4) % 2

    def network():
        return build_network("convnet-2", SHAPE, 2)

    server = ModelServer(
        QueueConfig(train_steps=2),
        network(),
        Numerics(),
        lambda model, step: (images + 0, labels),
        num_matched_models=1,
        seed=0,
    )
    group = ClassGroup(
        CondenseConfig(),
        [0, 1],
        num_classes=2,
        operations=("color", "rotate"),
        network=FlatNetwork(network(), Numerics()).freeze(),
        real_batches=lambda iteration, c: (images + 0, torch.full((4,), 0.25)),
        start=normal(2, 1, *SHAPE, seed=1).float(),
    )
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as profiler:
        for iteration in range(2):
            group.run(iteration, [server.begin(iteration)])
            server.train(iteration)
    return list(profiler.events())


def spans_of(events):
    marked = (e for e in events if e.name.startswith(PREFIX))
    return sorted(marked, key=lambda event: event.time_range.start)


def test_an_iteration_marks_every_part(events):
    assert {e.name.removeprefix(PREFIX) for e in spans_of(events)} == set(get_args(Part))


def test_spans_lie_side_by_side_so_that_their_times_add_up(events):
    for before, after in itertools.pairwise(spans_of(events)):
        assert before.time_range.end <= after.time_range.start


def test_every_convolution_lies_in_a_span_of_its_kind(events):
    spans = spans_of(events)
    found = set()
    for event in events:
        if event.name in ("aten::convolution", "aten::convolution_backward"):
            inside = [
                s.name.removeprefix(PREFIX)
                for s in spans
                if s.time_range.start <= event.time_range.start <= s.time_range.end
            ]
            assert len(inside) == 1
            found.add((inside[0], event.name.removeprefix("aten::convolution")))
    backwards = [("synthetic", "_backward"), ("training", "_backward")]
    assert found == {("real", ""), ("synthetic", ""), ("training", ""), *backwards}
