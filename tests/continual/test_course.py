"""What is asked of continual learning, and which networks that takes."""

from collections import Counter

import pytest

from idm_ray.config import METHODS
from idm_ray.continual.course import (
    Course,
    Schedule,
    default_methods,
    options_of_runs,
    parse_methods,
)
from idm_ray.continual.orders import class_order
from idm_ray.errors import UserError


def schedule(**changes):
    course = {"steps": 3, "orders": 2, "methods": ("dm", "idm")}
    course |= {name: changes.pop(name) for name in course if name in changes}
    numbers = {"seed": 4, "repeats": 2, "num_classes": 10} | changes
    return Schedule(course=Course(**course), **numbers)


def test_the_paper_s_course_is_the_default():
    course = Course()
    assert (course.steps, course.orders) == (5, 5)
    assert course.methods == default_methods()
    assert {"dm", "idm"} <= {*course.methods} <= {*METHODS}
    options = options_of_runs({})
    assert (options["ipc"], options["repeats"], options["partition"]) == (20, 3, 1)


def test_orders_have_consecutive_seeds_and_each_its_own_steps():
    planned = schedule()
    assert list(planned.orders) == [4, 5]
    assert sum(planned.steps(5), ()) == class_order(5, 10)
    assert planned.seen == (4, 7, 10)


def test_every_network_is_there_once_in_groups_that_share_their_memories():
    planned = schedule()
    groups = list(planned.groups())
    assert [(method, order) for method, order, _ in groups] == [
        ("dm", 4),
        ("idm", 4),
        ("dm", 5),
        ("idm", 5),
    ]
    for method, order, jobs in groups:
        assert {(job.method, job.order) for job in jobs} == {(method, order)}
        assert [job.step for job in jobs] == [3, 3, 2, 2, 1, 1]
    counts = Counter(job for _, _, jobs in groups for job in jobs)
    assert {*counts.values()} == {1}
    of_points = [j for m in ("dm", "idm") for step in (1, 2, 3) for j in planned.jobs_of(m, step)]
    assert Counter(of_points) == counts
    assert [(j.order, j.repeat) for j in planned.jobs_of("dm", 2)] == [
        (4, 0),
        (4, 1),
        (5, 0),
        (5, 1),
    ]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"methods": ("dm", "imd")}, "unknown method 'imd'; did you mean 'idm'?"),
        ({"methods": ("dm", "dm")}, "methods must be one or more, each once, got dm, dm"),
        ({"methods": ()}, "methods must be one or more, each once, got none"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"orders": 0}, "orders must be at least 1, got 0"),
        ({"steps": "5"}, "steps must be a whole number, got '5'"),
    ],
)
def test_a_wrong_course_is_refused(wrong, message):
    with pytest.raises(UserError) as refused:
        Course(**wrong)
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"method": "dm"}, "use --methods dm"),
        ({"baselines": "on"}, "expected no baselines for continual learning.* got on; leave it"),
        ({"eval_interval": 5}, "expected no eval_interval"),
        ({"repeats": 0}, "repeats must be at least 1 for continual learning, got 0"),
        ({"iteratons": 3}, "unknown option 'iteratons'; did you mean 'iterations'?"),
    ],
)
def test_options_that_are_decided_here_are_refused(given, message):
    with pytest.raises(UserError, match=message):
        options_of_runs(given)


def test_methods_are_written_with_commas():
    assert parse_methods(" idm, dm,") == ("idm", "dm")
    assert parse_methods("") == ()
