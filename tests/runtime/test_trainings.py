"""Networks as tasks: continual learning gives the local numbers, and a lost network is repeated."""

import os
import signal
import threading

import pytest

from idm_ray.continual.course import Course
from idm_ray.errors import ActorLostError, UserError
from idm_ray.progress import Announcement
from idm_ray.results.condensed import read_arrays
from idm_ray.runtime.trainings import Trainings
from tests.continual.making import learn_small
from tests.runtime.running import settled

ON_RAY = {"local": False, "gpus_per_actor": 0, "cpus_per_actor": 0}


def test_a_course_on_ray_gives_the_local_numbers_bit_for_bit(tmp_path):
    course = Course(steps=2, orders=1, methods=("idm",))
    local = learn_small(tmp_path / "local", course)
    on_ray = learn_small(tmp_path / "ray", course, actors=2, **ON_RAY)
    assert on_ray.points == local.points
    for step in (1, 2):
        place = f"memories/order0/step{step}-idm/condensed.parquet"
        ours, theirs = (read_arrays(tmp_path / where / place)[0] for where in ("local", "ray"))
        assert ours.tobytes() == theirs.tobytes()


def trainings(function, **options):
    return Trainings(function, *settled(**{**ON_RAY, **options}), pixels=0)


def test_every_job_gets_what_its_group_shares():
    def describe(plan, job, shared):
        return plan.info.name, job, shared

    training = trainings(describe)
    groups = iter([("a", [1, 2]), ("b", [3]), ("c", list(range(4, 12)))])
    found = dict(training.results(groups))
    training.close()
    assert found.keys() == {*range(1, 12)}
    assert (found[2], found[3]) == (("digits", 2, "a"), ("digits", 3, "b"))
    assert {found[job][2] for job in range(4, 12)} == {"c"}


def test_a_lost_network_is_trained_once_more_and_told_of(tmp_path):
    def die_at_first(plan, job, shared):
        place = os.path.join(shared, job)
        if not os.path.exists(place):
            open(place, "x").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return job

    training = trainings(die_at_first)
    told = list(training.results([(str(tmp_path), ["only"])]))
    training.close()
    assert told[-1] == ("only", "only")
    (lost,) = told[:-1]
    assert isinstance(lost, Announcement)
    assert lost.text.startswith("network (only) lost: ")
    assert lost.warning


def test_more_losses_than_may_be_end_it():
    def die(plan, job, shared):
        os.kill(os.getpid(), signal.SIGKILL)

    training = trainings(die, max_failures=1)
    try:
        with pytest.raises(ActorLostError, match="--max-failures 1 allows no more"):
            list(training.results([("", ["only"])]))
    finally:
        training.close()


def test_what_is_the_user_s_fault_comes_out_as_it_is_and_nothing_goes_on(tmp_path):
    def refuse(plan, job, shared):
        if job == "wrong":
            raise UserError("expected another job")
        threading.Event().wait()  # which nobody sets

    training = trainings(refuse)
    with pytest.raises(UserError, match="expected another job"):
        list(training.results([("", ["wrong", "waiting"])]))
    training.close()
    assert not training._under_way
