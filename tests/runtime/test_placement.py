"""Who gets which GPU, and what is said when there is not enough."""

import os
import subprocess
import sys

import pytest
import ray

from idm_ray.errors import ResourceError
from idm_ray.runtime.driver import RayRunner
from tests.runtime.running import begin, settled


def gpus_of_a_run(folder, **options):
    """The GPUs of each class actor and, last, of the queue, asked of the actors themselves."""
    runner = RayRunner(*settled(**options), {}, pixels=0)
    try:
        begin(runner, folder)
        places = ray.get([handle.place.remote() for handle in runner.processes])
        list(runner.condense())
    finally:
        runner.close()
    return [place.gpus for place in places]


def test_three_class_actors_and_the_queue_hold_four_different_gpus(tmp_path):
    gpus = gpus_of_a_run(tmp_path, actors=3, iterations=2)
    assert [len(own) for own in gpus] == [1, 1, 1, 1]
    assert len({own[0] for own in gpus}) == 4


@pytest.mark.slow
def test_with_half_a_gpu_each_they_share_two(tmp_path):
    gpus = [own[0] for own in gpus_of_a_run(tmp_path, actors=3, gpus_per_actor=0.5, iterations=2)]
    assert sorted(gpus.count(gpu) for gpu in set(gpus)) == [2, 2]


def test_without_gpus_wanted_none_is_held(tmp_path):
    assert gpus_of_a_run(tmp_path, actors=2, gpus_per_actor=0, iterations=2) == [(), (), ()]


@pytest.mark.slow
def test_a_run_gives_all_its_resources_back(tmp_path):
    gpus_of_a_run(tmp_path, actors=3, iterations=2)
    # Resources come back a moment after their processes are gone.
    ready = ray.util.placement_group([{"CPU": 1, "GPU": 1}] * 4)
    assert ready.wait(timeout_seconds=30)
    ray.util.remove_placement_group(ready)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"actors": 5, "gpus_per_actor": 1}, "6 GPU"),
        ({"actors": 2, "cpus_per_actor": 3, "gpus_per_actor": 0}, "6 CPU"),
        ({"actors": 1, "gpus_per_actor": 8}, "16 GPU"),
    ],
)
def test_resources_that_never_come_end_in_what_was_wanted_and_what_there_is(options, wanted):
    with pytest.raises(ResourceError) as refused:
        RayRunner(*settled(**options, wait_s=1), {}, pixels=0)
    message = str(refused.value)
    assert wanted in message
    assert "it has 4 CPU and 4 GPU" in message
    assert "--actors" in message
    assert "\n" not in message


def test_an_assigned_gpu_that_torch_cannot_use_is_an_error_that_names_the_way_out():
    with pytest.raises(Exception, match="use --device cpu"):
        RayRunner(*settled(actors=1, device="auto"), {}, pixels=0)
    ready = ray.util.placement_group([{"GPU": 1}] * 4)
    assert ready.wait(timeout_seconds=30), "a refused run still holds its GPUs"
    ray.util.remove_placement_group(ready)


def test_more_actors_than_groups_are_cut_and_announced():
    runner = RayRunner(*settled(actors=9, gpus_per_actor=0, cpus_per_actor=0.1), {}, pixels=0)
    runner.close()
    assert "9 actors asked for, but there are 5 groups" in runner.notes[0]


# Sends itself a signal as soon as the first iterations are done.
SIGNALLED = """
import os, signal, sys
from idm_ray import cli, terminal
from idm_ray.progress import Progress

class Watching(terminal.Terminal):
    def __call__(self, event):
        super().__call__(event)
        if isinstance(event, Progress):
            os.kill(os.getpid(), signal.{signal})

terminal.Terminal = Watching
sys.argv = ["idm-ray", "condense", "--iterations", "500", "--repeats", "0", "--device", "cpu",
            "--gpus-per-actor", "0", "--out", {out!r}]
cli.main()
"""


@pytest.mark.parametrize(
    ("signal", "status", "says"),
    [
        pytest.param("SIGINT", 130, "idm-ray: interrupted", marks=pytest.mark.slow),
        ("SIGTERM", 143, "idm-ray: terminated"),
    ],
)
def test_a_signal_ends_a_run_with_its_status_and_one_line(signal, status, says, tmp_path):
    done = run_on_this_cluster(SIGNALLED.format(signal=signal, out=str(tmp_path / "run")))
    assert done.returncode == status, done.stderr
    assert done.stderr.strip().splitlines()[-1] == says
    assert "Traceback" not in done.stderr


def run_on_this_cluster(script):
    address = ray.get_runtime_context().gcs_address
    return subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "RAY_ADDRESS": address},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_an_address_where_no_cluster_answers_is_said_in_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "idm_ray.cli", "condense", "--out", str(tmp_path / "run")],
        env={
            **os.environ,
            "RAY_ADDRESS": "127.0.0.1:9",
            "RAY_gcs_server_request_timeout_seconds": "1",
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("idm-ray: expected a Ray cluster at RAY_ADDRESS 127.0.0.1:9")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
