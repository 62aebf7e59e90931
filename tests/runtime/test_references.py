"""Tensors go from actor to actor by reference; the driver holds references and small numbers."""

import os
import subprocess
import sys

import numpy as np
import pytest
import ray
from PIL import Image

from idm_ray.algorithm.numerics import Numerics
from idm_ray.runtime import actors
from idm_ray.workers import Plan
from tests.runtime.running import settled


@ray.remote(num_cpus=0)
def look_at(sequence):
    """What a process sees of snapshots that it was given by reference."""
    weights = sequence[0][0].weights
    try:
        weights[0] = 0
    except ValueError as refused:
        return weights.flags.writeable, weights.flags.owndata, str(refused)
    return weights.flags.writeable, weights.flags.owndata, "written"


def test_fetched_weights_are_read_only_views_of_shared_memory():
    config, info = settled()
    plan = Plan(config=config, info=info, numerics=Numerics())
    queue = actors.QueueActor.options(num_cpus=0).remote("a run", "the model queue")
    ray.get(queue.start.remote(plan))
    reference, _ = queue.serve.options(num_returns=2).remote(0, 1, needed=0)
    writeable, owns, refusal = ray.get(look_at.remote(reference))
    assert not writeable
    assert not owns
    assert "read-only" in refusal
    # The driver owns the reference: it outlives the actor that made it.
    ray.kill(queue)
    assert ray.get(look_at.remote(reference))[0] is False


# A run whose driver says how much memory it took, and the most array bytes it ever fetched at once.
MEASURED = """
import dataclasses, sys
import numpy as np, ray
from idm_ray.machine import peak_memory_bytes
from idm_ray.runtime.driver import RayRunner
from tests.runtime.running import begin, settled

def array_bytes(value):
    if isinstance(value, np.ndarray):
        return value.nbytes
    if dataclasses.is_dataclass(value):
        value = [getattr(value, field.name) for field in dataclasses.fields(value)]
    if isinstance(value, dict):
        value = list(value.values())
    return sum(map(array_bytes, value)) if isinstance(value, (list, tuple)) else 0

fetched, get = [], ray.get

def watched(references):
    value = get(references)
    fetched.append(array_bytes(value))
    return value

ray.get = watched
config, info = settled(
    data=sys.argv[1], network=sys.argv[2], limit_per_class=None, iterations=24, queue_size=0,
    lambda_reg=0.0, partition=1, batch_real=2, classes_per_group=1, gpus_per_actor=0, actors=1,
)
runner = RayRunner(config, info, {}, pixels=0)
begin(runner, sys.argv[3])
for event in runner.condense():
    pass
runner.close()
print(peak_memory_bytes(), max(fetched))
"""


@pytest.mark.slow
def test_the_memory_of_the_driver_does_not_depend_on_the_size_of_the_model(tmp_path):
    for split, name in ((s, n) for s in ("train", "test") for n in "abcd"):
        (tmp_path / split / name).mkdir(parents=True)
        for i in range(2):
            noise = np.random.default_rng(i).integers(0, 256, (96, 96, 3), dtype=np.uint8)
            Image.fromarray(noise).save(tmp_path / split / name / f"{i}.png")
    # 1.5 and 4.7 MB of weights; the window holds 16 snapshots.
    runs = [driver_of_a_run(tmp_path, network) for network in ("convnet-3", "convnet-1")]
    (small, _), (large, _) = runs
    assert abs(large - small) < 10e6
    # Arrays in shared memory cost the driver nothing, so their absence is asked for as well: what
    # it fetches are a few losses per class and iteration, never weights or images.
    assert all(fetched < 10_000 for _, fetched in runs)


def driver_of_a_run(data, network):
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(data), network, str(data / "checkpoints")],
        env={**os.environ, "RAY_ADDRESS": ray.get_runtime_context().gcs_address},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return tuple(map(int, done.stdout.split()[-2:]))
