"""The measurement of what an iteration costs without computing."""

import dataclasses
import json

import pytest

from idm_ray.pace import WINDOW
from idm_ray.runtime.orchestration import CASES, Case, measure


def test_every_actor_has_a_group_and_every_class_is_in_one():
    for case in CASES:
        assert len(case.groups) >= case.actors
        assert [c for group in case.groups for c in group] == list(range(case.classes))
        assert case.iterations_per_call <= WINDOW
    assert {case.actors for case in CASES} >= {1, 16}
    assert {case.classes for case in CASES} >= {10, 1000}


def test_a_few_iterations_are_measured_and_can_be_written_as_json():
    cases = [Case(actors=2, classes=10, iterations_per_call=n) for n in (1, 3)]
    found = list(measure(cases, iterations=10, repeats=2))
    assert [cost.case for cost in found] == cases
    for cost in found:
        # ConvNet-3 with 10 outputs has 320,010 parameters.
        assert cost.snapshot_bytes == 4 * 320_010
        for seconds in (cost.driver_s, cost.queue_s, cost.actor_s):
            assert 0 < seconds < 1
        assert 0 < cost.seconds < 5
        assert json.loads(json.dumps(dataclasses.asdict(cost)))["case"]["actors"] == 2


@pytest.mark.slow
def test_eight_actors_cost_at_most_five_milliseconds_an_iteration():
    # Other work on the machine only adds to it.
    found = [cost for _ in range(3) for cost in measure([Case()])]
    assert min(cost.seconds for cost in found) <= 0.005
