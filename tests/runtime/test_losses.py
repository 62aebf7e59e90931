"""What is lost when a process dies, and how it is said."""

import pytest
import ray

from idm_ray.errors import ActorLostError
from idm_ray.runtime.driver import RayRunner
from tests.runtime.running import settled


@pytest.mark.parametrize("victim", [0, -1], ids=["class actor", "queue"])
def test_the_death_of_an_actor_ends_the_run_with_one_line(victim):
    config, info = settled(actors=2, gpus_per_actor=0, iterations=400)
    runner = RayRunner(config, info, {}, pixels=0)
    try:
        runner.start()
        ray.kill(runner.processes[victim])
        with pytest.raises(ActorLostError) as lost:
            list(runner.condense())
        assert "\n" not in str(lost.value)
    finally:
        runner.close()
