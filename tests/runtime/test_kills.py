"""The chaos test in short: two actors, an evaluation and the driver itself are killed."""

from collections import deque

import pytest

from idm_ray.run import condense
from tests.chaos.comparing import assert_same
from tests.chaos.deeds import Doer, draw_deeds
from tests.chaos.running import run_to_the_end
from tests.making_runs import as_words
from tests.runtime.running import TINY

OPTIONS = TINY | {
    "iterations": 30,
    "eval_interval": 20,
    "eval_epochs": 10,
    "repeats": 1,
    "checkpoint_interval": 3,
}
ON_RAY = {"actors": 2, "cpus_per_actor": 0.5, "gpus_per_actor": 0}


@pytest.mark.slow
def test_four_kills_change_no_number(cluster, tmp_path):
    condense(out=tmp_path / "undisturbed", local=True, **OPTIONS)
    deeds = draw_deeds(
        7,
        iterations=OPTIONS["iterations"],
        actors=2,
        class_actors=1,
        queue=1,
        drivers=0,
        node=False,
    )
    doer = Doer(deque(deeds), OPTIONS["iterations"], 1, cluster.address_info["session_dir"])
    try:
        run_to_the_end(
            tmp_path / "run",
            as_words(**OPTIONS, **ON_RAY),
            doer,
            address=cluster.address_info["gcs_address"],
            log=tmp_path / "log",
            most=2,
        )
    finally:
        print(f"log {tmp_path / 'log'}", *doer.done, sep="\n")
    assert doer.hits == 4
    assert_same(tmp_path / "run", tmp_path / "undisturbed")
