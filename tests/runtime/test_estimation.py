import ray

import idm_ray
from tests.making_runs import TINY


def test_a_run_on_ray_is_told_by_its_processes_and_leaves_nothing_behind():
    options = {name: TINY[name] for name in TINY if name != "local"}
    found = idm_ray.estimate(**options | {"actors": 2, "gpus_per_actor": 0}, probe_s=0.1)
    parts = found.here.prediction
    assert set(parts.process_bytes) == {"class actor", "model queue", "driver"}
    assert parts.condense_bytes > 3 * 10**8  # four processes, each with torch
    # The actors work beside each other, one group each, and the queue beside them.
    assert parts.iteration_s < 2 * parts.matching_s + parts.training_s
    assert found.here.where.startswith("Ray on the cluster: 2 class actors and the model queue")
    assert ray.util.placement_group_table() == {} or all(
        group["state"] == "REMOVED" for group in ray.util.placement_group_table().values()
    )
