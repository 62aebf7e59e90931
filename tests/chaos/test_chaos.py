"""Whatever is killed, and whenever, a run comes to the numbers of one that nothing happened to."""

import os
from collections import deque

import pytest

from idm_ray.run import condense
from tests.chaos.comparing import assert_same
from tests.chaos.deeds import Doer, draw_deeds
from tests.chaos.running import run_to_the_end
from tests.chaos.two_nodes import two_nodes
from tests.making_runs import as_words

OPTIONS = {
    "data": "digits",
    "iterations": 60,
    "eval_interval": 20,
    "eval_epochs": 30,
    "repeats": 3,
    "threads": 1,
    "device": "cpu",
    "checkpoint_interval": 3,
}
# There are four CPUs, and two without the second node; evaluation needs one.
ON_NODES = {"actors": 3, "cpus_per_actor": 0.5, "wait_s": 5, "max_failures": 100}
SEEDS = [int(word) for word in os.environ.get("IDM_RAY_CHAOS_SEEDS", "0").split()]
DRIVERS, EVALUATIONS, KILLS = 3, 4, 20


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    condense(out=folder, local=True, **OPTIONS)
    return folder


@pytest.mark.chaos
@pytest.mark.ray
@pytest.mark.parametrize("seed", SEEDS)
def test_twenty_kills_change_no_number(seed, undisturbed, tmp_path):
    deeds = draw_deeds(
        seed,
        iterations=OPTIONS["iterations"],
        actors=3,
        class_actors=8,
        queue=4,
        drivers=DRIVERS - 1,
        node=True,
    )
    log = tmp_path / "log"
    with two_nodes() as cluster:
        doer = Doer(deque(deeds), OPTIONS["iterations"], EVALUATIONS, cluster.session, cluster.tell)
        try:
            run_to_the_end(
                tmp_path / "run",
                as_words(**OPTIONS, **ON_NODES),
                doer,
                address=cluster.address,
                log=log,
                most=DRIVERS + 1,
            )
        finally:
            print(f"seed {seed}, {doer.hits} hits, log {log}", *doer.done, sep="\n")
    assert doer.hits == KILLS
    assert_same(tmp_path / "run", undisturbed)
